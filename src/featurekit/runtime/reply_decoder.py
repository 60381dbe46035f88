"""Decode the replies to a read into rows.

There are two paths:

- One entity, no TTLs: each request gets one reply to `HMGET`, and a generated function turns it
  into a row as soon as it arrives. This is the fast path of most reads.
- Several entities, an age limit, freshness, or features that are computed from more than stored values:
  each request gets up to three replies (to `HPTTL`, `PTTL` and `HMGET`, in this order). When all have
  arrived, `rows` joins the cells of all entities of a row, marks stale cells, adds the values of the
  request and the time, and passes the row to the same generated function.

A row with an undecodable, stale or unavailable cell is decoded cell by cell, as `PartialRow`. The
other rows of the call stay on the fast path. So do rows whose key the server refuses; any other error
of a server concerns all rows and is raised.

Every absent value is counted exactly once. The generated function counts `default` and `missing`
in the order of `counted_order` until a cell raises; the decoder by cell counts from there on.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from itertools import chain, islice
from typing import Any, NamedTuple

from featurekit.errors import StoreError
from featurekit.lower.cell_decoder import CellDecoder, counted_order, evaluated
from featurekit.lower.marks import silent_marker
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
)
from featurekit.lower.records import Record, record_class, record_function
from featurekit.lower.row_decoder import row_function
from featurekit.plan import Column, ReadColumn, ReadPlan
from featurekit.runtime.counters import AtomicCounter, Counters
from featurekit.runtime.functions import FunctionCaller, Functions
from featurekit.runtime.request_data import RequestRows
from featurekit.wire import UNAVAILABLE, ErrorReply, Reply

_FAST_PATH_STATUSES = (PRESENT, DEFAULT, MISSING)

_CLUSTER_HINT = "the server is a node of a cluster: write redis+cluster:// in the URL"
REFUSAL_HINTS = {
    "NOPERM": "readers need +hmget; with freshness or max_age also +hpttl and +pttl, with windows +hvals",
    **dict.fromkeys(("ASK", "CLUSTERDOWN", "MOVED"), _CLUSTER_HINT),
}

Seconds = tuple[float | None, ...]
"""Seconds for each feature of a row; `None` if unknown."""


RowReplies = Sequence[Sequence[Any]]
"""The replies of one row: for each group, then for each mark, those to its request."""


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
        functions: What to call for features that functions compute.

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
        row: type[Record],
        functions: Functions,
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
        self._mark_silent = silent_marker(plan)
        self._by_cell = CellDecoder(plan)
        self._layout = self._by_cell.layout
        self._counted = counted_order(plan)
        self._functions = (
            FunctionCaller(plan, functions, self._by_cell) if self._layout.functions else None
        )
        self._unknown_ages: Seconds = (None,) * len(plan.columns)
        self._keeps_event_time = any(column.event_time_field for column in plan.stored)

    @cached_property
    def needs_one_reply(self) -> bool:
        """Whether the reply for its entity is all that a row needs of the store."""
        return self._has_one_reply and not (self._plan.marks or self._layout.functions)

    @cached_property
    def _has_one_reply(self) -> bool:
        """Whether a row has the values of one reply, besides those that all rows share."""
        has_one_group = len(self._groups) == 1 and not self._plan.groups[0].is_global
        return has_one_group and self._replies_per_request == 1

    @property
    def has_context(self) -> bool:
        """Whether rows are computed from more than stored values."""
        return self._layout.has_context

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
        columns = evaluated(self._plan)
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
        layout = self._layout
        cells = _cells(reply, layout.size + len(layout.functions))
        return self._partial_row(cells, counted=True)

    def record_by_cell(self, reply: Any) -> Record:
        """Decode a record that the generated function gave up."""
        return self._record_of(self.row_by_cell(reply))

    def _record_of(self, row: tuple[Any, ...]) -> Record:
        make: Any = record_class(self._plan, self._row)
        record: Record = make(row[:-1], row[-1])
        return record

    def row_in_context(self, request: Sequence[object], now_ms: int) -> RowDecoder:
        """Return the function from the reply for an entity to its row, for some request data and a time."""
        return self._in_context(self.row, lambda row: row, request, now_ms)

    def record_in_context(self, request: Sequence[object], now_ms: int) -> RowDecoder:
        """Return the same function, to a `Record`."""
        return self._in_context(self.record, self._record_of, request, now_ms)

    def _in_context(
        self,
        decode: RowDecoder,
        finish: Callable[[tuple[Any, ...]], Any],
        request: Sequence[object],
        now_ms: int,
    ) -> RowDecoder:
        context, stored = [*request, *self._layout.times(now_ms)], self._layout.stored

        def decode_reply(reply: Any) -> Any:
            if type(reply) is list and len(reply) == stored:
                reply += context
                return decode(reply)
            self._raise_if_refused([reply])
            return finish(self._partial_row([*_cells(reply, stored), *context], counted=False))

        return decode_reply

    def split(self, replies: Sequence[Reply], rows: int) -> list[RowReplies]:
        """Return the replies of each row: for each group those to its request.

        Args:
            replies: Those for all rows of a group follow one another, group by group. A group that is
                the same for all rows has one request.
            rows: The number of rows.
        """
        width = self._replies_per_request
        is_global = [group.is_global for group in self._plan.groups] + [True] * len(
            self._plan.marks
        )
        if is_global == [False]:
            return [[replies[i : i + width]] for i in range(0, rows * width, width)]
        parts, start = [], 0
        for is_shared in is_global:
            end = start + (width if is_shared else width * rows)
            each = [replies[i : i + width] for i in range(start, end, width)]
            parts.append(each * rows if is_shared else each)
            start = end
        return [*zip(*parts, strict=True)]

    def rows(
        self, replies: Sequence[RowReplies], now_ms: int, requests: RequestRows = ()
    ) -> list[DecodedRow]:
        """Decode rows from the replies of each."""
        decoded = [
            self.row(cells) if type(cells) is list else self._partial_row(cells, counted=False)
            for cells in self.cells(replies, now_ms, requests)
        ]
        if not self._freshness:
            return [DecodedRow(row, (), ()) for row in decoded]
        return [
            DecodedRow(row, self._ttls_s(each), self._ages_s(each, now_ms))
            for row, each in zip(decoded, replies, strict=True)
        ]

    def records(
        self, replies: Sequence[RowReplies], now_ms: int, requests: RequestRows = ()
    ) -> list[Record]:
        """Decode the same replies as `rows` to records."""
        if self._freshness:
            make: Any = record_class(self._plan, self._row)
            rows = self.rows(replies, now_ms, requests)
            return [make(row[:-1], row[-1], ttls) for row, ttls, _ in rows]
        return [
            self.record(cells)
            if type(cells) is list
            else self._record_of(self._partial_row(cells, counted=False))
            for cells in self.cells(replies, now_ms, requests)
        ]

    def cells(
        self, replies: Sequence[RowReplies], now_ms: int, requests: RequestRows = ()
    ) -> list[list[Cell]]:
        """Return the cells of each row, from the same replies as `rows`."""
        if not self._layout.has_context:
            return [self._joined_cells(row, now_ms) for row in replies]
        times = self._layout.times(now_ms)
        given = requests or [()] * len(replies)
        joined: list[list[Any]] = [self._joined_cells(row, now_ms) for row in replies]
        for cells, values in zip(joined, given, strict=True):
            cells.extend(values)
            cells.extend(times)
        if self._functions is not None:
            add_cells = self._functions.add_cells
            return [PartialRow(cells) if add_cells(cells) else cells for cells in joined]
        return joined

    def count_absent(
        self, rows: Sequence[Cells], absent: Sequence[tuple[Column, Mapping[str, int]]]
    ) -> None:
        """Count values that are not present: for each feature, how many have which status.

        For rows that are not decoded, of a list of features without computed ones.
        """
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
        reply: Any = replies[0][0]
        if self._has_one_reply and type(reply) is list and len(reply) == self._layout.stored:
            if self._mark_silent is None or not self._mark_silent(reply, replies[1:], now_ms):
                return reply
            self._raise_if_refused([each[-1] for each in replies[1:]])
            return PartialRow(reply)
        groups = self._groups  # the replies for marks follow those for groups
        cells = list(
            chain.from_iterable(
                [_cells(each[-1], group.field_count) for each, group in zip(replies, groups)]  # noqa: B905
            )
        )
        is_partial = any(not isinstance(each[-1], list) for each in replies)
        if self._mark_stale is not None:
            is_partial |= self._mark_stale(cells, replies, now_ms)
        if self._mark_silent is not None:
            is_partial |= self._mark_silent(cells, replies[len(groups) :], now_ms)
        if is_partial:
            self._raise_if_refused(chain.from_iterable(replies))
        return PartialRow(cells) if is_partial else cells

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
        pairs = self._by_cell.pairs(cells)
        statuses = [pairs[i][1] for i in self._counted]
        start = 0
        if counted:
            raised = (i for i, status in enumerate(statuses) if status not in _FAST_PATH_STATUSES)
            start = next(raised, len(statuses))
        self.invalid_values += statuses.count(INVALID)
        columns = evaluated(self._plan)
        for i, status in zip(self._counted[start:], statuses[start:], strict=True):
            if status != PRESENT:
                next(self._counter(columns[i], status).increments)
        values = [pairs[i][0] for i in self._by_cell.places]
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
            for each, group in zip(replies, self._groups)  # noqa: B905 - those for marks follow
        ]
        stored = [by_group[column.group][column.slot] for column in self._plan.stored]
        return self._of_response(stored, min)

    def _ages_s(self, replies: Sequence[Sequence[Any]], now_ms: int) -> Seconds:
        """Return the seconds since the newest event of each value's view, if the view keeps it."""
        if not self._keeps_event_time:
            return self._unknown_ages
        stored = [
            _age_s(replies[column.group][-1], self._groups[column.group], column, now_ms)
            for column in self._plan.stored
        ]
        return self._of_response(stored, max)

    def _of_response(
        self, stored: list[float | None], worst: Callable[[Iterable[float]], float]
    ) -> Seconds:
        """Return the seconds of the response's features; a derived one has the worst of its inputs."""
        if self._by_cell.is_plain:
            return tuple(stored)
        seconds = list(stored)
        for column in self._plan.derived:
            pairs = zip(column.arguments, column.feature.inputs, strict=True)
            inputs = [stored[i] for i, each in pairs if not each.is_request]
            known = [each for each in inputs if each is not None]
            seconds.append(worst(known) if known else None)
        return tuple([seconds[i] for i in self._by_cell.places])


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
