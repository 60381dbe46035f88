"""Compare the features of a training set with those that are served."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from featurekit.errors import RequestError
from featurekit.training.distributions import (
    Histogram,
    category_histogram,
    count_categories,
    count_numbers,
    ks,
    ks_noise,
    number_bins,
    number_histogram,
    psi,
    psi_noise,
)
from featurekit.types import DType, codec_of

Level = Literal["drifted", "shifted", "too few", "stable"]
LEVELS: tuple[Level, ...] = ("drifted", "shifted", "too few", "stable")

Measure = Literal["number", "time", "age", "norm", "length", "category"]
"""What is compared: the value itself, the time from a timestamp to the label or read, the norm of a vector,
the number of elements of an array or bytes of a text, or the category."""

_PSI_SHIFTED, _HALF = 0.4, 0.5
"""The parts of a bound from which on a feature has shifted."""

_Z99 = 2.576


@dataclass(frozen=True, slots=True)
class DriftBounds:
    """From which difference on a feature has drifted. It has shifted from about half of it on.

    Attributes:
        psi: The population stability index; from 0.4 of it on, the feature has shifted.
        ks: The Kolmogorov-Smirnov distance, 0 to 1.
        missing: The difference of the shares of missing values, 0 to 1.
    """

    psi: float = 0.25
    ks: float = 0.2
    missing: float = 0.1


@dataclass(frozen=True, slots=True)
class ColumnSample:
    """The values of a feature on one side.

    Attributes:
        values: An Arrow array; null where the feature is missing without a default.
        statuses: How many values have each status; `None` if only nulls are known.
        times: The times of labels or reads in microseconds, aligned with the values; `None` if not known.
    """

    values: Any
    statuses: Mapping[str, int] | None = None
    times: Any = None

    @property
    def missing(self) -> float:
        """The share of values that are not stored, or of nulls if statuses are not known."""
        if self.statuses is None:
            return float(self.values.null_count / max(1, len(self.values)))
        total = sum(self.statuses.values())
        return 1 - self.statuses.get("present", 0) / max(1, total)


@dataclass(frozen=True, slots=True)
class SideSummary:
    """What one side of a feature looks like.

    Attributes:
        rows: The rows.
        missing: The share of missing values.
        statuses: The share of each status; empty if statuses are not known.
        mean: The mean of numbers; `None` for categories and without values, as those below.
        low: The 5th percentile.
        median: The median.
        high: The 95th percentile.
    """

    rows: int
    missing: float
    statuses: Mapping[str, float] = field(default_factory=dict)
    mean: float | None = None
    low: float | None = None
    median: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class FeatureDrift:
    """How a feature differs between a training set and what is served.

    Attributes:
        name: The feature's name in the training set.
        view: Its view.
        field: Its field.
        dtype: Its type.
        measure: What is compared.
        level: Whether it has drifted or shifted. `too few`: it has not, but has so few values that a
            difference at the bounds could be chance.
        causes: The measures that are above their bounds: `psi`, `ks`, `missing`.
        score: The greatest ratio of a measure to its bound.
        psi: The population stability index; `None` if one side has no values.
        ks: The Kolmogorov-Smirnov distance; `None` for categories as well.
        training: The training set.
        online: What is served.
        histogram: Both distributions; `None` if neither side has values.
    """

    name: str
    view: str
    field: str
    dtype: str
    measure: Measure
    level: Level
    causes: tuple[str, ...]
    score: float
    psi: float | None
    ks: float | None
    training: SideSummary
    online: SideSummary
    histogram: Histogram | None


def compare_feature(
    name: tuple[str, str, str],
    dtype: DType,
    training: ColumnSample,
    online: ColumnSample,
    bounds: DriftBounds,
) -> FeatureDrift:
    """Compare one feature.

    Args:
        name: The feature's name in the training set, its view and its field.
        dtype: Its type.
        training: The values of the training set.
        online: The values that are served.
        bounds: From which differences on it has drifted.

    Raises:
        RequestError: The column of a side does not have values of the type.
    """
    if training.statuses is None or online.statuses is None:  # compare nulls with nulls
        training = ColumnSample(training.values, None, training.times)
        online = ColumnSample(online.values, None, online.times)
    measure = measure_of(dtype, has_times=training.times is not None and online.times is not None)
    first, second = (measured_values(measure, side, name[0]) for side in (training, online))
    found = _categories(first, second) if measure == "category" else _numbers(first, second)
    missing = abs(training.missing - online.missing)
    noises = [
        ("psi", found.psi, found.psi_noise, bounds.psi, _PSI_SHIFTED),
        ("ks", found.ks, found.ks_noise, bounds.ks, _HALF),
        ("missing", missing, _rate_noise(training, online), bounds.missing, _HALF),
    ]
    counted = [
        (cause, value / bound, part)
        for cause, value, noise, bound, part in noises
        if value is not None and value > noise
    ]
    drifted = tuple(cause for cause, ratio, _ in counted if ratio >= 1)
    shifted = tuple(cause for cause, ratio, part in counted if ratio >= part)
    level: Level = "drifted" if drifted else "shifted" if shifted else "stable"
    if level == "stable" and _has_too_few_values(found, training, online, bounds):
        level = "too few"
    return FeatureDrift(
        *name,
        dtype=str(dtype),
        measure=measure,
        level=level,
        causes=drifted or shifted,
        score=max((ratio for _, ratio, _ in counted), default=0.0),
        psi=found.psi,
        ks=found.ks,
        training=_summary(training, first, measure),
        online=_summary(online, second, measure),
        histogram=found.histogram,
    )


@dataclass(frozen=True, slots=True)
class _Found:
    """The statistics of one feature; `None` where one side has no values."""

    psi: float | None = None
    psi_noise: float = 0.0
    ks: float | None = None
    ks_noise: float = 0.0
    histogram: Histogram | None = None


def _numbers(first: Any, second: Any) -> _Found:
    if not len(first) or not len(second):
        return _Found(
            histogram=number_histogram(first, second) if len(first) or len(second) else None
        )
    bounds = number_bins(first)
    counts = [count_numbers(column, bounds) for column in (first, second)]
    sizes = len(first), len(second)
    return _Found(
        psi(*counts),
        psi_noise(len(counts[0]), *sizes),
        ks(first, second),
        ks_noise(*sizes),
        number_histogram(first, second),
    )


def _categories(first: Any, second: Any) -> _Found:
    if not len(first) and not len(second):
        return _Found()
    names, *counts = count_categories(first, second)
    histogram = category_histogram(names, *counts)
    if not len(first) or not len(second):
        return _Found(histogram=histogram)
    noise = psi_noise(len(names), len(first), len(second))
    return _Found(psi(*counts), noise, histogram=histogram)


def _has_too_few_values(
    found: _Found, training: ColumnSample, online: ColumnSample, bounds: DriftBounds
) -> bool:
    """Return whether chance explains differences at the bounds of all measures."""
    if found.psi is not None:
        return found.psi_noise >= bounds.psi and (found.ks is None or found.ks_noise >= bounds.ks)
    half = [(0.5, max(1, len(side.values))) for side in (training, online)]
    return _noise_of_shares(half) >= bounds.missing


def _rate_noise(training: ColumnSample, online: ColumnSample) -> float:
    """Return the difference of two shares that samples of the same share seldom exceed."""
    return _noise_of_shares(
        [(side.missing, max(1, len(side.values))) for side in (training, online)]
    )


def _noise_of_shares(shares: Sequence[tuple[float, int]]) -> float:
    """Return the noise of the difference of two shares, each with the number of its values."""
    total = sum(size for _, size in shares)
    rate = sum(share * size for share, size in shares) / total
    return _Z99 * math.sqrt(rate * (1 - rate) * sum(1 / size for _, size in shares))


def measure_of(dtype: DType, *, has_times: bool) -> Measure:
    """Return what is compared of the values of a type."""
    compared_as = codec_of(dtype).compared_as
    return "age" if has_times and compared_as == "time" else compared_as


def measured_values(measure: Measure, side: ColumnSample, name: str) -> Any:
    """Return what is compared as an array of texts or float64, without nulls and `nan`."""
    try:
        if measure == "category":
            return side.values.cast(pa.string()).drop_null()
        values = _MEASURES[measure](side)
        values = values.cast(pa.float64(), safe=False).drop_null()
    except (pa.ArrowException, KeyError) as error:
        raise RequestError(
            f"column '{name}' is {side.values.type}, which is not what the feature has",
            hint="compare with a training set of the same features",
        ) from error
    return values.filter(pc.invert(pc.is_nan(values)))


def _microseconds(values: Any) -> Any:
    zone = getattr(values.type, "tz", None)
    return values.cast(pa.timestamp("us", zone)).cast(pa.int64())


def _as_floats(values: Any) -> Any:
    return values.cast(pa.float64(), safe=False)  # microseconds of far times have more digits


def _norm(side: ColumnSample) -> Any:
    values = side.values
    if pa.types.is_fixed_size_list(values.type):
        values = values.cast(pa.list_(values.type.value_type))
    squares = pc.power(values.flatten().cast(pa.float64()), 2)
    sums = pa.table({"row": pc.list_parent_indices(values), "square": squares})
    grouped = sums.group_by("row").aggregate([("square", "sum")])
    return pc.sqrt(grouped["square_sum"]).combine_chunks()


def _length(side: ColumnSample) -> Any:
    values = side.values
    is_list = pa.types.is_list(values.type) or pa.types.is_large_list(values.type)
    return pc.list_value_length(values) if is_list else pc.binary_length(values)


_MEASURES = {
    "number": lambda side: side.values,
    "time": lambda side: pc.divide(_as_floats(_microseconds(side.values)), 1e6),
    "age": lambda side: pc.divide(
        _as_floats(pc.subtract(side.times, _microseconds(side.values))), 1e6
    ),
    "norm": _norm,
    "length": _length,
}


def _summary(side: ColumnSample, values: Any, measure: Measure) -> SideSummary:
    total = max(1, sum(side.statuses.values())) if side.statuses else 1
    shares = {status: count / total for status, count in (side.statuses or {}).items() if count}
    if measure == "category" or not len(values):
        return SideSummary(len(side.values), side.missing, shares)
    low, median, high = pc.quantile(values, [0.05, 0.5, 0.95], interpolation="nearest").to_pylist()
    mean = pc.mean(values).as_py()
    return SideSummary(len(side.values), side.missing, shares, mean, low, median, high)


def worst_first(features: Sequence[FeatureDrift]) -> tuple[FeatureDrift, ...]:
    """Return features, those that differ most first."""
    return tuple(sorted(features, key=lambda f: (LEVELS.index(f.level), -f.score, f.name)))
