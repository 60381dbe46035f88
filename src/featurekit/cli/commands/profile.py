"""The command `profile`."""

from __future__ import annotations

from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

import click

from featurekit.cli.context import CliContext, cli_command
from featurekit.cli.formatting import format_count, format_percent
from featurekit.cli.output import (
    DIM,
    GREEN,
    YELLOW,
    Cell,
    Styled,
    fits_width,
    print_note,
    print_table,
    progress_bars,
    write_page,
)
from featurekit.printable import printable

if TYPE_CHECKING:
    from featurekit.repo import FeatureStore
    from featurekit.training.profile_report import FieldProfile, ProfileReport

_BLOCKS = " ▁▂▃▄▅▆▇█"
_BARS = 15
"""Blocks in the small histogram of a field."""

_SHOWN = 3
"""Frequent values of a field in the table."""

_MIN_SHARE = 0.02
_MAX_TEXT = 24

_HEADINGS = ["field", "type", "null", "distinct", "min", "5%", "median", "95%", "max", ""]
_COLUMNS: tuple[tuple[int, ...], ...] = (
    tuple(range(10)),
    (0, *range(2, 10)),
    (0, 2, 3, 5, 6, 7, 9),
    (0, 2, 6, 9),
)
"""The columns of the table, the fewer the narrower the terminal is."""


@cli_command("profile")
@click.argument("view")
@click.option("--online", is_flag=True, help="Describe stored entities instead of the source.")
@click.option(
    "--sample",
    metavar="N",
    type=click.IntRange(min=1),
    default=1000,
    show_default=True,
    help="Stored entities to read.",
)
@click.option("--html", metavar="FILE", help="Write a page with histograms.")
def profile_command(
    context: CliContext, view: str, online: bool, sample: int, html: str | None
) -> None:
    """Describe the values of a view, in its source or online.

    Counts rows, nulls and distinct values, and shows percentiles, frequent values and histograms. Of a
    source, the newest row of each entity counts, as for a load; rows that do not fit the view are left
    out. Of stored entities, values that are present count. Of a vector its norm is described; of
    arrays, bytes and json their length.
    """
    with context.open_store() as store:
        report = _profile(context, store, view, online, sample)
    if html is not None:
        write_page(html, report.to_html())
    if context.json:
        context.print_json(report.to_dict())
    else:
        _print_report(report, html)


def _profile(
    context: CliContext, store: FeatureStore, view: str, online: bool, sample: int
) -> ProfileReport:
    if context.json:
        return store.data.profile(view, online=online, sample=sample)
    with progress_bars() as on_progress:
        return store.data.profile(view, online=online, sample=sample, on_progress=on_progress)


def _print_report(report: ProfileReport, html: str | None) -> None:
    headings, rows = _fitting([_row(each) for each in report.fields])
    print_table(headings, rows, right=_HEADINGS[2:9])
    for note in report.notes:
        print_note("note", note, YELLOW)
    if html is not None:
        print_note("written", html, GREEN)
    print_note("described", f"{format_count(report.rows)} {report.origin}", GREEN)


def _fitting(rows: list[list[Cell]]) -> tuple[list[str], list[list[Cell]]]:
    """Return the headings and the rows of those columns that the terminal has room for."""
    *_, fewest = _COLUMNS
    for columns in _COLUMNS:
        headings = [_HEADINGS[column] for column in columns]
        shown = [[row[column] for column in columns] for row in rows]
        if columns is fewest or fits_width(headings, shown):
            return headings, shown
    raise AssertionError("there are no columns")


def _row(profile: FieldProfile) -> list[Cell]:
    numbers: list[Cell] = [""] * 5
    if (found := profile.numbers) is not None:
        from featurekit.training.drift_plots import number_text

        values = (found.min, found.low, found.median, found.high, found.max)
        numbers = [number_text(value, profile.measure) for value in values]
    return [
        profile.name,
        Styled(_type_text(profile), DIM),
        format_percent(profile.null_share),
        format_count(profile.distinct),
        *numbers,
        _distribution(profile),
    ]


def _type_text(profile: FieldProfile) -> str:
    is_measured = profile.measure in ("norm", "length")
    return f"{profile.measure} of {profile.dtype}" if is_measured else profile.dtype


def _distribution(profile: FieldProfile) -> str:
    if profile.histogram is None:
        return ""
    if profile.measure == "category":
        shown = [each for each in profile.top[:_SHOWN] if each[1] >= _MIN_SHARE * profile.values]
        return ", ".join(_share_text(text, count, profile) for text, count in shown)
    return _bars(profile.histogram.first)


def _share_text(text: str, count: int, profile: FieldProfile) -> str:
    text = printable(text, one_line=True)
    shown = text if len(text) <= _MAX_TEXT else f"{text[: _MAX_TEXT - 1]}…"
    return f"{shown or '(empty)'} {format_percent(count / profile.values)}"


def _bars(shares: tuple[float, ...]) -> str:
    """Return a histogram of a few blocks; a bin that is not empty is at least the lowest one."""
    size = -(-len(shares) // _BARS)
    sums = [0.0, *accumulate(shares)]
    ends = [*range(0, len(shares), size), len(shares)]
    merged = [sums[end] - sums[start] for start, end in pairwise(ends)]
    top = max(merged) or 1.0
    steps = len(_BLOCKS) - 1
    levels = [max(1, round(share / top * steps)) if share > 0 else 0 for share in merged]
    return "".join(_BLOCKS[level] for level in levels)
