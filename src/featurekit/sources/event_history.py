"""Find what a stream view would have stored for entities at many moments at once.

An event counts when it arrives; events that arrive at once, in the order of the history. It sets
and deletes the fields that it has and leaves the others alone, so each field of a moment is found by
an ASOF join of its own, over the events that have it. Events do what `lower.events` makes of them:

- The time of an event is floored to milliseconds. If it is not known, the arrival is its time.
- An event whose time is more than `max_ahead` later than its arrival is refused.
- A value lives until its TTL after the event. With `ordering: arrival`, one that has expired on
  arrival leaves the field alone. With `event_time`, it deletes the field.
- With `ordering: event_time`, an event is dropped if it is older than one before, or if it would do no
  more than write values that have expired. An event that is dropped does not move the view's time.
- When the key ends, so do the values, and the view's time is forgotten.
"""

# ruff: noqa: S608 - all names and values in this SQL are quoted

from __future__ import annotations

from typing import Any

from featurekit.errors import SourceError
from featurekit.history_ports import AsOf, HistoricalRows, HistoryQuery
from featurekit.plan import FieldPlan, SourceColumns, ViewPlan
from featurekit.sources.history_index import MAX_ROWS, History
from featurekit.sources.history_range import history_range
from featurekit.sources.load_times import to_ms
from featurekit.sources.selection import json_pointer
from featurekit.sources.session import Rows, quote_identifier, quote_text

_MICROSECOND = 1000 * MAX_ROWS
"""A microsecond in the order of events, which are ordered by nanoseconds and numbers within it."""

_POSITION = f'"at"::HUGEINT * {_MICROSECOND} + {_MICROSECOND - 1}'
"""Where a moment is in the order of events: after all that arrived by then."""

_AT_MS = to_ms('"at"')

_ABSENT, _VALUE, _NULL = range(3)
"""What an event has of a field."""


def event_rows_at(
    rows: Rows, view: ViewPlan, source: SourceColumns, query: HistoryQuery
) -> HistoricalRows:
    """Return the events that the values of each moment come from. See `ports.HistorySource`."""
    try:
        with rows.errors():
            history = History.of(
                rows, view, source, query.moments, history_range(view, source, query)
            )
            as_of, arrival, nanos, time = event_times(history, query.as_of)
            columns = {"arrival": arrival, "nanos": nanos, "event": to_ms(time)}
            for i, field in enumerate(view.fields):
                columns[f"f{i}"] = _state(rows, source, field)
            counts = history.store_index(columns, "arrival")
            _store_accepted(history, query)
            numbers, deadlines = {}, {}
            for i, field in enumerate(view.fields):
                numbers[field.name], deadlines[field.name] = _match(history, i, field)
            matched = " UNION ALL ".join(f"FROM matched{i}" for i in range(len(view.fields)))
            batches = history.read_rows(matched)
    finally:
        rows.session.close()
    return HistoricalRows(
        rows.form, numbers, deadlines, batches, as_of, *counts, source_identity=rows.identity
    )


def event_times(history: History, as_of: AsOf | None) -> tuple[AsOf, str, str, str]:
    """Return when events count, and the SQL of their arrival, its nanoseconds, and their time.

    The arrival and the time are in microseconds.

    A history without times of events has only arrivals, and one without arrivals only times.
    """
    time, arrival = history.event_us, history.created_us()
    history.check_created(as_of, arrival)
    if not time and not arrival:
        raise SourceError(
            "the history of events has neither a timestamp_field nor a created_timestamp_field",
            where=history.rows.where,
        )
    known = [(time, history.event_ns), (arrival, history.created_ns)]
    if as_of != "event_time" and arrival:
        known.reverse()
    parts, nanos = zip(*((part, ns) for part, ns in known if part), strict=True)
    used: AsOf = "event_time" if parts[0] == time else "created"
    first, first_ns = (f"coalesce({', '.join(each)})" for each in (parts, nanos))
    return used, first, first_ns, f"coalesce({time}, {first})" if time else first


