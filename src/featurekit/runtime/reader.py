"""Readers: features for many entities, in one round trip per server."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from itertools import chain
from sys import modules
from time import perf_counter
from typing import Any

from typing_extensions import override

from featurekit.errors import RequestError, StoreError
from featurekit.lower.max_age import stale_marker
from featurekit.lower.read import (
    DEFAULT,
    INVALID,
    MISSING,
    PRESENT,
    AbsentCounters,
    Cell,
    PartialRow,
    RowDecoder,
    absent_status,
    decode_row_by_cell,
    group_readers,
    row_function,
)
from featurekit.lower.records import Record, record_class, record_function
from featurekit.plan import ReadColumn, ReadPlan
from featurekit.ports import ReadOptions, StoreHandle
from featurekit.runtime.counters import AtomicCounter, Counters
from featurekit.runtime.freshness import Freshness, measure
from featurekit.runtime.metrics import BOUNDS_S
from featurekit.runtime.read_arguments import (
    EntityRows,
    Timeout,
    check_names,
    entity_columns_function,
    read_options,
)
from featurekit.runtime.response import OnlineResponse, ResponseSchema
from featurekit.runtime.tracing import API, STORE, tell, tracing_enabled
from featurekit.wire import UNAVAILABLE, ErrorReply, Reply

_COUNTED = (PRESENT, DEFAULT, MISSING)


class OnlineReader:
    """Reads one list of features. Made once, used for ever, by any number of threads.

    Attributes:
        plan: What is read.
        invalid_values: How many stored values did not decode, since this reader was made.
    """

    def __init__(
        self,
        plan: ReadPlan,
        door: StoreHandle,
        tally: Counters | None = None,
        *,
        freshness: bool = False,
    ) -> None:
        self.plan = plan
        self.invalid_values = 0
        self._door = door
        self._freshness = freshness
        self._shape = ResponseSchema.of(plan)
        self._columns_of = entity_columns_function(plan)
        self._groups = group_readers(plan, freshness=freshness)
        self._parts = [
            (reader.key, [join_key.name for join_key in group.key.join_keys])
            for reader, group in zip(self._groups, plan.groups, strict=True)
        ]
        self._width = self._groups[0].width
        self._direct = len(plan.groups) == self._width == 1
        self._mark = stale_marker(plan, self._groups)
        self._tally = tally or Counters()
        self._count = self._tally.add_reader(self, plan)
        ticks = [self._ticks(c, absent_status(c.field)).increments for c in plan.columns]
        steps = AbsentCounters(ticks, self._count.empty_rows.increments)
        features = [column for column in plan.columns if not column.is_event_time]
        self._traced: dict[str, str | int | tuple[str, ...]] = {
            "featurekit.service": plan.name,
            "featurekit.views": tuple(dict.fromkeys(column.view for column in features)),
            "featurekit.features": len(features),
        }
        self._row = row_function(plan, self._careful_row, steps)
        self._record = record_function(plan, self._careful_record, steps)

    @override
    def __reduce__(self) -> tuple[object, ...]:
        return _reader, (self.plan, self._door, self._freshness)

    def read(self, entity: object, *, timeout: Timeout = None, partial: bool = False) -> Any:
        """The features of one entity, as a row: `reader.read("u0001").tx_count_7d`.

        Args:
            entity: The value of the join key; a tuple or dict if there are several.
            timeout: The bound of the whole call, with waits and retries: seconds, or a timedelta.
                Without it, each try has the store's own timeout.
            partial: Whether a row whose server is away is given with the status `unavailable`,
                in the place of the call failing.

        Raises:
            RequestError: The entity lacks a join key, or names one that is not there.
            ValueRefusedError: A join key has another type, or is empty.
            StoreUnavailableError: No reply in time. Safe to call again.
        """
        return self.read_many((entity,), timeout=timeout, partial=partial)[0]

    def read_many(
        self, entities: Sequence[object], *, timeout: Timeout = None, partial: bool = False
    ) -> list[Any]:
        """The features of `n` entities, as `n` rows in their order. Otherwise as `read`."""
        keys, terms = self._keys_of(entities), read_options(timeout, partial=partial)
        if self._direct:
            return self._ask(keys, terms, self._record)
        return self._records(self._ask(keys, terms))

    async def read_async(
        self, entity: object, *, timeout: Timeout = None, partial: bool = False
    ) -> Any:
        """As `read`, without blocking the event loop."""
        return (await self.read_many_async((entity,), timeout=timeout, partial=partial))[0]

    async def read_many_async(
        self, entities: Sequence[object], *, timeout: Timeout = None, partial: bool = False
    ) -> list[Any]:
        """As `read_many`, without blocking the event loop."""
        keys, terms = self._keys_of(entities), read_options(timeout, partial=partial)
        if self._direct:
            return await self._ask_async(keys, terms, self._record)
        return self._records(await self._ask_async(keys, terms))

    def get(
        self, entity_rows: EntityRows, *, timeout: Timeout = None, partial: bool = False
    ) -> OnlineResponse:
        """The features of `n` entity rows. Otherwise as `read`."""
        columns, terms = self._columns_of(entity_rows), read_options(timeout, partial=partial)
        keys = self._keys(columns)
        if self._direct:
            rows = self._ask(keys, terms, self._row)
            return OnlineResponse(self._shape, columns, rows)
        return self._response(columns, self._ask(keys, terms))

    async def get_async(
        self, entity_rows: EntityRows, *, timeout: Timeout = None, partial: bool = False
    ) -> OnlineResponse:
        """As `get`, without blocking the event loop."""
        columns, terms = self._columns_of(entity_rows), read_options(timeout, partial=partial)
        keys = self._keys(columns)
        if self._direct:
            rows = await self._ask_async(keys, terms, self._row)
            return OnlineResponse(self._shape, columns, rows)
        return self._response(columns, await self._ask_async(keys, terms))

    def _keys_of(self, entities: Sequence[object]) -> list[list[bytes]]:
        if isinstance(entities, str | bytes | Mapping):
            raise RequestError(f"a list of entities is expected, not {entities!r}")
        if len(self._groups) == 1:
            return [list(map(self._groups[0].key, entities))]
        for entity in entities:
            if not isinstance(entity, Mapping):
                raise RequestError(
                    f"{self.plan.name} spans several entities: give a dict of "
                    f"{', '.join(self.plan.join_keys)}, not {entity!r}"
                )
            check_names(self.plan, entity)
        return self._keys({n: [e[n] for e in entities] for n in self.plan.join_keys})  # type: ignore[index]

    def _keys(self, columns: Mapping[str, list[object]]) -> list[list[bytes]]:
        return [
            list(
                map(
                    key,
                    columns[n[0]] if len(n) == 1 else zip(*(columns[k] for k in n), strict=True),
                )
            )
            for key, n in self._parts
        ]

    def _ask(
        self, keys: list[list[bytes]], terms: ReadOptions, take: RowDecoder | None = None
    ) -> list[Any]:
        """What all groups reply, one after another, taken by `take`; nothing is sent for no keys."""
        if not keys[0]:
            return []
        count, store, asked = self._count.metrics, self._door.store, self._together(keys)
        start = perf_counter()
        try:
            replies = store.read(*asked, take, replies_per_request=self._width, options=terms)
        except StoreError as error:
            count.failures += 1
            if API in modules and tracing_enabled():
                self._trace(keys, perf_counter() - start, (), error)
            raise
        seconds = perf_counter() - start
        count.latency.counts[bisect_left(BOUNDS_S, seconds)] += 1
        count.latency.seconds += seconds
        count.calls += 1
        count.entities += len(keys[0])
        if API in modules and tracing_enabled():
            self._trace(keys, seconds, replies)
        return replies

    async def _ask_async(
        self, keys: list[list[bytes]], terms: ReadOptions, take: RowDecoder | None = None
    ) -> list[Any]:
        if not keys[0]:
            return []
        count, store, asked = self._count.metrics, self._door.running(), self._together(keys)
        start = perf_counter()
        try:
            replies = await store.read(
                *asked, take, replies_per_request=self._width, options=terms
            )
        except StoreError as error:
            count.failures += 1
            if API in modules and tracing_enabled():
                self._trace(keys, perf_counter() - start, (), error)
            raise
        seconds = perf_counter() - start
        count.latency.counts[bisect_left(BOUNDS_S, seconds)] += 1
        count.latency.seconds += seconds
        count.calls += 1
        count.entities += len(keys[0])
        if API in modules and tracing_enabled():
            self._trace(keys, seconds, replies)
        return replies

    def _trace(
        self,
        keys: list[list[bytes]],
        seconds: float,
        replies: Sequence[Any],
        error: StoreError | None = None,
    ) -> None:
        """Tell of a read that has ended."""
        store = "partial" if any(map(_is_away, replies)) else "ok"
        attributes = self._traced | {"featurekit.entities": len(keys[0]), STORE: store}
        tell("featurekit.get_online_features", seconds, attributes, error)

    def _together(self, keys: list[list[bytes]]) -> tuple[list[bytes], list[bytes]]:
        if len(keys) == 1:
            return keys[0], self._groups[0].requests(keys[0])
        requests = [
            r for group, k in zip(self._groups, keys, strict=True) for r in group.requests(k)
        ]
        return [k for group in keys for k in group], requests

    def _records(self, replies: list[Reply]) -> list[Record]:
        rows, fresh = self._rows(replies)
        make: Any = record_class(self.plan)
        lives = fresh.lives if fresh else [()] * len(rows)
        return [make(row[:-1], row[-1], life) for row, life in zip(rows, lives, strict=True)]

    def _response(self, columns: dict[str, list[object]], replies: list[Reply]) -> OnlineResponse:
        rows, fresh = self._rows(replies)
        if fresh is None:
            return OnlineResponse(self._shape, columns, rows)
        return OnlineResponse(self._shape, columns, rows, fresh.lives, fresh.ages)

    def _rows(self, told: list[Reply]) -> tuple[list[tuple[Any, ...]], Freshness | None]:
        """The values of each row and, after them, its cells; and the freshness, if asked for."""
        fresh, replies, width = None, _apart(told, len(self._groups)), self._width
        if self._freshness:
            fresh = measure(self.plan, self._groups, replies, self._door.now_ms())
        ends = range(width - 1, len(replies[0]), width)
        return [
            self._row_of([group[end - width + 1 : end + 1] for group in replies]) for end in ends
        ], fresh

    def _row_of(self, told: list[list[Reply]]) -> tuple[Any, ...]:
        """One row, of what was replied for each group."""
        parts = zip(told, self._groups, strict=True)
        cells = list(
            chain.from_iterable([_cells(each[-1], group.fields) for each, group in parts])
        )
        spoilt = any(not isinstance(each[-1], list) for each in told)
        if self._mark is not None:
            spoilt |= self._mark(cells, [each[:-1] for each in told])
        return self._spoilt_row(cells) if spoilt else self._row(cells)

    def _careful_row(self, raw: Any) -> tuple[Any, ...]:
        """What the generated function gave up on, having counted what it had found absent."""
        cells = _cells(raw, sum(group.fields for group in self._groups))
        values, statuses = decode_row_by_cell(self.plan, cells)
        spoilt = (i for i, status in enumerate(statuses) if status not in _COUNTED)
        done = next(spoilt, len(statuses))
        self._tell(statuses, done)
        return (*values, PartialRow(cells))

    def _spoilt_row(self, cells: Any) -> tuple[Any, ...]:
        values, statuses = decode_row_by_cell(self.plan, cells)
        self._tell(statuses, 0)
        return (*values, PartialRow(cells))

    def _tell(self, statuses: Sequence[str], done: int) -> None:
        """Count what is not present, but for the first `done` values."""
        self.invalid_values += statuses.count(INVALID)
        for column, status in list(zip(self.plan.columns, statuses, strict=True))[done:]:
            if status != PRESENT:
                next(self._ticks(column, status).increments)

    def _ticks(self, column: ReadColumn, status: str) -> AtomicCounter:
        """What counts a column's values of that status; an event time is no feature."""
        return AtomicCounter() if column.is_event_time else self._tally.absent(column.view, status)

    def _careful_record(self, raw: Any) -> Record:
        *values, cells = self._careful_row(raw)
        make: Any = record_class(self.plan)
        record: Record = make(values, cells)
        return record


def _apart(replies: list[Reply], groups: int) -> list[list[Reply]]:
    """The replies of each group: all groups have as many."""
    size = len(replies) // groups
    return [replies[i * size : (i + 1) * size] for i in range(groups)] if groups > 1 else [replies]


def _is_away(told: Any) -> bool:
    """Whether a reply, or a row that was made of it, stands for a server that is away."""
    if isinstance(told, Record):
        return told.error.startswith(UNAVAILABLE)
    cells = told[-1] if isinstance(told, tuple) else (told,)
    return any(isinstance(cell, ErrorReply) and cell.code == UNAVAILABLE for cell in cells)


def _cells(reply: Any, fields: int) -> list[Cell]:
    """One group's cells of a row: what `HMGET` gave, or its error in the place of each."""
    if isinstance(reply, list):
        return reply[:fields]
    return [
        reply if isinstance(reply, ErrorReply) else ErrorReply(f"ERR not a hash: {reply!r}")
    ] * fields


def _reader(plan: ReadPlan, door: StoreHandle, freshness: object) -> OnlineReader:
    return OnlineReader(plan, door, freshness=bool(freshness))
