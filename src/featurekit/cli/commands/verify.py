"""The command `verify`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from featurekit.cli.context import CliContext, cli_command
from featurekit.cli.formatting import format_count, format_percent, pluralize
from featurekit.cli.output import DIM, GREEN, RED, YELLOW, Cell, Styled, print_note, print_table

if TYPE_CHECKING:
    from featurekit.training.verify import Difference, VerifyReport

_STYLES = {"mismatch": RED, "missing": RED, "extra": RED, "undecided": YELLOW}
_MAX_VALUE = 40


@cli_command("verify")
@click.argument("service")
@click.option(
    "--sample",
    metavar="N",
    type=click.IntRange(min=1),
    default=1000,
    show_default=True,
    help="Keys of each entity to read.",
)
@click.option(
    "--labels", metavar="FILE", help="Parquet or CSV file of labels whose keys are read too."
)
@click.option(
    "--as-of",
    type=click.Choice(["event_time", "created", "schedule", "loads"]),
    help="When a row of a source counts; by default, the rows that the recorded loads took.",
)
@click.option(
    "--seed", metavar="N", type=int, default=0, show_default=True, help="Chooses the keys."
)
@click.option(
    "--wait",
    metavar="DURATION",
    help="Wait after the reads, so that a log of events has them: 90s, 5m.",
)
def verify_command(context: CliContext, service: str, **options: Any) -> int:
    """Compare what is served with what the history says.

    Reads a sample of keys online: some of the sources, some of the store, and a few invented ones. Computes
    from the sources what these reads should have returned. A value differs only if it does so both before
    and after its read, so that loads may run meanwhile. Exits with 1 if a value differs, or if of some
    feature no value could be compared.
    """
    with context.open_store() as store:
        report = store.verify(service, **options)
    if context.json:
        context.print_json(report.to_dict())
    else:
        _print_report(report)
    return 1 if report.differences or report.not_compared else 0


def _print_report(report: VerifyReport) -> None:
    views = {view.name: view.as_of for view in report.views}
    headings = ["feature", "as of", "equal", "mismatch", "missing", "extra", "undecided"]
    rows: list[list[Cell]] = [
        [
            feature.name,
            views[feature.name.partition(":")[0]],
            format_count(feature.equal),
            *(_count_cell(kind, getattr(feature, kind)) for kind in headings[3:]),
        ]
        for feature in report.features
    ]
    print_table(headings, rows, right=headings[2:])
    if report.examples:
        click.echo()
        print_table(
            ["", "key", "feature", "online", "recomputed", ""],
            [_example_cells(example) for example in report.examples],
        )
    for entity, origins in report.keys.items():
        parts = ", ".join(f"{format_count(n)} {origin}" for origin, n in origins.items())
        print_note(
            "read", f"{pluralize(sum(origins.values()), 'key')} of {entity}: {parts}", GREEN
        )
    if report.left_out:
        print_note(
            "left out",
            f"{', '.join(report.left_out)}: not computable without a request, or without its function",
            YELLOW,
        )
    if report.not_compared:
        print_note(
            "not compared",
            f"{pluralize(len(report.not_compared), 'feature')}: {', '.join(report.not_compared)}",
            RED,
        )
    if report.differences:
        share = format_percent(report.differences / report.values)
        text = (
            f"{pluralize(report.differences, 'value')} of {format_count(report.values)} ({share})"
        )
        print_note("differ", text, RED)
    elif not report.not_compared:
        compared = pluralize(report.values - report.undecided, "value")
        rest = f", {format_count(report.undecided)} undecided" if report.undecided else ""
        print_note("ok", f"{compared} compared, none differs{rest}", GREEN)


def _count_cell(kind: str, count: int) -> Cell:
    return Styled(format_count(count), _STYLES[kind] if count else DIM)


def _example_cells(example: Difference) -> list[Cell]:
    return [
        Styled(example.kind, _STYLES[example.kind]),
        example.key,
        example.feature,
        _value_cell(example.online),
        _value_cell(example.recomputed),
        Styled(example.reason, DIM),
    ]


def _value_cell(text: str | None) -> Cell:
    if text is None:
        return Styled("none", DIM)
    return text if len(text) <= _MAX_VALUE else f"{text[: _MAX_VALUE - 1]}…"
