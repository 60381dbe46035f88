"""Run the demo in one process, until SIGINT or SIGTERM.

Nothing is written before the port is bound and the store has proved that it can expire fields.
SIGINT and SIGTERM always end the process with exit code 0.
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
from featurekit.server.access import parse_host_names
from featurekit.server.app import create_app
from featurekit.server.auth import Tokens
from featurekit.server.console import console_routes
from featurekit.server.context import ServerContext
from featurekit.server.run import Options, uvicorn_config

SIGNALS = (signal.SIGINT, signal.SIGTERM)
GRACE_S = 1
"""Seconds that open requests and event streams may take at the end."""

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Started:
    """What the demo reports once it has started, as JSON.

    Attributes:
        listening: The address of the page.
        store: The store's URL, without its password.
        key_prefix: The prefix of the users' keys.
        batch_ttl_seconds: TTL of a loaded user.
        streaming_ttl_seconds: TTL of a stream field.
        loaded: Users loaded at the start.
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
    """Return a listening socket; port 0 means any free port.

    Raises:
        OSError: The port is in use, or the host is not an address of this machine.
    """
    [(family, *_), *_] = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return socket.create_server((host, port), family=family, backlog=1024)


def run(
    settings: Settings, listener: socket.socket, say: Say, started: Callable[[Started], None]
) -> None:
    """Start the demo and serve it until a signal arrives.

    Args:
        settings: The command's flags.
        listener: The listening socket.
        say: Called with each line of output.
        started: Called once, when the demo has started.

    Raises:
        RequestError: The tokens or the allowed hosts have another form. Nothing is written.
        StoreError: The store is unavailable, refuses a command or cannot expire fields. Nothing is
            written.
    """
    _access_settings(settings)  # invalid ones are refused before anything is written
    declare(settings, settings.batch_ttl_s)
    with (
        _handle_signals(say) as handler,
        _embedded_server(settings),
        _open_store(settings) as store,
    ):
        service = DemoService(settings, store)
        started(_prepare(service, _address(settings.host, listener), say))
        config = uvicorn_config(Options(), lambda: application(service))
        config.timeout_graceful_shutdown = GRACE_S
        server = _Server(config)
        service.simulator.start()
        workers = [service.simulator.worker, service.transactions.worker]
        with store.streams.send_heartbeats(workers, "demo"):
            handler.server = server
            server.run(sockets=[listener])
            service.simulator.stop()
            service.transactions.close()


def application(service: DemoService) -> Starlette:
    """Return the ASGI application: the demo's endpoints, the console and a server's own routes."""
    tokens, hosts = _access_settings(service.settings)
    context = ServerContext(service.store, tokens=tokens, allowed_hosts=hosts, allow_writes=True)
    console = console_routes(context, base="", demo=True)
    return create_app(context, [*demo_routes(service, context), *console])


def _access_settings(settings: Settings) -> tuple[Tokens, frozenset[str]]:
    """Return the tokens of the environment and the names by which the page may be opened."""
    tokens = Tokens.from_environment(os.environ)
    return tokens, parse_host_names(settings.host, settings.allowed_hosts)


@contextmanager
def _open_store(settings: Settings) -> Iterator[FeatureStore]:
    """Open the demo's store, apply its definitions and check that it can expire fields."""
    with FeatureStore(settings.folder, url=settings.url) as store:
        store.apply(allow_breaking=True)
        store.stream_writer(ACTIVITY).write_many([])  # checks the store
        yield store


def _prepare(service: DemoService, address: str, say: Say) -> Started:
    """Reset and load the store, and print the lines of the Redis guide's demo."""
    settings, store = service.settings, service.store
    keys = str(settings.keys)
    batch_ttl_s, streaming_ttl_s = settings.batch_ttl_s, settings.streaming_ttl_s
    if settings.reset:
        say(
            f"Dropping any existing users under '{keys}*' for a clean demo run "
            "(pass --no-reset to keep them)."
        )
        service.clear()
    say(f"Redis feature-store demo server listening on {address}")
    say(
        f"Using {_display_url(store)} with key prefix '{keys}' "
        f"(batch TTL {batch_ttl_s}s, streaming TTL {streaming_ttl_s}s)"
    )
    result = service.load(settings.seed_users, batch_ttl_s)
    loaded = result["loaded"]
    say(f"Materialized {loaded} user(s); streaming worker running.")
    if "rejected" in result:
        say(f"Could not load {result['rejected']} user(s): {result['reasons'][0]}")
    repo = str(store.path)
    return Started(address, store.url, keys, batch_ttl_s, streaming_ttl_s, loaded, repo)


def _address(host: str, listener: socket.socket) -> str:
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{listener.getsockname()[1]}"


def _display_url(store: FeatureStore) -> str:
    """Return the store for display, in the form of the Redis guide for a plain host and port."""
    scheme, _, place = store.url.partition("://")
    if scheme == "redis" and "@" not in place and "/" not in place:
        return f"Redis at {place}"
    if scheme == "embedded":
        return f"an embedded Valkey in {os.path.relpath(store.path / place)}"
    return store.url


@contextmanager
def _embedded_server(settings: Settings) -> Iterator[None]:
    """Stop an embedded server at the end, unless another one was already running."""
    if not settings.url.startswith("embedded://"):
        yield
        return
    server = embedded_server(settings.folder, url=settings.url)
    keep = settings.url != EMBEDDED and server.status().running
    try:
        yield
    finally:
        if not keep:
            with suppress(StoreError):
                server.stop()


class _SignalHandler:
    """A signal handler that ends the server, or the process if no server runs yet."""

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
def _handle_signals(say: Say) -> Iterator[_SignalHandler]:
    handler = _SignalHandler(say)
    previous = [signal.signal(number, handler) for number in SIGNALS]
    try:
        yield handler
    finally:
        for number, action in zip(SIGNALS, previous, strict=True):
            signal.signal(number, action)


class _Server(uvicorn.Server):
    """A uvicorn server that leaves signals to `_SignalHandler`; its own would kill the process."""

    @override
    @contextmanager
    def capture_signals(self) -> Generator[None]:
        yield