def _state(rows: Rows, source: SourceColumns, field: FieldPlan) -> str:
    """Return the SQL of what an event has of a field."""
    column, sent = source.column(field.name), source.sent_fields_column
    if rows.form == "json":
        pointer = quote_text(json_pointer(column))
        is_null = f"coalesce(json_type(json, {pointer}), 'NULL') = 'NULL'"
        is_sent = f"json_exists(json, {pointer})"
    else:
        is_null = f"{quote_identifier(column)} IS NULL"
        is_sent = "true" if source.nulls == "delete" else f"NOT {is_null}"
    if sent:
        names = quote_identifier(sent)
        if rows.form == "json":
            names = (
                f"from_json(json_extract(json, {quote_text(json_pointer(sent))}), '[\"VARCHAR\"]')"
            )
        is_sent = f"coalesce(list_contains({names}, {quote_text(field.name)}), false)"
    return (
        f"(CASE WHEN NOT ({is_sent}) THEN {_ABSENT} WHEN {is_null} THEN {_NULL} "
        f"ELSE {_VALUE} END)::UTINYINT"
    )


def _store_accepted(history: History, query: HistoryQuery) -> None:
    """Store the table `events` with the events that the store accepts."""
    view, session = history.view, history.rows.session
    events = (
        f"(SELECT * EXCLUDE (arrival, nanos), {to_ms('arrival')} AS arrived, "
        f"arrival::HUGEINT * {_MICROSECOND} + nanos * {MAX_ROWS} + rn AS position FROM row_index)"
    )
    ends = history.key_ends(query.key_ends)
    events = (
        f"(SELECT e.*, d.end_ms FROM {events} e "
        f"ASOF LEFT JOIN {ends} d ON e.k = d.k AND e.arrived <= d.end_ms)"
        if ends
        else f"(SELECT *, NULL::BIGINT AS end_ms FROM {events})"
    )
    conditions = ["event >= 0", f"event <= arrived + {view.max_ahead_ms}"]
    newest = ""
    if view.ordering == "event_time":
        effects = (
            f"f{i} = {_NULL} OR (f{i} = {_VALUE} AND event + {_ttl(view, field)} > arrived)"
            for i, field in enumerate(view.fields)
        )
        conditions += [f"({' OR '.join(effects)})", f"event + {view.longest_ttl_ms} > arrived"]
        before = (
            "PARTITION BY k, end_ms ORDER BY position "
            "ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING"
        )
        newest = f" QUALIFY coalesce(event >= max(event) OVER ({before}), true)"
    sql = f"CREATE TABLE events AS SELECT * FROM {events} WHERE {' AND '.join(conditions)}{newest}"
    session.run(lambda: session.execute(sql))
    session.execute("DROP TABLE row_index")


def _match(history: History, i: int, field: FieldPlan) -> tuple[Any, Any]:
    """Return the numbers and the deadlines of the values of a field; store the table `matched{i}`."""
    view, session = history.view, history.rows.session
    deadline = f"event + {_ttl(view, field)}"
    is_live = f"f{i} = {_VALUE} AND {deadline} > arrived"
    is_kept = f"f{i} = {_NULL} OR ({is_live})"
    if view.ordering == "event_time":
        is_kept = f"f{i} <> {_ABSENT}"
    # Not null for what is deleted: a filter for nulls may be applied before the join.
    ends = f"CASE WHEN {is_live} THEN least({deadline}, end_ms) ELSE -1 END AS deadline"
    events = f"(SELECT k, position, rn, {ends} FROM events WHERE {is_kept})"
    sql = (
        f"CREATE TABLE matched{i} AS SELECT m.rid, e.rn, e.deadline "
        f"FROM (SELECT *, {_POSITION} AS position, {_AT_MS} AS at_ms FROM moments) m "
        f"ASOF JOIN {events} e ON m.k = e.k AND m.position >= e.position "
        "WHERE e.deadline >= m.at_ms"
    )
    session.run(lambda: session.execute(sql))
    found = history.fetch(
        f"SELECT rn, deadline FROM moments LEFT JOIN matched{i} USING (rid) ORDER BY rid"
    )
    return found["rn"].combine_chunks(), found["deadline"].combine_chunks()


def _ttl(view: ViewPlan, field: FieldPlan) -> int:
    return field.ttl_ms or view.ttl_ms
