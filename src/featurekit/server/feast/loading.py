"""`POST /materialize` and `POST /materialize-incremental`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from featurekit.errors import RequestError
from featurekit.server.answers import json_response
from featurekit.server.bodies import json_body
from featurekit.server.body_validation import as_object, member, optional, texts
from featurekit.server.context import ServerContext
from featurekit.server.feast.errors import unknown_view
from featurekit.server.feast.writing import view_of
from featurekit.server.jobs import Jobs, Wanted
from featurekit.server.routing import route

_TRUE = frozenset({"true", "t", "1", "on", "yes", "y"})
_FALSE = frozenset({"false", "f", "0", "off", "no", "n"})


def feast_loading_routes(site: ServerContext, jobs: Jobs) -> list[BaseRoute]:
    """The routes that load views from their sources."""

    async def materialize(request: Request) -> Response:
        body = as_object(await json_body(request, site))
        if optional(body, "disable_event_timestamp", bool, default=False):
            return await load(request, body, None, None)
        return await load(request, body, _time(body, "start_ts"), _time(body, "end_ts"))

    async def materialize_incremental(request: Request) -> Response:
        # Rows of old expire unless they are written again, so that every load is a whole one.
        body = as_object(await json_body(request, site))
        member(body, "end_ts", str)
        return await load(request, body, None, _time(body, "end_ts"))

    async def load(
        request: Request, body: dict[str, Any], start: datetime | None, end: datetime | None
    ) -> Response:
        views, waits = wanted_views(body), not is_async(request)
        unknown = [n for n in views or () if view_of(site.store.compiled, n) is None]
        if unknown:
            return unknown_view(site.store.compiled, unknown[0])
        if views == ():
            return json_response(None)
        return await _load(jobs, Wanted(views or (), start, end), waits=waits)

    path = "/materialize-incremental"
    return [
        route("/materialize", materialize, site=site, scope="write", methods=["POST"]),
        route(path, materialize_incremental, site=site, scope="write", methods=["POST"]),
    ]


async def _load(jobs: Jobs, wanted: Wanted, *, waits: bool) -> Response:
    if waits:
        await jobs.run(wanted)
        return json_response(None)
    started = await jobs.start(wanted)
    return json_response({"status": "accepted", "feature_views": started}, 202)


def is_async(request: Request) -> bool:
    """Whether `?async=` says that nobody waits, in any of the words that Feast takes.

    Raises:
        RequestError: It says something else.
    """
    text = request.query_params.get("async", "false").lower()
    if text not in _TRUE | _FALSE:
        raise RequestError("true or false is expected", where="async")
    return text in _TRUE


def wanted_views(body: dict[str, Any]) -> tuple[str, ...] | None:
    """The views to load; `None` for all that have a source.

    Raises:
        RequestError: They are no list, or a version of them is asked for.
    """
    if body.get("version") is not None:
        raise RequestError("feature views have no versions here", where="version")
    return None if body.get("feature_views") is None else texts(body, "feature_views")


def _time(body: dict[str, Any], name: str) -> datetime | None:
    """A time, in UTC where it names no zone, as Feast takes it."""
    text = body.get(name)
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except (TypeError, ValueError) as error:
        raise RequestError(
            f"{text!r} is no time", where=name, hint="write 2026-11-22T10:00:00Z"
        ) from error
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
