"""Read features of many entities in one round trip per server."""

from __future__ import annotations

import asyncio
import math
from bisect import bisect_left
from collections.abc import Sequence
from functools import partial as bind
from sys import modules
from time import perf_counter
from typing import TYPE_CHECKING, Any, Generic, Literal, overload

from typing_extensions import TypeVar, override

from featurekit.errors import StoreError
from featurekit.lower.matrix import Matrix, matrix_columns
from featurekit.lower.records import Record
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
    read_options,
)
from featurekit.runtime.read_calls import Call, ReadCalls, slices
from featurekit.runtime.reply_decoder import ReplyDecoder
from featurekit.runtime.request_data import Request
from featurekit.runtime.response import OnlineResponse
from featurekit.runtime.row_log import ServedLog
from featurekit.runtime.tracing import API, STORE, record_span, tracing_enabled
from featurekit.wire import UNAVAILABLE, ErrorReply

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

T = TypeVar("T")
RowT = TypeVar("RowT", default=Any)
EntityT = TypeVar("EntityT", default=Any)


class OnlineReader(ReadCalls, Generic[RowT, EntityT]):
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
        super().__init__(plan, handle, freshness=freshness)
        self._log = log
        self._add_to_log = None if log is None else log.add_function(plan)
        self._row = row
        self._functions = functions
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
            functions={} if functions is None else functions,
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
        new = bind(
            OnlineReader, freshness=self._freshness, row=self._row, functions=self._functions
        )
        return new, (self.plan, self._handle, None, self._log)

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
        for part in slices(len(rows)):
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
                for part in slices(rows):
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


def _is_unavailable(reply: Any) -> bool:
    """Return whether a reply, or the row decoded from it, is from a server that did not answer."""
    if isinstance(reply, Record):
        return reply.error.startswith(UNAVAILABLE)
    cells = reply[-1] if isinstance(reply, tuple) else (reply,)
    return any(isinstance(cell, ErrorReply) and cell.code == UNAVAILABLE for cell in cells)
