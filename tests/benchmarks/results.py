"""What comes out: rows of figures, for people and as JSON."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass

from featurekit.bench.timing import Timings


@dataclass(frozen=True, slots=True)
class Row:
    """One figure of one contestant.

    Attributes:
        work: What was done.
        who: Who did it.
        best: The least time in ms, or the one figure there is.
        typical: The median time in ms; `None` for a single figure.
        of_least: the time as a multiple of the least that it can cost; `None` where that is unknown.
        over_plain: How many times as fast as redis-py; likewise.
        unit: Of the two figures.
    """

    work: str
    who: str
    best: float
    typical: float | None = None
    of_least: float | None = None
    over_plain: float | None = None
    unit: str = "ms"


def summary(work: str, result: Timings, least: str, plain: str) -> Iterator[Row]:
    """A row for each contestant; `least` and `plain` name those that ratios are taken to."""
    for name in result.turns:
        yield Row(
            work,
            name,
            min(result.times(name)) * 1000,
            result.median(name) * 1000,
            result.ratio(name, least) if least in result.turns else None,
            result.ratio(plain, name) if plain in result.turns else None,
        )


def line(row: Row) -> str:
    """A row as a line of a Markdown table."""
    typical = "" if row.typical is None else f"{row.typical:.3f}"
    least = "" if row.of_least is None else f"{row.of_least:.2f}"
    plain = "" if row.over_plain is None else f"{row.over_plain:.2f}"
    best = f"{row.best:.3f}" if row.best < 1000 else f"{row.best:,.0f}"
    return f"| {row.work} | {row.who} | {best} {row.unit} | {typical} | {least} | {plain} |"


HEAD = """\
| work | who | best | median | of the least | over redis-py |
|---|---|--:|--:|--:|--:|"""


def machine() -> str:
    """Where this runs, without its name."""
    return (
        f"{os.cpu_count()} cores ({platform.machine()}), {platform.system()} {platform.release()}, "
        f"{platform.python_implementation()} {platform.python_version()}, "
        f"load {os.getloadavg()[0]:.1f} at the end"
    )
