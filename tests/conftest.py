"""Fixtures for all tests: real servers, flushed before each test."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.servers import NO_HSETEX, Server, redis_binary, valkey_binary

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts background jobs with SIGINT ignored, and programs under test would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)

THOROUGH = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("thorough", THOROUGH)
settings.register_profile("quick", THOROUGH, max_examples=25)  # for `make test`
settings.load_profile("thorough")

KINDS = {
    "valkey": (valkey_binary(), ()),
    "valkey-nohsetex": (valkey_binary(), NO_HSETEX),
}
if redis_binary():
    KINDS |= {"redis8": (redis_binary(), ()), "redis74": (redis_binary(), NO_HSETEX)}


@pytest.fixture(scope="session")
def started() -> Iterator[dict[str, Server]]:
    """The servers started so far in this process, by kind."""
    servers: dict[str, Server] = {}
    yield servers
    for server in servers.values():
        server.remove()


def flushed(kind: str, started: dict[str, Server]) -> Server:
    """The server of a kind, empty; started if it is the first time."""
    if kind not in started:
        binary, arguments = KINDS[kind]
        started[kind] = Server(binary, *arguments)
    with started[kind].client() as client:
        client.flushall()
    return started[kind]


@pytest.fixture
def valkey(started: dict[str, Server]) -> Server:
    """An empty Valkey."""
    return flushed("valkey", started)


@pytest.fixture(params=KINDS)
def server(request: pytest.FixtureRequest, started: dict[str, Server]) -> Server:
    """An empty server of each kind that this machine has."""
    return flushed(str(request.param), started)
