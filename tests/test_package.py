"""The metadata of the package."""

from __future__ import annotations

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_metadata_names_the_licences_of_all_code_in_the_wheel() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    files = [path for pattern in project["license-files"] for path in ROOT.glob(pattern)]
    vendored = list((ROOT / "src").rglob("*.LICENSE"))
    assert vendored
    assert {ROOT / "LICENSE", *vendored} == set(files)
    assert project["license"] == "Apache-2.0 AND MIT"
    for path in vendored:
        assert "MIT License" in path.read_text()
