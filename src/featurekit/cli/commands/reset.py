"""`featurekit reset`."""

from __future__ import annotations

import click

from featurekit.cli.confirmation import ask
from featurekit.cli.context import Session, session_command
from featurekit.cli.formatting import counted
from featurekit.cli.output import show_json, show_line
from featurekit.repo import FeatureStore


@session_command("reset")
@click.argument("entity", required=False)
@click.option("--yes", is_flag=True, help="Do not ask.")
def command(session: Session, entity: str | None, yes: bool) -> None:
    """Delete stored features.

    Those of ENTITY, or of all entities of the project. Definitions and registry stay, and
    `featurekit materialize` fills the store again.
    """
    with FeatureStore(session.repo) as store:
        names = [entity] if entity else [each.name for each in store.compiled.entities]
        heads = [store.compiled.entity(name).key.entity_prefix + "*" for name in names]
        ask(
            session,
            f"delete {' and '.join(heads)} of project {store.project}",
            yes=yes,
        )
        deleted = store.reset(entity)
    if session.json:
        show_json({"deleted": deleted, "entities": names})
    else:
        show_line(f"{counted(deleted, 'entity', 'entities')} deleted")
