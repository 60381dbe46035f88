"""Feast's REST interface: the same paths and shapes, so Feast clients work unchanged.

A response holds one result per column. A status says what is stored and a value what to use: a
default appears as the value under NULL_VALUE or NOT_FOUND, so clients can distinguish it from a
stored value.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import repeat
from typing import Any, NamedTuple

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from featurekit.errors import (
    RequestError,
    UnknownNameError,
    ValueRefusedError,
    name_hint,
    shorten_name,
)
from featurekit.feature_lists import item_view
from featurekit.plan import EVENT_TIMESTAMP, Column, ReadColumn, RepoPlan, ViewPlan
from featurekit.runtime.response import OnlineResponse
from featurekit.server.context import ServerContext
from featurekit.server.reader_cache import (
    FEAST_NON_FINITE,
    CachedReader,
    FeatureNames,
    ReaderCache,
    json_column,
)
from featurekit.server.request_body import (
    as_object,
    feature_items,
    optional,
    read_exact_json,
    read_json,
    required,
    unique_strings,
)
from featurekit.server.responses import (
    json_bytes,
    json_parts_response,
    json_response,
    shorten_texts,
)
from featurekit.server.routing import route
from featurekit.server.write_jobs import (
    MaterializeJobs,
    MaterializeRequest,
    RowWriterCache,
    load_options,
)
from featurekit.types import Codec, codec_of

EPOCH_TEXT = "1970-01-01T00:00:00Z"
"""The time that Feast writes for columns without an event time, such as join keys."""

STATUSES = {
    "present": "PRESENT",
    "stale": "OUTSIDE_MAX_AGE",
    "invalid": "INVALID",
    "unavailable": "INVALID",
}
"""Feast's statuses of stored values; of others, see `_feast_statuses`."""

_LIST_ONLY = {list}
_STORED = frozenset({"present", "stale", "invalid"})
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TRUE = frozenset({"true", "t", "1", "on", "yes", "y"})
_FALSE = frozenset({"false", "f", "0", "off", "no", "n"})
_CREATED = "created"


def feast_write_routes(context: ServerContext, jobs: MaterializeJobs) -> list[BaseRoute]:
    """Return the routes of Feast's interface that write rows and load views."""
    return [*_write_routes(context), *_materialize_routes(context, jobs)]


class ReadRequest(NamedTuple):
    """A parsed read request. Feast clients do not send `max_age`; it is an extension."""

    features: FeatureNames
    entities: dict[str, list[Any]]
    max_age: object
    full_names: bool
    with_views: bool


def feast_read_routes(context: ServerContext) -> list[Route]:
    """Return the routes of Feast's interface that read features."""
    cache = ReaderCache(context, FEAST_NON_FINITE, event_times=True)

    async def get_online_features(request: Request) -> Response:
        asked = _parse_read(await read_json(request, context.limits))
        try:
            cached = cache.get(asked.features, asked.max_age, full_names=asked.full_names)
        except UnknownNameError as error:
            return _unknown_features(context.store.compiled, asked.features, error)
        columns, timeout_s = asked.entities, context.limits.read_timeout_s
        count = max(map(len, columns.values()), default=0)
        context.limits.check_size(count, len(cached.columns))
        if cached.key_codecs or cached.request_codecs:
            columns = {name: cached.decode_key_column(name, v) for name, v in columns.items()}
        if not cached.is_large(count):
            response = await cached.reader.get_async(columns, timeout=timeout_s)
            return json_response(_read_document(cached, response, asked))
        slices = cached.read_slices(count, partial(_column_slices, columns), timeout_s=timeout_s)
        joined = _JoinedDocument()
        async for part, response in slices:
            sliced = asked._replace(entities=_column_slices(asked.entities, part))
            joined.add(_read_document(cached, response, sliced))
        return json_parts_response(list(joined.to_json()))

    path = "/get-online-features"
    return [route(path, get_online_features, context=context, methods=["POST"])]


def _parse_read(body: Any) -> ReadRequest:
    """Return the read request of a body. Unknown members are ignored, as in Feast.

    Raises:
        RequestError: The body does not have Feast's form.
    """
    body = as_object(body)
    entities, service = body.get("entities"), body.get("feature_service")
    if not isinstance(entities, dict) or not set(map(type, entities.values())) <= _LIST_ONLY:
        raise RequestError(
            'expected an object of columns, such as {"user_id": ["u1", "u2"]}', where="entities"
        )
    if service is not None and not isinstance(service, str):
        raise RequestError("expected a string", where="feature_service")
    features = feature_items(body, "features")
    return ReadRequest(
        features=features if service is None else service,
        entities=entities,
        max_age=optional(body, "max_age", dict, None),
        full_names=optional(body, "full_feature_names", bool, default=False),
        with_views=optional(body, "include_feature_view_version_metadata", bool, default=False),
    )


