"""Find what loads of a batch view would have stored for entities at many moments at once.

`load_times` says from when a row counts and when it was last renewed. Two joins find the row of a
moment, each with one ASOF join and without ties, which ASOF breaks at random:

- Rows that are known from their time on are joined by time, creation and number. There is nothing
  to compute for a row.
- Otherwise a row can count from after the time of a newer one. So only rows are kept that were the
  newest when they began to count, and of those that began at one instant the newest.

Then the rows that were found are read by number. An expired value has no row.
"""

# ruff: noqa: S608 - all names and values in this SQL are quoted

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from featurekit.history_ports import AsOf, HistoricalRows, HistoryQuery
from featurekit.plan import SourceColumns, ViewPlan
from featurekit.sources.history_index import INTEGERS, MAX_ROWS, History
from featurekit.sources.history_range import history_range
from featurekit.sources.load_times import (
    FOREVER,
    Continuous,
    LoadTimes,
    Recorded,
    Scheduled,
    to_ms,
)
from featurekit.sources.session import Rows

T = TypeVar("T")

_REPEATED = 4
"""Moments per row from which on rows are encoded once and then taken for each moment."""

_ALWAYS = f"({-FOREVER})"
"""The SQL of the time of rows that hold for all times."""


@dataclass(frozen=True)
class _Times:
    """When the rows of a batch source count.

    Attributes:
        as_of: The meaning that was used.
        at: The SQL of a row's time in microseconds.
        known: The SQL of the microsecond from which a row is known.
        order: The SQL that orders rows by age, most important first: the time, if the rows have one; the
            number of a row comes last.
        rank: The SQL of a BIGINT that orders rows of one time, before their numbers do; empty if there
            is no such order, `None` if a BIGINT cannot hold it.
        loads: The loads.
    """

    as_of: AsOf | Literal["static"]
    at: str
    known: str
    order: tuple[str, ...]
    rank: str | None
    loads: LoadTimes

    @property
    def has_time(self) -> bool:
        """Whether `order` begins with the time of a row."""
        return self.at != _ALWAYS

    @property
    def joins_by_time(self) -> bool:
        """Whether rows can be joined by their time alone."""
        return self.known == self.at and self.rank is not None and self.loads.moves_moments


def batch_rows_at(
    rows: Rows, view: ViewPlan, source: SourceColumns, query: HistoryQuery
) -> HistoricalRows:
    """Return the row of each moment. See `ports.HistorySource`."""

    def read(history: History, times: _Times) -> HistoricalRows:
        if times.joins_by_time:
            rank = {"rank": times.rank} if times.rank else {}
            counts = history.store_index({"at": times.at, **rank}, "at")
            joined = _join_by_time(history, times, has_rank=bool(rank))
        else:
            counts = _store_full_index(history, times)
            joined = join_by_first(times)
        names = _store_matches(history, times.loads.wrote(joined), query)
        numbers: dict[str, Any] | None = None
        deadlines: Mapping[str, Any] = names
        if rows.form == "native" and not _rows_repeat(history):
            batches = history.ordered_rows("matches", list(dict.fromkeys(names.values())))
        else:
            numbers, deadlines = _fetch_matches(history, names)
            batches = history.read_rows("FROM matches")
            rows.session.close()
        return HistoricalRows(
            rows.form,
            numbers,
            deadlines,
            batches,
            times.as_of,
            *counts,
            source_identity=rows.identity,
            close=rows.session.close,
        )

    return _with_history(rows, view, source, query, read)


def batch_key_ends(rows: Rows, view: ViewPlan, source: SourceColumns, query: HistoryQuery) -> Any:
    """Return when keys expired. See `ports.HistorySource`."""

    def read(history: History, times: _Times) -> Any:
        if isinstance(times.loads, Continuous) and times.loads.lookback_ms is None:
            rows.session.close()
            return None
        _store_full_index(history, times)
        spans = times.loads.spans("row_index", view.ttl_ms)
        window = "PARTITION BY k ORDER BY first_ms, last_ms ROWS UNBOUNDED PRECEDING"
        reach = (
            "SELECT k, max(last_ms) OVER w AS reach, lead(first_ms) OVER w AS next_ms "
            f"FROM {spans} WINDOW w AS ({window})"
        )
        found = history.fetch(
            f"SELECT DISTINCT k, (reach + {view.ttl_ms})::BIGINT AS end_ms FROM ({reach}) "
            f"WHERE next_ms IS NULL OR next_ms > reach + {view.ttl_ms}"
        )
        rows.session.close()
        return found.set_column(0, "k", pc.take(history.entities, found["k"]))

    return _with_history(rows, view, source, query, read)


