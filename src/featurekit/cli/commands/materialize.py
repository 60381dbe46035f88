"""`featurekit materialize`."""

from __future__ import annotations

from typing import Any

import click

from featurekit.cli.context import Session, session_command
from featurekit.cli.output import bars
from featurekit.cli.reports import on_bad_row_option, show_outcome
from featurekit.errors import FeatureKitError
from featurekit.repo import FeatureStore
from featurekit.runtime.load import MaterializeReport

TIME = "2026-11-22, or 2026-11-22T10:00:00Z"


@session_command("materialize")
@click.argument("views", metavar="[VIEW]...", nargs=-1)
@click.option("--start", metavar="TIME", help=f"Take rows at or after this time: {TIME}.")
@click.option("--end", metavar="TIME", help="Take rows before this time.")
@on_bad_row_option
def command(session: Session, views: tuple[str, ...], **options: Any) -> int:
    """Fill the online store from batch sources.

    Takes the newest row of each entity, for the views named or for all that have a source. It is
    safe to run again: the same rows give the same bytes. Exits with 1 if rows were rejected.
    """
    reports: list[MaterializeReport] = []
    with FeatureStore(session.repo) as store:
        try:
            with bars() as on_progress:
                done = store.iter_materialize(views, on_progress=on_progress, **options)
                reports.extend(done)
        except FeatureKitError:
            if reports and not session.json:
                show_outcome(session, reports)
            raise
    return show_outcome(session, reports)
