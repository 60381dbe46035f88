"""Arrow forms of `timestamp` and `date`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.compute as pc
from typing_extensions import override

from featurekit.types.arrow.form import ArrowForm, keep_where, keep_within
from featurekit.types.codec import DType
from featurekit.types.times import STORED_TIMESTAMP, DateCodec

_EPOCH = date(1970, 1, 1).toordinal()
_FIRST_DAY, _LAST_DAY = 1 - _EPOCH, date.max.toordinal() - _EPOCH
_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_DAY_LENGTH = len("2026-11-22")


@dataclass(frozen=True)
class DateForm(ArrowForm):
    """`date`: Arrow dates."""

    arrow_type: ClassVar[Any] = pa.date32()

    @override
    def encode(self, array: Any) -> Any:
        if not pa.types.is_date(array.type):
            return None
        if pa.types.is_date64(array.type):  # milliseconds; a cast would round towards zero
            array = pc.floor_temporal(array.cast(pa.timestamp("ms")), unit="day").cast(pa.date32())
        days = keep_within(array.cast(pa.int32()), _FIRST_DAY, _LAST_DAY)
        return days.cast(pa.date32()).cast(pa.string())

    @override
    def parse(self, texts: Any) -> Any:
        encoded = texts.dictionary_encode()
        return self.parse_values(encoded.dictionary).take(encoded.indices)


@dataclass(frozen=True)
class TimestampForm(ArrowForm):
    """`timestamp`: Arrow timestamps with a time zone, without nanoseconds."""

    arrow_type: ClassVar[Any] = pa.timestamp("us", "UTC")

    @override
    def encode(self, array: Any) -> Any:
        kind = array.type
        if not pa.types.is_timestamp(kind) or kind.tz is None:
            return None
        per_second = _PER_SECOND[kind.unit]
        numbers = array.cast(pa.int64())
        if kind.unit != "ns":
            first, after = _FIRST_DAY * 86_400 * per_second, (_LAST_DAY + 1) * 86_400 * per_second
            numbers = keep_within(numbers, first, after - 1)
        else:
            micros = pc.multiply(pc.divide(numbers, 1000), 1000)
            numbers = keep_where(numbers, pc.equal(micros, numbers))
        moments = numbers.cast(pa.timestamp(kind.unit)).cast(pa.timestamp("us"))
        seconds = pc.floor_temporal(moments, unit="second")
        clock = moments.cast(pa.time64("us"))
        times = clock.cast(pa.time32("s"), safe=False).cast(pa.string())
        has_fraction = pc.not_equal(seconds, moments)
        if pc.any(has_fraction).as_py():
            times = pc.if_else(has_fraction, clock.cast(pa.string()), times)
        days = pc.floor_temporal(moments, unit="day").cast(pa.date32()).cast(pa.string())
        return pc.binary_join_element_wise(days, "T", times, "Z", "")

    @override
    def parse(self, texts: Any) -> Any:
        is_usual = pc.match_substring_regex(texts, f"^{STORED_TIMESTAMP}$")
        days = keep_where(pc.utf8_slice_codeunits(texts, 0, _DAY_LENGTH), is_usual)
        is_day = DateForm(DateCodec(DType("date"))).parse(days).is_valid()  # not February 30
        return self.parse_usual(texts, pc.or_(is_day, texts.is_null()))
