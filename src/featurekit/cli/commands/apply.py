"""`featurekit apply`."""

from __future__ import annotations

import click

from featurekit.changes import Changes
from featurekit.cli.changes import show_changes
from featurekit.cli.confirmation import ask
from featurekit.cli.context import Session, session_command
from featurekit.cli.output import GOOD, Styled, show_json, show_line
from featurekit.repo import FeatureStore

DESTROYS = {"remove", "breaking"}


@session_command("apply")
@click.option("--yes", is_flag=True, help="Do not ask before changes that remove or break.")
@click.option("--allow-breaking", is_flag=True, help="Apply breaking changes, too.")
def command(session: Session, yes: bool, allow_breaking: bool) -> None:
    """Make the registry say what the definitions say.

    Prints the changes and applies that very list. No stored value is touched: what is removed
    stays until it expires, or until the next batch of its entity deletes it.
    """
    with FeatureStore(session.repo) as store:
        changes = store.plan()
        if not session.json:
            show_changes(changes)
        if _needs_consent(changes, allow_breaking=allow_breaking):
            ask(session, "apply changes that remove or break", yes=yes)
        store.apply(changes, allow_breaking=allow_breaking)
    if session.json:
        show_json(changes.to_dict())
    elif changes:
        show_line(Styled("applied", GOOD))


def _needs_consent(changes: Changes, *, allow_breaking: bool) -> bool:
    """Whether something is destroyed; what is refused in any case is not asked about."""
    refused = changes.breaking and not allow_breaking
    return not refused and any(change.kind in DESTROYS for change in changes)
