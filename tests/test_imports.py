"""What an import pulls in: nothing that costs time before it is used."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.resources import files

import pytest

import featurekit

CLIENTS = {"redis", "hiredis", "pydantic", "yaml", "rich", "click"}
SERVER = {"starlette", "uvicorn", "orjson", "prometheus_client"}
TABLES = {"pyarrow", "duckdb", "pandas", "polars", "numpy"}


def imported(code: str) -> set[str]:
    show = f"{code}\nimport sys; print(*{{name.partition('.')[0] for name in sys.modules}})"
    told = subprocess.run([sys.executable, "-c", show], capture_output=True, text=True, check=True)
    return set(told.stdout.split())


def test_importing_featurekit_imports_no_library() -> None:
    assert not imported("import featurekit") & (CLIENTS | TABLES | SERVER)


@pytest.mark.parametrize("name", ["FeatureStore", "FeatureKitError"])
def test_names_are_there_when_they_are_first_used(name: str) -> None:
    assert "featurekit" in imported(f"from featurekit import {name}")


def test_reading_imports_no_library_of_tables_or_of_http() -> None:
    assert not imported("from featurekit import FeatureStore") & (TABLES | SERVER)


def test_the_server_imports_no_library_of_tables() -> None:
    assert not imported("import featurekit.server.run") & TABLES


def test_a_type_checker_sees_the_names_that_are_there() -> None:
    stub = files("featurekit").joinpath("__init__.pyi").read_text()
    assert re.findall(r"^from \S+ import (\w+) as \1$", stub, re.MULTILINE) == featurekit.__all__
    assert files("featurekit").joinpath("py.typed").is_file()
