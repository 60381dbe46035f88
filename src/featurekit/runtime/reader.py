"""Read features of many entities in one round trip per server."""

from __future__ import annotations

import asyncio
import math
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial as bind
from itertools import chain, islice
from sys import modules
from time import perf_counter
from typing import TYPE_CHECKING, Any, Generic, Literal, NamedTuple, overload

from typing_extensions import TypeVar, override

from featurekit.errors import StoreError
from featurekit.lower.marks import mark_requests
from featurekit.lower.matrix import Matrix, matrix_columns
from featurekit.lower.read import Cell, RowDecoder, group_readers
from featurekit.lower.records import Record
from featurekit.lower.row_decoder import is_computed
from featurekit.plan import ReadPlan
from featurekit.ports import ReadOptions, StoreHandle
from featurekit.runtime.counters import Counters
from featurekit.runtime.functions import Functions
from featurekit.runtime.metrics import BOUNDS_S
from featurekit.runtime.read_arguments import (
    Column,
    DataFrame,
    EntityRows,
    Timeout,
    entity_columns_function,
    entity_list,
    join_key_values,
    read_options,
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
from featurekit.runtime.row_log import ServedLog
from featurekit.runtime.tracing import API, STORE, record_span, tracing_enabled
from featurekit.wire import UNAVAILABLE, ErrorReply, Reply

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

T = TypeVar("T")
RowT = TypeVar("RowT", default=Any)
EntityT = TypeVar("EntityT", default=Any)

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


class OnlineReader(Generic[RowT, EntityT]):
    """A reader of one list of features. It is compiled once and can be shared by threads.

    Its parameters are the types of a row and of an entity, which generated code knows.

    Attributes:
        plan: The compiled list of features.
    """

    def __init__(  # noqa: PLR0913 - what a feature store decides about its readers
        self,
        plan: ReadPlan,
        handle: StoreHandle,
        counters: Counters | None = None,
        log: ServedLog | None = None,
        *,
        freshness: bool = False,
        row: type[Record] = Record,
        functions: Functions | None = None,
    ) -> None:
        self.plan = plan
        self._log = log
        self._add_to_log = None if log is None else log.add_function(plan)
        self._handle = handle
        self._freshness = freshness
        self._row = row
        self._functions = functions
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
        counters = counters or Counters()
        self._counters = counters.add_reader(self, plan)
        self._decoder = ReplyDecoder(
            plan,
            self._groups,
            counters,
            self._counters.empty_rows,
            self._describe_store,
            freshness=freshness,
            row=row,
            functions=functions,
        )
        self._needs_one_reply = self._decoder.needs_one_reply
        self._decodes_each_reply = self._needs_one_reply and not self._decoder.has_context
        features = [column for column in plan.columns if not column.is_event_time]
        self._span_attributes: dict[str, str | int | tuple[str, ...]] = {
            "featurekit.service": plan.name,
            "featurekit.views": tuple(dict.fromkeys(column.view for column in features)),
            "featurekit.features": len(features),
        }

    @override
    def __reduce__(self) -> tuple[object, ...]:
        rows = (self._row, self._functions)
        return _new_reader, (self.plan, self._handle, self._log, self._freshness, *rows)

    @override
    def __repr__(self) -> str:
        keys = ", ".join(self.plan.join_keys)
        return f"<OnlineReader {self.plan.name}: {len(self.plan.columns)} features by {keys}>"

    @property
    def invalid_values(self) -> int:
        """The number of stored values that this reader could not decode so far."""
        return self._decoder.invalid_values

    def read(
        self,
        entity: EntityT,
        *,
        request: Request = None,
        timeout: Timeout = None,
        partial: bool = False,
    ) -> RowT:
        """Read the features of one entity as a row: `reader.read("u0001").tx_count_7d`.

        Args:
            entity: The value of the join key; for several join keys a dict, or a tuple in the
                declared order, for several entities that of `plan.join_keys`.
            request: The values of the request that features are computed from, by name.
            timeout: Time limit of the whole call, including retries: seconds or a timedelta. By
                default each attempt has the store's own limit.
            partial: Return the status `unavailable` for values on a server that does not answer,
                instead of raising.

        Raises:
            RequestError: The entity lacks a join key or has an unknown one; or the request a value.
            ValueRefusedError: A join key or a value of the request does not fit, or a key is empty.
            StoreUnavailableError: No reply in time, or the server is not ready. Safe to retry.
            StoreError: The server refuses the command, for example to this user.
        """
        options = read_options(timeout, partial=partial)
        row: RowT = self._run(self._prepare_records((entity,), request), options)[0]
        return row

    def read_many(
        self,
        entities: Column[EntityT] | DataFrame,
        *,
        request: Request = None,
        timeout: Timeout = None,
        partial: bool = False,
    ) -> list[RowT]:
        """Read the features of `n` entities as `n` rows in the same order. See `read`.

        `entities` may be a data frame of pandas, polars or Arrow with the join keys as columns, and
        the values of the request as others. `request` is one mapping for all rows, or one for each.
        """
        options = read_options(timeout, partial=partial)
        return self._run(self._prepare_records(entities, request), options)

    @overload
    def read_matrix(
        self,
        entities: Column[EntityT] | DataFrame,
        *,
        dtype: DTypeLike = ...,
        fill: float = ...,
        statuses: Literal[False] = ...,
        request: Request = ...,
        timeout: Timeout = ...,
        partial: bool = ...,
    ) -> NDArray[Any]: ...

    @overload
    def read_matrix(
        self,
        entities: Column[EntityT] | DataFrame,
        *,
        dtype: DTypeLike = ...,
        fill: float = ...,
        statuses: Literal[True],
        request: Request = ...,
        timeout: Timeout = ...,
        partial: bool = ...,
    ) -> tuple[NDArray[Any], NDArray[Any]]: ...

    def read_matrix(  # noqa: PLR0913 - each is an independent option with a default
        self,
        entities: Column[EntityT] | DataFrame,
        *,
        dtype: DTypeLike = "float32",
        fill: float = math.nan,
        statuses: bool = False,
        request: Request = None,
        timeout: Timeout = None,
        partial: bool = False,
    ) -> NDArray[Any] | tuple[NDArray[Any], NDArray[Any]]:
        """Read numbers of `n` entities as an `n x f` array of numpy, the fastest form for a model.

        Booleans are 0 and 1, and a vector of N numbers has N columns: see `matrix_columns`. Needs
        the extra `numpy`.

        Args:
            entities: As for `read_many`.
            dtype: `float32` or `float64`.
            fill: What stands for a value that is not there and has no default.
            statuses: Whether to return also the statuses, an array of `n` rows of text with one
                column for each feature: `reader.read_many` says what they mean.
            request: As for `read_many`.
            timeout: As for `read`.
            partial: As for `read`.

        Raises:
            RequestError: A feature is not a number, or the type is another one.
            ValueRefusedError: A number would change: an integer beyond 2**24 in float32, or beyond
                2**53 in float64.
            MissingExtraError: numpy is not installed.
        """
        options = read_options(timeout, partial=partial)
        matrix = Matrix(self.plan, dtype, fill)
        records = self._prepare_records(entities, request, as_tuples=self._is_computed)
        rows = self._run(self._cells_call(records), options)
        self._add_to_matrix(matrix, rows)
        return self._finish_matrix(matrix, rows, statuses=statuses)

    @property
    def matrix_columns(self) -> list[str]:
        """The names of the columns of `read_matrix`; those of a vector are `name[0]`, `name[1]`, ...

        Raises:
            RequestError: A feature is not a number.
        """
        return matrix_columns(self.plan)

    def get(
        self,
        entity_rows: EntityRows,
        *,
        request: Request = None,
        timeout: Timeout = None,
        partial: bool = False,
    ) -> OnlineResponse:
        """Read the features of `n` entity rows as one response. See `read_many`.

        Values of the request may also be in the rows, beside the join keys.
        """
        options = read_options(timeout, partial=partial)
        return self._run(self._prepare_response(entity_rows, request), options)

    async def read_async(
        self,
        entity: EntityT,
        *,
        request: Request = None,
        timeout: Timeout = None,
        partial: bool = False,
    ) -> RowT:
        """Do the same as `read` without blocking the event loop."""
        options = read_options(timeout, partial=partial)
        call = self._prepare_records((entity,), request)
        row: RowT = (await self._run_async(call, options))[0]
        return row

    async def read_many_async(
        self,
        entities: Column[EntityT] | DataFrame,
        *,
        request: Request = None,
        timeout: Timeout = None,
        partial: bool = False,
    ) -> list[RowT]:
        """Do the same as `read_many` without blocking the event loop."""
        options = read_options(timeout, partial=partial)
        call = await self._prepare_records_in_slices(entities, request)
        return await self._run_async(call, options)

    @overload
    async def read_matrix_async(
        self,
        entities: Column[EntityT] | DataFrame,
        *,
        dtype: DTypeLike = ...,
        fill: float = ...,
        statuses: Literal[False] = ...,
        request: Request = ...,
        timeout: Timeout = ...,
        partial: bool = ...,
    ) -> NDArray[Any]: ...

    @overload
    async def read_matrix_async(
        self,
        entities: Column[EntityT] | DataFrame,
        *,
        dtype: DTypeLike = ...,
        fill: float = ...,
        statuses: Literal[True],
        request: Request = ...,
        timeout: Timeout = ...,
        partial: bool = ...,
    ) -> tuple[NDArray[Any], NDArray[Any]]: ...

    async def read_matrix_async(  # noqa: PLR0913 - as above
        self,
        entities: Column[EntityT] | DataFrame,
        *,
        dtype: DTypeLike = "float32",
        fill: float = math.nan,
        statuses: bool = False,
        request: Request = None,
        timeout: Timeout = None,
        partial: bool = False,
    ) -> NDArray[Any] | tuple[NDArray[Any], NDArray[Any]]:
        """Do the same as `read_matrix` without blocking the event loop."""
        options = read_options(timeout, partial=partial)
        matrix = Matrix(self.plan, dtype, fill)
        records = await self._prepare_records_in_slices(
            entities, request, as_tuples=self._is_computed
        )
        rows = await self._run_async(self._cells_call(records), options)
        for part in _slices(len(rows)):
            self._add_to_matrix(matrix, rows[part])
            await asyncio.sleep(0)
        return self._finish_matrix(matrix, rows, statuses=statuses)

    async def get_async(
        self,
        entity_rows: EntityRows,
        *,
        request: Request = None,
        timeout: Timeout = None,
        partial: bool = False,
    ) -> OnlineResponse:
        """Do the same as `get` without blocking the event loop."""
        options = read_options(timeout, partial=partial)
        call = await self._prepare_response_in_slices(entity_rows, request)
        return await self._run_async(call, options)

    def close(self) -> None:
        """Close the connections of threads, which the store's other readers and writers share."""
        self._handle.close()

    def _describe_store(self) -> str:
        return self._handle.store.describe()

    def _run(self, call: Call[T], options: ReadOptions) -> T:
        rows, keys, requests, decode, finish, decode_rows, request = call
        if not rows:
            return finish([])
        store, width, start = self._handle.store, self._replies_per_request, perf_counter()
        try:
            replies = store.read(
                keys, requests, decode, replies_per_request=width, options=options
            )
            seconds = perf_counter() - start
            decoded = replies
            if decode_rows is not None:
                by_row = self._decoder.split(replies, rows)
                decoded = decode_rows(by_row, self._handle.now_ms(), request)
            result = finish(decoded)
        except StoreError as error:
            self._count_failure(rows, perf_counter() - start, error)
            raise
        self._count_read(rows, seconds, replies)
        if (add_to_log := self._add_to_log) is not None:
            add_to_log(keys, result)
        return result

    async def _run_async(self, call: Call[T], options: ReadOptions) -> T:
        rows, keys, requests, decode, finish, decode_rows, request = call
        if not rows:
            return finish([])
        store, width, start = self._handle.async_store(), self._replies_per_request, perf_counter()
        try:
            replies = await store.read(
                keys, requests, decode, replies_per_request=width, options=options
            )
            seconds = perf_counter() - start
            decoded = replies
            if decode_rows is not None:
                by_row, decoded = self._decoder.split(replies, rows), []
                now_ms = self._handle.now_ms()
                for part in _slices(rows):
                    decoded += decode_rows(by_row[part], now_ms, request[part])
                    if part.stop < rows:
                        await asyncio.sleep(0)
            result = finish(decoded)
        except StoreError as error:
            self._count_failure(rows, perf_counter() - start, error)
            raise
        self._count_read(rows, seconds, replies)
        if (add_to_log := self._add_to_log) is not None:
            add_to_log(keys, result)
        return result

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
        parts = (self._record_keys(entities[part])[1] for part in _slices(len(entities)))
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
            for part in _slices(rows)
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

    def _add_to_matrix(self, matrix: Matrix, rows: list[Any]) -> None:
        if self._is_computed:
            matrix.add_rows(rows)
        else:
            matrix.add(rows)

    def _finish_matrix(
        self, matrix: Matrix, rows: list[Any], *, statuses: bool
    ) -> NDArray[Any] | tuple[NDArray[Any], NDArray[Any]]:
        if not self._is_computed:  # else counted when they were decoded
            self._decoder.count_absent(rows, matrix.absent())
        return (matrix.values, matrix.statuses) if statuses else matrix.values

    def _count_read(self, rows: int, seconds: float, replies: Sequence[Any]) -> None:
        metrics = self._counters.metrics
        latency = metrics.latency
        latency.counts[bisect_left(BOUNDS_S, seconds)] += 1
        latency.seconds += seconds
        metrics.calls += 1
        metrics.entities += rows
        if API in modules and tracing_enabled():
            store = "partial" if any(map(_is_unavailable, replies)) else "ok"
            self._record_span(rows, seconds, store)

    def _count_failure(self, rows: int, seconds: float, error: StoreError) -> None:
        self._counters.metrics.failures += 1
        if API in modules and tracing_enabled():
            self._record_span(rows, seconds, "ok", error)

    def _record_span(
        self, rows: int, seconds: float, store: str, error: StoreError | None = None
    ) -> None:
        attributes = self._span_attributes | {
            "featurekit.entities": rows,
            STORE: store,
        }
        record_span("featurekit.get_online_features", seconds, attributes, error)


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


def _slices(size: int) -> list[slice]:
    """Return the slices of a large read."""
    starts = range(0, size, SLICE_ENTITIES)
    return [slice(start, start + SLICE_ENTITIES) for start in starts]


def _unchanged(records: list[Any]) -> list[Any]:
    return records


def _is_unavailable(reply: Any) -> bool:
    """Return whether a reply, or the row decoded from it, is from a server that did not answer."""
    if isinstance(reply, Record):
        return reply.error.startswith(UNAVAILABLE)
    cells = reply[-1] if isinstance(reply, tuple) else (reply,)
    return any(isinstance(cell, ErrorReply) and cell.code == UNAVAILABLE for cell in cells)


def _new_reader(
    plan: ReadPlan,
    handle: StoreHandle,
    log: ServedLog | None,
    freshness: object,
    *rows: Any,
) -> OnlineReader:
    row, functions = rows
    return OnlineReader(
        plan, handle, log=log, freshness=bool(freshness), row=row, functions=functions
    )
