"""What an import pulls in: nothing that costs time before it is used."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import version
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


@pytest.mark.parametrize("name", featurekit.__all__)
def test_every_public_name_can_be_imported(name: str) -> None:
    assert getattr(featurekit, name).__class__ is not None
    assert name in dir(featurekit)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'featurekit' has no attribute 'Store'"):
        featurekit.Store  # type: ignore[attr-defined]  # noqa: B018


def test_the_version_is_that_of_the_installed_package() -> None:
    assert featurekit.__version__ == version("featurekit")


def test_a_feature_store_shows_its_public_verbs_only() -> None:
    names = {name for name in dir(featurekit.FeatureStore) if not name.startswith("_")}
    properties = {n for n in names if isinstance(getattr(featurekit.FeatureStore, n), property)}
    assert len(properties) <= 15
    assert len(names - properties) <= 53  # each a verb that a user calls; derived views came last


def test_the_pytest_plugin_imports_no_library_before_it_is_used() -> None:
    assert not imported("import featurekit.testing.plugin") & (
        CLIENTS - {"click"} | TABLES | SERVER
    )


def test_reading_imports_no_library_of_tables_or_of_http() -> None:
    assert not imported("from featurekit import FeatureStore") & (TABLES | SERVER)


def test_the_server_imports_no_library_of_tables() -> None:
    assert not imported("import featurekit.server.run") & TABLES


def test_a_type_checker_sees_the_public_names() -> None:
    source = files("featurekit").joinpath("__init__.py").read_text()
    block = source[source.index("if TYPE_CHECKING:") : source.index("__all__ = ")]
    imported_names = re.findall(r"(?:[A-Z]|embedded|request)\w+(?=[,\n])", block)
    assert sorted([*imported_names, "__version__"]) == sorted(featurekit.__all__)
    assert files("featurekit").joinpath("py.typed").is_file()
