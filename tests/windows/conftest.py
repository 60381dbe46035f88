"""Servers of the tests of windows: one of them in the fast suite."""

from __future__ import annotations

import pytest

from tests.conftest import KINDS, flushed
from tests.servers import Server


@pytest.fixture(
    params=[
        kind if kind == "valkey" else pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS
    ]
)
def server(request: pytest.FixtureRequest, started: dict[str, Server]) -> Server:
    """An empty server of each kind that this machine has."""
    return flushed(str(request.param), started)
