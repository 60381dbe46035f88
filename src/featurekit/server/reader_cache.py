"""Cache compiled readers, with everything that a response needs and can be prepared once.

An entry holds the compiled reader, the JSON encoder of each column and the decoders of join keys.
It is rebuilt when the registry changes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any

from featurekit.compiler import compile_read
from featurekit.errors import RequestError, StoreUnavailableError, ValueRefusedError
from featurekit.feature_lists import FeatureItem
from featurekit.lower.build import build
from featurekit.plan import Column, DerivedColumn, FieldPlan, ReadColumn, ReadPlan, RepoPlan
from featurekit.repo.serving import max_age_ms
from featurekit.runtime.reader import OnlineReader
from featurekit.runtime.response import OnlineResponse
from featurekit.server.context import ServerContext
from featurekit.types import Codec, DType, codec_of

MAX_ENTRIES = 256
"""Cached feature lists; the oldest one is dropped for a new one."""

LARGE_CELLS = 50_000
"""Answers with more values are read and encoded in slices, between which the event loop serves other
requests."""

SLICE_CELLS = 10_000
"""The values of a slice, which take about 10 milliseconds."""

FeatureNames = str | tuple[FeatureItem, ...]
"""The name of a feature service, or a list of features."""

RequestMember = dict[str, Any] | list[Any] | None
"""Request data as a body has it: one object for all rows, or a list with one for each."""

JsonEncoder = Callable[[Any], object]
"""Returns the JSON value of a feature value."""

V1_NON_FINITE = {"nan": "nan", "inf": "inf", "-inf": "-inf"}
FEAST_NON_FINITE = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}


def json_encoder(dtype: DType, non_finite: Mapping[str, str]) -> JsonEncoder | None:
    """Return the JSON encoder of a type; `None` if its values are JSON values already.

    Args:
        dtype: The type.
        non_finite: The JSON strings for `nan`, `inf` and `-inf`.
    """
    codec = codec_of(dtype).as_arrays()
    to_json = codec.to_json
    if not codec.has_nan:
        return None if codec.json_ready else to_json
    if codec.json_ready:
        return lambda value: value if isfinite(value) else non_finite[repr(value)]
    return lambda value: to_json(value) if isfinite(value) else non_finite[repr(value)]


def json_column(encoder: JsonEncoder | None, values: Sequence[Any]) -> Sequence[Any]:
    """Return a column of values as JSON values; `None` stays `None`."""
    if encoder is None:
        return values
    return [None if value is None else encoder(value) for value in values]


@dataclass(frozen=True, slots=True)
class CachedReader:
    """A compiled reader of one feature list.

    Attributes:
        plan: The compiled registry that the reader belongs to.
        reader: The reader.
        columns: The requested features, in order.
        names: Their names in the response.
        encoders: Their JSON encoders.
        features: Returns the features of a decoded row as JSON values, from it and its statuses.
        event_time_views: The groups and views whose newest event times the reader adds as last
            columns.
        key_codecs: Codecs of join keys whose JSON form is a string and whose value is not.
        request_codecs: Those of the values of the request.
    """

    plan: RepoPlan
    reader: OnlineReader
    columns: tuple[Column, ...]
    names: tuple[str, ...]
    encoders: tuple[JsonEncoder | None, ...]
    features: Callable[[Sequence[Any], Sequence[str]], dict[str, dict[str, Any]]]
    event_time_views: tuple[tuple[int, str], ...]
    key_codecs: Mapping[str, Codec]
    request_codecs: Mapping[str, Codec]

    def is_large(self, count: int) -> bool:
        """Return whether to read this many entities in slices."""
        return count * len(self.columns) > LARGE_CELLS

    async def read_slices(
        self,
        count: int,
        entities: Callable[[slice], Any],
        *,
        request: RequestMember = None,
        timeout_s: float | None,
        partial: bool = False,
    ) -> AsyncIterator[tuple[slice, OnlineResponse]]:
        """Read many entities slice by slice, with a turn for other requests after each.

        Args:
            count: The number of entities.
            entities: Returns the entity rows of a slice.
            request: Request data: one mapping for all rows, or one for each.
            timeout_s: The timeout of the whole read; `None` for the store's own timeouts.
            partial: Whether to return the entities of available servers only.

        Raises:
            RequestError: An entity lacks a join key or has an unknown one; or request data do not fit.
            ValueRefusedError: A join key has the wrong type or is empty.
            StoreUnavailableError: No reply in time.
        """
        end_s = None if timeout_s is None else time.monotonic() + timeout_s
        size = max(1, SLICE_CELLS // len(self.columns))
        for start in range(0, count, size):
            part = slice(start, start + size)
            left_s = None if end_s is None else end_s - time.monotonic()
            if left_s is not None and left_s <= 0:
                raise StoreUnavailableError(
                    f"{start} of {count} entities were read in {timeout_s:g} s",
                    hint="send several requests, or give the read more time",
                )
            try:
                response = await self.reader.get_async(
                    entities(part),
                    request=request[part] if isinstance(request, list) else request,
                    timeout=left_s,
                    partial=partial,
                )
            except (RequestError, ValueRefusedError):
                # Before anything is sent, this raises the error with the row's index in the request.
                await self.reader.get_async(
                    entities(slice(count)), request=request, timeout=left_s
                )
                raise
            yield part, response
            await asyncio.sleep(0)

    def decode_key_column(self, name: str, values: list[Any]) -> list[Any]:
        """Return the values of a join key, decoded from JSON.

        Raises:
            ValueRefusedError: A value does not fit its type.
        """
        codec = self.key_codecs.get(name)
        if codec is not None:
            return _from_json(codec, values, f"join key {name}")
        codec = self.request_codecs.get(name)
        return values if codec is None else _from_json(codec, values, f"request value {name}")

    def decode_request(self, request: RequestMember) -> RequestMember:
        """Return request data decoded from JSON.

        Raises:
            ValueRefusedError: A value does not fit its type.
        """
        if not self.request_codecs or request is None:
            return request
        if isinstance(request, list):
            return [self._decode_request_row(row) for row in request]
        decoded: dict[str, Any] = self._decode_request_row(request)
        return decoded

    def _decode_request_row(self, row: Any) -> Any:
        if not isinstance(row, dict):  # the reader refuses it
            return row
        known = self.request_codecs.keys() & row.keys()
        return row | {name: self.decode_key_column(name, [row[name]])[0] for name in known}


def _from_json(codec: Codec, values: list[Any], where: str) -> list[Any]:
    try:
        return [None if value is None else codec.from_json(value) for value in values]
    except ValueRefusedError as error:
        raise ValueRefusedError(error.message, where=where) from error


class ReaderCache:
    """Compiled readers by feature list.

    Args:
        context: The server's state.
        non_finite: The JSON strings for `nan`, `inf` and `-inf`.
        event_times: Whether to add the newest event time of each view that keeps it, as one more
            int64 column.
    """

    def __init__(
        self, context: ServerContext, non_finite: Mapping[str, str], *, event_times: bool = False
    ) -> None:
        self._store = context.store
        self._non_finite = non_finite
        self._event_times = event_times
        self._entries: dict[object, CachedReader] = {}

    def get(
        self,
        features: FeatureNames,
        max_age: object = None,
        *,
        full_names: bool,
        freshness: bool = False,
    ) -> CachedReader:
        """Return the reader of a feature list.

        Args:
            features: The features to read.
            max_age: The maximum age of values by view or alias: `{"user_activity": "2m"}`.
            full_names: Whether to name features `view__field`.
            freshness: Whether to read the remaining TTL of each value.

        Raises:
            UnknownNameError: A service, view or field does not exist.
            RequestError: The list is empty, or cannot be read in one request.
            RegistryError: No registry is applied.
        """
        ages_ms = max_age_ms(max_age) if max_age else ()
        key = (features, ages_ms, full_names, freshness)
        entry = self._entries.get(key)
        plan = self._store.compiled
        if entry is None or entry.plan is not plan:
            read_plan = compile_read(
                plan, features, full_feature_names=full_names, max_age_ms=dict(ages_ms)
            )
            read_plan = replace(read_plan, arrays=True)
            reader = self._store.readers.reader_for_plan(
                _add_event_times(read_plan) if self._event_times else read_plan,
                freshness=freshness,
                service=features if isinstance(features, str) else None,
            )
            entry = self._build(plan, read_plan, reader)
            self._entries.pop(key, None)
            if len(self._entries) >= MAX_ENTRIES:
                del self._entries[next(iter(self._entries))]
            self._entries[key] = entry
        return entry

    def _build(self, plan: RepoPlan, read: ReadPlan, reader: OnlineReader) -> CachedReader:
        dtypes = {key.name: key.dtype for group in read.groups for key in group.key.join_keys}
        names = tuple(column.name for column in read.columns)
        encoders = tuple(json_encoder(c.field.dtype, self._non_finite) for c in read.columns)
        return CachedReader(
            plan=plan,
            reader=reader,
            columns=read.columns,
            names=names,
            encoders=encoders,
            features=_features_function(names, encoders),
            event_time_views=tuple(
                {
                    (c.group, c.view): None
                    for c in read.columns
                    if self._event_times and isinstance(c, ReadColumn) and c.event_time_field
                }
            ),
            key_codecs=_json_codecs(dtypes),
            request_codecs=_json_codecs({c.name: c.field.dtype for c in read.requests}),
        )


def _json_codecs(dtypes: Mapping[str, DType]) -> dict[str, Codec]:
    """Return the codecs of the types whose values are not JSON values."""
    return {name: codec_of(d) for name, d in dtypes.items() if not codec_of(d).json_ready}


def _features_function(
    names: Sequence[str], encoders: Sequence[JsonEncoder | None]
) -> Callable[[Sequence[Any], Sequence[str]], dict[str, dict[str, Any]]]:
    """Return a generated function, which takes a third of the time of a loop over the features."""
    members = []
    for i, (name, encoder) in enumerate(zip(names, encoders, strict=True)):
        value = f"v[{i}]" if encoder is None else f"None if v[{i}] is None else E[{i}](v[{i}])"
        members.append(f"{name!r}: {{'value': {value}, 'status': s[{i}]}},\n")
    source = f"def features(v, s):\n return {{\n{''.join(members)} }}\n"
    return build("features", source, {"E": tuple(encoders)})


def _add_event_times(plan: ReadPlan) -> ReadPlan:
    """Return the plan with an additional column for each view that keeps event time."""
    stored = [column for column in plan.columns if isinstance(column, ReadColumn)]
    views = {(c.group, c.view): (c, c.event_time_field) for c in stored if c.event_time_field}
    groups, columns = list(plan.groups), list(plan.columns)
    for (group, view), (column, field) in views.items():
        fields = groups[group].fields
        groups[group] = replace(groups[group], fields=(*fields, field))
        columns.append(
            replace(
                column,
                name=f"_event_time_{view}_{group}",  # not a valid field name, so it cannot collide
                field=FieldPlan(field, DType("int64")),
                slot=len(fields),
                event_time_field=None,
                min_remaining_ttl_ms=None,
                max_event_age_ms=None,
            )
        )
    columns = [_moved_inputs(column, len(stored), len(views)) for column in columns]
    return replace(plan, groups=tuple(groups), columns=tuple(columns))


def _moved_inputs(column: Column, first: int, by: int) -> Column:
    """Return a column of a plan whose inputs, from the index `first` on, were moved."""
    if not isinstance(column, DerivedColumn):
        return column
    pairs = zip(column.feature.inputs, column.arguments, strict=True)
    return replace(
        column,
        arguments=tuple(
            index + by if not each.is_request and index >= first else index
            for each, index in pairs
        ),
    )
