"""`featurekit demo`."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from featurekit.cli.context import Session, session_command
from featurekit.cli.output import ODD, show_json, show_note
from featurekit.demo.settings import EMBEDDED, FOLDER, LONGEST_TTL_S, PORT, PREFIX, Keys, Settings
from featurekit.errors import FeatureKitError, MissingExtraError, RequestError
from featurekit.repo.store_handle import LazyStoreHandle

REDIS_PORT = 6379
LOOPBACK = ("127.", "::1", "localhost")
TOKENS = "FEATUREKIT_SERVER_TOKENS"
LOAD_TIMEOUT = "load_timeout=2s"
"""A page is soon told that a store is away; a load of the demo's size never waits so long."""


def _keys(_ctx: click.Context, _parameter: click.Parameter, text: str) -> Keys:
    try:
        return Keys.parse(text)
    except RequestError as error:
        raise click.BadParameter(error.message) from error


def _url(_ctx: click.Context, _parameter: click.Parameter, text: str | None) -> str | None:
    try:
        return text and LazyStoreHandle(text, Path()).safe_url and text
    except FeatureKitError as error:
        raise click.BadParameter(error.message) from error


@session_command("demo")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    default=PORT,
    show_default=True,
    help="Port to listen on; 0 for any that is free.",
)
@click.option(
    "--redis-host", metavar="HOST", help="A Redis or Valkey, in place of the embedded one."
)
@click.option("--redis-port", type=click.IntRange(1, 65_535), metavar="PORT", help="Its port.")
@click.option(
    "--url",
    metavar="URL",
    callback=_url,
    help="A store of any kind, with user, password, TLS and database.",
)
@click.option(
    "--key-prefix",
    "keys",
    default=PREFIX,
    show_default=True,
    callback=_keys,
    help="What the users' keys begin with.",
)
@click.option(
    "--batch-ttl-seconds",
    "batch_ttl_s",
    type=click.IntRange(1, LONGEST_TTL_S),
    default=86_400,
    show_default=True,
    help="How long a loaded user lives.",
)
@click.option(
    "--streaming-ttl-seconds",
    "streaming_ttl_s",
    type=click.IntRange(1, LONGEST_TTL_S),
    default=300,
    show_default=True,
    help="How long a stream field lives after its last write.",
)
@click.option(
    "--users-per-tick",
    type=click.IntRange(1, 10_000),
    default=5,
    show_default=True,
    help="Users that act each second.",
)
@click.option(
    "--seed-users",
    type=click.IntRange(0, 100_000),
    default=200,
    show_default=True,
    help="Users that are loaded at the start.",
)
@click.option("--no-reset", is_flag=True, help="Keep the users that are there.")
def command(session: Session, no_reset: bool, **options: Any) -> None:
    """Show what expires and what stays, on a page of its own.

    Loads users into an embedded server (or another store), lets some of them act each second, and
    serves a page that shows it: pause the stream and watch its fields go one by one while the batch
    fields stay. Needs the extras `server` and `embedded`. Its repository is in .featurekit/demo, so
    that `featurekit --repo .featurekit/demo status` looks at it from beside. SIGTERM and Ctrl-C
    end it.
    """
    try:
        from featurekit.demo.run import listen, run
    except ImportError as error:
        if isinstance(error, MissingExtraError):
            raise
        raise MissingExtraError.of("server", "`featurekit demo`") from error
    settings = Settings(
        url=_store_url(options.pop("url"), options.pop("redis_host"), options.pop("redis_port")),
        reset=not no_reset,
        folder=Path(session.repo) / FOLDER,
        **options,
    )
    with _bound(listen, settings) as listener:
        if settings.streaming_ttl_s > settings.batch_ttl_s:
            show_note("warning", "stream fields may live longer than the users' keys", ODD)
        if not (settings.host.startswith(LOOPBACK) or os.environ.get(TOKENS)):
            text = f"whoever reaches {settings.host} may read and delete; {TOKENS} asks for tokens"
            show_note("warning", text, ODD)
        if session.json:
            run(settings, listener, _unsaid, show_json)
        else:
            run(settings, listener, click.echo, _unsaid)


def _store_url(url: str | None, host: str | None, port: int | None) -> str:
    """The store that the flags name; the embedded server if they name none."""
    if url is not None and (host is not None or port is not None):
        raise click.UsageError("--url names a store, and so do --redis-host and --redis-port")
    if host is None and port is None:
        return url or EMBEDDED
    shown = f"[{host}]" if host and ":" in host else quote(host or "localhost")
    return f"redis://{shown}:{port or REDIS_PORT}?{LOAD_TIMEOUT}"


def _bound(listen: Callable[[str, int], socket.socket], settings: Settings) -> socket.socket:
    """The socket to listen on: taken before anything is written."""
    try:
        return listen(settings.host, settings.port)
    except socket.gaierror as error:
        raise _bad("host", settings.host, error) from error
    except OSError as error:
        name = "port" if error.errno in (errno.EADDRINUSE, errno.EACCES) else "host"
        raise _bad(name, getattr(settings, name), error) from error


def _bad(name: str, value: object, error: OSError) -> click.BadParameter:
    code = error.errno or 0  # those of getaddrinfo are negative
    reason = (os.strerror(code) if code > 0 else error.strerror or str(error)).lower()
    return click.BadParameter(
        f"{value} cannot be listened on: {reason}.", param_hint=f"'--{name}'"
    )


def _unsaid(_: object) -> None:
    """Say nothing."""
