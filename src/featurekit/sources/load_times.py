"""When the loads of a batch view ran, as SQL over moments and rows.

A load scans the source at `scanned` and has written its rows at `written`. It takes a row that is
known by then, and whose time is in the load's window. What is stored for an entity is the newest row
that any load took, if a later load that sees an older row sees that one as well. So two times
are enough: a row counts from `first`, when the first load that takes it has written it; and its expiry
was last renewed at `wrote`, by the last load before the moment that still takes it.

A recorded load whose window ends before that of an earlier one can write older rows over newer ones. It begins
another segment of loads, in each of which the above holds. What is stored for an entity is then the
row of the last segment that took any.

Each kind of loads has these in closed form, without a join of all rows to all loads:

- `Continuous`: a load at every instant, which takes no time.
- `Scheduled`: a load at each slot of a schedule; slots are counted from 1970.
- `Recorded`: the loads of a log, found by ASOF joins. That needs windows which only move on, so
  loads are split into chains of such loads; a full load among incremental ones begins another one.
  The first load that takes a row is the first of any chain, and the last one the last of any.

The `at` and `known` of a row and the `at` of a moment are microseconds, times of loads milliseconds.
"""

# ruff: noqa: S608 - all values in this SQL are numbers

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from typing_extensions import override

from featurekit.history_ports import PastLoad
from featurekit.plan import SchedulePlan
from featurekit.sources.session import Session

FOREVER = 2**62
"""Later than any time."""


def floor_to(value: str, step: int, start: int = 0) -> str:
    """Return the SQL of the last of the steps from `start` that is not after a value.

    DuckDB's `//` and `%` round towards zero, which is up for times before 1970.
    """
    return f"(({value}) - ((({value}) - {start}) % {step} + {step}) % {step})"


def to_ms(microseconds: str) -> str:
    """Return the SQL of microseconds in milliseconds, rounded down."""
    return f"({floor_to(microseconds, 1000)} // 1000)"


_AT_MS = to_ms('"at"')


class LoadTimes(ABC):
    """The loads of a view. Its methods take and return FROM clauses, whose other columns stay."""

    def prepare(self, session: Session) -> None:
        """Create the tables that the SQL reads."""
        del session

    @property
    def moves_moments(self) -> bool:
        """Whether rows that are known from their time on count for moments with `upto` >= `at`."""
        return True

    @property
    def has_segments(self) -> bool:
        """Whether rows that are taken have the `segment` of the loads that take them, maybe several times."""
        return False

    @abstractmethod
    def moments(self, table: str) -> str:
        """Return moments with `upto` and, unless `has_segments`, with `wrote0`, ...

        `upto` is the microsecond up to which the last load before a moment knew rows, and `wrote0`,
        ... when the last load of each chain before it wrote; null if there is none.
        """

    @abstractmethod
    def taken(self, table: str) -> str:
        """Return the rows that a load takes, with `first` in microseconds."""

    def joinable(self, table: str) -> str:
        """Return the rows to join to moments by time, if `moves_moments`."""
        return self.taken(table)

    @abstractmethod
    def wrote(self, table: str) -> str:
        """Return moments `t` with the `at` of their row, and its `segment` if any, and with `wrote`."""

    @abstractmethod
    def spans(self, table: str, ttl_ms: int) -> str:
        """Return rows with `first_ms` and `last_ms`, between which a load takes them each `ttl_ms`."""


