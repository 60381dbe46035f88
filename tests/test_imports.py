"""What an import pulls in: nothing that costs time before it is used."""

from __future__ import annotations

import subprocess
import sys

import pytest

CLIENTS = {"redis", "hiredis", "pydantic", "yaml", "rich", "click"}
TABLES = {"pyarrow", "duckdb", "pandas", "polars", "numpy"}


def imported(code: str) -> set[str]:
    show = f"{code}\nimport sys; print(*{{name.partition('.')[0] for name in sys.modules}})"
    told = subprocess.run([sys.executable, "-c", show], capture_output=True, text=True, check=True)
    return set(told.stdout.split())


def test_importing_featurekit_imports_no_library() -> None:
    assert not imported("import featurekit") & (CLIENTS | TABLES)


@pytest.mark.parametrize("name", ["FeatureStore", "FeatureKitError"])
def test_names_are_there_when_they_are_first_used(name: str) -> None:
    assert "featurekit" in imported(f"from featurekit import {name}")


def test_serving_imports_no_library_of_tables() -> None:
    assert not imported("from featurekit import FeatureStore") & TABLES
