"""`POST /v1/services/{name}/read` and `POST /v1/features/read`: rows of values and statuses."""

from __future__ import annotations

import math
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from featurekit.errors import RequestError
from featurekit.runtime.read_arguments import MAX_TIMEOUT_S
from featurekit.runtime.response import OnlineResponse
from featurekit.server.answers import json_response
from featurekit.server.bodies import json_body
from featurekit.server.body_validation import as_object, member, number, optional, texts
from featurekit.server.context import ServerContext
from featurekit.server.json_values import OURS, spelled
from featurekit.server.reading import Asked, ReaderCache, Reading
from featurekit.server.routing import route

MEMBERS = ("entities", "freshness", "max_age", "timeout_s", "partial")
"""What a request to read may say besides which features."""

LEAST_S = 0.005
"""The shortest bound of a read: less would fail whatever the store does."""

_OF_FEATURES = ("features", "full_feature_names")
"""What it may say where it names features one by one."""


def v1_reading_routes(site: ServerContext) -> list[BaseRoute]:
    """The routes that read."""
    readings = ReaderCache(site, OURS)

    async def read_service(request: Request) -> Response:
        body = as_object(await json_body(request, site), MEMBERS)
        return await answer(request.path_params["name"], body, full_names=False)

    async def read_features(request: Request) -> Response:
        body = as_object(await json_body(request, site), (*MEMBERS, *_OF_FEATURES))
        full_names = optional(body, "full_feature_names", bool, default=False)
        return await answer(texts(body, "features"), body, full_names=full_names)

    async def answer(asked: Asked, body: dict[str, Any], *, full_names: bool) -> Response:
        freshness = optional(body, "freshness", bool, default=False)
        reading = readings.of(
            asked,
            _ages(body),
            full_names=full_names,
            freshness=freshness,
        )
        entities, timeout_s = member(body, "entities", list), _timeout_s(body)
        readings.check_count(len(entities))
        response = await reading.reader.get_async(
            rows_of(reading, entities),
            timeout=site.limits.read_timeout_s if timeout_s is None else timeout_s,
            partial=optional(body, "partial", bool, default=False),
        )
        return json_response({"rows": rows_document(reading, response, entities)})

    return [
        route("/v1/services/{name}/read", read_service, site=site, methods=["POST"]),
        route("/v1/features/read", read_features, site=site, methods=["POST"]),
    ]


def _timeout_s(body: dict[str, Any]) -> float | None:
    timeout_s = number(body, "timeout_s")
    if timeout_s is not None and not LEAST_S <= timeout_s <= MAX_TIMEOUT_S:
        raise RequestError(
            f"{timeout_s:g} s is no timeout",
            where="timeout_s",
            hint=f"give {LEAST_S:g} to {MAX_TIMEOUT_S} seconds",
        )
    return timeout_s


def _ages(body: dict[str, Any]) -> dict[str, Any] | None:
    ages = optional(body, "max_age", dict, None)
    for view in ages or ():
        member(body["max_age"], view, str)
    return ages


def rows_of(reading: Reading, entities: list[Any]) -> list[Any]:
    """Entities as the reader takes them, from how JSON has them."""
    for name in reading.dates:
        if all(isinstance(row, dict) and name in row for row in entities):
            values = reading.column_of(name, [row[name] for row in entities])
            entities = [row | {name: value} for row, value in zip(entities, values, strict=True)]
    return entities


def rows_document(
    reading: Reading, response: OnlineResponse, entities: list[Any]
) -> list[dict[str, Any]]:
    """The rows of an answer, one for each entity in order."""
    columns = map(spelled, reading.spells, response.columns())
    told = zip(
        entities,
        response.found,
        zip(*columns, strict=True),
        response.statuses_by_row(),
        strict=True,
    )
    rows: list[dict[str, Any]] = []
    names = reading.names
    for entity, found, values, statuses in told:
        cells = zip(names, values, statuses)  # noqa: B905 - as long as the plan is wide
        features = {n: {"value": value, "status": status} for n, value, status in cells}
        rows.append({"entity": entity, "found": found, "features": features})
    if response.freshness:
        _add_times(rows, response)
    for index, reason in response.errors.items():
        rows[index]["error"] = reason
    return rows


def _add_times(rows: list[dict[str, Any]], response: OnlineResponse) -> None:
    freshness, ages = response.freshness, response.ages
    for index, row in enumerate(rows):
        for name, cell in row["features"].items():
            life = freshness[name][index]
            cell["ttl_s"] = life if life is None or math.isfinite(life) else None
            cell["age_s"] = ages[name][index]
