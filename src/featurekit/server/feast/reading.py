"""`POST /get-online-features`: Feast's columnar answer, from the same compiled readers.

A status tells what is stored, a value what to use: a default stands in its column under
NULL_VALUE or NOT_FOUND, so that nobody takes it for a value that was written.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import repeat
from typing import Any, NamedTuple

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from featurekit.errors import RequestError, UnknownNameError
from featurekit.plan import ReadColumn, RepoPlan
from featurekit.runtime.response import OnlineResponse
from featurekit.server.answers import json_response
from featurekit.server.bodies import json_body
from featurekit.server.body_validation import optional, texts
from featurekit.server.context import ServerContext
from featurekit.server.feast.errors import unknown_name, unknown_service, unknown_view
from featurekit.server.json_values import FEAST, spelled
from featurekit.server.reading import Asked, ReaderCache, Reading
from featurekit.server.routing import route

EPOCH = "1970-01-01T00:00:00Z"
"""The time of what keeps none, as Feast writes it for join keys."""

STATUSES = {
    "present": "PRESENT",
    "stale": "OUTSIDE_MAX_AGE",
    "invalid": "INVALID",
    "unavailable": "INVALID",
}
"""Ours to Feast's; where nothing is stored it depends on whether the entity was found."""

_LISTS = {list}
_STORED = frozenset({"present", "stale", "invalid"})
_ZERO = datetime(1970, 1, 1, tzinfo=UTC)


class Question(NamedTuple):
    """A request for features, taken apart. `max_age` is ours: Feast's clients do not send it."""

    asked: Asked
    entities: dict[str, list[Any]]
    max_age: object
    full_names: bool
    with_views: bool


def feast_reading_routes(site: ServerContext) -> list[BaseRoute]:
    """The route that reads."""
    readings = ReaderCache(site, FEAST, clocks=True)

    async def get_online_features(request: Request) -> Response:
        question = question_of(await json_body(request, site))
        try:
            reading = readings.of(question.asked, question.max_age, full_names=question.full_names)
        except UnknownNameError as error:
            return _unknown(site.store.compiled, question.asked, error)
        columns = question.entities
        readings.check_count(max(map(len, columns.values()), default=0))
        if reading.dates:
            columns = {name: reading.column_of(name, v) for name, v in columns.items()}
        response = await reading.reader.get_async(columns, timeout=site.limits.read_timeout_s)
        return json_response(document_of(reading, response, question))

    return [
        route(
            "/get-online-features", get_online_features, site=site, scope="read", methods=["POST"]
        )
    ]


def question_of(body: Any) -> Question:
    """What a body asks for; members that are not known are passed over, as Feast does.

    Raises:
        RequestError: It has not Feast's form.
    """
    if not isinstance(body, dict):
        raise RequestError("the body is no JSON object")
    entities, service = body.get("entities"), body.get("feature_service")
    if not isinstance(entities, dict) or not set(map(type, entities.values())) <= _LISTS:
        raise RequestError(
            'an object of columns is expected, as {"user_id": ["u1", "u2"]}', where="entities"
        )
    if service is not None and not isinstance(service, str):
        raise RequestError("text is expected", where="feature_service")
    features = texts(body, "features")
    return Question(
        asked=features if service is None else service,
        entities=entities,
        max_age=optional(body, "max_age", dict, None),
        full_names=optional(body, "full_feature_names", bool, default=False),
        with_views=optional(body, "include_feature_view_version_metadata", bool, default=False),
    )


def document_of(reading: Reading, response: OnlineResponse, question: Question) -> dict[str, Any]:
    """The answer: one result for each column, join keys first."""
    count, columns = len(response), response.columns()
    present, epochs = ["PRESENT"] * count, [EPOCH] * count
    results: list[dict[str, Any]] = [
        {"values": question.entities[name], "statuses": present, "event_timestamps": epochs}
        for name in response.entities
    ]
    told = repeat(present) if response.is_complete else feast_statuses(reading.columns, response)
    for spell, values, statuses in zip(reading.spells, columns, told, strict=False):
        told_values = values if spell is None else spelled(spell, values)
        results.append({"values": told_values, "statuses": statuses, "event_timestamps": epochs})
    # The event times of views are read as the last columns.
    for view, clocks in zip(reading.clocks, columns[len(reading.columns) :], strict=True):
        for column, result in zip(reading.columns, results[-len(reading.columns) :], strict=True):
            if column.view == view:
                result["event_timestamps"] = _times(clocks)
    metadata: dict[str, Any] = {"feature_names": [*response.entities, *reading.names]}
    if question.with_views:
        views = dict.fromkeys(column.view for column in reading.columns)
        metadata["feature_view_metadata"] = [{"name": name} for name in views]
    return {"results": results, "metadata": metadata}


def feast_statuses(columns: Sequence[ReadColumn], response: OnlineResponse) -> list[list[str]]:
    """The statuses of each column, in Feast's words."""
    statuses = response.statuses
    found = _found(columns, statuses)
    told = []
    for column in columns:
        pairs = zip(statuses[column.name], found[column.group], strict=True)
        told.append([_word(status, found=there) for status, there in pairs])
    return told


def _word(status: str, *, found: bool) -> str:
    return STATUSES.get(status) or ("NULL_VALUE" if found else "NOT_FOUND")


def _found(columns: Sequence[ReadColumn], statuses: dict[str, list[str]]) -> dict[int, list[bool]]:
    """For each entity of the request, by row, whether anything asked for is stored of it."""
    groups: dict[int, list[list[str]]] = {}
    for column in columns:
        groups.setdefault(column.group, []).append(statuses[column.name])
    return {
        group: [not _STORED.isdisjoint(row) for row in zip(*own, strict=True)]
        for group, own in groups.items()
    }


def _times(clocks: Sequence[int | None]) -> list[str]:
    """Event times as Feast writes them: RFC 3339, to the millisecond where there are any."""
    return [EPOCH if ms is None else _time(ms) for ms in clocks]


def _time(ms: int) -> str:
    try:
        moment = _ZERO + timedelta(milliseconds=ms)
    except OverflowError:
        return EPOCH
    precision = "milliseconds" if ms % 1000 else "seconds"
    return moment.isoformat(timespec=precision).removesuffix("+00:00") + "Z"


def _unknown(repo: RepoPlan, asked: Asked, error: UnknownNameError) -> Response:
    if isinstance(asked, str):
        return unknown_service(repo, asked)
    views = {view.name for view in repo.views}
    for feature in asked:
        if (view := feature.partition(":")[0]) not in views:
            return unknown_view(repo, view)
    return unknown_name(error)
