"""`POST /v1/views/{name}/write` and `POST /v1/materialize`."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from featurekit.errors import RequestError
from featurekit.server.answers import json_response
from featurekit.server.bodies import exact_body
from featurekit.server.body_validation import as_object, member, number, optional, texts
from featurekit.server.context import ServerContext
from featurekit.server.jobs import Jobs, Wanted
from featurekit.server.routing import route
from featurekit.server.writing import Writings


def v1_writing_routes(site: ServerContext, jobs: Jobs) -> list[BaseRoute]:
    """The routes that write."""
    writings = Writings(site)

    async def write(request: Request) -> Response:
        body = as_object(await exact_body(request, site), ("rows", "ttl_s"))
        name = request.path_params["name"]
        site.store.compiled.view(name)
        report = await writings.write(name, member(body, "rows", list), ttl=_ttl(body))
        return json_response(asdict(report))

    async def materialize(request: Request) -> Response:
        body = as_object(await exact_body(request, site), ("views", "start", "end", "wait"))
        views = texts(body, "views")
        if "views" in body and not views:
            raise RequestError("it names no view", where="views", hint="leave it out for all")
        wanted = Wanted(
            views,
            optional(body, "start", str, None),
            optional(body, "end", str, None),
        )
        if not optional(body, "wait", bool, default=True):
            started = await jobs.start(wanted)
            return json_response({"status": "accepted", "views": started}, 202)
        return json_response({"reports": [r.to_dict() for r in await jobs.run(wanted)]})

    return [
        route("/v1/views/{name}/write", write, site=site, scope="write", methods=["POST"]),
        route("/v1/materialize", materialize, site=site, scope="write", methods=["POST"]),
    ]


def _ttl(body: dict[str, Any]) -> timedelta | None:
    seconds = number(body, "ttl_s")
    if seconds is None:
        return None
    try:
        return timedelta(milliseconds=int(seconds * 1000))
    except (ValueError, OverflowError) as error:
        raise RequestError("a number of seconds is expected", where="ttl_s") from error
