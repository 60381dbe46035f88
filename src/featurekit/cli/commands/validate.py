"""The command `validate`, which checks definitions and, with `--data`, batch sources."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from featurekit.cli.context import CliContext, cli_command
from featurekit.cli.formatting import format_age, format_count, format_percent, pluralize
from featurekit.cli.output import (
    DIM,
    GREEN,
    RED,
    YELLOW,
    Cell,
    Styled,
    print_line,
    print_note,
    print_table,
    progress_bars,
)

if TYPE_CHECKING:
    from featurekit.repo import FeatureStore
    from featurekit.repo.data_report import DataReport, Finding, SourceCheck

_STYLES = {"fail": RED, "warn": YELLOW, "ok": GREEN, "skipped": DIM}


@cli_command("validate", has_url=False)
@click.argument("views", nargs=-1, metavar="[VIEW]...")
@click.option("--data", is_flag=True, help="Check batch sources too: all, or those of VIEW.")
@click.option(
    "--every-row", is_flag=True, help="With --data, check values that a newer row replaces too."
)
@click.option("--strict", is_flag=True, help="Exit with 1 after a warning too.")
def validate_command(
    context: CliContext, views: tuple[str, ...], data: bool, every_row: bool, strict: bool
) -> int:
    """Check the definitions, and with --data the batch sources.

    Reports all problems. Warnings report what is valid but probably a mistake; the exit code stays 0
    without --strict.

    --data reads the sources of batch views as a load does, and writes nothing. Reports values, keys
    and times that a load would reject, limits that it would not meet, rows of the future, rows that
    came late, rows whose order is left to chance, and sources that are older than `refresh`. Exits
    with 1 if a load would fail or reject a row.
    """
    if not data and (views or every_row):
        raise click.UsageError(f"{views[0] if views else '--every-row'} needs --data")
    with context.open_store() as store:
        warnings, plan = store.warnings, store.data.definitions()
        report = _check_data(context, store, views, every_row) if data else None
    counts = {
        "entities": sum(bool(entity.key.join_keys) for entity in plan.entities),
        "feature_views": len(plan.views) + len(plan.derived_views),
        "feature_services": len(plan.services),
    }
    has_failed = report is not None and bool(report.failed)
    has_warned = bool(warnings) or (report is not None and bool(report.warned))
    code = 1 if has_failed or (strict and has_warned) else 0
    if context.json:
        document = {"ok": not has_failed, **counts, "warnings": warnings}
        context.print_json(document | ({"data": report.to_dict()} if report else {}))
        return code
    for warning in warnings:
        print_note("warning", str(warning), YELLOW)
    print_line(Styled("ok", GREEN), f": {', '.join(_count_texts(counts))}")
    if report is not None:
        _print_report(report)
    return code


def _check_data(
    context: CliContext, store: FeatureStore, views: tuple[str, ...], every_row: bool
) -> DataReport:
    if context.json:
        return store.data.check(views or None, every_row=every_row)
    with progress_bars() as on_progress:
        return store.data.check(views or None, every_row=every_row, on_progress=on_progress)


def _count_texts(counts: dict[str, int]) -> list[str]:
    return [
        pluralize(counts["entities"], "entity", "entities"),
        pluralize(counts["feature_views"], "view"),
        pluralize(counts["feature_services"], "service"),
    ]


def _print_report(report: DataReport) -> None:
    if not report.views:
        print_note("note", "no view has a batch source", YELLOW)
        return
    headings = ["view", "", "source", "rows", "entities", "rejected", "future", "newest"]
    rows = [_row(view, report.checked_ms) for view in report.views]
    print_table(headings, rows, right=headings[3:7])
    found = [(view, finding) for view in report.views for finding in view.findings]
    if found:
        click.echo()
        print_table(("", "", "", ""), [_finding_row(*each) for each in found])
    _print_verdict(report)


def _row(view: SourceCheck, now_ms: int) -> list[Cell]:
    newest = view.newest_event_ms
    counts = (view.rows_read, view.entities, view.rows_rejected, view.rows_future)
    is_read = view.is_checked and (view.rows_read or not view.findings)
    cells: list[Cell] = [format_count(count) for count in counts] if is_read else [""] * 4
    if view.rows_rejected:
        cells[2] = Styled(format_count(view.rows_rejected), RED)
    state = Styled(view.state, _STYLES[view.state])
    source = Styled(view.source, DIM)
    return [view.view, state, source, *cells, _newest(newest, now_ms)]


def _newest(newest_ms: int | None, now_ms: int) -> str:
    if newest_ms is None:
        return ""
    return format_age(now_ms - newest_ms) if newest_ms <= now_ms else "in the future"


def _finding_row(view: SourceCheck, finding: Finding) -> list[Cell]:
    total = view.rows_checked if finding.check in ("values", "nulls") else view.rows_read
    share = f" ({format_percent(finding.rows / total)})" if finding.rows and total else ""
    count = f"{pluralize(finding.rows, 'row')}{share}" if finding.rows else ""
    first = [", ".join(part for part in (row.where, row.key) if part) for row in finding.first]
    text = f"{finding.message}; first: {'; '.join(first)}" if first else finding.message
    return [Styled(finding.level, _STYLES[finding.level]), view.view, count, text]


def _print_verdict(report: DataReport) -> None:
    checked = [view for view in report.views if view.is_checked]
    for view in report.views:
        if not view.is_checked:
            print_note("note", f"{view.view} is not checked: only Spark reads its source", YELLOW)
    if not checked:
        return
    rows = sum(view.rows_checked for view in checked)
    text = f"{pluralize(rows, 'row')} of {pluralize(len(checked), 'view')} checked"
    if report.failed:
        print_note(
            "failed", f"{text}; a load would not take all of: {', '.join(report.failed)}", RED
        )
    elif report.warned:
        print_note("warning", f"{text}; see {', '.join(report.warned)}", YELLOW)
    else:
        print_note("ok", f"{text}, nothing found", GREEN)
