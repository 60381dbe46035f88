"""The base classes of what `featurekit generate python` writes.

Generated modules import them; other code has no need to. They check once, when a reader or a writer
is created, that the registry has what the code was generated for.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import datetime
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, Required, TypeAlias, TypedDict, overload

from typing_extensions import TypeVar, override

from featurekit.errors import RequestError
from featurekit.lower.records import Record as Row
from featurekit.repo import FeatureStore
from featurekit.repo.definition_lists import FeatureService
from featurekit.repo.materialization import OnBadRow
from featurekit.repo.serving import MaxAge
from featurekit.repo.streaming import OnBadEvent
from featurekit.repo.time_arguments import Span
from featurekit.runtime.load import MaterializeReport, OnProgress
from featurekit.runtime.read_arguments import Column, DataFrame, EntityRows, Timeout
from featurekit.runtime.reader import OnlineReader
from featurekit.runtime.request_data import Request
from featurekit.runtime.response import OnlineResponse
from featurekit.runtime.write_arguments import Timestamp, Ttl
from featurekit.runtime.write_report import WriteReport
from featurekit.runtime.writer import StreamWriter
from featurekit.signatures import FeatureType, Signature, stale_code_error

__all__ = [
    "Array",
    "Column",
    "DataFrame",
    "EntityRows",
    "EventOptions",
    "FeatureService",
    "FeatureStore",
    "FeatureType",
    "Json",
    "MaxAge",
    "OnlineReader",
    "OnlineResponse",
    "ReadOptions",
    "Request",
    "Row",
    "Signature",
    "TimedEventOptions",
    "Timeout",
    "Timestamp",
    "TypedBatchWriter",
    "TypedReader",
    "TypedStreamWriter",
    "TypedTimedStreamWriter",
]

T = TypeVar("T")
RowT = TypeVar("RowT", bound=Row, default=Any)
BatchRowT = TypeVar("BatchRowT", default=Any)
KeyT = TypeVar("KeyT", default=Any)
ValuesT = TypeVar("ValuesT", bound=Mapping[str, object], default=Any)


class Array(Protocol):
    """An array of numpy, as the value of an array or a vector."""

    @property
    def dtype(self) -> Any:
        """The type of its elements."""

    @property
    def ndim(self) -> int:
        """The number of its dimensions."""

    def tolist(self) -> Any:
        """Return the elements as a list."""


Json: TypeAlias = dict[str, Any] | list[Any] | tuple[Any, ...] | str | int | float | bool
"""A JSON value to write."""


class ReadOptions(TypedDict, total=False):
    """Options of a read, see `OnlineReader.read`."""

    timeout: Timeout
    """Time limit of the whole call: seconds or a timedelta."""
    partial: bool
    """Return the status `unavailable` for values on a server that is away, instead of raising."""


class EventOptions(TypedDict, total=False):
    """Options of a write into a stream view, see `StreamWriter.write`."""

    ttl: Ttl
    """How long the values live instead of their declared TTLs: a timedelta, or whole seconds."""
    event_timestamp: Timestamp
    """When the event happened: an aware datetime, milliseconds since the epoch, or RFC 3339 text."""


class TimedEventOptions(TypedDict, total=False):
    """Options of a write into a stream view with `ordering: event_time`."""

    ttl: Ttl
    """How long the values live instead of their declared TTLs: a timedelta, or whole seconds."""
    event_timestamp: Required[datetime | int | str]
    """When the event happened: an aware datetime, milliseconds since the epoch, or RFC 3339 text."""


class TypedReader(Generic[RowT]):
    """A reader of one feature service, or of one feature view.

    Create it once and reuse it. Thread-safe; survives `fork`; pickles without connections.

    Args:
        store: The feature store.
        freshness: Also read the remaining TTL of each value, see `Row.freshness`.
        max_age: The maximum age of the values of some views, as in `FeatureStore.online_reader`.

    Raises:
        RegistryError: The registry differs from the one that the code was generated from, so that a
            value may be missing or of another type; names the differences.
        UnknownNameError: The registry has no such service or view.
    """

    signature: ClassVar[Signature]
    row_class: ClassVar[type[Row]]

    def __init__(
        self, store: FeatureStore, *, freshness: bool = False, max_age: MaxAge = None
    ) -> None:
        self._reader: OnlineReader[RowT, object] = store.readers.reader(
            self.signature.feature_list,
            freshness=freshness,
            max_age=max_age,
            row=self.row_class,
        )
        self._reorder = self._order()
        self._read: Callable[..., RowT] = self._reader.read
        self._read_async: Callable[..., Awaitable[RowT]] = self._reader.read_async
        if self._reorder is not None:
            self._read = partial(_read_in_order, self._reader.read, self._reorder)
            self._read_async = partial(_read_in_order, self._reader.read_async, self._reorder)

    def _order(self) -> itemgetter[Any] | None:
        """Return what puts join keys into the plan's order, if that is another one."""
        names = [name for name, _ in self.signature.join_keys]
        order = [names.index(name) for name in self._reader.plan.join_keys]
        return None if order == sorted(order) else itemgetter(*order)

    @property
    def reader(self) -> OnlineReader[RowT, object]:
        """The reader that does the work, for `get`, `read_matrix` and other calls without types."""
        return self._reader

    def _read_many(
        self, columns: tuple[Any, ...], options: ReadOptions | None, request: Request = None
    ) -> list[RowT]:
        entities = self._entities(columns)
        return self._reader.read_many(entities, request=request, **(options or {}))

    async def _read_many_async(
        self, columns: tuple[Any, ...], options: ReadOptions | None, request: Request = None
    ) -> list[RowT]:
        entities = self._entities(columns)
        return await self._reader.read_many_async(entities, request=request, **(options or {}))

    def _entities(self, columns: tuple[Any, ...]) -> Any:
        """Return the entities in columns of join keys: values, or tuples in the plan's order."""
        if len(columns) == 1:
            return columns[0]
        for (name, _), column in zip(self.signature.join_keys, columns, strict=True):
            if isinstance(column, str | bytes | Mapping):
                raise RequestError(
                    f"expected a list of values, not {column!r}", where=f"join key '{name}'"
                )
        if self._reorder is not None:
            columns = self._reorder(columns)
        try:
            return list(zip(*columns, strict=True))
        except ValueError:
            names = ", ".join(name for name, _ in self.signature.join_keys)
            raise RequestError(f"the columns {names} differ in length") from None

    @override
    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._reader.plan.name}>"


