"""The `demo` command."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from featurekit.cli.context import CliContext, cli_command
from featurekit.cli.output import YELLOW, print_note, print_text
from featurekit.demo.settings import EMBEDDED, FOLDER, LONGEST_TTL_S, PORT, PREFIX, Keys, Settings
from featurekit.errors import FeatureKitError, MissingExtraError, RequestError
from featurekit.repo.store_handle import LazyStoreHandle

REDIS_PORT = 6379
TOKENS = "FEATUREKIT_SERVER_TOKENS"
LOAD_TIMEOUT = "load_timeout=2s"
"""Short, so that the page shows an unavailable store soon; the demo's loads take less time."""


def _parse_keys(_ctx: click.Context, _parameter: click.Parameter, text: str) -> Keys:
    try:
        return Keys.parse(text)
    except RequestError as error:
        raise click.BadParameter(error.message) from error


def _check_url(_ctx: click.Context, _parameter: click.Parameter, text: str | None) -> str | None:
    try:
        return text and LazyStoreHandle(text, Path()).safe_url and text
    except FeatureKitError as error:
        raise click.BadParameter(error.message) from error


@cli_command("demo", has_url=False)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    default=PORT,
    show_default=True,
    help="Port to listen on; 0 for any free port.",
)
@click.option(
    "--allowed-host",
    "allowed_hosts",
    multiple=True,
    metavar="NAME",
    help="Without tokens: a further name by which browsers may open the page; repeatable.",
)
@click.option(
    "--redis-host", metavar="HOST", help="Redis or Valkey to use instead of the embedded one."
)
@click.option(
    "--redis-port", type=click.IntRange(1, 65_535), metavar="PORT", help="Port of --redis-host."
)
@click.option(
    "--url",
    metavar="URL",
    callback=_check_url,
    help="Store URL of any kind, with user, password, TLS and database.",
)
@click.option(
    "--key-prefix",
    "keys",
    default=PREFIX,
    show_default=True,
    callback=_parse_keys,
    help="Prefix of the users' keys.",
)
@click.option(
    "--batch-ttl-seconds",
    "batch_ttl_s",
    type=click.IntRange(1, LONGEST_TTL_S),
    default=86_400,
    show_default=True,
    help="Time to live of a loaded user.",
)
@click.option(
    "--streaming-ttl-seconds",
    "streaming_ttl_s",
    type=click.IntRange(1, LONGEST_TTL_S),
    default=300,
    show_default=True,
    help="Time to live of a stream field after its last write.",
)
@click.option(
    "--users-per-tick",
    type=click.IntRange(1, 10_000),
    default=5,
    show_default=True,
    help="Number of users that act each second.",
)
@click.option(
    "--seed-users",
    type=click.IntRange(0, 100_000),
    default=200,
    show_default=True,
    help="Number of users loaded at the start.",
)
@click.option("--no-reset", is_flag=True, help="Keep existing users.")
def demo_command(context: CliContext, no_reset: bool, **options: Any) -> None:
    """Show expiry live on a web page.

    Loads users into an embedded server (or another store), simulates events each second, and serves
    a page that shows the stored fields: pause the stream, and its fields expire one by one while
    the batch fields stay. Needs the extras `server` and `embedded`. The demo's repository is in
    .featurekit/demo, so `featurekit --repo .featurekit/demo status` works. SIGTERM and Ctrl-C stop
    the demo.
    """
    try:
        from featurekit.demo.run import listen, run
        from featurekit.server.access import is_loopback
    except ImportError as error:
        if isinstance(error, MissingExtraError):
            raise
        raise MissingExtraError.of("server", "`featurekit demo`") from error
    settings = Settings(
        url=_store_url(options.pop("url"), options.pop("redis_host"), options.pop("redis_port")),
        reset=not no_reset,
        folder=Path(context.repo) / FOLDER,
        **options,
    )
    with _listen(listen, settings) as listener:
        if settings.streaming_ttl_s > settings.batch_ttl_s:
            print_note(
                "warning",
                "the TTL of stream fields is longer than the TTL of the users' keys",
                YELLOW,
            )
        if not (is_loopback(settings.host) or os.environ.get(TOKENS)):
            text = f"every client of {settings.host} may read and delete; set {TOKENS} to require tokens"
            print_note("warning", text, YELLOW)
        if context.json:
            run(settings, listener, _discard, context.print_json)
        else:
            run(settings, listener, print_text, _discard)


def _store_url(url: str | None, host: str | None, port: int | None) -> str:
    """Return the URL that the options give; by default that of the embedded server."""
    if url is not None and (host is not None or port is not None):
        raise click.UsageError("--url cannot be combined with --redis-host or --redis-port")
    if host is None and port is None:
        return url or EMBEDDED
    address = f"[{host}]" if host and ":" in host else quote(host or "localhost")
    return f"redis://{address}:{port or REDIS_PORT}?{LOAD_TIMEOUT}"


def _listen(listen: Callable[[str, int], socket.socket], settings: Settings) -> socket.socket:
    """Return the listening socket, opened before anything is written."""
    try:
        return listen(settings.host, settings.port)
    except socket.gaierror as error:
        raise _listen_error("host", settings.host, error) from error
    except OSError as error:
        name = "port" if error.errno in (errno.EADDRINUSE, errno.EACCES) else "host"
        raise _listen_error(name, getattr(settings, name), error) from error


def _listen_error(name: str, value: object, error: OSError) -> click.BadParameter:
    code = error.errno or 0  # codes of getaddrinfo are negative
    reason = (os.strerror(code) if code > 0 else error.strerror or str(error)).lower()
    return click.BadParameter(f"cannot listen on {value}: {reason}.", param_hint=f"'--{name}'")


def _discard(_: object) -> None:
    """Print nothing."""
