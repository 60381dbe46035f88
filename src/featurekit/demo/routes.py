"""Routes: the seven endpoints of the seed's demo, with its paths, methods and JSON keys.

Whatever is wrong is answered by `{"error": "..."}`: 400 for what the caller can mend, naming the
parameter; 503 where the store is away. Nothing is clamped in silence.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from featurekit.demo.bodies import (
    BadParameterError,
    number_of,
    parameters,
    query,
    text_of,
    texts_of,
)
from featurekit.demo.service import DemoService
from featurekit.demo.settings import LONGEST_TTL_S
from featurekit.errors import FeatureKitError, RequestError, StoreError, ValueRefusedError
from featurekit.server.answers import json_response, status_of
from featurekit.server.auth import Scope
from featurekit.server.context import ServerContext
from featurekit.server.routing import route

LOAD_COUNT = 200
READ_COUNT = 100
COUNTS = (1, 20_000)
READ_COUNTS = (1, 2000)
TTLS = (1, LONGEST_TTL_S)

Answer = Callable[[Request], Awaitable[dict[str, object]]]


def demo_routes(stage: DemoService, site: ServerContext) -> list[Route]:
    """The endpoints of the demo."""
    endpoints = _Endpoints(stage, site)
    table: tuple[tuple[str, str, Scope, Answer], ...] = (
        ("GET", "/state", "read", endpoints.state),
        ("POST", "/bulk-load", "write", endpoints.bulk_load),
        ("POST", "/worker/toggle", "write", endpoints.toggle),
        ("POST", "/read", "read", endpoints.read),
        ("POST", "/batch-read", "read", endpoints.batch_read),
        ("GET", "/inspect", "read", endpoints.inspect),
        ("POST", "/reset", "write", endpoints.reset),
    )
    return [
        route(path, _answering(answer), site=site, scope=scope, methods=[method])
        for method, path, scope, answer in table
    ]


class _Endpoints:
    def __init__(self, stage: DemoService, site: ServerContext) -> None:
        self._stage = stage
        self._site = site

    async def state(self, _request: Request) -> dict[str, object]:
        return await self._stage.state()

    async def bulk_load(self, request: Request) -> dict[str, object]:
        given = await parameters(request, self._site, ("count", "ttl"))
        count = number_of(given, "count", LOAD_COUNT, COUNTS)
        ttl_s = number_of(given, "ttl", self._stage.settings.batch_ttl_s, TTLS)
        return await self._stage.bulk_load(count, ttl_s)

    async def toggle(self, request: Request) -> dict[str, object]:
        await parameters(request, self._site, ())
        return self._stage.toggle()

    async def read(self, request: Request) -> dict[str, object]:
        given = await parameters(request, self._site, ("user", "field"))
        return await self._stage.read(text_of(given, "user"), texts_of(given, "field"))

    async def batch_read(self, request: Request) -> dict[str, object]:
        given = await parameters(request, self._site, ("count", "field"))
        count = number_of(given, "count", READ_COUNT, READ_COUNTS)
        names = texts_of(given, "field") or self._stage.default_fields
        return await self._stage.batch_read(count, names)

    async def inspect(self, request: Request) -> dict[str, object]:
        return await self._stage.inspect(text_of(query(request, ("user",)), "user"))

    async def reset(self, request: Request) -> dict[str, object]:
        await parameters(request, self._site, ())
        return await self._stage.reset()


def _answering(answer: Answer) -> Callable[[Request], Awaitable[Response]]:
    async def handler(request: Request) -> Response:
        try:
            return json_response(await answer(request))
        except HTTPException as error:
            return json_response({"error": error.detail}, error.status_code)
        except BadParameterError as error:
            return json_response({"error": error.message, "field": error.where}, 400)
        except FeatureKitError as error:
            text = f"{error.where}: {error.message}" if error.where else error.message
            return json_response({"error": text}, _status(error))

    return handler


def _status(error: FeatureKitError) -> int:
    if isinstance(error, RequestError | ValueRefusedError):
        return 400
    if type(error) is StoreError and "WRONGTYPE" in error.message:
        return 409  # the key is taken by something else than a hash
    return status_of(error)
