"""Run the server with uvicorn, in one process or several, until SIGTERM or SIGINT."""

from __future__ import annotations

import gc
import os
import socket
import ssl
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from tempfile import TemporaryDirectory
from typing import Any

import uvicorn
from starlette.applications import Starlette
from uvicorn.config import LOGGING_CONFIG
from uvicorn.supervisors import Multiprocess

from featurekit.errors import FeatureKitError, RequestError
from featurekit.repo import FeatureStore
from featurekit.server.access import is_loopback, parse_host_names, parse_origins
from featurekit.server.app import create_app
from featurekit.server.auth import TOKENS_VARIABLE, Tokens
from featurekit.server.console import console_routes
from featurekit.server.context import Limits, ServerContext
from featurekit.server.log_formats import PrintableAccessFormatter, PrintableFormatter

PORT = 6566
"""The default port of Feast's feature server."""

KEEP_ALIVE_S = 75
"""Seconds before an idle connection is closed: longer than most clients and proxies keep one."""

DRAIN_S = 10
"""Seconds that open requests may take after the server is asked to stop."""

WORKER_START_S = 30
"""Seconds that a worker may take to start, or be suspended, before it is killed and replaced."""

BACKLOG = 2048


@dataclass(frozen=True, slots=True)
class Options:
    """The settings of a server. Workers receive them by pickling.

    Attributes:
        repo: The folder from which to search upwards for `featurerepo.yaml`.
        project: Serve this project's registry from the store instead of a repository.
        url: The online store; by default that of the environment or the repository.
        allow_sources: With `project`, whether to load from the sources that its registry declares.
        allow_functions: With `project`, whether to import functions of features from `repo`.
        host: Address to listen on.
        port: Port to listen on; 0 for any free port.
        workers: Number of processes.
        ssl_certfile: Certificate chain, for HTTPS; empty for HTTP.
        ssl_keyfile: Private key, if it is not in `ssl_certfile`.
        access_log: Whether to log each request.
        allowed_hosts: Without tokens, further host names by which the server may be called.
        cors_origins: Origins of web pages of other sites that may use the server.
        limits: The limits of one request.
        allow_writes: Whether the console offers actions that change or delete data.
        console: Whether to serve the console under `/console/`.
    """

    repo: str = "."
    project: str = ""
    url: str = field(default="", repr=False)
    allow_sources: bool = False
    allow_functions: bool = False
    host: str = "127.0.0.1"
    port: int = PORT
    workers: int = 1
    ssl_certfile: str = ""
    ssl_keyfile: str = ""
    access_log: bool = False
    allowed_hosts: tuple[str, ...] = ()
    cors_origins: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)
    allow_writes: bool = False
    console: bool = False


@dataclass(frozen=True, slots=True)
class Started:
    """What a server reports once it listens.

    Attributes:
        url: Its address.
        project: The project it serves.
        workers: Number of processes.
        notes: Warnings for the operator.
    """

    url: str
    project: str
    workers: int
    notes: tuple[str, ...] = ()


def run(options: Options, on_start: Callable[[Started], None]) -> None:
    """Serve until SIGTERM or SIGINT; open requests are answered first.

    Args:
        options: The server's settings.
        on_start: Called once, when the server listens.

    Raises:
        DefinitionError: The repository has errors.
        RequestError: The address, the certificate or the tokens cannot be used.
    """
    context = _context_of(options)
    _check_certificate(options)
    listener = _listen(options)
    on_start(_started(options, context, listener))
    if options.workers == 1:
        config = uvicorn_config(options, partial(_build_app, options, context))
        uvicorn.Server(config).run([listener])
        return
    context.store.close()
    with TemporaryDirectory(prefix="featurekit-") as metrics_dir:
        config = uvicorn_config(options, partial(_worker_app, options, metrics_dir))
        Multiprocess(config, [listener]).run()


def _context_of(options: Options, metrics_dir: str | None = None) -> ServerContext:
    """Return the state of a server, with the tokens of the environment."""
    return ServerContext(
        store=_open_store(options),
        limits=options.limits,
        tokens=Tokens.from_environment(os.environ),
        allowed_hosts=parse_host_names(options.host, options.allowed_hosts),
        cors_origins=parse_origins(options.cors_origins),
        allow_writes=options.allow_writes,
        metrics_dir=metrics_dir,
    )