@dataclass(frozen=True)
class Continuous(LoadTimes):
    """A load at every instant.

    Attributes:
        lookback_ms: How old the rows may be that a load takes; `None` for any age.
    """

    lookback_ms: int | None

    @property
    def _last(self) -> str:
        return str(FOREVER) if self.lookback_ms is None else f"({_AT_MS} + {self.lookback_ms})"

    @override
    def moments(self, table: str) -> str:
        return f'(SELECT *, "at" AS upto, {_AT_MS} AS wrote0 FROM {table})'

    @override
    def taken(self, table: str) -> str:
        return f"(SELECT *, known AS first FROM {table} WHERE {to_ms('known')} <= {self._last})"

    @override
    def wrote(self, table: str) -> str:
        return f"(SELECT *, least(wrote0, {self._last}) AS wrote FROM {table})"

    @override
    def spans(self, table: str, ttl_ms: int) -> str:
        times = f"{to_ms('known')} AS first_ms, {self._last} AS last_ms"
        return f"(SELECT *, {times} FROM {self.taken(table)})"


@dataclass(frozen=True)
class Scheduled(LoadTimes):
    """A load at each slot of a schedule.

    Attributes:
        schedule: The slots, and how long a load takes.
        lookback_ms: How old the rows may be that a load takes; `None` for any age.
        latest_ms: The last moment.
    """

    schedule: SchedulePlan
    lookback_ms: int | None
    latest_ms: int

    def _slot(self, value: str) -> str:
        return floor_to(value, self.schedule.every_ms, self.schedule.at_ms)

    @property
    def _first(self) -> str:
        return self._slot(f"{to_ms('known')} + {self.schedule.every_ms - 1}")

    @property
    def _last(self) -> str:
        if self.lookback_ms is None:
            return str(FOREVER)
        return self._slot(f"{_AT_MS} + {self.lookback_ms}")

    @override
    def moments(self, table: str) -> str:
        slots = f"(SELECT *, {self._slot(f'{_AT_MS} - {self.schedule.takes_ms}')} AS slot FROM {table})"
        times = f"slot * 1000 + 999 AS upto, slot + {self.schedule.takes_ms} AS wrote0"
        return f"(SELECT * EXCLUDE (slot), {times} FROM {slots})"

    @override
    def taken(self, table: str) -> str:
        first = f"({self._first} + {self.schedule.takes_ms}) * 1000 AS first"
        return f"(SELECT *, {first} FROM {table} WHERE {self._first} <= {self._last})"

    @override
    def wrote(self, table: str) -> str:
        wrote = f"least(wrote0, {self._last} + {self.schedule.takes_ms})"
        return f"(SELECT *, {wrote} AS wrote FROM {table})"

    @override
    def spans(self, table: str, ttl_ms: int) -> str:
        times = f"first // 1000 AS first_ms, {self._last} + {self.schedule.takes_ms} AS last_ms"
        spans = f"(SELECT *, {times} FROM {self.taken(table)})"
        if self.schedule.every_ms <= ttl_ms:
            return spans
        slots = f"unnest(range(first_ms, least(last_ms, {self.latest_ms}) + 1, {self.schedule.every_ms}))"
        return f"(SELECT * REPLACE (slot AS first_ms, slot AS last_ms) FROM (SELECT *, {slots} AS slot FROM {spans}))"


