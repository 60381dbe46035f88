"""When the loads of a batch view ran, over DataFrames of moments and rows.

The closed forms are those of `sources.load_times`, which explains them. Loads of a log are found by a
join to their intervals, which are few and sent to all tasks; the intervals are divided into bins of time,
so that a row is compared with few of them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from typing_extensions import override

from featurekit.engines.spark_session import small_frame
from featurekit.history_ports import PastLoad
from featurekit.plan import SchedulePlan
from featurekit.sources.load_times import FOREVER, Recorded, load_start, load_until, runs_of_loads

FIRST_MS, LAST_MS = "@first", "@last"
"""The columns of spans."""


def to_ms(microseconds: str) -> str:
    """Return the SQL of microseconds in milliseconds, rounded down."""
    return f"((({microseconds}) - pmod({microseconds}, 1000)) div 1000)"


class SparkLoadTimes(ABC):
    """The loads of a view. Its methods take and return frames, whose other columns stay."""

    @property
    def moves_moments(self) -> bool:
        """Whether rows that are known from their time on count for moments with `@upto` >= their time."""
        return True

    @abstractmethod
    def moments(self, frame: Any) -> Any:
        """Return moments with a time `@at` with `@upto` and with `@wrote0`, ..."""

    @abstractmethod
    def taken(self, frame: Any) -> Any:
        """Return the rows with `@time` and `@known` that a load takes, with `@from` in microseconds."""

    def joinable(self, frame: Any) -> Any:
        """Return the rows to join to moments by time, if `moves_moments`."""
        return self.taken(frame)

    @abstractmethod
    def wrote(self, frame: Any) -> Any:
        """Return moments with the `@time` of their row with `@wrote`, without the columns of `moments`."""

    @abstractmethod
    def spans(self, frame: Any, ttl_ms: int) -> Any:
        """Return rows with `@first` and `@last`, between which a load takes them each `ttl_ms`."""


_TIME_MS, _KNOWN_MS, _AT_MS = to_ms("`@time`"), to_ms("`@known`"), to_ms("`@at`")


@dataclass(frozen=True)
class Continuous(SparkLoadTimes):
    """A load at every instant, which takes rows of any age or of a lookback."""

    lookback_ms: int | None

    @property
    def _last(self) -> str:
        return f"{FOREVER}" if self.lookback_ms is None else f"({_TIME_MS} + {self.lookback_ms})"

    @override
    def moments(self, frame: Any) -> Any:
        return frame.selectExpr("*", "`@at` AS `@upto`", f"{_AT_MS} AS `@wrote0`")

    @override
    def taken(self, frame: Any) -> Any:
        frame = frame.selectExpr("*", "`@known` AS `@from`")
        return frame if self.lookback_ms is None else frame.where(f"{_KNOWN_MS} <= {self._last}")

    @override
    def wrote(self, frame: Any) -> Any:
        return _replaced(
            frame, f"CASE WHEN `@time` IS NOT NULL THEN least(`@wrote0`, {self._last}) END"
        )

    @override
    def spans(self, frame: Any, ttl_ms: int) -> Any:
        times = (f"{_KNOWN_MS} AS `@first`", f"{self._last} AS `@last`")
        return self.taken(frame).selectExpr("*", *times)


@dataclass(frozen=True)
class Scheduled(SparkLoadTimes):
    """A load at each slot of a schedule; `latest_ms` is the last moment."""

    schedule: SchedulePlan
    lookback_ms: int | None
    latest_ms: int

    def _slot(self, value: str) -> str:
        return f"(({value}) - pmod(({value}) - {self.schedule.at_ms}, {self.schedule.every_ms}))"

    @property
    def _first(self) -> str:
        return self._slot(f"{_KNOWN_MS} + {self.schedule.every_ms - 1}")

    @property
    def _last(self) -> str:
        if self.lookback_ms is None:
            return f"{FOREVER}"
        return self._slot(f"{_TIME_MS} + {self.lookback_ms}")

    @override
    def moments(self, frame: Any) -> Any:
        slot, takes = self._slot(f"{_AT_MS} - {self.schedule.takes_ms}"), self.schedule.takes_ms
        return frame.selectExpr(
            "*", f"{slot} * 1000 + 999 AS `@upto`", f"{slot} + {takes} AS `@wrote0`"
        )

    @override
    def taken(self, frame: Any) -> Any:
        first = f"({self._first} + {self.schedule.takes_ms}) * 1000 AS `@from`"
        return frame.where(f"{self._first} <= {self._last}").selectExpr("*", first)

    @override
    def wrote(self, frame: Any) -> Any:
        last = f"{self._last} + {self.schedule.takes_ms}"
        return _replaced(frame, f"CASE WHEN `@time` IS NOT NULL THEN least(`@wrote0`, {last}) END")

    @override
    def spans(self, frame: Any, ttl_ms: int) -> Any:
        every, takes = self.schedule.every_ms, self.schedule.takes_ms
        spans = self.taken(frame).selectExpr(
            "*", "`@from` div 1000 AS `@first`", f"{self._last} + {takes} AS `@last`"
        )
        if every <= ttl_ms:
            return spans
        spans = spans.withColumn("@last", _expr(f"least(`@last`, {self.latest_ms})"))
        spans = spans.where("`@last` >= `@first`")
        slots = spans.withColumn(
            "@first", _expr(f"explode(sequence(`@first`, `@last`, {every}L))")
        )
        return slots.withColumn("@last", _expr("`@first`"))


@dataclass(frozen=True)
class Logged(SparkLoadTimes):
    """The loads of a log, in chains whose windows only move on."""

    session: Any
    chains: tuple[tuple[PastLoad, ...], ...]

    @classmethod
    def of(cls, session: Any, loads: Iterable[PastLoad]) -> Logged:
        """Split loads into chains; none of them writes older rows over newer ones."""
        (chains,) = Recorded.of(loads).segments
        return cls(session, chains)

    @property
    @override
    def moves_moments(self) -> bool:
        return Recorded((self.chains,)).moves_moments

    def _join(
        self, frame: Any, column: str, value: str, of: Callable[[PastLoad], int], *, before: bool
    ) -> Any:
        """Return a frame with the number and the time of a load of each chain.

        It is the last load whose `of` is not after a value, or else the first one whose `of` is not before.
        """
        pick = max if before else min
        for c, chain in enumerate(self.chains):
            times: dict[int, tuple[int, int]] = {}
            for i, load in enumerate(chain):
                i_before, written = times.get(of(load), (i, load.written_ms))
                times[of(load)] = pick(i_before, i), pick(written, load.written_ms)
            names = (f"@{column}_i{c}", f"@{column}{c}")
            frame = _located(self.session, frame, value, times, names, before=before)
        return frame

    @override
    def moments(self, frame: Any) -> Any:
        frame = self._join(frame, "wrote", _AT_MS, lambda load: load.written_ms, before=True)
        numbers = [f"@wrote_i{c}" for c in range(len(self.chains))]
        if not self.moves_moments:
            return frame.drop(*numbers).selectExpr("*", "CAST(NULL AS BIGINT) AS `@upto`")
        from pyspark.sql import functions as F  # noqa: N812

        rows = [(i, load_until(load) * 1000 + 999) for i, load in enumerate(self.chains[0])]
        until = small_frame(self.session, rows, {"@i": pa.int32(), "@upto": pa.int64()})
        joined = frame.join(F.broadcast(until), F.col("@wrote_i0") == F.col("@i"), "left")
        return joined.drop("@i", *numbers).na.fill({"@upto": -FOREVER})

    def _windows(self, frame: Any) -> Any:
        """Return rows with the first and the last load of each chain that takes them."""
        frame = self._join(frame, "by_time", _TIME_MS, load_until, before=False)
        scanned: Callable[[PastLoad], int] = lambda load: load.scanned_ms  # noqa: E731
        frame = self._join(frame, "by_known", _KNOWN_MS, scanned, before=False)
        return self._join(frame, "last", _TIME_MS, load_start, before=True)

    def _first(self, c: int) -> str:
        """Return the SQL of when the first load of a chain that takes a row wrote; null if none."""
        numbers = f"greatest(`@by_time_i{c}`, `@by_known_i{c}`)"
        is_taken = (
            f"`@by_time_i{c}` IS NOT NULL AND `@by_known_i{c}` IS NOT NULL "
            f"AND `@last_i{c}` IS NOT NULL AND {numbers} <= `@last_i{c}`"
        )
        return f"CASE WHEN {is_taken} THEN greatest(`@by_time{c}`, `@by_known{c}`) END"

    @override
    def taken(self, frame: Any) -> Any:
        names = [f"`{name}`" for name in frame.columns]
        firsts = ", ".join(self._first(c) for c in range(len(self.chains)))
        first = f"least({firsts})" if len(self.chains) > 1 else firsts
        rows = self._windows(frame).selectExpr(*names, f"{first} * 1000 AS `@from`")
        return rows.where("`@from` IS NOT NULL")

    @override
    def joinable(self, frame: Any) -> Any:
        return frame.selectExpr("*", "`@known` AS `@from`")

    @override
    def wrote(self, frame: Any) -> Any:
        frame = self._join(frame, "last", _TIME_MS, load_start, before=True)
        times = [
            f"CASE WHEN `@wrote{c}` <= `@last{c}` THEN `@wrote{c}` "
            f"WHEN `@wrote{c}` IS NOT NULL THEN `@last{c}` END"
            for c in range(len(self.chains))
        ]
        return _replaced(frame, f"greatest({', '.join(times)})" if len(times) > 1 else times[0])

    @override
    def spans(self, frame: Any, ttl_ms: int) -> Any:
        from pyspark.sql import functions as F  # noqa: N812

        windows = self._windows(frame)
        parts = []
        for c, chain in enumerate(self.chains):
            ends = dict.fromkeys(("@run_start", "@run_end"), pa.int64())
            runs = small_frame(self.session, runs_of_loads(chain, ttl_ms), ends)
            rows = windows.selectExpr(
                "`@k`", f"{self._first(c)} AS `@from`", f"`@last{c}` AS `@till`"
            )
            within = (F.col("@from") <= F.col("@run_end")) & (
                F.col("@till") >= F.col("@run_start")
            )
            parts.append(
                rows.join(F.broadcast(runs), within).selectExpr(
                    "`@k`",
                    "greatest(`@from`, `@run_start`) AS `@first`",
                    "least(`@till`, `@run_end`) AS `@last`",
                )
            )
        spans = parts[0]
        for part in parts[1:]:
            spans = spans.unionByName(part)
        return spans


def _expr(sql: str) -> Any:
    from pyspark.sql import functions as F  # noqa: N812

    return F.expr(sql)


def _replaced(frame: Any, wrote: str) -> Any:
    """Return moments with `@wrote` instead of the columns that `moments` and `wrote` added."""
    frame = frame.withColumn("@wrote", _expr(wrote))
    added = [n for n in frame.columns if n.startswith(("@wrote", "@last")) and n != "@wrote"]
    return frame.drop("@upto", *added)


def _located(
    session: Any,
    frame: Any,
    value: str,
    entries: dict[int, tuple[int, int]],
    names: tuple[str, str],
    *,
    before: bool,
) -> Any:
    """Return a frame with the two numbers of the last entry not after a value, or the first not before."""
    from pyspark.sql import functions as F  # noqa: N812

    times = sorted(entries)
    finite = [time for time in times if abs(time) < FOREVER] or [0]
    low, high = finite[0], finite[-1]
    width = max(1, (high - low) // len(finite) + 1)

    def bin_of(time: int) -> int:
        return (min(max(time, low - width), high + width) - low) // width

    rows = [
        (number, start, end, *entries[time])
        for time, (start, end) in zip(times, _intervals(times, before=before), strict=True)
        for number in range(bin_of(start), bin_of(end) + 1)
    ]
    columns = dict.fromkeys(("@bin", "@start", "@end", *names), pa.int64())
    intervals = small_frame(session, rows, columns | {names[0]: pa.int32()})
    kept = [F.col(f"`{name}`") for name in (*frame.columns, *names)]
    frame = frame.withColumn("@value", _expr(value))
    clamped = f"least(greatest(`@value`, {low - width}), {high + width}) - {low}"
    frame = frame.withColumn(
        "@value_bin", _expr(f"({clamped} - pmod({clamped}, {width})) div {width}")
    )
    within = (F.col("@value_bin") == F.col("@bin")) & F.col("@value").between(
        F.col("@start"), F.col("@end")
    )
    return frame.join(F.broadcast(intervals), within, "left").select(*kept)


def _intervals(times: Sequence[int], *, before: bool) -> Iterator[tuple[int, int]]:
    """Yield the values for which each time is the last one not after, or the first one not before."""
    for i, time in enumerate(times):
        if before:
            yield time, times[i + 1] - 1 if i + 1 < len(times) else FOREVER
        else:
            yield times[i - 1] + 1 if i else -FOREVER, time