def _read_in_order(
    read: Callable[..., T], reorder: Callable[[Any], object], entity: Any, **options: Any
) -> T:
    return read(reorder(entity), **options)


class _TypedWriter:
    """What both kinds of writers do first: compare their code with the registry."""

    signature: ClassVar[Signature]

    def _check(self, store: FeatureStore) -> None:
        differences = self.signature.write_differences(store.compiled)
        if differences:
            raise stale_code_error(self.signature, differences, type(self).__module__)

    @override
    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.signature.name}>"


class _StreamWriter(_TypedWriter):
    def __init__(self, store: FeatureStore) -> None:
        self._check(store)
        self._writer = store.stream_writer(self.signature.name)
        self._write = self._writer.write
        self._write_async = self._writer.write_async

    @property
    def writer(self) -> StreamWriter:
        """The writer that does the work, for calls without types."""
        return self._writer


class TypedStreamWriter(_StreamWriter, Generic[KeyT, ValuesT]):
    """A writer of one stream view. Create it once and reuse it.

    Thread-safe; survives `fork`; pickles without connections.

    Raises:
        RegistryError: The registry differs from the one that the code was generated from, so that
            writes would be refused; names the differences.
        UnknownNameError: The registry has no such view.
    """

    # Three overloads for one union of two tuples, which mypy does not infer in comprehensions.
    @overload
    def write_many(
        self,
        events: Iterable[tuple[KeyT, ValuesT]],
        *,
        ttl: Ttl = None,
        on_bad_event: OnBadEvent = "fail",
        encode_first: bool = False,
    ) -> WriteReport: ...

    @overload
    def write_many(
        self,
        events: Iterable[tuple[KeyT, ValuesT, Timestamp]],
        *,
        ttl: Ttl = None,
        on_bad_event: OnBadEvent = "fail",
        encode_first: bool = False,
    ) -> WriteReport: ...

    @overload
    def write_many(
        self,
        events: Iterable[tuple[KeyT, ValuesT] | tuple[KeyT, ValuesT, Timestamp]],
        *,
        ttl: Ttl = None,
        on_bad_event: OnBadEvent = "fail",
        encode_first: bool = False,
    ) -> WriteReport: ...

    def write_many(self, events: Any, **options: Any) -> WriteReport:
        """Write events in order: `(entity, values)`, or `(entity, values, event_timestamp)`.

        The arguments and errors are those of `StreamWriter.write_many`.
        """
        return self._writer.write_many(events, **options)

    @overload
    async def write_many_async(
        self,
        events: Iterable[tuple[KeyT, ValuesT]],
        *,
        ttl: Ttl = None,
        on_bad_event: OnBadEvent = "fail",
    ) -> WriteReport: ...

    @overload
    async def write_many_async(
        self,
        events: Iterable[tuple[KeyT, ValuesT, Timestamp]],
        *,
        ttl: Ttl = None,
        on_bad_event: OnBadEvent = "fail",
    ) -> WriteReport: ...

    @overload
    async def write_many_async(
        self,
        events: Iterable[tuple[KeyT, ValuesT] | tuple[KeyT, ValuesT, Timestamp]],
        *,
        ttl: Ttl = None,
        on_bad_event: OnBadEvent = "fail",
    ) -> WriteReport: ...

    async def write_many_async(self, events: Any, **options: Any) -> WriteReport:
        """Do the same as `write_many` without blocking the event loop."""
        return await self._writer.write_many_async(events, **options)