@dataclass(frozen=True)
class Recorded(LoadTimes):
    """The loads of a log.

    Attributes:
        segments: The loads in the order of their runs, split into segments whose windows never end
            earlier than those before, and each segment into chains whose windows only move on.
    """

    segments: tuple[tuple[tuple[PastLoad, ...], ...], ...]

    @classmethod
    def of(cls, loads: Iterable[PastLoad]) -> Recorded:
        """Split loads into segments and chains."""
        ordered = sorted(loads, key=lambda load: (load.written_ms, load.scanned_ms))
        return cls(tuple(_chains(segment) for segment in _segments(ordered)))

    @property
    def _chains(self) -> range:
        """The numbers of chains that a segment can have."""
        return range(max(map(len, self.segments), default=0))

    @override
    def prepare(self, session: Session) -> None:
        for c in self._chains:
            chains = [(n, s[c]) for n, s in enumerate(self.segments) if c < len(s)]
            loads = [(n, i, load) for n, chain in chains for i, load in enumerate(chain)]
            columns = {
                "segment": [n for n, _, _ in loads],
                "i": [i for _, i, _ in loads],
                "scanned": [load.scanned_ms for _, _, load in loads],
                "until": [load_until(load) for _, _, load in loads],
                "start": [load_start(load) for _, _, load in loads],
                "written": [load.written_ms for _, _, load in loads],
            }
            int64 = session.arrow.int64()
            table = session.arrow.table(
                {name: session.arrow.array(values, int64) for name, values in columns.items()}
            )
            session.connection.register(f"loads{c}", table)

    @property
    @override
    def has_segments(self) -> bool:
        return len(self.segments) > 1

    @property
    @override
    def moves_moments(self) -> bool:
        is_chain = len(self.segments) == len(self._chains) == 1
        return is_chain and all(load.start_ms is None for load in self.segments[0][0])

    def _join(self, table: str, column: str, of: str, comparison: str, order: str) -> str:
        """Return the rows of a table with the number and the time of a load of each chain.

        Among loads of one time, `order` says which one: the `min` or the `max`.
        """
        if self.has_segments:
            comparison = f"r.segment = l.segment AND {comparison}"
        for c in self._chains:
            loads = (
                f"(SELECT segment, {of}, {order}(i) AS i, {order}(written) AS w "
                f"FROM loads{c} GROUP BY segment, {of})"
            )
            table = (
                f"(SELECT r.*, l.i AS {column}_i{c}, l.w AS {column}{c} "
                f"FROM {table} r ASOF LEFT JOIN {loads} l ON {comparison})"
            )
        return table

    @override
    def moments(self, table: str) -> str:
        if self.has_segments:
            return f"(SELECT *, NULL::BIGINT AS upto FROM {table})"
        written = self._join(table, "wrote", "written", f"{_at('r')} >= l.written", "max")
        names = ", ".join(f"wrote_i{c}" for c in self._chains)
        if not self.moves_moments:
            return f"(SELECT * EXCLUDE ({names}), NULL::BIGINT AS upto FROM {written})"
        return (
            f"(SELECT m.* EXCLUDE ({names}), coalesce(l.until * 1000 + 999, {-FOREVER}) AS upto FROM {written} m "
            "LEFT JOIN loads0 l ON m.wrote_i0 = l.i)"
        )

    def _windows(self, table: str) -> str:
        """Return rows with the first and the last load of each chain that takes them."""
        known_ms = to_ms("r.known")
        if self.has_segments:
            all_loads = " UNION ALL ".join(f"FROM loads{c}" for c in self._chains)
            segments = (
                "(SELECT segment, min(start) AS start, max(until) AS until, max(scanned) AS scanned "
                f"FROM ({all_loads}) GROUP BY segment)"
            )
            table = (
                f"(SELECT r.*, s.segment FROM {table} r JOIN {segments} s "
                f"ON {_at('r')} BETWEEN s.start AND s.until AND {known_ms} <= s.scanned)"
            )
        table = self._join(table, "by_time", "until", f"{_at('r')} <= l.until", "min")
        table = self._join(table, "by_known", "scanned", f"{known_ms} <= l.scanned", "min")
        return self._join(table, "last", "start", f"{_at('r')} >= l.start", "max")

    def _first(self, c: int) -> str:
        """Return the SQL of when the first load of a chain that takes a row wrote; null if none."""
        is_missing = f"by_time_i{c} IS NULL OR by_known_i{c} IS NULL OR last_i{c} IS NULL"
        is_late = f"greatest(by_time_i{c}, by_known_i{c}) > last_i{c}"
        return (
            f"CASE WHEN NOT ({is_missing} OR {is_late}) THEN greatest(by_time{c}, by_known{c}) END"
        )

    @override
    def taken(self, table: str) -> str:
        firsts = ", ".join(self._first(c) for c in self._chains)
        first = f"least({firsts}) * 1000" if len(self._chains) > 1 else f"{firsts} * 1000"
        names = [
            f"{column}{i}{c}"
            for column in ("by_time", "by_known", "last")
            for i in ("_i", "")
            for c in self._chains
        ]
        rows = f"(SELECT * EXCLUDE ({', '.join(names)}), {first} AS first FROM {self._windows(table)})"
        return f"(FROM {rows} WHERE first IS NOT NULL)"

    @override
    def joinable(self, table: str) -> str:
        return table  # a load takes all rows that it knows, and `upto` leaves out the others

    @override
    def wrote(self, table: str) -> str:
        if self.has_segments:  # `moments` cannot know the segment of the row
            table = self._join(table, "wrote", "written", f"{to_ms('r.t')} >= l.written", "max")
        table = self._join(table, "last", "start", f"{_at('r')} >= l.start", "max")
        times = [
            f"CASE WHEN wrote{c} <= last{c} THEN wrote{c} WHEN wrote{c} IS NOT NULL THEN last{c} END"
            for c in self._chains
        ]
        names = [f"last{i}{c}" for i in ("_i", "") for c in self._chains]
        return f"(SELECT * EXCLUDE ({', '.join(names)}), greatest({', '.join(times)}) AS wrote FROM {table})"

    @override
    def spans(self, table: str, ttl_ms: int) -> str:
        windows = self._windows(table)
        segment = "AND rows.segment = runs.segment " if self.has_segments else ""
        parts = []
        for c in self._chains:
            runs = ", ".join(
                f"({n}, {start}, {end})"
                for n, chains in enumerate(self.segments)
                for start, end in runs_of_loads(chains[c] if c < len(chains) else (), ttl_ms)
            )
            rows = f"(SELECT *, {self._first(c)} AS first, last{c} AS last FROM {windows})"
            parts.append(
                "SELECT k, greatest(first, run_start) AS first_ms, least(last, run_end) AS last_ms "
                f"FROM {rows} AS rows JOIN (VALUES {runs}) AS runs(segment, run_start, run_end) "
                f"ON first <= run_end AND last >= run_start {segment}"
            )
        return f"({' UNION ALL '.join(parts)})"