def _with_history(
    rows: Rows,
    view: ViewPlan,
    source: SourceColumns,
    query: HistoryQuery,
    read: Callable[[History, _Times], T],
) -> T:
    try:
        with rows.errors():
            in_range = history_range(view, source, query)
            history = History.of(rows, view, source, query.moments, in_range)
            times = row_times(history, query)
            times.loads.prepare(rows.session)
            return read(history, times)
    except BaseException:
        rows.session.close()
        raise


def row_times(history: History, query: HistoryQuery) -> _Times:
    """Return when the rows of a history count."""
    view, selection = history.view, history.selection
    created = history.created_us()
    parts = selection.order[1:] if selection.time else selection.order
    order = tuple(_exact(history, part) for part in parts)
    rank = _rank(history, created, parts)
    if history.source.static:
        return _Times("static", _ALWAYS, _ALWAYS, order, rank, Continuous(None))
    as_of = query.as_of or ("schedule" if view.schedule else None)
    history.check_created(as_of, created)
    at = history.event_us
    known = at
    if created and as_of != "event_time":  # a row without a time is never known
        known = f"CASE WHEN {at} IS NOT NULL THEN greatest({at}, {created}) END"
    order = (selection.time, *order)
    loads: LoadTimes = Continuous(view.lookback_ms)
    if as_of == "schedule" and view.schedule:
        latest = pc.max(query.moments["at"]).as_py() or 0
        loads = Scheduled(view.schedule, view.lookback_ms, latest // 1000)
    elif as_of == "loads":
        loads = Recorded.of(query.loads)
    used: AsOf = "event_time" if known == at else "created"
    if as_of in ("schedule", "loads"):
        used = as_of
    return _Times(used, at, known, order, rank, loads)


def _rank(history: History, created: str, parts: tuple[str, ...]) -> str | None:
    """Return `_Times.rank` for the order of creation."""
    kinds = history.rows.columns
    if "_NS" in kinds.get(history.source.timestamp_field or "", ""):
        return None
    if not parts:
        return ""
    kind = kinds.get(history.source.created_timestamp_field or "", "")
    if kind in INTEGERS:
        return f"coalesce(CAST({parts[-1]} AS BIGINT), {-FOREVER})"
    is_exact = created and "_NS" not in kind and not history.selection.created_text
    return f"coalesce({created}, {-FOREVER})" if is_exact else None


def _exact(history: History, part: str) -> str:
    """Return an expression for the order of creation in a type that Arrow holds exactly."""
    kind = history.rows.columns.get(history.source.created_timestamp_field or "", "")
    return f"CAST({part} AS DECIMAL(38, 0))" if kind.endswith("HUGEINT") else part


def _store_full_index(history: History, times: _Times) -> tuple[int, int]:
    order = {f"o{i}": part for i, part in enumerate(times.order)}
    return history.store_index({"known": times.known, "at": times.at, **order}, "known")


def _join_by_time(history: History, times: _Times, *, has_rank: bool) -> str:
    """Return moments with their rows, which are joined by time.

    A join by time, rank and number at once takes twice as long. So the time is found first, then the last
    one of the rows with that time.
    """
    index = times.loads.joinable('(SELECT *, "at" AS known FROM row_index)')
    session = history.rows.session
    sql = (
        'CREATE TABLE timed AS SELECT m.* REPLACE (r."at" AS "at"), m."at" AS t '
        f'FROM {times.loads.moments("moments")} m ASOF LEFT JOIN {index} r ON m.k = r.k AND m.upto >= r."at"'
    )
    session.run(lambda: session.execute(sql))
    age = f"rank::HUGEINT * {MAX_ROWS} + rn" if has_rank else "rn"
    last = (
        f'(SELECT k, "at", max_by(rn, {age}) AS rn '
        'FROM row_index SEMI JOIN timed USING (k, "at") GROUP BY k, "at")'
    )
    return f'(SELECT v.*, r.rn FROM timed v LEFT JOIN {last} r USING (k, "at"))'


def join_by_first(times: _Times) -> str:
    """Return moments with their rows, which are joined by when they began to count."""
    ages = [f"o{i} NULLS FIRST" for i in range(len(times.order))]
    segment = ["segment"] if times.loads.has_segments else []
    order = ", ".join(["first", *segment, *ages, "rn"])
    names = "".join(f", {name}" for name in segment)
    time = "o0" if times.has_time else "0"  # in the unit of the source, unlike "at"
    index = (
        f'(SELECT k, first, "at", rn{names} FROM {times.loads.taken("row_index")} QUALIFY '
        f"{time} >= max({time}) OVER (PARTITION BY k{names} ORDER BY {order} "
        "ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) "
        f"AND lead(first) OVER (PARTITION BY k ORDER BY {order}) IS DISTINCT FROM first)"
    )
    found = "".join(f", r.{name}" for name in segment)
    return (
        f'(SELECT m.* REPLACE (r."at" AS "at"), m."at" AS t, r.rn{found} '
        f"FROM {times.loads.moments('moments')} m ASOF LEFT JOIN {index} r "
        'ON m.k = r.k AND m."at" >= r.first)'
    )


def _store_matches(history: History, joined: str, query: HistoryQuery) -> dict[str, str]:
    """Store the table `matches` with the number of each moment's row, and its deadlines.

    A row is null if all of its values have expired, and a deadline if those have that it is for.

    Returns:
        For each field the column with its deadline.
    """
    view, session = history.view, history.rows.session
    ends = history.key_ends(query.key_ends) if view.expires == "field" else ""
    ttls = {field.name: field.ttl_ms or view.ttl_ms for field in view.fields}
    names = {ttl: f"deadline{i}" for i, ttl in enumerate(sorted(set(ttls.values())))}
    if ends:
        joined = (
            f"(SELECT v.*, e.end_ms FROM {joined} v "
            f"ASOF LEFT JOIN {ends} e ON v.k = e.k AND v.wrote <= e.end_ms)"
        )
    parts = []
    for ttl, name in names.items():
        deadline = f"least(wrote + {ttl}, end_ms)" if ends else f"wrote + {ttl}"
        is_live = f"rn IS NOT NULL AND {to_ms('t')} <= {deadline}"
        parts.append(f"CASE WHEN {is_live} THEN {deadline} END AS {name}")
    sql = (
        f"CREATE TABLE matches AS SELECT rid, {', '.join(names.values())}, "
        f"CASE WHEN coalesce({', '.join(names.values())}) IS NOT NULL THEN rn END AS rn "
        f"FROM (SELECT rid, rn, {', '.join(parts)} FROM {joined})"
    )
    session.run(lambda: session.execute(sql))
    session.execute("DROP TABLE row_index; DROP TABLE IF EXISTS timed")
    return {name: names[ttl] for name, ttl in ttls.items()}


def _rows_repeat(history: History) -> bool:
    """Return whether moments share their rows, so that these should be encoded only once."""
    ((found, distinct),) = history.rows.session.fetch_all(
        "SELECT count(rn), approx_count_distinct(rn) FROM matches"
    )
    return bool(found > _REPEATED * distinct)


def _fetch_matches(
    history: History, names: Mapping[str, str]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the numbers of rows and the deadlines of each field."""
    deadlines = list(dict.fromkeys(names.values()))
    found = history.fetch(f"SELECT rn, {', '.join(deadlines)} FROM matches ORDER BY rid")
    rn = found["rn"].combine_chunks()
    columns = {name: found[name].combine_chunks() for name in deadlines}
    numbers = {
        name: pc.if_else(column.is_valid(), rn, pa.scalar(None, pa.int64()))
        for name, column in columns.items()
    }
    return (
        {field: numbers[name] for field, name in names.items()},
        {field: columns[name] for field, name in names.items()},
    )
