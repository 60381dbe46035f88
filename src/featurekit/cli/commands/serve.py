"""`featurekit serve`."""

from __future__ import annotations

import signal
import sys
from dataclasses import asdict
from importlib.util import find_spec

import click

from featurekit.cli.context import Session, session_command
from featurekit.cli.output import GOOD, ODD, Styled, show_json, show_line, show_note
from featurekit.errors import MissingExtraError

_LIBRARIES = ("starlette", "uvicorn", "orjson", "prometheus_client")
_FILE = click.Path(exists=True, dir_okay=False)


@session_command("serve")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=6566,
    show_default=True,
    help="Port to listen on; 0 for any that is free.",
)
@click.option(
    "--workers",
    type=click.IntRange(1, 256),
    default=1,
    show_default=True,
    help="Processes that answer.",
)
@click.option(
    "--project",
    metavar="NAME",
    default="",
    help="Serve what is applied of this project in the store, without a featurerepo.yaml.",
)
@click.option(
    "--store",
    metavar="URL",
    envvar="FEATUREKIT_ONLINE_URL",
    show_envvar=True,
    default="",
    help="With --project: the store that keeps the registry (registry: online).",
)
@click.option("--ssl-certfile", type=_FILE, help="Certificate chain in PEM, to serve HTTPS.")
@click.option("--ssl-keyfile", type=_FILE, help="Its key, where that is in a file of its own.")
@click.option("--access-log", is_flag=True, help="Log each request on standard error.")
@click.option(
    "--max-body",
    type=click.IntRange(1024),
    metavar="BYTES",
    default=4 * 1024 * 1024,
    show_default=True,
    help="Largest body of a request.",
)
@click.option(
    "--max-entities",
    type=click.IntRange(1),
    metavar="COUNT",
    default=10_000,
    show_default=True,
    help="Most entities or rows of a request.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(0, 3600, min_open=True),
    metavar="SECONDS",
    help="Bound of a read that names none; without it, the store's own timeouts.",
)
@click.option("--console", is_flag=True, help="Serve the console, too, under /console/.")
@click.option("--allow-writes", is_flag=True, help="Let the console change and delete things.")
def command(  # noqa: PLR0917 - click passes them by name
    session: Session,
    host: str,
    port: int,
    workers: int,
    project: str,
    store: str,
    ssl_certfile: str | None,
    ssl_keyfile: str | None,
    access_log: bool,
    max_body: int,
    max_entities: int,
    timeout: float | None,
    console: bool,
    allow_writes: bool,
) -> None:
    """Serve features over HTTP, until interrupted.

    Feast's clients can read and write through it unchanged; /docs describes all it offers. Who
    may do what is told by FEATUREKIT_SERVER_TOKENS=read:TOKEN,write:TOKEN; without it, everybody
    may do everything. What `featurekit apply` changes is served within a second.
    """
    if project and not store:
        raise click.UsageError("--project needs --store")
    if any(find_spec(library) is None for library in _LIBRARIES):
        raise MissingExtraError.of("server", "`featurekit serve`")
    from featurekit.server.context import Limits
    from featurekit.server.run import Options, Started, run

    def tell(started: Started) -> None:
        if session.json:
            show_json(asdict(started))
        else:
            show_line(f"serving {started.project} on ", Styled(started.url, GOOD))
            if console:
                show_line("the console is on ", Styled(f"{started.url}/console/", GOOD))
        for note in started.notes:
            show_note("note", note, ODD)
        for number in (signal.SIGTERM, signal.SIGINT):  # being asked to stop is no failure
            signal.signal(number, _end)

    limits = Limits(body_bytes=max_body, entities=max_entities, read_timeout_s=timeout)
    run(
        Options(
            repo=session.repo,
            project=project,
            store_url=store,
            host=host,
            port=port,
            workers=workers,
            ssl_certfile=ssl_certfile or "",
            ssl_keyfile=ssl_keyfile or "",
            access_log=access_log,
            limits=limits,
            allow_writes=allow_writes,
            console=console,
        ),
        tell,
    )


def _end(_number: int, _frame: object) -> None:
    sys.exit(0)