def writes_over_newer(loads: Iterable[PastLoad]) -> bool:
    """Return whether a load can have written older rows over newer ones of the loads before it."""
    return Recorded.of(loads).has_segments


def _segments(loads: Sequence[PastLoad]) -> list[list[PastLoad]]:
    """Split loads in the order of their runs where a window ends before that of an earlier load."""
    segments: list[list[PastLoad]] = []
    newest = FOREVER
    for load in loads:
        if load_until(load) < newest:
            segments.append([])
        segments[-1].append(load)
        newest = load_until(load)
    return segments


def _chains(loads: Iterable[PastLoad]) -> tuple[tuple[PastLoad, ...], ...]:
    """Split loads of a segment into chains whose windows only move on."""
    chains: list[list[PastLoad]] = []
    for load in loads:
        for chain in chains:
            if load_start(chain[-1]) <= load_start(load):
                chain.append(load)
                break
        else:
            chains.append([load])
    return tuple(map(tuple, chains))


def _at(table: str) -> str:
    return to_ms(f'{table}."at"')


def load_start(load: PastLoad) -> int:
    """Return the first millisecond whose rows a load takes."""
    return -FOREVER if load.start_ms is None else load.start_ms


def load_until(load: PastLoad) -> int:
    """Return the last millisecond whose rows a load takes."""
    ends = [load.scanned_ms, *([] if load.end_ms is None else [load.end_ms - 1])]
    return min(ends)


def runs_of_loads(chain: Sequence[PastLoad], ttl_ms: int) -> list[tuple[int, int]]:
    """Return the spans of time in which each load came before the TTL of the one before ended."""
    runs: list[tuple[int, int]] = []
    for load in chain:
        if runs and load.written_ms <= runs[-1][1] + ttl_ms:
            runs[-1] = (runs[-1][0], load.written_ms)
        else:
            runs.append((load.written_ms, load.written_ms))
    return runs
