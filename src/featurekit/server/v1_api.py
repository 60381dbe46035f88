"""Reads and writes under `/v1`: rows of values and statuses."""

from __future__ import annotations

import math
from dataclasses import asdict
from datetime import timedelta
from itertools import chain
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from featurekit.errors import RequestError
from featurekit.runtime.read_arguments import MAX_TIMEOUT_S
from featurekit.runtime.response import OnlineResponse
from featurekit.server.context import ServerContext
from featurekit.server.reader_cache import (
    V1_NON_FINITE,
    CachedReader,
    FeatureNames,
    ReaderCache,
    RequestMember,
)
from featurekit.server.request_body import (
    as_object,
    feature_items,
    optional,
    optional_number,
    read_exact_json,
    read_json,
    required,
    unique_strings,
)
from featurekit.server.responses import json_bytes, json_parts_response, json_response
from featurekit.server.routing import route
from featurekit.server.write_jobs import (
    LOAD_OPTIONS,
    MaterializeJobs,
    MaterializeRequest,
    RowWriterCache,
    load_options,
)

READ_MEMBERS = ("entities", "request", "freshness", "max_age", "timeout_s", "partial")
"""The members of a read request, besides the features."""

MIN_TIMEOUT_S = 0.005
"""The shortest timeout of a read. A shorter one would always expire."""

_FEATURE_MEMBERS = ("features", "full_feature_names")


def v1_read_routes(context: ServerContext) -> list[Route]:
    """Return the routes that read features."""
    cache = ReaderCache(context, V1_NON_FINITE)

    async def read_service(request: Request) -> Response:
        body = as_object(await read_json(request, context.limits), READ_MEMBERS)
        return await read(request.path_params["name"], body, full_names=False)

    async def read_features(request: Request) -> Response:
        body = await read_json(request, context.limits)
        body = as_object(body, (*READ_MEMBERS, *_FEATURE_MEMBERS))
        full_names = optional(body, "full_feature_names", bool, default=False)
        return await read(feature_items(body, "features"), body, full_names=full_names)

    async def read(features: FeatureNames, body: dict[str, Any], *, full_names: bool) -> Response:
        freshness = optional(body, "freshness", bool, default=False)
        cached = cache.get(features, _max_age(body), full_names=full_names, freshness=freshness)
        entities, timeout_s = required(body, "entities", list), _timeout_s(body)
        context.limits.check_size(len(entities), len(cached.columns))
        timeout_s = context.limits.read_timeout_s if timeout_s is None else timeout_s
        partial, keys = (
            optional(body, "partial", bool, default=False),
            _decode_keys(cached, entities),
        )
        sent = cached.decode_request(_request_member(body))
        if not cached.is_large(len(entities)):
            response = await cached.reader.get_async(
                keys, request=sent, timeout=timeout_s, partial=partial
            )
            return json_response({"rows": _rows_document(cached, response, entities)})
        slices = cached.read_slices(
            len(entities), keys.__getitem__, request=sent, timeout_s=timeout_s, partial=partial
        )
        parts = [
            json_bytes(_rows_document(cached, response, entities[part]))[1:-1]
            async for part, response in slices
        ]
        commas = (b",",) * (len(parts) - 1) + (b"]}",)
        return json_parts_response(
            [b'{"rows":[', *chain.from_iterable(zip(parts, commas, strict=True))]
        )

    return [
        route("/v1/services/{name}/read", read_service, context=context, methods=["POST"]),
        route("/v1/features/read", read_features, context=context, methods=["POST"]),
    ]


def _request_member(body: dict[str, Any]) -> RequestMember:
    request = body.get("request")
    if request is not None and not isinstance(request, dict | list):
        raise RequestError(
            "expected an object, or a list with one for each entity",
            where="request",
            hint='for example {"request": {"amount": 9.5}}',
        )
    return request


def _timeout_s(body: dict[str, Any]) -> float | None:
    timeout_s = optional_number(body, "timeout_s")
    if timeout_s is not None and not MIN_TIMEOUT_S <= timeout_s <= MAX_TIMEOUT_S:
        raise RequestError(
            f"a timeout of {timeout_s:g} s is out of range",
            where="timeout_s",
            hint=f"give {MIN_TIMEOUT_S:g} to {MAX_TIMEOUT_S} seconds",
        )
    return timeout_s


