"""Running: a site behind uvicorn, in one process or several, until it is asked to stop."""

from __future__ import annotations

import gc
import os
import socket
import ssl
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from tempfile import TemporaryDirectory
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.routing import BaseRoute
from uvicorn.config import LOGGING_CONFIG
from uvicorn.supervisors import Multiprocess

from featurekit.errors import FeatureKitError, RequestError
from featurekit.repo import FeatureStore
from featurekit.server.app import create_app
from featurekit.server.auth import VARIABLE, Tokens
from featurekit.server.console import console_routes
from featurekit.server.context import Limits, ServerContext

PORT = 6566
"""The port of Feast's feature server."""

KEEP_ALIVE_S = 75
"""Seconds that an idle connection is kept: longer than the pools of most clients and proxies do."""

DRAIN_S = 10
"""Seconds that requests under way have once the server is asked to stop."""

BACKLOG = 2048
_LOOPBACK = ("127.", "::1", "localhost")


@dataclass(frozen=True, slots=True)
class Options:
    """How a server runs. Pickles, so that workers get it.

    Attributes:
        repo: Where to look for `featurerepo.yaml`, from there upwards.
        project: Of which project to serve what is applied at `store_url`, in the place of that.
        store_url: The store that keeps it.
        host: The address to listen on.
        port: The port; 0 for any that is free.
        workers: Processes that answer.
        ssl_certfile: The certificate chain, for HTTPS; empty for HTTP.
        ssl_keyfile: Its key, where that is not in the same file.
        access_log: Whether to log each request.
        limits: What a request may cost.
        allow_writes: Whether the console offers what changes or destroys things.
        console: Whether to serve the console, under `/console/`.
    """

    repo: str = "."
    project: str = ""
    store_url: str = ""
    host: str = "127.0.0.1"
    port: int = PORT
    workers: int = 1
    ssl_certfile: str = ""
    ssl_keyfile: str = ""
    access_log: bool = False
    limits: Limits = field(default_factory=Limits)
    allow_writes: bool = False
    console: bool = False


@dataclass(frozen=True, slots=True)
class Started:
    """What is told when the server listens.

    Attributes:
        url: Where.
        project: Of which project.
        workers: Processes that answer.
        notes: What the operator should know.
    """

    url: str
    project: str
    workers: int
    notes: tuple[str, ...] = ()


Tell = Callable[[Started], None]


def run(options: Options, tell: Tell) -> None:
    """Serve until SIGTERM or SIGINT; requests under way are answered first.

    Args:
        options: How.
        tell: Told once, when it listens.

    Raises:
        DefinitionError: The repository is wrong.
        RequestError: The address, the certificate or the tokens cannot be used.
    """
    site = site_of(options)
    _check_certificate(options)
    listening = _listen(options)
    tell(_started(options, site, listening))
    if options.workers == 1:
        config = config_of(options, partial(_app_of, options, site))
        uvicorn.Server(config).run([listening])
        return
    site.store.close()
    with TemporaryDirectory(prefix="featurekit-") as shared:
        config = config_of(options, partial(app_of, options, shared))
        Multiprocess(config, [listening]).run()


def site_of(options: Options, shared: str = "") -> ServerContext:
    """The site of a repository, with the tokens of the environment."""
    return ServerContext(
        store=_store_of(options),
        limits=options.limits,
        tokens=Tokens.parse(os.environ.get(VARIABLE, "")),
        allow_writes=options.allow_writes,
        shared=shared,
    )


def _store_of(options: Options) -> FeatureStore:
    if not options.project:
        return FeatureStore(options.repo)
    return FeatureStore.from_registry(options.store_url, options.project, must_exist=False)


def app_of(options: Options, shared: str) -> Starlette:
    """The application of a repository: what each worker makes for itself."""
    return _app_of(options, site_of(options, shared))


def _app_of(options: Options, site: ServerContext) -> Starlette:
    app = create_app(site, extra_of(options, site))
    # What is there by now stays: a collection that went through it all would be felt by a request.
    gc.collect()
    gc.freeze()
    return app


def extra_of(options: Options, site: ServerContext) -> Sequence[BaseRoute]:
    """The routes that are served when asked for."""
    return console_routes(site) if options.console else ()


def config_of(options: Options, make_app: Callable[[], Starlette]) -> uvicorn.Config:
    """Uvicorn's settings."""
    return uvicorn.Config(
        make_app,
        factory=True,
        http=_protocol(),
        ws="none",
        lifespan="on",
        workers=options.workers,
        access_log=options.access_log,
        log_config=_logging(),
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=DRAIN_S,
        ssl_certfile=options.ssl_certfile or None,
        ssl_keyfile=options.ssl_keyfile or None,
    )


def _protocol() -> Any:
    if find_spec("httptools") is None:  # as on Windows
        return "auto"
    from featurekit.server.protocol import BoundedProtocol

    return BoundedProtocol


def _logging() -> dict[str, Any]:
    """All logs on standard error: standard output is for answers."""
    config = deepcopy(LOGGING_CONFIG)
    config["handlers"]["access"]["stream"] = "ext://sys.stderr"
    config["loggers"]["uvicorn"]["level"] = "WARNING"
    config["loggers"]["uvicorn.error"]["level"] = "WARNING"
    config["loggers"]["featurekit"] = {"handlers": ["default"], "level": "INFO"}
    return config


def _listen(options: Options) -> socket.socket:
    address = (options.host, options.port)
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    try:
        listening = socket.create_server(address, family=family, backlog=BACKLOG)
    except (OSError, OverflowError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise RequestError(
            f"cannot listen on {options.host}:{options.port}: {reason}",
            hint="is another server there? choose another with --port",
        ) from error
    listening.set_inheritable(True)
    return listening


def _check_certificate(options: Options) -> None:
    if not options.ssl_certfile:
        if options.ssl_keyfile:
            raise RequestError("a key without its certificate", hint="give --ssl-certfile, too")
        return
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(options.ssl_certfile, options.ssl_keyfile or None)
    except OSError as error:
        raise RequestError(f"the certificate cannot be used: {error}") from error


def _started(options: Options, site: ServerContext, listening: socket.socket) -> Started:
    host = f"[{options.host}]" if ":" in options.host else options.host
    scheme = "https" if options.ssl_certfile else "http"
    return Started(
        url=f"{scheme}://{host}:{listening.getsockname()[1]}",
        project=options.project or site.store.project,
        workers=options.workers,
        notes=tuple(_notes(options, site)),
    )


def _notes(options: Options, site: ServerContext) -> list[str]:
    notes = []
    if not site.tokens and not options.host.startswith(_LOOPBACK):
        notes.append(
            f"{VARIABLE} is not set: whoever reaches this address may read and write features"
        )
    try:
        if site.store.registry is None:
            notes.append("nothing is applied yet: requests get 503 until `featurekit apply`")
    except FeatureKitError as error:
        notes.append(f"not ready yet, requests get 503 until it is: {error.message}")
    return notes
