"""mypy and pyright, both strict, accept generated code and right callers, and refuse wrong ones."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from shutil import which

import pytest

from tests.codegen.callers import BAD, GOOD
from tests.codegen.repositories import DEFINITIONS, source, write_repo

pytestmark = pytest.mark.slow

REQUIRED = os.environ.get("FEATUREKIT_REQUIRE_TYPESCRIPT")  # which needs the same Node.js


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Generated modules and their callers."""
    path = tmp_path_factory.mktemp("typed")
    for name, definitions in DEFINITIONS.items():
        (path / f"{name}.py").write_text(source(write_repo(path / f"repo_{name}", definitions)))
    (path / "good.py").write_text(GOOD)
    (path / "bad.py").write_text(BAD)
    return path


def run(*arguments: str, cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *arguments], cwd=cwd, capture_output=True, text=True, check=False
    )
    return done.stdout


def mypy(folder: Path, *names: str) -> dict[tuple[str, int], str]:
    """Return the first error of each line."""
    text = run("mypy", "--strict", "--no-error-summary", *names, cwd=folder)
    found = re.findall(r"^(\S+?):(\d+): error: (.*)$", text, re.MULTILINE)
    return {(name, int(line)): message for name, line, message in reversed(found)}


def pyright(folder: Path, *names: str) -> dict[tuple[str, int], str]:
    """Return the first error of each line."""
    (folder / "pyrightconfig.json").write_text('{"typeCheckingMode": "strict"}')
    text = run("pyright", "--outputjson", "--pythonpath", sys.executable, *names, cwd=folder)
    report = json.loads(text)
    assert report["summary"]["filesAnalyzed"] == len(names)
    return {
        (Path(each["file"]).name, each["range"]["start"]["line"] + 1): each["message"]
        for each in reversed(report["generalDiagnostics"])
        if each["severity"] == "error"
    }


CHECKERS = pytest.mark.parametrize(
    "check",
    [
        mypy,
        pytest.param(
            pyright,
            marks=pytest.mark.skipif(
                not (REQUIRED or which("node")), reason="pyright needs Node.js"
            ),
        ),
    ],
)


@CHECKERS
def test_generated_code_and_right_callers_are_accepted(folder: Path, check: object) -> None:
    assert check(folder, *(f"{name}.py" for name in (*DEFINITIONS, "good"))) == {}  # type: ignore[operator]


@CHECKERS
def test_each_wrong_call_is_refused_and_nothing_else(folder: Path, check: object) -> None:
    lines = BAD.split("\n")
    wrong = {number for number, line in enumerate(lines, 1) if "# bad" in line}
    found = check(folder, "bad.py")  # type: ignore[operator]
    refused = {line for _, line in found if "# bad" in lines[line - 1]}
    assert [lines[number - 1] for number in sorted(wrong - refused)] == []
    assert {line: text for (_, line), text in found.items() if line not in wrong} == {}


@pytest.mark.slow
@CHECKERS
def test_a_view_and_a_service_of_300_features_are_accepted(tmp_path: Path, check: object) -> None:
    # pyright does not infer the type of a tuple of more than 256 elements, as of `__slots__`.
    fields = ", ".join(["tuple: float64", *(f"f_{n}: int64" for n in range(300))])
    view = f"{{name: broad, batch: {{refresh: 24h}}, fields: {{{fields}}}}}"
    service = "{name: all_of_it, features: [broad]}"
    definitions = f"feature_views: [{view}]\nfeature_services: [{service}]\n"
    (tmp_path / "broad.py").write_text(source(write_repo(tmp_path / "repo", definitions)))
    assert check(tmp_path, "broad.py") == {}  # type: ignore[operator]


def test_generated_code_is_clean_for_ruff_without_its_exemptions(folder: Path) -> None:
    for name in DEFINITIONS:
        text = (folder / f"{name}.py").read_text().replace("# fmt: off\n# ruff: noqa\n\n", "")
        (folder / f"{name}_plain.py").write_text(text)
    names = [f"{name}{part}.py" for name in DEFINITIONS for part in ("", "_plain")]
    assert run("ruff", "check", "--isolated", *names, cwd=folder).strip() == "All checks passed!"