def _open_store(options: Options) -> FeatureStore:
    if not options.project:
        return FeatureStore(options.repo, url=options.url or None)
    return FeatureStore.from_registry(
        options.url,
        options.project,
        root=options.repo,
        must_exist=False,
        allow_sources=options.allow_sources,
        allow_functions=options.allow_functions,
    )


def _worker_app(options: Options, metrics_dir: str) -> Starlette:
    return _build_app(options, _context_of(options, metrics_dir))


def _build_app(options: Options, context: ServerContext) -> Starlette:
    app = create_app(context, console_routes(context) if options.console else ())
    # Objects made at the start stay alive; scanning them in a collection would delay requests.
    gc.collect()
    gc.freeze()
    return app


def uvicorn_config(options: Options, make_app: Callable[[], Starlette]) -> uvicorn.Config:
    """Return uvicorn's settings."""
    return uvicorn.Config(
        make_app,
        factory=True,
        http=_protocol_class(),
        ws="none",
        lifespan="on",
        workers=options.workers,
        access_log=options.access_log,
        log_config=_log_config(),
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=DRAIN_S,
        timeout_worker_healthcheck=WORKER_START_S,
        ssl_certfile=options.ssl_certfile or None,
        ssl_keyfile=options.ssl_keyfile or None,
    )


def _protocol_class() -> Any:
    if find_spec("httptools") is None:  # as on Windows
        return "auto"
    from featurekit.server.protocol import BoundedProtocol

    return BoundedProtocol


def _log_config() -> dict[str, Any]:
    """Return uvicorn's logging settings, with every log on standard error, fit for a terminal."""
    config = deepcopy(LOGGING_CONFIG)
    config["formatters"]["default"]["()"] = PrintableFormatter
    config["formatters"]["access"]["()"] = PrintableAccessFormatter
    config["handlers"]["access"]["stream"] = "ext://sys.stderr"
    config["loggers"]["uvicorn"]["level"] = "WARNING"
    config["loggers"]["uvicorn.error"]["level"] = "WARNING"
    config["loggers"]["featurekit"] = {"handlers": ["default"], "level": "INFO"}
    return config


def _listen(options: Options) -> socket.socket:
    address = (options.host, options.port)
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    try:
        listener = socket.create_server(address, family=family, backlog=BACKLOG)
    except (OSError, OverflowError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise RequestError(
            f"cannot listen on {options.host}:{options.port}: {reason}",
            hint="another server may use the port; choose another one with --port",
        ) from error
    listener.set_inheritable(True)
    return listener


def _check_certificate(options: Options) -> None:
    if not options.ssl_certfile:
        if options.ssl_keyfile:
            raise RequestError("--ssl-keyfile needs a certificate", hint="add --ssl-certfile")
        return
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(options.ssl_certfile, options.ssl_keyfile or None)
    except OSError as error:
        raise RequestError(f"cannot load the certificate: {error}") from error


def _started(options: Options, context: ServerContext, listener: socket.socket) -> Started:
    host = f"[{options.host}]" if ":" in options.host else options.host
    scheme = "https" if options.ssl_certfile else "http"
    return Started(
        url=f"{scheme}://{host}:{listener.getsockname()[1]}",
        project=options.project or context.store.project,
        workers=options.workers,
        notes=tuple(_notes(options, context)),
    )


def _notes(options: Options, context: ServerContext) -> list[str]:
    notes = []
    if not context.tokens and not is_loopback(options.host):
        notes.append(
            f"{TOKENS_VARIABLE} is not set: every client of this address can read and write features"
        )
        names = ", ".join(["IP address", *sorted(context.allowed_hosts)])
        notes.append(f"without tokens, clients must use one of: {names} (see --allowed-host)")
    try:
        if context.store.registry is None:
            notes.append(
                "nothing is applied yet: requests get 503 until you run `featurekit apply`"
            )
        else:
            notes += context.store.readers.function_problems()
    except FeatureKitError as error:
        notes.append(f"not ready: requests get 503: {error.message}")
    return notes
