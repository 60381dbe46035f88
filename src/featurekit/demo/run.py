"""Running: the demo from its first line to its last, in one process.

Nothing is written before the port is bound and the store has proved that it keeps the promise.
SIGINT and SIGTERM end it with exit code 0, whatever it is doing.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import uvicorn
from starlette.applications import Starlette
from typing_extensions import override

from featurekit.demo.repository import ACTIVITY, declare
from featurekit.demo.routes import demo_routes
from featurekit.demo.service import DemoService
from featurekit.demo.settings import EMBEDDED, Settings
from featurekit.errors import StoreError
from featurekit.repo import FeatureStore
from featurekit.repo.store_handle import embedded_server
from featurekit.server.app import create_app
from featurekit.server.auth import TOKENS_VARIABLE, Tokens
from featurekit.server.console import console_routes
from featurekit.server.context import ServerContext
from featurekit.server.run import Options, uvicorn_config

SIGNALS = (signal.SIGINT, signal.SIGTERM)
GRACE_S = 1
"""How long requests under way, and pages that listen, are waited for at the end."""

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Started:
    """What was begun with, for programs.

    Attributes:
        listening: The page's address.
        store: The store's URL, without its password.
        key_prefix: What the users' keys begin with.
        batch_ttl_seconds: How long a loaded user lives.
        streaming_ttl_seconds: How long a stream field lives.
        loaded: Users that were loaded.
        repo: The folder of the demo's repository.
    """

    listening: str
    store: str
    key_prefix: str
    batch_ttl_seconds: int
    streaming_ttl_seconds: int
    loaded: int
    repo: str


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens; port 0 takes any that is free.

    Raises:
        OSError: The port is taken, or the host is none of this machine's.
    """
    [(family, *_), *_] = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return socket.create_server((host, port), family=family, backlog=1024)


def run(
    settings: Settings, listener: socket.socket, say: Say, started: Callable[[Started], None]
) -> None:
    """Begin, serve, and end when a signal comes.

    Args:
        settings: What the flags say.
        listener: Where to listen.
        say: Is told each line, for people.
        started: Is told once, for programs.

    Raises:
        StoreError: The store is away, refuses, or cannot keep the promise; nothing was written.
    """
    declare(settings, settings.batch_ttl_s)
    with _signals(say) as ending, _embedded(settings), _opened(settings) as store:
        stage = DemoService(settings, store)
        started(_begin(stage, _address(settings.host, listener), say))
        config = uvicorn_config(Options(), lambda: application(stage))
        config.timeout_graceful_shutdown = GRACE_S
        server = _Server(config)
        stage.ticker.start()
        with store.streams.send_heartbeats([stage.ticker.worker], "demo"):
            ending.server = server
            server.run(sockets=[listener])
            stage.ticker.stop()


def application(stage: DemoService) -> Starlette:
    """The ASGI application: the demo's endpoints and the console, beside those of any server."""
    tokens = Tokens.parse(os.environ.get(TOKENS_VARIABLE, ""))
    context = ServerContext(store=stage.store, tokens=tokens, allow_writes=True)
    console = console_routes(context, base="", demo=True)
    return create_app(context, [*demo_routes(stage, context), *console])


@contextmanager
def _opened(settings: Settings) -> Iterator[FeatureStore]:
    """The demo's store, applied and proved."""
    with FeatureStore(settings.folder) as store:
        store.apply(allow_breaking=True)
        store.stream_writer(ACTIVITY).write_many(
            []
        )  # refuses a store that cannot keep the promise
        yield store


def _begin(stage: DemoService, address: str, say: Say) -> Started:
    """Make the store what the flags want it to be, with the lines of the seed's demo."""
    settings, store = stage.settings, stage.store
    keys, batch_ttl_s, streaming_ttl_s = (
        str(settings.keys),
        settings.batch_ttl_s,
        settings.streaming_ttl_s,
    )
    if settings.reset:
        say(
            f"Dropping any existing users under '{keys}*' for a clean demo run "
            "(pass --no-reset to keep them)."
        )
        stage.clear()
    say(f"Redis feature-store demo server listening on {address}")
    say(
        f"Using {_place(store)} with key prefix '{keys}' "
        f"(batch TTL {batch_ttl_s}s, streaming TTL {streaming_ttl_s}s)"
    )
    answer = stage.load(settings.seed_users, batch_ttl_s)
    loaded = answer["loaded"]
    say(f"Materialized {loaded} user(s); streaming worker running.")
    if "rejected" in answer:
        say(f"Could not load {answer['rejected']} user(s): {answer['reasons'][0]}")
    repo = str(store.path)
    return Started(address, store.url, keys, batch_ttl_s, streaming_ttl_s, loaded, repo)


def _address(host: str, listener: socket.socket) -> str:
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{listener.getsockname()[1]}"


def _place(store: FeatureStore) -> str:
    """The store in words: as the seed has it where that is a Redis at a host and port."""
    scheme, _, place = store.url.partition("://")
    if scheme == "redis" and "@" not in place and "/" not in place:
        return f"Redis at {place}"
    if scheme == "embedded":
        return f"an embedded Valkey in {os.path.relpath(store.path / place)}"
    return store.url


@contextmanager
def _embedded(settings: Settings) -> Iterator[None]:
    """Stop the embedded server at the end: the demo's own, or another that it started."""
    if not settings.url.startswith("embedded://"):
        yield
        return
    server = embedded_server(settings.folder)
    keep = settings.url != EMBEDDED and server.status().running
    try:
        yield
    finally:
        if not keep:
            with suppress(StoreError):
                server.stop()


class _Ending:
    """What a signal does: ends the server, or the process where there is none yet."""

    def __init__(self, say: Say) -> None:
        self.server: uvicorn.Server | None = None
        self._say = say

    def __call__(self, number: int, _frame: object) -> None:
        self._say(f"Received {signal.Signals(number).name}, shutting down...")
        if self.server is None:
            raise SystemExit(0)
        self.server.force_exit = self.server.should_exit
        self.server.should_exit = True


@contextmanager
def _signals(say: Say) -> Iterator[_Ending]:
    ending = _Ending(say)
    before = [signal.signal(number, ending) for number in SIGNALS]
    try:
        yield ending
    finally:
        for number, handler in zip(SIGNALS, before, strict=True):
            signal.signal(number, handler)


class _Server(uvicorn.Server):
    """uvicorn, with signals left to `_Ending`: its own would end the process by the signal."""

    @override
    @contextmanager
    def capture_signals(self) -> Generator[None]:
        yield
