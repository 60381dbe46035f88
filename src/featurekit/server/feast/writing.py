"""`POST /push` and `POST /write-to-online-store`: rows in Feast's columnar form."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from featurekit.errors import RequestError, ValueRefusedError
from featurekit.plan import RepoPlan, ViewPlan
from featurekit.runtime.event_decoder import EVENT_TIMESTAMP
from featurekit.server.answers import json_response
from featurekit.server.bodies import exact_body
from featurekit.server.body_validation import as_object, member, optional
from featurekit.server.context import ServerContext
from featurekit.server.feast.errors import unknown_push_source, unknown_view
from featurekit.server.routing import route
from featurekit.server.writing import Writings
from featurekit.types import Codec, codec_of

_CREATED = "created"


def feast_writing_routes(site: ServerContext) -> list[BaseRoute]:
    """The routes that write rows."""
    writings = Writings(site)

    async def push(request: Request) -> Response:
        body = as_object(await exact_body(request, site))
        name = member(body, "push_source_name", str)
        if (to := optional(body, "to", str, "online")) != "online":
            raise RequestError(
                f"'{to}' is no place to push to", where="to", hint="there is an online store alone"
            )
        view = view_of(site.store.compiled, name)
        if view is None:
            return unknown_push_source(site.store.compiled, name)
        await writings.write(name, rows_of(view, member(body, "df", dict)))
        return Response()

    async def write_to_online_store(request: Request) -> Response:
        body = as_object(await exact_body(request, site))
        name = member(body, "feature_view_name", str)
        view = view_of(site.store.compiled, name)
        if view is None:
            return unknown_view(site.store.compiled, name)
        await writings.write(name, rows_of(view, member(body, "df", dict)))
        return json_response(None)

    path = "/write-to-online-store"
    return [
        route("/push", push, site=site, scope="write", methods=["POST"]),
        route(path, write_to_online_store, site=site, scope="write", methods=["POST"]),
    ]


def rows_of(view: ViewPlan, df: dict[str, Any]) -> list[dict[str, object]]:
    """The rows of a frame of columns, without what Feast adds and the view does not take.

    Feast's client sends JSON as text in a string, and times in UTC without saying so.

    Raises:
        RequestError: It is no frame.
        ValueRefusedError: Text where JSON is expected is none.
    """
    _check_frame(df)
    extras = _extras(view)
    columns = {name: column for name, column in df.items() if name not in extras}
    for field in view.fields:
        if field.dtype.kind == "json" and field.name in columns:
            codec = codec_of(field.dtype)
            columns[field.name] = [_from_text(codec, v, field.name) for v in columns[field.name]]
    if view.ordering == "event_time" and EVENT_TIMESTAMP in df:
        columns[EVENT_TIMESTAMP] = [_in_utc(time) for time in df[EVENT_TIMESTAMP]]
    if not columns:
        raise RequestError("it has no columns", where="df")
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _check_frame(df: dict[str, Any]) -> None:
    lengths = set()
    for name, column in df.items():
        if not isinstance(column, list):
            raise RequestError("a list of values is expected", where=f"df, {name}")
        lengths.add(len(column))
    if len(lengths) > 1:
        raise RequestError("its columns differ in length", where="df")


def _extras(view: ViewPlan) -> set[str]:
    """The columns of times that a frame may have and the view has no field for."""
    extras = {EVENT_TIMESTAMP, _CREATED}
    if view.source is not None:
        times = (view.source.timestamp_field, view.source.created_timestamp_field)
        extras |= {column for column in times if column}
    return extras - {k.name for k in view.key.join_keys} - {f.name for f in view.fields}


def _from_text(codec: Codec, value: object, name: str) -> object:
    if not isinstance(value, str):
        return value
    try:
        return codec.parse(value)
    except ValueRefusedError as error:
        raise ValueRefusedError(error.message, where=f"df, {name}") from error


def _in_utc(time: object) -> object:
    """A time in UTC, where it is text that names no zone."""
    if isinstance(time, str):
        try:
            moment = datetime.fromisoformat(time)
        except ValueError:
            return time  # the writer says what is wrong with it
        return time if moment.tzinfo is not None else f"{time}Z"
    return time


def view_of(repo: RepoPlan, name: str) -> ViewPlan | None:
    """The view of that name, if there is one."""
    return next((view for view in repo.views if view.name == name), None)
