"""The commands `materialize` and `write`, which load batch views."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, TypeVar

import click

from featurekit.cli.context import CliContext, cli_command, duration_option
from featurekit.cli.formatting import format_count, format_seconds, format_size, pluralize
from featurekit.cli.output import (
    RED,
    YELLOW,
    Cell,
    Styled,
    note_short_ttl,
    print_note,
    print_table,
    progress_bars,
)
from featurekit.errors import FeatureKitError
from featurekit.repo import FeatureStore
from featurekit.repo.materialization import OnBadRow
from featurekit.runtime.load import MaterializeReport

_MAX_REASONS = 5

TIME = "2026-11-22 or 2026-11-22T10:00:00Z"

F = TypeVar("F", bound=Callable[..., Any])


def bad_row_options(function: F) -> F:
    """Add `--on-bad-row` and `--rejects`."""
    rejects = click.option("--rejects", metavar="FILE", help="Parquet file for rejected rows.")
    on_bad_row = click.option(
        "--on-bad-row",
        type=click.Choice(["fail", "skip"]),
        default="fail",
        show_default=True,
        help="Stop at a row that does not fit its view, or reject the row and go on.",
    )
    return on_bad_row(rejects(function))


def _ttl_option_value(text: str) -> timedelta:
    return timedelta(milliseconds=duration_option(text))


ttl_option = click.option(
    "--ttl",
    type=_ttl_option_value,
    metavar="1h",
    help="Time to live of what is written, instead of the declared one.",
)


@cli_command("materialize")
@click.argument("views", metavar="[VIEW]...", nargs=-1)
@click.option("--start", metavar="TIME", help=f"Load rows at or after this time: {TIME}.")
@click.option("--end", metavar="TIME", help="Load rows before this time.")
@bad_row_options
@click.option(
    "--from",
    "from_file",
    metavar="FILE",
    help="Load one view from a corrected file of rejected rows instead of its source.",
)
@click.option("--fail-fast", is_flag=True, help="Stop at the first view that fails.")
@click.option(
    "--allow-older",
    is_flag=True,
    help="Load rows that are older than those loaded before, and overwrite newer values.",
)
@click.option(
    "--missing-only",
    is_flag=True,
    help="Write only entities that have no value of the view, for backfills.",
)
@ttl_option
@click.option(
    "--prune",
    is_flag=True,
    help="Delete the view's values of entities that the source no longer has.",
)
@click.option("--yes", "prune_all", is_flag=True, help="Prune also if a source has no rows.")
@click.option(
    "--engine",
    type=click.Choice(["duckdb", "spark"]),
    help="What reads the sources; by default `engine` of featurerepo.yaml.",
)
def materialize_command(context: CliContext, views: tuple[str, ...], **options: Any) -> int:
    """Load batch views from their sources.

    Loads the newest row of each entity, for the given views or for all views with a source. The
    command can be repeated: the same rows write the same bytes. A view that fails does not stop the
    others. Exits with 1 if a view failed or rows were rejected.

    With --start or --end, the `lookback` of a view does not apply.

    With --prune, entities that the source no longer has lose the view's values now, not at their TTL.
    Entities whose rows are rejected or of the future keep theirs.
    """
    with context.open_store() as store:
        if not context.json:
            print_note("store", store.address, "cyan")
        try:
            with progress_bars() as on_progress:
                reports = store.materialize(views, on_progress=on_progress, **options)
        except FeatureKitError as error:
            if len(error.reports) > 1 and not context.json:
                _print_reports(context, error.reports)
            raise
        _note_short_ttls(store, reports, options["ttl"])
    return _print_reports(context, reports)


@cli_command("write")
@click.argument("view")
@bad_row_options
@ttl_option
def write_command(
    context: CliContext,
    view: str,
    on_bad_row: OnBadRow,
    rejects: str | None,
    ttl: timedelta | None,
) -> int:
    """Write JSON rows from standard input into a batch view.

    One object per line, with join keys and fields: {"user_id": "u0001", "tx_count_7d": 3}. As in
    every batch, a missing field is deleted, like null. A view with `ordering: event_time` requires
    `event_timestamp` in each line. Exits with 1 if rows were rejected.
    """
    if sys.stdin.isatty():
        click.echo("reading JSON objects, one per line, until Ctrl-D", err=True)
    with context.open_store() as store:
        lines = click.open_file("-", encoding="utf-8", errors="surrogateescape")
        report = store.write_jsonl(view, lines, on_bad_row=on_bad_row, rejects=rejects, ttl=ttl)
        _note_short_ttls(store, [report], ttl)
    return _print_reports(context, [report])


def _note_short_ttls(
    store: FeatureStore, reports: Sequence[MaterializeReport], ttl: timedelta | None
) -> None:
    """Print a note for each view whose values expire soon, or expired while others were written."""
    for report in reports:
        given = ttl or timedelta(milliseconds=store.compiled.view(report.view).ttl_ms)
        left = given - timedelta(seconds=report.seconds)
        note_short_ttl(f"the first values of {report.view}", left // timedelta(milliseconds=1))


def _print_reports(context: CliContext, reports: Sequence[MaterializeReport]) -> int:
    """Print the reports of loads; return the exit code, 1 if rows were rejected."""
    if context.json:
        context.print_json([r.to_dict() | {"rows_per_second": _row_rate(r)} for r in reports])
    else:
        _print_report_table(reports)
    for report in reports:
        if report.rows_future:
            rows = pluralize(report.rows_future, "row")
            print_note("note", f"{report.view}: {rows} of the future left out", YELLOW)
    rejecting = [report for report in reports if report.rows_rejected]
    for report in reports:
        if report.history_error:
            problem = f"{report.view}: the history was not written: {report.history_error}"
            print_note("warning", problem, YELLOW)
    for report in rejecting:
        for reason, count in list(report.reason_counts.items())[:_MAX_REASONS]:
            print_note("rejected", f"{report.view}: {pluralize(count, 'row')}: {reason}", RED)
        rows = pluralize(report.rows_rejected, "row")
        saved = f"; they are in {report.rejects_path}" if report.rejects_path else ""
        print_note("error", f"{report.view}: {rows} rejected{saved}", RED)
    return 1 if rejecting else 0


def _row_rate(report: MaterializeReport) -> float:
    return report.rows_written / report.seconds if report.seconds else 0.0


def _print_report_table(reports: Sequence[MaterializeReport]) -> None:
    """Print one row per report, without columns that are zero or repeat another column."""
    columns: list[tuple[str, list[Cell], bool]] = [
        ("view", [r.view for r in reports], True),
        ("read", [format_count(r.rows_read) for r in reports], True),
        ("written", [format_count(r.rows_written) for r in reports], True),
        (
            "superseded",
            [format_count(r.rows_superseded) for r in reports],
            any(r.rows_superseded for r in reports),
        ),
        (
            "future",
            [format_count(r.rows_future) for r in reports],
            any(r.rows_future for r in reports),
        ),
        ("kept", [format_count(r.rows_kept) for r in reports], any(r.rows_kept for r in reports)),
        (
            "rejected",
            [
                Styled(format_count(r.rows_rejected), RED if r.rows_rejected else "")
                for r in reports
            ],
            any(r.rows_rejected for r in reports),
        ),
        (
            "entities",
            [format_count(r.entities) for r in reports],
            any(r.entities != r.rows_written for r in reports),
        ),
        (
            "pruned",
            [format_count(r.entities_pruned) for r in reports],
            any(r.entities_pruned for r in reports),
        ),
        ("size", [format_size(r.size_bytes) for r in reports], True),
        ("time", [format_seconds(r.seconds) for r in reports], True),
        (
            "",
            [Styled("failed" if r.error else "", RED) for r in reports],
            any(r.error for r in reports),
        ),
        ("rows/s", [format_count(_row_rate(r)) for r in reports], True),
        (
            "server",
            [format_seconds(r.server_seconds) for r in reports],
            any(r.server_seconds for r in reports),
        ),
    ]
    printed = [(name, cells) for name, cells, is_useful in columns if is_useful]
    names = [name for name, _ in printed]
    rows = list(zip(*(cells for _, cells in printed), strict=True))
    print_table(names, rows, right=names[1:])
