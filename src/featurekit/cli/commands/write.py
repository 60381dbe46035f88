"""`featurekit write`."""

from __future__ import annotations

import sys

import click

from featurekit.cli.context import Session, session_command
from featurekit.cli.reports import on_bad_row_option, show_outcome
from featurekit.repo import FeatureStore
from featurekit.repo.materialization import OnBadRow


@session_command("write")
@click.argument("view")
@on_bad_row_option
def command(session: Session, view: str, on_bad_row: OnBadRow, rejects: str | None) -> int:
    """Write rows of JSON from standard input into a batch view.

    One object a line, of join keys and fields: {"user_id": "u0001", "tx_count_7d": 3}. As in every
    batch, a field that a row lacks is deleted, as null is. Exits with 1 if rows were rejected.
    """
    if sys.stdin.isatty():
        click.echo("reading JSON objects, one a line, until Ctrl-D", err=True)
    with FeatureStore(session.repo) as store:
        lines = click.open_file("-", encoding="utf-8", errors="surrogateescape")
        report = store.write_jsonl(view, lines, on_bad_row=on_bad_row, rejects=rejects)
    return show_outcome(session, [report])
