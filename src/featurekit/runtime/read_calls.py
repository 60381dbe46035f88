"""Prepare reads: requests of entities, and what to do with the replies."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial as bind
from itertools import chain, islice
from typing import Any, Generic, NamedTuple

from typing_extensions import TypeVar

from featurekit.lower.marks import mark_requests
from featurekit.lower.read import Cell, RowDecoder, group_readers
from featurekit.lower.row_decoder import is_computed
from featurekit.plan import ReadPlan
from featurekit.ports import StoreHandle
from featurekit.runtime.read_arguments import (
    Column,
    DataFrame,
    EntityRows,
    entity_columns_function,
    entity_list,
    join_key_values,
    split_entities,
    split_rows,
)
from featurekit.runtime.reply_decoder import DecodedRow, ReplyDecoder, RowReplies
from featurekit.runtime.request_data import (
    Request,
    RequestColumns,
    RequestData,
    RequestRows,
    is_shared,
)
from featurekit.runtime.response import OnlineResponse, ResponseSchema
from featurekit.wire import Reply

T = TypeVar("T")

_RESPONSE: Callable[..., OnlineResponse] = OnlineResponse

SLICE_ENTITIES = 256
"""How many requests an asyncio read prepares before other tasks run: about a millisecond."""


class Call(NamedTuple, Generic[T]):
    """One read, ready to be sent. Both forms of the reader prepare it, and differ by `await`.

    Attributes:
        rows: The number of rows; nothing is sent without any.
        keys: One key for each request.
        requests: Complete commands.
        decode: Converts each reply as it arrives; `None` if rows need several replies.
        finish: Converts the list of replies, or of what a decoder returned, to the result.
        decode_rows: Decodes rows from the replies of each, the time and the request data, if rows
            need several replies, or more than replies.
        request: The request data of each row.
    """

    rows: int
    keys: Sequence[bytes]
    requests: Sequence[bytes]
    decode: RowDecoder | None
    finish: Callable[[list[Any]], T]
    decode_rows: Callable[[Sequence[RowReplies], int, RequestRows], list[Any]] | None = None
    request: RequestRows = ()


class CellRows(list[list[Cell]]):
    """The cells of each row of a read, not decoded."""


class ReadCalls:
    """Prepares the reads of one plan; `OnlineReader` runs them.

    Args:
        plan: The compiled list of features.
        handle: The store, whose clock gives the time of a read.
        freshness: Whether to read all TTLs.

    Attributes:
        plan: The compiled list of features.
    """

    _decoder: ReplyDecoder
    _needs_one_reply: bool
    _decodes_each_reply: bool

    def __init__(self, plan: ReadPlan, handle: StoreHandle, *, freshness: bool) -> None:
        self.plan = plan
        self._handle = handle
        self._freshness = freshness
        self._schema = ResponseSchema.of(plan)
        self._entity_columns = entity_columns_function(plan)
        self._groups = group_readers(plan, freshness=freshness)
        self._key_functions = [
            (reader.key, [join_key.name for join_key in group.key.join_keys])
            for reader, group in zip(self._groups, plan.groups, strict=True)
        ]
        self._replies_per_request = self._groups[0].replies_per_request
        self._has_global = any(group.is_global for group in plan.groups)
        self._request = RequestData(plan)
        self._is_computed = is_computed(plan)
        self._mark_keys, self._mark_requests = mark_requests(plan, self._replies_per_request)

    def _prepare_records(
        self,
        entities: Iterable[object] | Column[object] | DataFrame,
        request: Request,
        *,
        as_tuples: bool = False,
    ) -> Call[list[Any]]:
        if self._decodes_each_reply:  # the usual read, without the calls below
            if not isinstance(entities, list | tuple):
                entities = entity_list(self.plan, entities)
            [group] = self._groups
            keys = list(map(group.key, entities))
            if request:
                self._request.rows(len(keys), request, {})
            decode = self._decoder.row if as_tuples else self._decoder.record
            return Call(len(keys), keys, group.requests(keys), decode, _unchanged)
        columns: RequestColumns = {}
        if not isinstance(entities, list | tuple):
            entities, columns = split_entities(self.plan, entities)
        if self._needs_one_reply and is_shared(request, columns):
            [group], decoder = self._groups, self._decoder
            keys = list(map(group.key, entities))
            in_context = decoder.row_in_context if as_tuples else decoder.record_in_context
            decode = in_context(self._request.shared(request, len(keys)), self._handle.now_ms())
            return Call(len(keys), keys, group.requests(keys), decode, _unchanged)
        rows, group_keys = self._record_keys(entities)
        each = self._request.rows(rows, request, columns)
        requests = self._requests(group_keys)
        return self._records_call(rows, group_keys, requests, each, as_tuples=as_tuples)

    async def _prepare_records_in_slices(
        self, given: Column[Any] | DataFrame, request: Request, *, as_tuples: bool = False
    ) -> Call[list[Any]]:
        """Do the same as `_prepare_records`, and let other tasks run in between."""
        entities: Any = given
        columns: RequestColumns = {}
        if not isinstance(given, list | tuple):
            found, columns = split_entities(self.plan, given)
            entities = list(found)
        if len(entities) <= SLICE_ENTITIES and not columns:
            return self._prepare_records(entities, request, as_tuples=as_tuples)
        parts = (self._record_keys(entities[part])[1] for part in slices(len(entities)))
        group_keys, requests = await self._in_slices(parts)
        values = await self._request_in_slices(len(entities), request, columns)
        return self._records_call(len(entities), group_keys, requests, values, as_tuples=as_tuples)

    async def _request_in_slices(
        self, rows: int, request: Request, columns: RequestColumns
    ) -> RequestRows:
        """Check the request data of many rows, and let other tasks run in between."""
        each, values = self._request.each(rows, request, columns), []
        while part := list(islice(each, SLICE_ENTITIES)):
            values += part
            await asyncio.sleep(0)
        return values

    def _records_call(
        self,
        rows: int,
        group_keys: Sequence[list[bytes]],
        requests: list[bytes],
        request: RequestRows,
        *,
        as_tuples: bool,
    ) -> Call[list[Any]]:
        decoder = self._decoder
        if self._decodes_each_reply:
            decode = decoder.row if as_tuples else decoder.record
            return Call(rows, group_keys[0], requests, decode, _unchanged)
        keys = list(chain(*group_keys, self._mark_keys))
        if as_tuples:
            return Call(rows, keys, requests, None, _rows, decoder.rows, request)
        return Call(rows, keys, requests, None, _unchanged, decoder.records, request)

    def _cells_call(self, records: Call[list[Any]]) -> Call[list[Any]]:
        """Return a call that reads the same, but only decodes the cells of rows if it computes others."""
        if self._is_computed:
            return records
        if self._decodes_each_reply:
            return records._replace(decode=None, finish=self._plain_cells)
        return records._replace(finish=CellRows, decode_rows=self._decoder.cells)

    def _plain_cells(self, replies: list[Reply]) -> list[Any]:
        if set(map(type, replies)) <= {list}:
            return CellRows(replies)  # type: ignore[arg-type]
        by_row = self._decoder.split(replies, len(replies))
        return CellRows(self._decoder.cells(by_row, self._handle.now_ms()))

    def _prepare_response(self, entity_rows: EntityRows, request: Request) -> Call[OnlineResponse]:
        if self._decodes_each_reply:  # the usual read, without the calls below
            columns = self._entity_columns(entity_rows)
            [keys], [group] = self._group_keys(columns), self._groups
            if request:
                self._request.rows(len(keys), request, {})
            finish = bind(_RESPONSE, self._schema, columns)
            return Call(len(keys), keys, group.requests(keys), self._decoder.row, finish)
        given, sent = split_rows(self.plan, entity_rows)
        columns = self._entity_columns(given)
        group_keys, rows = self._group_keys(columns), _count_rows(given, columns, sent)
        requests = self._requests(group_keys)
        if self._needs_one_reply and is_shared(request, sent):
            values = self._request.shared(request, rows)
            decode = self._decoder.row_in_context(values, self._handle.now_ms())
            finish = bind(_RESPONSE, self._schema, columns)
            return Call(rows, group_keys[0], requests, decode, finish)
        each = self._request.rows(rows, request, sent)
        return self._response_call(rows, columns, group_keys, requests, each)

    async def _prepare_response_in_slices(
        self, entity_rows: EntityRows, request: Request
    ) -> Call[OnlineResponse]:
        """Do the same as `_prepare_response`, and let other tasks run in between."""
        if _size(entity_rows) <= SLICE_ENTITIES:
            return self._prepare_response(entity_rows, request)
        given, sent = split_rows(self.plan, entity_rows)
        columns = self._entity_columns(given)
        rows = _count_rows(given, columns, sent)
        parts = (
            self._group_keys({name: column[part] for name, column in columns.items()})
            for part in slices(rows)
        )
        group_keys, requests = await self._in_slices(parts)
        values = await self._request_in_slices(rows, request, sent)
        return self._response_call(rows, columns, group_keys, requests, values)

    def _response_call(
        self,
        rows: int,
        columns: dict[str, list[object]],
        group_keys: Sequence[list[bytes]],
        requests: list[bytes],
        request: RequestRows,
    ) -> Call[OnlineResponse]:
        if self._decodes_each_reply:
            finish = bind(_RESPONSE, self._schema, columns)
            return Call(len(requests), group_keys[0], requests, self._decoder.row, finish)
        keys = list(chain(*group_keys, self._mark_keys))
        finish = bind(self._joined_response, columns)
        return Call(rows, keys, requests, None, finish, self._decoder.rows, request)

    def _joined_response(
        self, columns: dict[str, list[object]], decoded: list[DecodedRow]
    ) -> OnlineResponse:
        rows, ttls_s, ages_s = zip(*decoded, strict=True) if decoded else ((), (), ())
        if not self._freshness:
            return OnlineResponse(self._schema, columns, rows)
        return OnlineResponse(self._schema, columns, rows, ttls_s, ages_s)

    def _record_keys(self, entities: Iterable[object]) -> tuple[int, list[list[bytes]]]:
        """Return the number of entities, and the keys of each group."""
        if len(self._groups) == 1 and not self._has_global:
            keys = list(map(self._groups[0].key, entities))
            return len(keys), [keys]
        columns: dict[str, list[object]] = {name: [] for name in self.plan.join_keys}
        rows = 0
        for rows, entity in enumerate(entities, 1):  # noqa: B007 - counts them
            values = join_key_values(self.plan, entity)
            for column, value in zip(columns.values(), values, strict=True):
                column.append(value)
        return rows, self._group_keys(columns)

    def _requests(self, group_keys: Sequence[list[bytes]]) -> list[bytes]:
        """Return the requests for the groups, then those for the marks."""
        if len(group_keys) == 1 and not self._mark_keys:
            return self._groups[0].requests(group_keys[0])
        pairs = zip(self._groups, group_keys, strict=True)
        requests = [request for group, keys in pairs for request in group.requests(keys)]
        return requests + self._mark_requests

    async def _in_slices(
        self, parts: Iterable[list[list[bytes]]]
    ) -> tuple[list[list[bytes]], list[bytes]]:
        """Join the keys of slices, group by group, with their requests; let tasks run in between."""
        group_keys: list[list[bytes]] = [[] for _ in self._groups]
        requests: list[list[bytes]] = [[] for _ in self._groups]
        for part in parts:
            for i, (group, keys) in enumerate(zip(self.plan.groups, part, strict=True)):
                if not (group.is_global and group_keys[i]):
                    group_keys[i] += keys
                    requests[i] += self._groups[i].requests(keys)
            await asyncio.sleep(0)
        return group_keys, list(chain(*requests, self._mark_requests))

    def _group_keys(self, columns: Mapping[str, list[object]]) -> list[list[bytes]]:
        return [
            list(
                map(
                    key,
                    columns[names[0]]
                    if len(names) == 1
                    else zip(*(columns[name] for name in names), strict=True),
                )
            )
            if names
            else [key(())]
            for key, names in self._key_functions
        ]


def _rows(decoded: list[DecodedRow]) -> list[tuple[Any, ...]]:
    return [each.row for each in decoded]


def _size(entity_rows: Any) -> float:
    """Return the number of rows before they are checked; infinite for a data frame."""
    if isinstance(entity_rows, Mapping):
        return max((len(c) for c in entity_rows.values() if hasattr(c, "__len__")), default=0)
    return len(entity_rows) if isinstance(entity_rows, list | tuple) else math.inf


def _count_rows(
    entity_rows: EntityRows, keys: Mapping[str, list[object]], sent: RequestColumns
) -> int:
    """Return the number of rows; columns without any are one row."""
    for column in (*keys.values(), *sent.values()):
        return len(column)
    return 1 if isinstance(entity_rows, Mapping) else len(entity_rows)  # type: ignore[arg-type]


def slices(size: int) -> list[slice]:
    """Return the slices of a large read."""
    starts = range(0, size, SLICE_ENTITIES)
    return [slice(start, start + SLICE_ENTITIES) for start in starts]


def _unchanged(records: list[Any]) -> list[Any]:
    return records