def _max_age(body: dict[str, Any]) -> dict[str, Any] | None:
    ages = optional(body, "max_age", dict, None)
    for view in ages or ():
        required(body["max_age"], view, str)
    return ages


def _decode_keys(cached: CachedReader, entities: list[Any]) -> list[Any]:
    """Return entities with their join keys decoded from JSON."""
    for name in cached.key_codecs:
        if all(isinstance(row, dict) and name in row for row in entities):
            values = cached.decode_key_column(name, [row[name] for row in entities])
            entities = [row | {name: value} for row, value in zip(entities, values, strict=True)]
    return entities


def _rows_document(
    cached: CachedReader, response: OnlineResponse, entities: list[Any]
) -> list[dict[str, Any]]:
    """Return one row per entity, in order."""
    answers = zip(
        entities,
        _found_by_rows(response),
        response._rows,  # noqa: SLF001 - values in columns would be turned into rows again
        response.statuses_by_row(),
        strict=True,
    )
    features = cached.features
    rows = [
        {
            "entity": entity,
            "found": all(found_by.values()),
            "found_by": found_by,
            "features": features(row, statuses),
        }
        for entity, found_by, row, statuses in answers
    ]
    if response.freshness:
        _add_freshness(rows, response)
    for index, reason in response.errors.items():
        rows[index]["error"] = reason
    return rows


def _found_by_rows(response: OnlineResponse) -> list[dict[str, bool]]:
    found_by = response.found_by
    if not found_by:  # only views without an entity
        return [{} for _ in range(len(response))]
    if len(found_by) == 1:
        [(name, found)] = found_by.items()
        return [{name: is_found} for is_found in found]
    return [dict(zip(found_by, row, strict=True)) for row in zip(*found_by.values(), strict=True)]


def _add_freshness(rows: list[dict[str, Any]], response: OnlineResponse) -> None:
    freshness, ages = response.freshness, response.ages
    for index, row in enumerate(rows):
        for name, cell in row["features"].items():
            ttl_s = freshness[name][index]
            cell["ttl_s"] = ttl_s if ttl_s is None or math.isfinite(ttl_s) else None
            cell["age_s"] = ages[name][index]


def v1_write_routes(context: ServerContext, jobs: MaterializeJobs) -> list[BaseRoute]:
    """Return the routes that write rows and load views."""
    writers = RowWriterCache(context)

    async def write(request: Request) -> Response:
        body = as_object(await read_exact_json(request, context.limits), ("rows", "ttl_s"))
        name = request.path_params["name"]
        context.store.compiled.view(name)
        rows: list[object] = required(body, "rows", list)
        context.limits.check_size(len(rows), 1, "rows")
        report = await writers.write(name, lambda: rows, ttl=_ttl(body))
        return json_response(asdict(report))

    async def materialize(request: Request) -> Response:
        body = await read_exact_json(request, context.limits)
        body = as_object(body, ("views", "start", "end", "wait", *LOAD_OPTIONS))
        views = unique_strings(body, "views")
        if "views" in body and not views:
            raise RequestError("the list is empty", where="views", hint="leave it out for all")
        wanted = MaterializeRequest(
            views,
            optional(body, "start", str, None),
            optional(body, "end", str, None),
            **load_options(body),
        )
        if not optional(body, "wait", bool, default=True):
            started = await jobs.start(wanted)
            return json_response({"status": "accepted", "views": started}, 202)
        return json_response({"reports": [r.to_dict() for r in await jobs.run(wanted)]})

    write_path = "/v1/views/{name}/write"
    return [
        route(write_path, write, context=context, scope="write", methods=["POST"]),
        route("/v1/materialize", materialize, context=context, scope="write", methods=["POST"]),
    ]


def _ttl(body: dict[str, Any]) -> timedelta | None:
    seconds = optional_number(body, "ttl_s")
    if seconds is None:
        return None
    try:
        return timedelta(milliseconds=int(seconds * 1000))
    except (ValueError, OverflowError) as error:
        raise RequestError("expected a number of seconds", where="ttl_s") from error
