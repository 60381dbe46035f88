"""Count what a load of a source would leave out or decide by chance, from keys and times alone.

DuckDB counts, within the memory limit of its session; the values are checked by the reader of the scan.
"""

# ruff: noqa: S608 - all names and values in this SQL are quoted

from __future__ import annotations

from dataclasses import replace

from featurekit.plan import SourceColumns, ViewPlan
from featurekit.ports import RowFacts, Scan, TimeRange
from featurekit.sources.newest import (
    COMPLETE,
    FUTURE,
    choose_rows,
    count_rows,
    index_rows,
    numbered_names,
    rows_per_batch,
    rows_scan,
)
from featurekit.sources.selection import Selection, check_members, created_time, select
from featurekit.sources.session import BATCH_ROWS, Rows
from featurekit.sources.times import check_created_texts

MAX_KEYS = 3
"""Entities that are named as examples."""


def inspect_rows(
    rows: Rows, view: ViewPlan, source: SourceColumns, times: TimeRange, *, every_row: bool
) -> Scan:
    """Return a scan with `facts`. See `ports.InspectedSource`."""
    selection = select(view, source, rows, times)
    with rows.session.errors(rows.where):
        if rows.form == "json":
            check_members(view, source, rows)
        index = index_rows(rows, selection)
        if selection.created_text:
            column = source.created_timestamp_field or ""
            check_created_texts(rows, column, index.unnumbered, "created_text")
        counts = count_rows(rows, index, selection)
        facts = _facts(rows, view, source, selection, index.unnumbered)
        facts = replace(facts, entities=counts.entities)
        if counts.complete > counts.entities:
            facts = _with_ties(rows, selection, index.unnumbered, facts)
        if counts.future:
            where = f"kind = {FUTURE}"
            facts = replace(facts, future_keys=_keys(rows, selection, index.unnumbered, where))
        join = ""
        if not (every_row or counts.is_unique):
            join = choose_rows(rows, index, selection, counts)
    scan = rows_scan(rows, selection, counts, join, rows_per_batch(view, BATCH_ROWS))
    return replace(scan, facts=facts)


def _facts(
    rows: Rows, view: ViewPlan, source: SourceColumns, selection: Selection, index: str
) -> RowFacts:
    """Return the facts about times."""
    outside, oldest_ms, late, delay_ms = 0, None, 0, None
    if selection.in_time_range != "true":
        ((outside,),) = rows.session.fetch_all(
            f"SELECT count(*) FROM {rows.source} WHERE NOT coalesce({selection.in_time_range}, true)"
        )
    if selection.time:
        ((oldest_ms,),) = rows.session.fetch_all(
            f"SELECT epoch_ms(CAST(min(o0) AS TIMESTAMPTZ)) FROM {index} WHERE kind = {COMPLETE}"
        )
        if created := created_time(rows, source):
            delay = (
                f"epoch_ms(CAST({created} AS TIMESTAMPTZ)) "
                f"- epoch_ms(CAST({selection.time} AS TIMESTAMPTZ))"
            )
            ((late, delay_ms),) = rows.session.fetch_all(
                f"SELECT count(*) FILTER (delay > {view.refresh_ms}), max(delay) FROM "
                f"(SELECT {delay} AS delay FROM {rows.source} WHERE {selection.in_time_range})"
            )
    return RowFacts(0, outside, late=late, max_delay_ms=delay_ms, oldest_event_ms=oldest_ms)


def _with_ties(rows: Rows, selection: Selection, index: str, facts: RowFacts) -> RowFacts:
    """Return the facts with the rows whose keys and times are those of another row."""
    if not selection.order:
        return facts  # without times, the last row of an entity is its newest
    keys = ", ".join(numbered_names("k", selection.keys))
    same = ", ".join([keys, *numbered_names("o", selection.order)])
    tied = (
        f"(SELECT {keys}, count(*) AS n FROM {index} WHERE kind = {COMPLETE} "
        f"GROUP BY {same} HAVING n > 1)"
    )
    ((count,),) = rows.session.fetch_all(f"SELECT coalesce(sum(n), 0) FROM {tied}")
    found = _keys(rows, selection, tied, "true") if count else ()
    return replace(facts, tied=int(count), tied_keys=found)


def _keys(rows: Rows, selection: Selection, source: str, where: str) -> tuple[str, ...]:
    """Return the join keys of some rows, as texts."""
    keys = numbered_names("k", selection.keys)
    text = " || ', ' || ".join(f"coalesce(CAST({key} AS VARCHAR), 'null')" for key in keys)
    found = rows.session.fetch_all(
        f"SELECT DISTINCT {text} AS key FROM {source} WHERE {where} ORDER BY key LIMIT {MAX_KEYS}"
    )
    return tuple(key for (key,) in found)
