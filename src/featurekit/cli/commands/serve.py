"""The `serve` command."""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import asdict
from importlib.util import find_spec

import click

from featurekit.cli.context import CliContext, cli_command
from featurekit.cli.output import GREEN, YELLOW, Styled, print_line, print_note
from featurekit.errors import MissingExtraError
from featurekit.repo.store_handle import URL_VARIABLE

_LIBRARIES = ("starlette", "uvicorn", "orjson", "prometheus_client")
_FILE = click.Path(exists=True, dir_okay=False)


@cli_command("serve")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=6566,
    show_default=True,
    help="Port to listen on; 0 for any free port.",
)
@click.option(
    "--workers",
    type=click.IntRange(1, 256),
    default=1,
    show_default=True,
    help="Number of server processes.",
)
@click.option(
    "--project",
    metavar="NAME",
    default="",
    help="Serve this project from the registry in the store, without a featurerepo.yaml.",
)
@click.option(
    "--allow-sources",
    is_flag=True,
    help="With --project: load from the sources in the registry, which can run code here.",
)
@click.option(
    "--allow-functions",
    is_flag=True,
    help="With --project: import the Python functions of features from the folder of --repo.",
)
@click.option("--ssl-certfile", type=_FILE, help="Certificate chain (PEM) for HTTPS.")
@click.option("--ssl-keyfile", type=_FILE, help="Private key (PEM), if it is in a separate file.")
@click.option(
    "--allowed-host",
    "allowed_hosts",
    multiple=True,
    metavar="NAME",
    help="Without tokens: a further name by which clients may call the server; repeatable.",
)
@click.option(
    "--cors-origin",
    "cors_origins",
    multiple=True,
    metavar="ORIGIN",
    help="Let web pages of this origin (https://app.example) use the server; repeatable.",
)
@click.option("--access-log", is_flag=True, help="Log each request to standard error.")
@click.option(
    "--max-body",
    type=click.IntRange(1024),
    metavar="BYTES",
    default=4 * 1024 * 1024,
    show_default=True,
    help="Maximum size of a request body.",
)
@click.option(
    "--max-entities",
    type=click.IntRange(1),
    metavar="COUNT",
    default=10_000,
    show_default=True,
    help="Maximum number of entities or rows in a request.",
)
@click.option(
    "--max-cells",
    type=click.IntRange(1),
    metavar="COUNT",
    default=1_000_000,
    show_default=True,
    help="Maximum number of values in a request: entities times features.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(0, 3600, min_open=True),
    metavar="SECONDS",
    help="Default time limit of a read; without it, the store's timeouts apply.",
)
@click.option("--console", is_flag=True, help="Also serve the console, under /console/.")
@click.option("--allow-writes", is_flag=True, help="Allow the console to change and delete data.")
def serve_command(  # noqa: PLR0917 - click passes them by name
    context: CliContext,
    host: str,
    port: int,
    workers: int,
    project: str,
    allow_sources: bool,
    allow_functions: bool,
    ssl_certfile: str | None,
    ssl_keyfile: str | None,
    allowed_hosts: tuple[str, ...],
    cors_origins: tuple[str, ...],
    access_log: bool,
    max_body: int,
    max_entities: int,
    max_cells: int,
    timeout: float | None,
    console: bool,
    allow_writes: bool,
) -> None:
    """Serve features over HTTP until interrupted.

    Feast clients can read and write through the server unchanged; /docs documents its API. Set
    FEATUREKIT_SERVER_TOKENS=read:TOKEN,write:TOKEN to require tokens; without it, every client may
    read and write. The server picks up changes of `featurekit apply` within a second.
    """
    url = context.url or (os.environ.get(URL_VARIABLE, "") if project else "")
    if project and not url:
        raise click.UsageError(f"--project needs --url or {URL_VARIABLE}")
    if any(find_spec(library) is None for library in _LIBRARIES):
        raise MissingExtraError.of("server", "`featurekit serve`")
    from featurekit.server.context import Limits
    from featurekit.server.run import Options, Started, run

    def report_started(started: Started) -> None:
        if context.json:
            context.print_json(asdict(started))
        else:
            print_line(f"serving {started.project} on ", Styled(started.url, GREEN))
            if console:
                print_line("the console is on ", Styled(f"{started.url}/console/", GREEN))
        for note in started.notes:
            print_note("note", note, YELLOW)
        for number in (signal.SIGTERM, signal.SIGINT):  # a requested stop exits with 0
            signal.signal(number, _exit)

    limits = Limits(
        body_bytes=max_body, entities=max_entities, cells=max_cells, read_timeout_s=timeout
    )
    run(
        Options(
            repo=context.repo,
            project=project,
            url=url,
            allow_sources=allow_sources,
            allow_functions=allow_functions,
            host=host,
            port=port,
            workers=workers,
            ssl_certfile=ssl_certfile or "",
            ssl_keyfile=ssl_keyfile or "",
            allowed_hosts=allowed_hosts,
            cors_origins=cors_origins,
            access_log=access_log,
            limits=limits,
            allow_writes=allow_writes,
            console=console,
        ),
        report_started,
    )


def _exit(_number: int, _frame: object) -> None:
    sys.exit(0)
