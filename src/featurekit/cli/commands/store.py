"""The commands `embedded` and `reset`, which manage the online store."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from featurekit.cli.context import CliContext, CommandGroup, cli_command, confirm
from featurekit.cli.formatting import format_size, pluralize
from featurekit.cli.output import GREEN, Styled, print_line, print_pairs
from featurekit.repo.store_handle import EmbeddedServer, embedded_server

folder_option = click.option(
    "--folder",
    type=click.Path(path_type=Path),
    help="Folder of the server; by default that of the repository's embedded:// URL.",
)


@click.group("embedded", cls=CommandGroup)
def embedded_command() -> None:
    """Start, stop or inspect the embedded server.

    The server is a Valkey from the extra `embedded`, on a socket in a folder. A command or program
    that needs it starts it; it keeps running afterwards, and stores its data in that folder.
    """


@cli_command("start", has_url=False)
@folder_option
def start_command(context: CliContext, folder: Path | None) -> None:
    """Start the server unless it is running."""
    server = _server(context, folder)
    server.ensure_running()
    _print_status(context, server)


@cli_command("stop", has_url=False)
@folder_option
def stop_command(context: CliContext, folder: Path | None) -> None:
    """Save the data and stop the server."""
    stopped = _server(context, folder).stop()
    if context.json:
        context.print_json({"stopped": stopped})
    else:
        print_line("stopped" if stopped else "the server was not running")


@cli_command("status", has_url=False)
@folder_option
def status_command(context: CliContext, folder: Path | None) -> None:
    """Show whether the server is running, and where."""
    _print_status(context, _server(context, folder))


for subcommand in (start_command, stop_command, status_command):
    embedded_command.add_command(subcommand)


def _server(context: CliContext, folder: Path | None) -> EmbeddedServer:
    return EmbeddedServer(folder) if folder is not None else embedded_server(context.repo)


def _print_status(context: CliContext, server: EmbeddedServer) -> None:
    status = server.status()
    if context.json:
        context.print_json(
            {
                "folder": server.folder,
                "running": status.running,
                "pid": status.pid,
                "socket": status.socket,
                "size_bytes": status.size_bytes,
                "log": status.log,
            }
        )
        return
    print_line(Styled("running", GREEN) if status.running else "not running")
    print_pairs(
        [
            ("folder", str(server.folder)),
            ("socket", str(status.socket)),
            ("pid", str(status.pid or "")),
            ("size", format_size(status.size_bytes)),
            ("log", str(status.log) if status.log.exists() else ""),
        ]
    )


@cli_command("delete")
@click.argument("entity")
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
def delete_command(context: CliContext, entity: str, ids: tuple[str, ...], yes: bool) -> None:
    """Delete all that is stored for some entities.

    Deletes the values of all views, and dead letters in Redis streams. Sources, streams, logs and files
    of rejected rows are not touched: delete there first, or the next load brings the entity back. A
    replay of windows leaves out the events up to the deletion. ID is as in `inspect`.

    \b
    featurekit delete user u0001
    """  # noqa: D301 - click reads the backspace
    with context.open_store() as store:
        for each in ids:
            store.compiled.locate(entity, each)
        names = ", ".join(ids)
        action = f"delete {entity} {names} of project {store.project} in {store.address}"
        confirm(context, action, yes=yes)
        deleted = store.delete(entity, list(ids))
    if context.json:
        context.print_json(
            {"entity": entity, "ids": ids, **asdict(deleted), "store": store.address}
        )
        return
    letters = pluralize(deleted.dead_letters, "dead letter")
    print_line(
        f"{pluralize(deleted.entities, 'entity', 'entities')} and {letters} deleted in {store.address}"
    )


@cli_command("reset")
@click.argument("entity", required=False)
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
def reset_command(context: CliContext, entity: str | None, yes: bool) -> None:
    """Delete stored features.

    Deletes the features of ENTITY, or of all entities of the project. Definitions and registry are
    kept; `featurekit materialize` loads the batch views again, and `featurekit stream replay` fills windows.
    """
    with context.open_store() as store:
        plan = store.compiled
        entities = plan.entities_named(entity) if entity else plan.entities
        names = [each.name for each in entities]
        patterns = [
            each.key.entity_prefix + ("*" if each.key.join_keys else "") for each in entities
        ]
        action = f"delete {' and '.join(patterns)} of project {store.project} in {store.address}"
        confirm(context, action, yes=yes)
        deleted = store.reset(entity)
    if context.json:
        context.print_json({"deleted": deleted, "entities": names, "store": store.address})
    else:
        print_line(f"{pluralize(deleted, 'entity', 'entities')} deleted in {store.address}")
