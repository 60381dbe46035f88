"""Compare the distributions of two columns: the population stability index and Kolmogorov-Smirnov.

Both statistics differ from 0 also for two samples of one distribution. `psi_noise` and `ks_noise` return
what 99 of 100 such pairs of samples stay below.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

Scale = Literal["linear", "log", "values", "categories"]
"""How the bins of a histogram divide the values: by width, by width of logarithms, or one for each value."""

PSI_BINS = 10
"""Bins of numbers, each with the same share of the first column."""

MAX_CATEGORIES = 20
"""Categories with a bin of their own; the rest are one bin."""

PLOT_BINS = 30
OTHER = "other"

_LOG_SPREAD = 12
"""From this ratio of the 99th percentile to the median on, bins divide the logarithm."""

_Z99 = 2.326
_KS_99 = 1.628
"""The 99 % point of the limit distribution of Kolmogorov's statistic."""


@dataclass(frozen=True, slots=True)
class Histogram:
    """The shares of two columns in the same bins.

    Attributes:
        scale: How the bins divide the values.
        edges: The bounds of the bins of numbers, one more than bins. The first and the last bin also have
            the values beyond.
        labels: The names of the bins of values and categories.
        first: The share of each bin in the first column.
        second: The share of each bin in the second column; empty if there is only one column.
    """

    scale: Scale
    edges: tuple[float, ...]
    labels: tuple[str, ...]
    first: tuple[float, ...]
    second: tuple[float, ...]


def psi(first: Sequence[int], second: Sequence[int]) -> float:
    """Return the population stability index of the counts of bins.

    Half a value is added to each bin, so that an empty one gives a finite result.
    """
    shares = [_smoothed(counts) for counts in (first, second)]
    return math.fsum((b - a) * math.log(b / a) for a, b in zip(*shares, strict=True))


def _smoothed(counts: Sequence[int]) -> list[float]:
    total = sum(counts) + len(counts) / 2
    return [(count + 0.5) / total for count in counts]


def psi_noise(bins: int, first: int, second: int) -> float:
    """Return the index that two samples of one distribution seldom exceed.

    The index is about chi-squared with `bins - 1` degrees of freedom, times the sum of the inverse sizes.
    """
    degrees = max(1, bins - 1)
    cube = 1 - 2 / (9 * degrees) + _Z99 * math.sqrt(2 / (9 * degrees))  # Wilson and Hilferty
    return float(degrees * cube**3 * (1 / first + 1 / second))


def ks(first: Any, second: Any) -> float:
    """Return the greatest difference of the two distribution functions of numbers."""
    values = pa.concat_arrays([first, second])
    is_second = pa.concat_arrays(
        [
            pa.repeat(pa.scalar(0, pa.int64()), len(first)),
            pa.repeat(pa.scalar(1, pa.int64()), len(second)),
        ]
    )
    order = pc.sort_indices(values)
    values, is_second = values.take(order), is_second.take(order)
    seen = pc.cumulative_sum(is_second)
    position = pa.array(range(1, len(values) + 1), pa.int64())
    below_second = pc.divide(seen.cast(pa.float64()), float(len(second)))
    below_first = pc.divide(pc.subtract(position, seen).cast(pa.float64()), float(len(first)))
    gap = pc.abs(pc.subtract(below_first, below_second))
    is_last = pc.not_equal(values.slice(1), values.slice(0, len(values) - 1))
    is_last = pa.concat_arrays([is_last, pa.array([True])])  # of equal values
    return float(pc.max(gap.filter(is_last)).as_py())


def ks_noise(first: int, second: int) -> float:
    """Return the difference that two samples of one distribution seldom exceed."""
    return _KS_99 * math.sqrt(1 / first + 1 / second)


def number_bins(first: Any) -> list[float]:
    """Return the inner bounds of bins that have equal shares of a column of numbers."""
    shares = [i / PSI_BINS for i in range(1, PSI_BINS)]
    bounds = pc.quantile(first, shares, interpolation="higher").to_pylist()
    return sorted({float(bound) for bound in bounds})


def count_numbers(values: Any, bounds: Sequence[float]) -> list[int]:
    """Return how many values are below the first bound, from each bound up to the next, and above."""
    below = [pc.sum(pc.less(values, bound)).as_py() or 0 for bound in bounds]
    edges = [0, *below, len(values)]
    return [end - start for start, end in pairwise(edges)]


