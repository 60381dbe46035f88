"""Statistics of columns, computed by DuckDB in bounded memory.

Values are added to one table for each column, which DuckDB moves to disk as it grows. Up to `EXACT_ROWS`
quantiles are exact; of more rows they are those of a t-digest, because DuckDB would sort them in memory.
"""

# ruff: noqa: S608 - the names in this SQL are made here

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from featurekit.sources.session import Session

EXACT_ROWS = 1_000_000
QUANTILES = (0.005, 0.05, 0.25, 0.5, 0.75, 0.95, 0.995)

_FINITE = "FROM {} WHERE isfinite(v)"


@dataclass(frozen=True, slots=True)
class NumberStatistics:
    """Statistics of the finite numbers of a column.

    Attributes:
        min: The least one.
        max: The greatest one.
        mean: Their mean.
        std: Their standard deviation; 0 for one number.
        quantiles: Those of `QUANTILES`.
        low_positive: The first percentile of the numbers above 0; `None` if there are none.
        is_whole: Whether all are whole numbers.
    """

    min: float
    max: float
    mean: float
    std: float
    quantiles: tuple[float, ...]
    low_positive: float | None
    is_whole: bool


class ColumnStatistics:
    """Collects columns of texts or numbers without nulls, then describes them.

    Args:
        names: The columns.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._session = Session()
        self._tables = {name: f"c{number}" for number, name in enumerate(names)}
        self._counts = dict.fromkeys(names, 0)

    def close(self) -> None:
        """Delete the values."""
        self._session.close()

    def interrupt(self) -> None:
        """Make a query that runs in another thread raise."""
        self._session.interrupt()

    def add(self, name: str, values: Any) -> None:
        """Add an Arrow array to a column: of strings, or of float64."""
        session, table = self._session, self._tables[name]
        session.connection.register("added", session.arrow.table({"v": values}))
        if not self._counts[name]:
            session.execute(f"CREATE TEMP TABLE {table} AS SELECT v FROM added")
        else:
            session.execute(f"INSERT INTO {table} SELECT v FROM added")
        session.connection.unregister("added")
        self._counts[name] += len(values)

    def count(self, name: str) -> int:
        """Return how many values a column has."""
        return self._counts[name]

    def is_exact(self, name: str) -> bool:
        """Return whether the quantiles of a column are exact."""
        return self._counts[name] <= EXACT_ROWS

    def distinct(self, name: str) -> int:
        """Return how many different values a column has."""
        (row,) = self._query(
            f"SELECT count(*) FROM (SELECT v FROM {self._tables[name]} GROUP BY v)"
        )
        return int(row[0])

    def top(self, name: str, count: int) -> list[tuple[Any, int]]:
        """Return the most frequent values of a column with their numbers, and of equal ones the least."""
        return self._query(
            f"SELECT v, count(*) AS n FROM {self._tables[name]} "
            f"GROUP BY v ORDER BY n DESC, v LIMIT {count}"
        )

    def numbers(self, name: str) -> NumberStatistics | None:
        """Return statistics of a column of numbers; `None` if it has no finite one."""
        finite = _FINITE.format(self._tables[name])
        quantile = "quantile_disc" if self.is_exact(name) else "approx_quantile"
        ((least, greatest, mean, std, whole, found, low),) = self._query(
            "SELECT min(v), max(v), avg(v), coalesce(stddev_samp(v), 0), bool_and(v = floor(v)), "
            f"{quantile}(v, {list(QUANTILES)}), {quantile}(v, 0.01) FILTER (v > 0) {finite}"
        )
        if least is None:
            return None
        low_positive = None if low is None else float(low)
        return NumberStatistics(least, greatest, mean, std, tuple(found), low_positive, whole)

    def bins(self, name: str, bounds: Sequence[float]) -> list[int]:
        """Return how many values are below the first bound, from each up to the next, and above."""
        if not bounds:
            return [self._counts[name]]
        below = ", ".join(f"count(*) FILTER (v < {bound!r}::DOUBLE)" for bound in bounds)
        table = self._tables[name]
        ((*counts, total),) = self._query(f"SELECT {below}, count(*) FROM {table}")
        return [end - start for start, end in pairwise([0, *counts, total])]

    def _query(self, sql: str) -> list[tuple[Any, ...]]:
        with self._session.errors("the statistics"):
            return self._session.fetch_all(sql)