class TypedTimedStreamWriter(_StreamWriter, Generic[KeyT, ValuesT]):
    """A writer of one stream view with `ordering: event_time`. See `TypedStreamWriter`."""

    def write_many(
        self,
        events: Iterable[tuple[KeyT, ValuesT, datetime | int | str]],
        *,
        ttl: Ttl = None,
        on_bad_event: OnBadEvent = "fail",
        encode_first: bool = False,
    ) -> WriteReport:
        """Write events in order, each as `(entity, values, event_timestamp)`.

        The arguments and errors are those of `StreamWriter.write_many`.
        """
        return self._writer.write_many(
            events, ttl=ttl, on_bad_event=on_bad_event, encode_first=encode_first
        )

    async def write_many_async(
        self,
        events: Iterable[tuple[KeyT, ValuesT, datetime | int | str]],
        *,
        ttl: Ttl = None,
        on_bad_event: OnBadEvent = "fail",
    ) -> WriteReport:
        """Do the same as `write_many` without blocking the event loop."""
        return await self._writer.write_many_async(events, ttl=ttl, on_bad_event=on_bad_event)


class TypedBatchWriter(_TypedWriter, Generic[BatchRowT]):
    """A writer of rows into one batch view.

    Raises:
        RegistryError: The registry differs from the one that the code was generated from, so that
            rows would be refused; names the differences.
        UnknownNameError: The registry has no such view.
    """

    def __init__(self, store: FeatureStore) -> None:
        self._check(store)
        self._store = store

    def write(
        self,
        rows: Iterable[BatchRowT],
        *,
        on_bad_row: OnBadRow = "fail",
        rejects: str | Path | None = None,
        on_progress: OnProgress | None = None,
        allow_older: bool = False,
        ttl: Span | None = None,
    ) -> MaterializeReport:
        """Write rows, one for each entity, as `FeatureStore.write_batch` does.

        A field that is left out of a row is deleted, as `None` is.
        """
        return self._store.write_batch(
            self.signature.name,
            list(rows),
            on_bad_row=on_bad_row,
            rejects=rejects,
            on_progress=on_progress,
            allow_older=allow_older,
            ttl=ttl,
        )

    async def write_async(
        self,
        rows: Iterable[BatchRowT],
        *,
        on_bad_row: OnBadRow = "fail",
        rejects: str | Path | None = None,
        on_progress: OnProgress | None = None,
        allow_older: bool = False,
        ttl: Span | None = None,
    ) -> MaterializeReport:
        """Do the same as `write` without blocking the event loop."""
        return await self._store.write_batch_async(
            self.signature.name,
            list(rows),
            on_bad_row=on_bad_row,
            rejects=rejects,
            on_progress=on_progress,
            allow_older=allow_older,
            ttl=ttl,
        )
