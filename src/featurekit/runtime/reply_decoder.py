"""Decode the replies to a read into rows.

There are two paths:

- One entity, no TTLs: each request gets one reply to `HMGET`, and a generated function turns it
  into a row as soon as it arrives. This is the fast path of most reads.
- Several entities, an age limit or freshness: each request gets up to three replies (to `HPTTL`,
  `PTTL` and `HMGET`, in this order). When all have arrived, `rows` joins the cells of all entities
  of a row, marks stale cells, and passes the row to the same generated function.

A row with an undecodable, stale or unavailable cell is decoded cell by cell, as `PartialRow`. The
other rows of the call stay on the fast path. So do rows whose key the server refuses; any other error
of a server concerns all rows and is raised.

Every absent value is counted exactly once. The generated function counts `default` and `missing`
from left to right until a cell raises; the decoder by cell counts from there on.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from itertools import chain, islice
from typing import Any, NamedTuple

from featurekit.errors import StoreError
from featurekit.lower.max_age import event_time_ms, event_time_position, stale_marker
from featurekit.lower.read import (
    DEFAULT,
    INVALID,
    MISSING,
    PRESENT,
    AbsentCounters,
    Cell,
    Cells,
    GroupReader,
    PartialRow,
    RowDecoder,
    absent_status,
    decode_row_by_cell,
    row_function,
)
from featurekit.lower.records import Record, record_class, record_function
from featurekit.plan import Column, ReadColumn, ReadPlan
from featurekit.runtime.counters import AtomicCounter, Counters
from featurekit.wire import UNAVAILABLE, ErrorReply, Reply

_FAST_PATH_STATUSES = (PRESENT, DEFAULT, MISSING)

_CLUSTER_HINT = "the server is a node of a cluster: write redis+cluster:// in the URL"
REFUSAL_HINTS = {
    "NOPERM": "readers need +hmget; with freshness or max_age also +hpttl and +pttl",
    **dict.fromkeys(("ASK", "CLUSTERDOWN", "MOVED"), _CLUSTER_HINT),
}

Seconds = tuple[float | None, ...]
"""Seconds for each feature of a row; `None` if unknown."""


RowReplies = Sequence[Sequence[Any]]
"""The replies of one row: for each group those to its request."""


class DecodedRow(NamedTuple):
    """A decoded row and, for a read with freshness, the ages of its values.

    Attributes:
        row: The values of its features, followed by its cells.
        ttls_s: The seconds until each value expires.
        ages_s: The seconds since the event behind each value.
    """

    row: tuple[Any, ...]
    ttls_s: Seconds
    ages_s: Seconds


class ReplyDecoder:
    """Decodes the replies to the reads of one plan. Functions are generated when first needed.

    Args:
        plan: The compiled list of features.
        groups: The lowered groups of the plan.
        counters: Counts the values that are not present.
        empty_rows: Counts the rows without any stored value.
        describe_store: Returns the store's address, for errors.
        freshness: Whether the replies contain all TTLs.
        row: The base class of records.

    Attributes:
        invalid_values: Stored values that could not be decoded so far.
    """

    def __init__(  # noqa: PLR0913 - what one call of the reader passes on
        self,
        plan: ReadPlan,
        groups: Sequence[GroupReader],
        counters: Counters,
        empty_rows: AtomicCounter,
        describe_store: Callable[[], str],
        *,
        freshness: bool,
        row: type[Record] = Record,
    ) -> None:
        self.invalid_values = 0
        self._row = row
        self._plan = plan
        self._groups = groups
        self._counters = counters
        self._empty_rows = empty_rows
        self._describe_store = describe_store
        self._freshness = freshness
        self._replies_per_request = groups[0].replies_per_request
        self._mark_stale = stale_marker(plan, groups)
        self._unknown_ages: Seconds = (None,) * len(plan.columns)
        self._keeps_event_time = any(column.event_time_field for column in plan.stored)

    @cached_property
    def row(self) -> RowDecoder:
        """The generated function from a row's cells to its values, followed by the cells."""
        return row_function(self._plan, self.row_by_cell, self._absent)

    @cached_property
    def record(self) -> RowDecoder:
        """The generated function from a row's cells to a `Record`."""
        return record_function(self._plan, self.record_by_cell, self._absent, self._row)

    @cached_property
    def _absent(self) -> AbsentCounters:
        columns = self._plan.stored
        counters = [self._counter(column, absent_status(column.field)) for column in columns]
        return AbsentCounters(
            [counter.increments for counter in counters], self._empty_rows.increments
        )

    def row_by_cell(self, reply: Any) -> tuple[Any, ...]:
        """Decode a row that the generated function gave up, after it counted some absent values.

        Raises:
            StoreError: The server refuses the command.
        """
        self._raise_if_refused([reply])
        cells = _cells(reply, sum(group.field_count for group in self._groups))
        return self._partial_row(cells, counted=True)

    def record_by_cell(self, reply: Any) -> Record:
        """Decode a record that the generated function gave up."""
        *values, cells = self.row_by_cell(reply)
        make: Any = record_class(self._plan, self._row)
        record: Record = make(values, cells)
        return record

    def split(self, replies: Sequence[Reply], rows: int) -> list[RowReplies]:
        """Return the replies of each row: for each group those to its request.

        Args:
            replies: Those for all rows of a group follow one another, group by group. A group that is
                the same for all rows has one request.
            rows: The number of rows.
        """
        width = self._replies_per_request
        if len(self._groups) == 1 and not self._plan.groups[0].is_global:
            return [[replies[i : i + width]] for i in range(0, rows * width, width)]
        starts, start = [], 0
        for group in self._plan.groups:
            starts.append((start, 0 if group.is_global else width))
            start += width if group.is_global else width * rows
        return [
            [replies[first + i * step : first + i * step + width] for first, step in starts]
            for i in range(rows)
        ]

    def rows(self, replies: Sequence[RowReplies], now_ms: int) -> list[DecodedRow]:
        """Decode rows from the replies of each."""
        if not self._freshness:
            return [DecodedRow(self._joined_row(row, now_ms), (), ()) for row in replies]
        return [
            DecodedRow(self._joined_row(row, now_ms), self._ttls_s(row), self._ages_s(row, now_ms))
            for row in replies
        ]

    def records(self, replies: Sequence[RowReplies], now_ms: int) -> list[Record]:
        """Decode the same replies as `rows` to records."""
        make: Any = record_class(self._plan, self._row)
        return [make(row[:-1], row[-1], ttls) for row, ttls, _ in self.rows(replies, now_ms)]

    def cells(self, replies: Sequence[RowReplies], now_ms: int) -> list[list[Cell]]:
        """Return the cells of each row, from the same replies as `rows`."""
        return [self._joined_cells(row, now_ms) for row in replies]

    def count_absent(
        self, rows: Sequence[Cells], absent: Sequence[tuple[ReadColumn, Mapping[str, int]]]
    ) -> None:
        """Count values that are not present: for each feature, how many have which status."""
        nothing: list[Cell] = [None] * sum(group.field_count for group in self._groups)
        empty = 0
        if all(counts.get(absent_status(column.field)) for column, counts in absent):
            empty = sum(row == nothing for row in rows)
            deque(islice(self._empty_rows.increments, empty), 0)
        for column, counts in absent:
            self.invalid_values += counts.get(INVALID, 0)
            for status, count in counts.items():
                others = count - (empty if status == absent_status(column.field) else 0)
                deque(islice(self._counter(column, status).increments, others), 0)

    def _joined_cells(self, replies: Sequence[Sequence[Reply]], now_ms: int) -> list[Cell]:
        """Return the cells of one row from the replies for each group."""
        pairs = zip(replies, self._groups, strict=True)
        cells = list(
            chain.from_iterable([_cells(each[-1], group.field_count) for each, group in pairs])
        )
        is_partial = any(not isinstance(each[-1], list) for each in replies)
        if self._mark_stale is not None:
            is_partial |= self._mark_stale(cells, replies, now_ms)
        if is_partial:
            self._raise_if_refused(chain.from_iterable(replies))
        return PartialRow(cells) if is_partial else cells

    def _joined_row(self, replies: Sequence[Sequence[Reply]], now_ms: int) -> tuple[Any, ...]:
        """Decode one row from the replies for each group."""
        cells = self._joined_cells(replies, now_ms)
        if type(cells) is PartialRow:
            return self._partial_row(cells, counted=False)
        row: tuple[Any, ...] = self.row(cells)
        return row

    def _raise_if_refused(self, replies: Iterable[Reply]) -> None:
        """Raise `StoreError` if a reply is an error that concerns more than one key."""
        for reply in replies:
            if not isinstance(reply, ErrorReply) or reply.is_about_key:
                continue
            if reply.code != UNAVAILABLE:
                hint = REFUSAL_HINTS.get(reply.code, "")
                raise StoreError(f"{self._describe_store()} refused the read: {reply}", hint=hint)

    def _partial_row(self, cells: Sequence[Cell], *, counted: bool) -> tuple[Any, ...]:
        """Decode a row cell by cell, and count its absent values.

        Args:
            cells: The row's cells.
            counted: Whether the generated function ran first, and counted up to the first cell
                that raised.
        """
        values, statuses = decode_row_by_cell(self._plan, cells)
        start = 0
        if counted:
            raised = (i for i, status in enumerate(statuses) if status not in _FAST_PATH_STATUSES)
            start = next(raised, len(statuses))
        self.invalid_values += statuses.count(INVALID)
        for column, status in zip(self._plan.stored[start:], statuses[start:], strict=True):
            if status != PRESENT:
                next(self._counter(column, status).increments)
        return (*values, PartialRow(cells))

    def _counter(self, column: Column, status: str) -> AtomicCounter:
        # An event time that is read beside the features is not counted as one.
        return (
            AtomicCounter() if column.is_event_time else self._counters.absent(column.view, status)
        )

    def _ttls_s(self, replies: Sequence[Sequence[Any]]) -> Seconds:
        """Return the seconds until each value expires, by its own TTL or its key's.

        Raises:
            StoreError: The server refuses to report TTLs.
        """
        self._raise_if_refused(chain.from_iterable(replies))
        by_group = [
            _group_ttls_s(each, group.field_count)
            for each, group in zip(replies, self._groups, strict=True)
        ]
        return tuple([by_group[column.group][column.slot] for column in self._plan.stored])

    def _ages_s(self, replies: Sequence[Sequence[Any]], now_ms: int) -> Seconds:
        """Return the seconds since the newest event of each value's view, if the view keeps it."""
        if not self._keeps_event_time:
            return self._unknown_ages
        return tuple(
            [
                _age_s(replies[column.group][-1], self._groups[column.group], column, now_ms)
                for column in self._plan.stored
            ]
        )


