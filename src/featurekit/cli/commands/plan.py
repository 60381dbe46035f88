"""`featurekit plan`."""

from __future__ import annotations

import click

from featurekit.cli.changes import show_changes
from featurekit.cli.context import Session, session_command
from featurekit.cli.output import show_json
from featurekit.repo import FeatureStore

CHANGED = 2


@session_command("plan")
@click.option("--detailed-exitcode", is_flag=True, help="Exit with 2 where there are changes.")
def command(session: Session, detailed_exitcode: bool) -> int:
    """Show what apply would change.

    Compiled plans are compared, and not text. Each change is one of: add, remove, ttl (what is
    written from now on lives longer or shorter), compatible, or breaking (stored bytes would mean
    something else).
    """
    with FeatureStore(session.repo) as store:
        changes = store.plan()
    if session.json:
        show_json(changes.to_dict())
    else:
        show_changes(changes)
    return CHANGED if changes and detailed_exitcode else 0
