"""docs/server.md is correct and complete."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from featurekit import FeatureStore
from featurekit.server.app import create_app
from featurekit.server.context import ServerContext
from featurekit.server.openapi.operations import ERRORS
from tests.examples.documents import blocks, compare, shown_commands
from tests.examples.places import ROOT
from tests.examples.places import run as run_there
from tests.server.server_process import listening
from tests.servers import Server, patient

PAGE = ROOT / "docs" / "server.md"


@pytest.fixture
def fraud(
    tmp_path: Path, valkey: Server, monkeypatch: pytest.MonkeyPatch
) -> Iterator[FeatureStore]:
    monkeypatch.setenv("FEATUREKIT_ONLINE_URL", patient(valkey.url))
    run_there(tmp_path, ["featurekit", "init"])
    with FeatureStore(tmp_path) as store:
        store.apply()
        store.materialize()
        yield store


@pytest.mark.slow
def test_the_examples_of_the_page_run_as_shown(tmp_path: Path, fraud: FeatureStore) -> None:
    shown = [
        (command, expected, block.place)
        for block in blocks(PAGE)
        if block.language == "console"
        for command, expected in shown_commands(block.text)
    ]
    assert len(shown) > 4
    with listening(ServerContext(fraud)) as (host, port):
        for command, expected, place in shown:
            here = command.replace("127.0.0.1:6566", f"{host}:{port}")
            compare(run_there(tmp_path, ["bash", "-c", here]), expected, place)


def test_the_page_names_every_route_and_status(store: FeatureStore) -> None:
    text = PAGE.read_text()
    paths = {getattr(route, "path", "") for route in create_app(ServerContext(store)).routes}
    heads = {re.sub(r"/?\{.*", "", path) for path in paths}
    assert [head for head in heads if head not in text] == []
    assert [status for status in ERRORS if str(status) not in text and status != 501] == []