def _read_document(
    cached: CachedReader, response: OnlineResponse, asked: ReadRequest
) -> dict[str, Any]:
    """Return the response document: one result per column, join keys first."""
    count, columns = len(response), response.columns()
    present, epochs = ["PRESENT"] * count, [EPOCH_TEXT] * count
    results: list[dict[str, Any]] = [
        {"values": asked.entities[name], "statuses": present, "event_timestamps": epochs}
        for name in response.entities
    ]
    all_statuses = (
        repeat(present) if response.is_complete else _feast_statuses(cached.columns, response)
    )
    for encoder, values, statuses in zip(cached.encoders, columns, all_statuses, strict=False):
        encoded = values if encoder is None else json_column(encoder, values)
        results.append({"values": encoded, "statuses": statuses, "event_timestamps": epochs})
    # The event times of views are the last columns of the response.
    times = columns[len(cached.columns) :]
    for view, times_ms in zip(cached.event_time_views, times, strict=True):
        for column, result in zip(cached.columns, results[-len(cached.columns) :], strict=True):
            if isinstance(column, ReadColumn) and (column.group, column.view) == view:
                result["event_timestamps"] = [_event_time_text(ms) for ms in times_ms]
    metadata: dict[str, Any] = {"feature_names": [*response.entities, *cached.names]}
    if asked.with_views:
        views = dict.fromkeys(column.view for column in cached.columns)
        metadata["feature_view_metadata"] = [{"name": name} for name in views]
    return {"results": results, "metadata": metadata}


def _column_slices(columns: dict[str, list[Any]], part: slice) -> dict[str, list[Any]]:
    return {name: values[part] for name, values in columns.items()}


class _JoinedDocument:
    """The response documents of slices of a request, joined column by column as JSON."""

    def __init__(self) -> None:
        self._results: list[dict[str, list[bytes]]] = []
        self._metadata: object = None

    def add(self, document: dict[str, Any]) -> None:
        """Append the document of the next slice."""
        results, self._metadata = document["results"], document["metadata"]
        if not self._results:
            self._results = [{name: [] for name in result} for result in results]
        for joined, result in zip(self._results, results, strict=True):
            for name, values in result.items():
                joined[name].append(json_bytes(values)[1:-1])

    def to_json(self) -> Iterator[bytes]:
        """Yield the whole document in parts."""
        for index, result in enumerate(self._results):
            members = (b'"%b":[%b]' % (name.encode(), b",".join(p)) for name, p in result.items())
            yield (b",{%b}" if index else b'{"results":[{%b}') % b",".join(members)
        yield b'],"metadata":%b}' % json_bytes(self._metadata)


def _feast_statuses(columns: Sequence[Column], response: OnlineResponse) -> list[list[str]]:
    """Return Feast's statuses by column.

    Where nothing is stored, the status is NULL_VALUE if another requested feature of the entity
    is stored, and NOT_FOUND if none is. A derived feature that is null is NULL_VALUE.
    """
    statuses = response.statuses
    found = _found_by_group(columns, statuses)
    result = []
    for column in columns:
        own = statuses[column.name]
        is_stored = found[column.group] if isinstance(column, ReadColumn) else [True] * len(own)
        pairs = zip(own, is_stored, strict=True)
        result.append([_feast_status(status, found=is_found) for status, is_found in pairs])
    return result


def _feast_status(status: str, *, found: bool) -> str:
    return STATUSES.get(status) or ("NULL_VALUE" if found else "NOT_FOUND")


def _found_by_group(
    columns: Sequence[Column], statuses: dict[str, list[str]]
) -> dict[int, list[bool]]:
    """Return for each entity of a row whether any requested feature of it is stored."""
    groups: dict[int, list[list[str]]] = {}
    for column in columns:
        if isinstance(column, ReadColumn):
            groups.setdefault(column.group, []).append(statuses[column.name])
    return {
        group: [not _STORED.isdisjoint(row) for row in zip(*own, strict=True)]
        for group, own in groups.items()
    }


