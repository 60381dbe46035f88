"""Build routes that check access, count requests and turn errors into responses."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus
from time import perf_counter

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Send
from starlette.types import Scope as AsgiScope

from featurekit.errors import FeatureKitError
from featurekit.runtime.request_id import set_request_id
from featurekit.server.access import AccessCheck
from featurekit.server.auth import Scope
from featurekit.server.context import ServerContext
from featurekit.server.responses import error_response, http_error_response

_MAX_ID_BYTES = 128
"""How much of an `X-Request-ID` is logged."""

Handler = Callable[[Request], Awaitable[Response]]


def route(
    path: str,
    handler: Handler,
    *,
    context: ServerContext,
    scope: Scope | None = "read",
    methods: Sequence[str] = ("GET",),
    check_access: bool = True,
) -> Route:
    """Return a route of this server.

    Args:
        path: A Starlette path: `/v1/views/{name}`.
        handler: Answers a request. A `FeatureKitError` that it raises becomes an error response.
        context: The server's state.
        scope: The scope that a token needs; `None` for a public route.
        methods: The HTTP methods; `GET` includes `HEAD`.
        check_access: Whether to check host, site and token; only `/health` answers everyone.
    """
    access = AccessCheck(context) if check_access else None
    endpoint = Endpoint(handler, context, scope, path, access)
    return Route(path, endpoint, methods=list(methods), name=path)


class Endpoint:
    """A handler as an ASGI application, without the cost of Starlette's function wrapper."""

    def __init__(
        self,
        handler: Handler,
        context: ServerContext,
        scope: Scope | None,
        path: str,
        access: AccessCheck | None,
    ) -> None:
        self._access = access
        self._handler = handler
        self._store = context.store
        self._scope = scope
        self._counter = context.request_metrics.counter(path)

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        start, status = perf_counter(), 500
        _note_request_id(scope)
        request = Request(scope, receive, send)
        try:
            try:
                response = self._access.refusal(request, self._scope) if self._access else None
                if response is None:
                    if self._scope and not self._store.is_registry_loaded:
                        await asyncio.to_thread(self._store.load_registry)
                    response = await self._handler(request)
            except FeatureKitError as error:
                response = error_response(error)
            except HTTPException as error:
                response = http_exception_response(error)
            except RecursionError:
                response = http_error_response(400, "the JSON of the body is nested too deeply")
            if self._access is not None:
                self._access.add_cors_headers(request, response)
            status = response.status_code
            await response(scope, receive, send)
        finally:
            self._counter.count(scope["method"], status, perf_counter() - start)


def _note_request_id(scope: AsgiScope) -> None:
    """Let logs of served features have the id of a request."""
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            set_request_id(value[:_MAX_ID_BYTES].decode("latin-1"))


def http_exception_response(error: HTTPException) -> Response:
    """Return the response for an unknown path, a wrong method or an unreadable body."""
    detail = error.detail
    if detail == HTTPStatus(error.status_code).phrase:
        detail = detail.lower()
    return http_error_response(error.status_code, detail, headers=dict(error.headers or {}))
