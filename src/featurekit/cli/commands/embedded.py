"""`featurekit embedded`: the server that an `embedded://` store runs on."""

from __future__ import annotations

from pathlib import Path

import click

from featurekit.cli.context import Group, Session, session_command
from featurekit.cli.formatting import size
from featurekit.cli.output import GOOD, Styled, show_json, show_line, show_pairs
from featurekit.repo.store_handle import EmbeddedServer, embedded_server

folder_option = click.option(
    "--folder",
    type=click.Path(path_type=Path),
    help="The server's folder; that of the repository's embedded:// URL by default.",
)


@click.group("embedded", cls=Group)
def command() -> None:
    """Start, stop or look at the embedded server.

    It is a Valkey of the extra `embedded`, on a socket in a folder. Whatever needs it starts it;
    it outlives them all, and keeps its data in that folder.
    """


@session_command("start")
@folder_option
def start(session: Session, folder: Path | None) -> None:
    """Start it, unless it runs."""
    server = _server(session, folder)
    server.ensure_running()
    _show(session, server)


@session_command("stop")
@folder_option
def stop(session: Session, folder: Path | None) -> None:
    """Stop it, its data saved."""
    server = _server(session, folder)
    stopped = server.stop()
    if session.json:
        show_json({"stopped": stopped})
    else:
        show_line("stopped" if stopped else "it was not running")


@session_command("status")
@folder_option
def status(session: Session, folder: Path | None) -> None:
    """Tell whether it runs, and where."""
    _show(session, _server(session, folder))


for subcommand in (start, stop, status):
    command.add_command(subcommand)


def _server(session: Session, folder: Path | None) -> EmbeddedServer:
    return EmbeddedServer(folder) if folder is not None else embedded_server(session.repo)


def _show(session: Session, server: EmbeddedServer) -> None:
    state = server.status()
    if session.json:
        show_json(
            {
                "folder": server.folder,
                "running": state.running,
                "pid": state.pid,
                "socket": state.socket,
                "size_bytes": state.size_bytes,
                "log": state.log,
            }
        )
        return
    show_line(Styled("running", GOOD) if state.running else "not running")
    show_pairs(
        [
            ("folder", str(server.folder)),
            ("socket", str(state.socket)),
            ("pid", str(state.pid or "")),
            ("size", size(state.size_bytes)),
            ("log", str(state.log) if state.log.exists() else ""),
        ]
    )