def _event_time_text(ms: int | None) -> str:
    """Return an event time as Feast writes it: RFC 3339, with milliseconds if there are any."""
    if ms is None:
        return EPOCH_TEXT
    try:
        time = _EPOCH + timedelta(milliseconds=ms)
    except OverflowError:
        return EPOCH_TEXT
    precision = "milliseconds" if ms % 1000 else "seconds"
    return time.isoformat(timespec=precision).removesuffix("+00:00") + "Z"


def _write_routes(context: ServerContext) -> list[BaseRoute]:
    writers = RowWriterCache(context)

    async def write(view: ViewPlan, df: dict[str, Any]) -> None:
        _check_frame(df)
        count = max(map(len, df.values()), default=0)
        context.limits.check_size(count, len(df), "rows")
        await writers.write(view.name, partial(_rows_of_frame, view, df))

    async def push(request: Request) -> Response:
        body = as_object(await read_exact_json(request, context.limits))
        name = required(body, "push_source_name", str)
        if (to := optional(body, "to", str, "online")) != "online":
            raise RequestError(
                f"cannot push to '{to}'", where="to", hint="push to 'online', the only store"
            )
        view = _find_view(context.store.compiled, name)
        if view is None:
            return _unknown_push_source(context.store.compiled, name)
        await write(view, required(body, "df", dict))
        return Response()

    async def write_to_online_store(request: Request) -> Response:
        body = as_object(await read_exact_json(request, context.limits))
        name = required(body, "feature_view_name", str)
        view = _find_view(context.store.compiled, name)
        if view is None:
            return _unknown_view(context.store.compiled, name)
        await write(view, required(body, "df", dict))
        return json_response(None)

    path = "/write-to-online-store"
    return [
        route("/push", push, context=context, scope="write", methods=["POST"]),
        route(path, write_to_online_store, context=context, scope="write", methods=["POST"]),
    ]


def _rows_of_frame(view: ViewPlan, df: dict[str, Any]) -> list[dict[str, object]]:
    """Return the rows of a frame of columns, without the columns that only Feast adds.

    Feast clients send JSON values as strings, and UTC times without an offset.

    Raises:
        RequestError: The frame has no columns of the view.
        ValueRefusedError: A string is not the JSON that its field expects.
    """
    extra = _feast_columns(view)
    columns = {name: column for name, column in df.items() if name not in extra}
    for field in view.fields:
        codec = codec_of(field.dtype)
        if codec.any_json and field.name in columns:
            columns[field.name] = [_parse_json(codec, v, field.name) for v in columns[field.name]]
    time_column = view.timestamp_field_in(df) if view.kind == "batch" else EVENT_TIMESTAMP
    if view.event_timestamp_field is not None and time_column in df:
        columns[EVENT_TIMESTAMP] = [_with_utc_offset(time) for time in df[time_column]]
    if not columns:
        raise RequestError("the frame has no columns", where="df")
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _check_frame(df: dict[str, Any]) -> None:
    lengths = set()
    for name, column in df.items():
        if not isinstance(column, list):
            raise RequestError("expected a list of values", where=f"df, {name}")
        lengths.add(len(column))
    if len(lengths) > 1:
        raise RequestError("the columns differ in length", where="df")


def _feast_columns(view: ViewPlan) -> set[str]:
    """Return the time columns that a frame may have without the view having such a field."""
    extra = {EVENT_TIMESTAMP, _CREATED}
    if view.source is not None:
        times = (view.source.timestamp_field, view.source.created_timestamp_field)
        extra |= {column for column in times if column}
    return extra - {k.name for k in view.key.join_keys} - {f.name for f in view.fields}


def _parse_json(codec: Codec, value: object, name: str) -> object:
    if not isinstance(value, str):
        return value
    try:
        return codec.parse(value)
    except ValueRefusedError as error:
        raise ValueRefusedError(error.message, where=f"df, {name}") from error


def _with_utc_offset(time: object) -> object:
    """Return a time with the offset `Z` if it is text without an offset."""
    if isinstance(time, str):
        try:
            parsed = datetime.fromisoformat(time)
        except ValueError:
            return time  # the row writer reports the error
        return time if parsed.tzinfo is not None else f"{time}Z"
    return time


