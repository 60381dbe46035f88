"""Reports of loads: the options that loads share, and their outcome as a table or as JSON."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from featurekit.cli.context import Session
from featurekit.cli.formatting import count, counted, seconds, size
from featurekit.cli.output import BAD, Piece, Styled, show_json, show_note, show_table
from featurekit.runtime.load import MaterializeReport

F = TypeVar("F", bound=Callable[..., Any])


def on_bad_row_option(function: F) -> F:
    """Add `--on-bad-row` and `--rejects`."""
    rejects = click.option("--rejects", metavar="FILE", help="Parquet file for rows put aside.")
    bad = click.option(
        "--on-bad-row",
        type=click.Choice(["fail", "skip"]),
        default="fail",
        show_default=True,
        help="Whether a row that does not fit ends the load or is put aside.",
    )
    return bad(rejects(function))


def show_outcome(session: Session, reports: Sequence[MaterializeReport]) -> int:
    """Print what loads did; returns the exit code, which is 1 if rows were rejected."""
    if session.json:
        show_json([report.to_dict() | {"rows_per_second": _rate(report)} for report in reports])
    else:
        _show_table(reports)
    bad = [report for report in reports if report.rows_rejected]
    for report in bad:
        for reason in report.reasons[:3]:
            show_note("rejected", reason, BAD)
        rows = counted(report.rows_rejected, "row")
        kept = f"; they are in {report.rejects_path}" if report.rejects_path else ""
        show_note("error", f"{report.view}: {rows} rejected{kept}", BAD)
    return 1 if bad else 0


def _rate(report: MaterializeReport) -> float:
    return report.rows_written / report.seconds if report.seconds else 0.0


def _show_table(reports: Sequence[MaterializeReport]) -> None:
    """Columns that say nothing, being zero or repeating another, are left out."""
    columns: list[tuple[str, list[Piece], bool]] = [
        ("view", [r.view for r in reports], True),
        ("read", [count(r.rows_read) for r in reports], True),
        ("written", [count(r.rows_written) for r in reports], True),
        (
            "superseded",
            [count(r.rows_superseded) for r in reports],
            any(r.rows_superseded for r in reports),
        ),
        (
            "rejected",
            [Styled(count(r.rows_rejected), BAD if r.rows_rejected else "") for r in reports],
            any(r.rows_rejected for r in reports),
        ),
        (
            "entities",
            [count(r.entities) for r in reports],
            any(r.entities != r.rows_written for r in reports),
        ),
        ("size", [size(r.size_bytes) for r in reports], True),
        ("time", [seconds(r.seconds) for r in reports], True),
        ("rows/s", [count(_rate(r)) for r in reports], True),
        (
            "server",
            [seconds(r.server_seconds) for r in reports],
            any(r.server_seconds for r in reports),
        ),
    ]
    shown = [(name, cells) for name, cells, tells in columns if tells]
    names = [name for name, _ in shown]
    show_table(names, list(zip(*(cells for _, cells in shown), strict=True)), right=names[1:])
