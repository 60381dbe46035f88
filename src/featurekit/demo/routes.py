"""The demo's seven endpoints, with the paths, methods and JSON keys of the Redis guide's demo.

Every error is `{"error": "..."}`: 400 with the parameter in `field` if the client can fix it, 503
while the store is unavailable. Values out of range are errors and never clamped.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any
from urllib.parse import parse_qsl

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from featurekit.demo.service import DemoService
from featurekit.demo.settings import LONGEST_TTL_S
from featurekit.errors import FeatureKitError, RequestError, StoreError, ValueRefusedError
from featurekit.server.auth import Scope
from featurekit.server.context import Limits, ServerContext
from featurekit.server.request_body import (
    optional_integer,
    read_body,
    required,
    string_list,
    unknown_member,
)
from featurekit.server.responses import json_response, status_of
from featurekit.server.routing import route

LOAD_COUNT = 200
READ_COUNT = 100
LOAD_COUNTS = (1, 20_000)
READ_COUNTS = (1, 2000)
TTLS_S = (1, LONGEST_TTL_S)

_LISTS = frozenset({"field"})
"""Parameters that may be repeated."""

_INTEGERS = frozenset({"count", "ttl"})
"""Parameters whose text is a number; empty text means the default."""

_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")

Answer = Callable[[Request], Awaitable[dict[str, object]]]


def demo_routes(service: DemoService, context: ServerContext) -> list[Route]:
    """Return the endpoints of the demo."""
    endpoints = _Endpoints(service, context.limits)
    table: tuple[tuple[str, str, Scope, Answer], ...] = (
        ("GET", "/state", "read", endpoints.state),
        ("POST", "/bulk-load", "write", endpoints.bulk_load),
        ("POST", "/worker/toggle", "write", endpoints.toggle_worker),
        ("POST", "/read", "read", endpoints.read),
        ("POST", "/batch-read", "read", endpoints.batch_read),
        ("GET", "/inspect", "read", endpoints.inspect),
        ("POST", "/reset", "write", endpoints.reset),
    )
    return [
        route(path, _with_errors(answer), context=context, scope=scope, methods=[method])
        for method, path, scope, answer in table
    ]


class _Endpoints:
    def __init__(self, service: DemoService, limits: Limits) -> None:
        self._service = service
        self._limits = limits

    async def state(self, _request: Request) -> dict[str, object]:
        return await self._service.state()

    async def bulk_load(self, request: Request) -> dict[str, object]:
        given = await _body_parameters(request, self._limits, ("count", "ttl"))
        count = optional_integer(given, "count", LOAD_COUNT, LOAD_COUNTS)
        ttl_s = optional_integer(given, "ttl", self._service.settings.batch_ttl_s, TTLS_S)
        return await self._service.bulk_load(count, ttl_s)

    async def toggle_worker(self, request: Request) -> dict[str, object]:
        await _body_parameters(request, self._limits, ())
        return self._service.toggle_worker()

    async def read(self, request: Request) -> dict[str, object]:
        given = await _body_parameters(request, self._limits, ("user", "field"))
        return await self._service.read(_user(given), string_list(given, "field"))

    async def batch_read(self, request: Request) -> dict[str, object]:
        given = await _body_parameters(request, self._limits, ("count", "field"))
        count = optional_integer(given, "count", READ_COUNT, READ_COUNTS)
        names = string_list(given, "field") or self._service.default_fields
        return await self._service.batch_read(count, names)

    async def inspect(self, request: Request) -> dict[str, object]:
        given = _collect(request.query_params.multi_items(), ("user",))
        return await self._service.inspect(_user(given))

    async def reset(self, request: Request) -> dict[str, object]:
        await _body_parameters(request, self._limits, ())
        return await self._service.reset()


def _user(given: dict[str, Any]) -> str:
    user = required(given, "user", str)
    if not user:
        raise RequestError("must not be empty", where="user")
    return user


async def _body_parameters(
    request: Request, limits: Limits, allowed: Collection[str]
) -> dict[str, Any]:
    """Return the parameters of a body: a form, unless its content type is JSON.

    Raises:
        RequestError: The body is malformed, or a parameter is unknown or repeated.
    """
    if request.query_params:
        raise RequestError("send parameters in the body, as a form or as JSON")
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    body = await read_body(request, limits)
    if media_type.endswith(("/json", "+json")):
        return _collect(_json_pairs(body), allowed)
    if media_type.startswith("multipart/"):
        raise RequestError("multipart forms are not supported; send a urlencoded form or JSON")
    try:
        pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, errors="strict")
    except ValueError as error:
        raise RequestError(f"the body is not a urlencoded form: {error}") from error
    return _collect(pairs, allowed)


def _json_pairs(body: bytes) -> list[tuple[str, object]]:
    """Return the members of a JSON object; a list gives one pair per item, `null` gives none."""
    try:
        document = orjson.loads(body) if body.strip() else {}
    except orjson.JSONDecodeError as error:
        raise RequestError(f"the body is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise RequestError("the JSON body must be an object of parameters")
    return [
        (name, item)
        for name, value in document.items()
        for item in (value if isinstance(value, list) else [value])
        if value is not None
    ]


def _collect(pairs: Sequence[tuple[str, object]], allowed: Collection[str]) -> dict[str, Any]:
    values: dict[str, list[object]] = {}
    for name, value in pairs:
        if name not in allowed:
            raise unknown_member(name, allowed, where=name)
        values.setdefault(name, []).append(_parse(name, value))
    given: dict[str, Any] = {}
    for name, items in values.items():
        if name in _LISTS:
            given[name] = [item for item in items if item != ""]
        elif len(items) > 1:
            raise RequestError(f"given {len(items)} times", where=name)
        else:
            given[name] = items[0]
    return given


def _parse(name: str, value: object) -> object:
    """Return the value of a parameter: text is stripped, and numbers are parsed."""
    if not isinstance(value, str):
        return value
    text = value.strip()
    if name not in _INTEGERS:
        return text
    if not text:
        return None
    return int(text) if _INTEGER.fullmatch(text) else text


def _with_errors(answer: Answer) -> Callable[[Request], Awaitable[Response]]:
    """Return a handler that turns errors into the demo's own error documents."""

    async def handler(request: Request) -> Response:
        try:
            return json_response(await answer(request))
        except HTTPException as error:
            return json_response({"error": error.detail}, error.status_code)
        except FeatureKitError as error:
            text = f"{error.where}: {error.message}" if error.where else error.message
            document = {"error": f"{text}; {error.hint}" if error.hint else text}
            if isinstance(error, RequestError) and error.where:
                document["field"] = error.where
            return json_response(document, _status(error))

    return handler


def _status(error: FeatureKitError) -> int:
    if isinstance(error, RequestError | ValueRefusedError):
        return 400
    if type(error) is StoreError and "WRONGTYPE" in error.message:
        return 409  # the key holds another type than a hash
    return status_of(error)