def _materialize_routes(context: ServerContext, jobs: MaterializeJobs) -> list[BaseRoute]:
    async def materialize(request: Request) -> Response:
        body = as_object(await read_json(request, context.limits))
        start, end = _time(body, "start_ts"), _time(body, "end_ts")
        if optional(body, "disable_event_timestamp", bool, default=False):
            start = end = None
        return await load(request, body, start, end)

    async def materialize_incremental(request: Request) -> Response:
        # Rows that are not written again expire, so every load is a full one.
        body = as_object(await read_json(request, context.limits))
        required(body, "end_ts", str)
        return await load(request, body, None, _time(body, "end_ts"))

    async def load(
        request: Request, body: dict[str, Any], start: datetime | None, end: datetime | None
    ) -> Response:
        views, in_background = _views_to_load(body), _is_async(request)
        plan = context.store.compiled
        unknown = [name for name in views or () if _find_view(plan, name) is None]
        if unknown:
            return _unknown_view(plan, unknown[0])
        if views == ():
            return json_response(None)
        wanted = MaterializeRequest(views or (), start, end, **load_options(body))
        if not in_background:
            await jobs.run(wanted)
            return json_response(None)
        started = await jobs.start(wanted)
        return json_response({"status": "accepted", "feature_views": started}, 202)

    path = "/materialize-incremental"
    return [
        route("/materialize", materialize, context=context, scope="write", methods=["POST"]),
        route(path, materialize_incremental, context=context, scope="write", methods=["POST"]),
    ]


def _is_async(request: Request) -> bool:
    """Return whether `?async=` is true, in any spelling that Feast accepts.

    Raises:
        RequestError: The value is not a boolean.
    """
    text = request.query_params.get("async", "false").lower()
    if text not in _TRUE | _FALSE:
        raise RequestError("expected true or false", where="async")
    return text in _TRUE


def _views_to_load(body: dict[str, Any]) -> tuple[str, ...] | None:
    """Return the views to load; `None` for all views with a source.

    Raises:
        RequestError: The views are not a list of names, or a version is given.
    """
    if body.get("version") is not None:
        raise RequestError("versions of feature views are not supported", where="version")
    return None if body.get("feature_views") is None else unique_strings(body, "feature_views")


def _time(body: dict[str, Any], name: str) -> datetime | None:
    """Return a member that is a time; without an offset it is in UTC, as in Feast."""
    text = body.get(name)
    if text is None:
        return None
    try:
        time = datetime.fromisoformat(text)
    except (TypeError, ValueError) as error:
        raise RequestError(
            f"{text!r} is not a time", where=name, hint="write it as 2026-11-22T10:00:00Z"
        ) from error
    return time if time.tzinfo is not None else time.replace(tzinfo=UTC)


def _find_view(plan: RepoPlan, name: str) -> ViewPlan | None:
    return next((view for view in plan.views if view.name == name), None)


def _unknown_features(plan: RepoPlan, features: FeatureNames, error: UnknownNameError) -> Response:
    """Return 404 for the first unknown name of a feature list."""
    if isinstance(features, str):
        text = f"Feature service {shorten_name(features)} does not exist in project {plan.project}"
        hint = name_hint(features, [service.name for service in plan.services])
        return _feast_error("FeatureServiceNotFoundException", f"{text}; {hint}", 404)
    views = {view.name for view in plan.views}
    for feature in features:
        if (view := item_view(feature)) not in views:
            return _unknown_view(plan, view)
    text = f"{error.where}: {error.message}" if error.where else error.message
    return _feast_error("FeastObjectNotFoundException", f"{text}; {error.hint}", 404)


def _unknown_view(plan: RepoPlan, name: str) -> Response:
    text = f"Feature view {shorten_name(name)} does not exist in project {plan.project}"
    hint = name_hint(name, [view.name for view in plan.views])
    return _feast_error("FeatureViewNotFoundException", f"{text}; {hint}", 404)


def _unknown_push_source(plan: RepoPlan, name: str) -> Response:
    """Return 422, as Feast's server does."""
    hint = name_hint(name, [view.name for view in plan.views])
    text = f"Unable to find push source '{shorten_name(name)}'; expected the name of a feature view, {hint}"
    return _feast_error("PushSourceNotFoundException", text, 422)


def _feast_error(name: str, message: str, status: int) -> Response:
    """Return an error in Feast's form: JSON in a JSON string, with the exception to raise."""
    error = {"module": "feast.errors", "class": name, "message": message}
    detail = json.dumps(shorten_texts(error))
    return json_response(detail, status)
