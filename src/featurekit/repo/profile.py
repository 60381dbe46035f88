"""Describe the values of a view: of its source as a load takes them, or of stored entities."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import isfinite
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from featurekit.lower.columns import encode_batch
from featurekit.plan import FieldPlan, ViewPlan
from featurekit.ports import BatchSource, OnlineStore, TimeRange
from featurekit.repo.compare import READ_ROWS, stored_rows
from featurekit.runtime.load import OnProgress, progress_callback
from featurekit.runtime.load_tables import split_problems
from featurekit.runtime.reader import OnlineReader
from featurekit.sources.statistics import QUANTILES, ColumnStatistics, NumberStatistics
from featurekit.training.distributions import (
    MAX_CATEGORIES,
    OTHER,
    Histogram,
    Scale,
    Spread,
    bin_edges,
)
from featurekit.training.drift import ColumnSample, Measure, measure_of, measured_values
from featurekit.training.drift_plots import number_text
from featurekit.training.profile_report import FieldProfile, NumberProfile
from featurekit.types.arrow import decode_array

MAX_TOP = 10
"""The most frequent values in a report."""


@dataclass(slots=True)
class _Column:
    """The counts of one field while its values are collected."""

    plan: FieldPlan
    measure: Measure
    rows: int = 0
    nulls: int = 0
    statuses: Counter[str] = field(default_factory=Counter)


class Profiler:
    """Collects the values of a view's fields, and describes them.

    Args:
        view: The compiled view.

    Attributes:
        rows: How many rows were added.
        rejected: How many rows of the source did not fit the view.
    """

    def __init__(self, view: ViewPlan) -> None:
        self._view = view
        self._columns = {
            each.name: _Column(each, measure_of(each.dtype, has_times=False))
            for each in view.fields
        }
        self._statistics = ColumnStatistics(tuple(self._columns))
        self.rows = 0
        self.rejected = 0

    def close(self) -> None:
        """Delete the values."""
        self._statistics.close()

    def add_source(
        self, source: BatchSource, times: TimeRange, on_progress: OnProgress | None
    ) -> None:
        """Add the newest row of each entity."""
        scan = source.scan(self._view, times)
        total = scan.rows_read - scan.rows_future
        on_batch = progress_callback(self._view.name, total, on_progress, lambda: None)
        for rows in scan.batches:
            batch, unread = split_problems(rows, scan.form, None)
            encoded = encode_batch(self._view, scan.form, batch)
            self.rejected += unread + len(encoded.rejected)
            values = encoded.values[len(encoded.values) - len(self._view.fields) :]
            columns = {
                each.name: decode_array(each.dtype, data)
                for each, data in zip(self._view.fields, values, strict=True)
            }
            self._add(columns, len(encoded.keys))
            on_batch(self.rows + self.rejected)

    def add_online(self, reader: OnlineReader, store: OnlineStore, count: int) -> None:
        """Add up to `count` stored entities; only values with the status `present` are described."""
        rows = stored_rows(reader.plan, store, count)
        for start in range(0, len(rows), READ_ROWS):
            part = rows[start : start + READ_ROWS]
            response = reader.get(part)
            table = response.to_arrow()
            columns = {}
            for name, statuses in response.statuses.items():
                present = pa.array([status == "present" for status in statuses])
                values = table[name].combine_chunks()
                columns[name] = pc.if_else(present, values, pa.scalar(None, values.type))
                self._columns[name].statuses.update(statuses)
            self._add(columns, len(part))

    def _add(self, columns: Mapping[str, Any], rows: int) -> None:
        self.rows += rows
        for name, values in columns.items():
            column = self._columns[name]
            column.rows += rows
            column.nulls += values.null_count
            present = values.drop_null()
            measured = measured_values(column.measure, ColumnSample(present), name)
            if len(measured):
                self._statistics.add(name, measured)

    def fields(self) -> tuple[FieldProfile, ...]:
        """Return the profiles of all fields."""
        return tuple(map(self._profile, self._columns.values()))

    def _profile(self, column: _Column) -> FieldProfile:
        name, statistics = column.plan.name, self._statistics
        values = statistics.count(name)
        empty = FieldProfile(
            name,
            str(column.plan.dtype),
            column.measure,
            column.rows,
            column.nulls,
            column.rows - column.nulls - values,
            statuses=dict(column.statuses),
        )
        if not values:
            return empty
        distinct, top = statistics.distinct(name), statistics.top(name, MAX_CATEGORIES)
        numbers = histogram = None
        if column.measure == "category":
            histogram = _category_histogram(top, distinct, values)
        elif (found := statistics.numbers(name)) is not None:
            numbers = _numbers(found, is_exact=statistics.is_exact(name))
            histogram = self._number_histogram(name, found, top, distinct)
        return FieldProfile(
            name=empty.name,
            dtype=empty.dtype,
            measure=empty.measure,
            rows=empty.rows,
            nulls=empty.nulls,
            nans=empty.nans,
            distinct=distinct,
            top=tuple((_text(value, column.measure), count) for value, count in top[:MAX_TOP]),
            numbers=numbers,
            histogram=histogram,
            statuses=empty.statuses,
        )

    def _number_histogram(
        self, name: str, found: NumberStatistics, top: list[tuple[Any, int]], distinct: int
    ) -> Histogram:
        total = self._statistics.count(name)
        if distinct <= MAX_CATEGORIES:
            counted = sorted(top)
            labels = tuple(f"{value:g}" for value, _ in counted)
            shares = tuple(count / total for _, count in counted)
            return Histogram("values", tuple(value for value, _ in counted), labels, shares, ())
        quantiles = dict(zip(QUANTILES, found.quantiles, strict=True))
        low, median, high = (quantiles[share] for share in (0.005, 0.5, 0.995))
        scale: Scale
        scale, edges = bin_edges(
            Spread(found.min, low, median, high, found.max, found.low_positive, found.is_whole)
        )
        counts = self._statistics.bins(name, edges[1:-1])
        return Histogram(scale, tuple(edges), (), tuple(count / total for count in counts), ())


@contextmanager
def profiler(view: ViewPlan) -> Iterator[Profiler]:
    """Yield a profiler, whose values are deleted afterwards."""
    profiler = Profiler(view)
    try:
        yield profiler
    finally:
        profiler.close()


def _numbers(found: NumberStatistics, *, is_exact: bool) -> NumberProfile:
    _, low, lower, median, upper, high, _ = found.quantiles
    return NumberProfile(
        found.min, low, lower, median, upper, high, found.max, found.mean, found.std, is_exact
    )


def _category_histogram(top: list[tuple[Any, int]], distinct: int, total: int) -> Histogram:
    counted = list(top)
    if distinct > MAX_CATEGORIES:
        counted = counted[: MAX_CATEGORIES - 1]
        counted.append((OTHER, total - sum(count for _, count in counted)))
    labels = tuple(str(name) for name, _ in counted)
    return Histogram("categories", (), labels, tuple(count / total for _, count in counted), ())


def _text(value: Any, measure: Measure) -> str:
    if measure == "category":
        return str(value)
    if not isfinite(value):
        return str(value)
    if measure == "time":
        with suppress(OverflowError, ValueError):  # beyond the year 9999
            return datetime.fromtimestamp(value, UTC).isoformat(sep=" ", timespec="seconds")
    return f"{value:.0f}" if value == int(value) else number_text(value, "number")