def count_categories(first: Any, second: Any) -> tuple[list[str], list[int], list[int]]:
    """Return categories, the most frequent ones first, and their counts in both columns."""
    counts = [
        {item["values"]: item["counts"] for item in column.value_counts().to_pylist()}
        for column in (first, second)
    ]
    sizes = [max(1, len(first)), max(1, len(second))]
    shares = {
        name: max(count.get(name, 0) / size for count, size in zip(counts, sizes, strict=True))
        for name in {**counts[0], **counts[1]}
    }
    names = sorted(shares, key=lambda name: (-shares[name], name))
    if len(names) > MAX_CATEGORIES:
        names = names[: MAX_CATEGORIES - 1]
    columns = [[count.get(name, 0) for name in names] for count in counts]
    if len(names) < len(shares):
        names.append(OTHER)
        for column, values in zip(columns, (first, second), strict=True):
            column.append(len(values) - sum(column))
    return names, columns[0], columns[1]


def number_histogram(first: Any, second: Any) -> Histogram:
    """Return a histogram of two columns of numbers, at least one of which has values."""
    both = pa.concat_arrays([first, second])
    distinct = pc.unique(both)
    if len(distinct) <= MAX_CATEGORIES:
        return _value_histogram(first, second, sorted(distinct.to_pylist()))
    finite = both.filter(pc.is_finite(both))
    scale, edges = bin_edges(_spread(finite))
    shares = [_shares(count_numbers(column, edges[1:-1])) for column in (first, second)]
    return Histogram(scale, tuple(edges), (), *shares)


@dataclass(frozen=True, slots=True)
class Spread:
    """Where the finite values of a column are.

    Attributes:
        min: The least one.
        low: The 0.5th percentile.
        median: The median.
        high: The 99.5th percentile.
        max: The greatest one.
        low_positive: The first percentile of those above 0; `None` if there are none.
        is_whole: Whether all are whole numbers.
    """

    min: float
    low: float
    median: float
    high: float
    max: float
    low_positive: float | None
    is_whole: bool


def _spread(values: Any) -> Spread:
    low, middle, high = pc.quantile(
        values, [0.005, 0.5, 0.995], interpolation="nearest"
    ).to_pylist()
    positive = values.filter(pc.greater(values, 0))
    low_positive = pc.quantile(positive, 0.01, interpolation="nearest")[0].as_py()
    is_whole = pc.all(pc.equal(pc.floor(values), values)).as_py()
    bounds = pc.min_max(values).as_py()
    return Spread(bounds["min"], low, middle, high, bounds["max"], low_positive, is_whole)


def bin_edges(spread: Spread) -> tuple[Scale, list[float]]:
    """Return the scale and the bounds of the bins of a histogram of numbers."""
    if spread.min >= 0 and spread.high > _LOG_SPREAD * spread.median:
        return "log", _log_edges(spread)
    return "linear", _equal_edges(spread)


def _equal_edges(spread: Spread) -> list[float]:
    """Return the bounds of bins of one width; of whole numbers, each bin has equally many."""
    low, high = spread.low, spread.high
    if high <= low:
        low, high = spread.min, spread.max
    if spread.is_whole:
        width = max(1, math.ceil((high - low + 1) / PLOT_BINS))
        return [low + width * i for i in range(math.ceil((high - low + 1) / width) + 1)]
    return [low + (high - low) * i / PLOT_BINS for i in range(PLOT_BINS + 1)]


def _log_edges(spread: Spread) -> list[float]:
    """Return the bounds of bins whose width grows with the values; the first one has 0 also."""
    high = spread.high
    low = max(spread.low_positive or 0.0, high / 1e6)
    return [low * (high / low) ** (i / PLOT_BINS) for i in range(PLOT_BINS + 1)]


def _value_histogram(first: Any, second: Any, values: Sequence[float]) -> Histogram:
    shares = [
        _shares([pc.sum(pc.equal(column, value)).as_py() or 0 for value in values])
        for column in (first, second)
    ]
    return Histogram("values", tuple(values), tuple(f"{value:g}" for value in values), *shares)


def category_histogram(
    names: Sequence[str], first: Sequence[int], second: Sequence[int]
) -> Histogram:
    """Return a histogram of counted categories."""
    return Histogram("categories", (), tuple(names), _shares(first), _shares(second))


def _shares(counts: Sequence[int]) -> tuple[float, ...]:
    total = sum(counts) or 1
    return tuple(count / total for count in counts)
