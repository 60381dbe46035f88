"""Measurements, as rows of a Markdown table and as JSON."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass

from featurekit.bench.timing import Timings

TABLE_HEAD = """\
| work | by | best | median | of the lower bound | over redis-py | over the baseline |
|---|---|--:|--:|--:|--:|--:|"""


@dataclass(frozen=True, slots=True)
class Measurement:
    """One measurement of one function.

    Attributes:
        work: What was done.
        who: What did it.
        best: The shortest time in ms, or the only value.
        typical: The median time in ms; `None` for a single value.
        of_lower_bound: The median as a multiple of the lower bound; `None` if that is unknown.
        over_plain: How many times as fast as redis-py; `None` if that was not measured.
        unit: The unit of `best` and `typical`.
    """

    work: str
    who: str
    best: float
    typical: float | None = None
    of_lower_bound: float | None = None
    over_plain: float | None = None
    unit: str = "ms"

    @property
    def key(self) -> tuple[str, str]:
        """What identifies the measurement in another run."""
        return self.work, self.who


def measurements(
    work: str, timings: Timings, lower_bound: str, plain: str
) -> Iterator[Measurement]:
    """Yield a measurement of each function; the last two arguments name those to compare with."""
    for name in timings.turns:
        yield Measurement(
            work,
            name,
            min(timings.times(name)) * 1000,
            timings.median(name) * 1000,
            timings.ratio(name, lower_bound) if lower_bound in timings.turns else None,
            timings.ratio(plain, name) if plain in timings.turns else None,
        )


def table_row(measured: Measurement, baseline: Measurement | None = None) -> str:
    """Return a measurement as a row of the table, with its ratio to a baseline's median or value."""
    best = f"{measured.best:.3f}" if measured.best < 1000 else f"{measured.best:,.0f}"
    ratio = None
    if baseline is not None:
        ratio = (measured.typical or measured.best) / (baseline.typical or baseline.best)
    numbers = (measured.of_lower_bound, measured.over_plain, ratio)
    cells = [
        measured.work,
        measured.who,
        f"{best} {measured.unit}",
        "" if measured.typical is None else f"{measured.typical:.3f}",
        *("" if number is None else f"{number:.2f}" for number in numbers),
    ]
    return f"| {' | '.join(cells)} |"


def machine() -> str:
    """Return a description of this machine, without its name."""
    return (
        f"{os.cpu_count()} cores ({platform.machine()}), {platform.system()} {platform.release()}, "
        f"{platform.python_implementation()} {platform.python_version()}, "
        f"load {os.getloadavg()[0]:.1f} at the end"
    )
