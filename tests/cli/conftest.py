"""A repository as `featurekit init` makes it, on an empty server."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.cli.running import run
from tests.servers import Server, patient


@pytest.fixture(scope="session")
def initial(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository as `featurekit init` makes it, to be copied."""
    path = tmp_path_factory.mktemp("initial")
    assert run("init", str(path)).exit_code == 0
    return path


@pytest.fixture
def folder(tmp_path: Path, initial: Path, valkey: Server, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder: a repository that nothing was applied of."""
    monkeypatch.setenv("FEATUREKIT_ONLINE_URL", patient(valkey.url))
    monkeypatch.delenv("FEATUREKIT_REPO", raising=False)
    monkeypatch.chdir(tmp_path)
    shutil.copytree(initial, tmp_path, dirs_exist_ok=True)
    return tmp_path


@pytest.fixture
def filled(folder: Path) -> Path:
    """The same, applied and materialized."""
    assert run("apply").exit_code == 0
    assert run("materialize").exit_code == 0
    return folder