def _cells(reply: Any, fields: int) -> list[Cell]:
    """Return a group's cells of a row. An error stands for each of them if the reply is another."""
    if isinstance(reply, list) and len(reply) >= fields:
        return reply[:fields]
    error = reply if isinstance(reply, ErrorReply) else ErrorReply(f"ERR not a hash: {reply!r}")
    return [error] * fields


def _group_ttls_s(replies: Sequence[Any], fields: int) -> list[float | None]:
    field_ttls, key_ttl, values = replies
    if not isinstance(values, list) or len(values) < fields:
        return [None] * fields
    key_s = _ttl_s(key_ttl) if isinstance(key_ttl, int) else math.inf
    if not isinstance(field_ttls, list) or len(field_ttls) != len(values):
        return [None if value is None else key_s for value in values]
    pairs = zip(values, field_ttls, strict=True)
    return [
        None if value is None else key_s if ttl == -1 else min(key_s, _ttl_s(ttl))
        for value, ttl in pairs
    ]


def _ttl_s(ttl_ms: object) -> float:
    # A value written between the two requests can have a TTL of -2: absent.
    return max(0, ttl_ms) / 1000 if isinstance(ttl_ms, int) and ttl_ms != -1 else math.inf


def _age_s(values: Any, group: GroupReader, column: ReadColumn, now_ms: int) -> float | None:
    position = event_time_position(group, column)
    if position is None or not isinstance(values, list) or len(values) <= position:
        return None
    if values[column.slot] is None:
        return None
    event_ms = event_time_ms(values, position)
    return None if event_ms is None else max(0, now_ms - event_ms) / 1000
