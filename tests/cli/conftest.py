"""A repository as `featurekit init` makes it, on an empty server."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.running import run
from tests.servers import Server


@pytest.fixture
def folder(tmp_path: Path, valkey: Server, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder: a repository that nothing was applied of."""
    monkeypatch.setenv("FEATUREKIT_ONLINE_URL", valkey.url)
    monkeypatch.delenv("FEATUREKIT_REPO", raising=False)
    monkeypatch.chdir(tmp_path)
    assert run("init").exit_code == 0
    return tmp_path


@pytest.fixture
def filled(folder: Path) -> Path:
    """The same, applied and materialized."""
    assert run("apply").exit_code == 0
    assert run("materialize").exit_code == 0
    return folder
