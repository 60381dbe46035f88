"""The console of `featurekit serve --console`."""

from __future__ import annotations

import time

import pytest

from featurekit import FeatureStore
from tests.console.conftest import fill
from tests.server.server_process import served


@pytest.mark.slow
def test_a_server_with_open_pages_shuts_down(store: FeatureStore) -> None:
    fill(store)
    with (
        served(store.path, "--console") as server,
        server.client.stream("GET", "/console/api/live") as page,
    ):
        lines = page.iter_lines()
        assert next(lines) == 'data: {"history":[]}'
        began = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - began < 30


def test_the_console_is_off_by_default(store: FeatureStore) -> None:
    with served(store.path) as server:
        assert server.client.get("/console/").status_code == 404


def test_a_reset_needs_both_flag_and_scope(store: FeatureStore) -> None:
    fill(store)
    tokens = {"FEATUREKIT_SERVER_TOKENS": "read:one,write:two"}
    with served(store.path, "--console", "--allow-writes", **tokens) as server:
        for token, status in (("one", 403), ("two", 200)):
            headers = {"Authorization": f"Bearer {token}"}
            answer = server.client.post("/console/api/reset", headers=headers, json={})
            assert answer.status_code == status
