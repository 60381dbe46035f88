"""Which rows of a history can matter at some moments, by their time."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta

import pyarrow.compute as pc

from featurekit.history_ports import HistoryQuery
from featurekit.plan import SourceColumns, ViewPlan
from featurekit.ports import ALL_TIMES, TimeRange

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def history_range(view: ViewPlan, source: SourceColumns, query: HistoryQuery) -> TimeRange:
    """Return the times of the rows that can matter.

    Later rows do not count yet. All earlier ones matter without a lookback, where loads had windows of
    their own, and for the ends of keys, which end also what other views wrote long before a moment.
    All earlier events matter: one that arrives late can overwrite a newer one. Those before its
    windows do not matter to a view with windows.
    """
    found = pc.min_max(query.moments["at"]).as_py()
    if source.timestamp_field is None or found["min"] is None:
        return ALL_TIMES
    end_ms = found["max"] // 1000 + 1
    if view.windows:
        # The first event of an id can be of any time.
        start_ms = found["min"] // 1000 - longest_window_ms(view)
        return TimeRange(None if view.windows.event_id else start_ms, end_ms)
    if view.kind == "stream":
        return TimeRange(None, end_ms + view.max_ahead_ms)
    if view.lookback_ms is None or query.as_of == "loads" or query.ends_keys:
        return TimeRange(None, end_ms)
    takes_ms = view.schedule.takes_ms if view.schedule else 0
    return TimeRange(
        found["min"] // 1000 - view.lookback_ms - view.longest_ttl_ms - takes_ms, end_ms
    )


def longest_window_ms(view: ViewPlan) -> int:
    """Return how long before a moment the events of its windows can be."""
    aggregates = (field.aggregate for field in view.fields)
    return max((a.window_ms + a.tile_ms for a in aggregates if a), default=0)


def files_in_range(files: Sequence[str], source: SourceColumns, times: TimeRange) -> list[str]:
    """Return the files whose folder has a date within a range of times, and those without a date.

    At least one file is returned, for its columns.
    """
    if source.date_partition_column is None:
        return list(files)
    folder = re.compile(rf"[/\\]{re.escape(source.date_partition_column)}=([^/\\]*)[/\\]")
    first = None if times.start_ms is None else _date(times.start_ms)
    last = None if times.end_ms is None else _date(times.end_ms - 1)

    def is_in_range(file: str) -> bool:
        found = folder.search(file)
        try:
            day = date.fromisoformat(found[1]) if found else None
        except ValueError:
            return True
        return day is None or ((first is None or day >= first) and (last is None or day <= last))

    return [file for file in files if is_in_range(file)] or list(files[:1])


def files_to_load(files: Sequence[str], source: SourceColumns, times: TimeRange) -> list[str]:
    """Return the files that a load of a range of times opens.

    The last one is always among them: it has the columns that older files may lack.
    """
    found = files_in_range(files, source, times)
    return found if found[-1:] == list(files[-1:]) else [*found, *files[-1:]]


def _date(time_ms: int) -> date:
    return (_EPOCH + timedelta(milliseconds=time_ms)).date()
