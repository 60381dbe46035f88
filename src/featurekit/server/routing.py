"""Build routes that check tokens, count requests and turn errors into responses."""

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
from featurekit.server.auth import Scope
from featurekit.server.context import ServerContext
from featurekit.server.responses import error_response, http_error_response

Handler = Callable[[Request], Awaitable[Response]]


def route(
    path: str,
    handler: Handler,
    *,
    context: ServerContext,
    scope: Scope | None = "read",
    methods: Sequence[str] = ("GET",),
) -> Route:
    """Return a route of this server.

    Args:
        path: A Starlette path: `/v1/views/{name}`.
        handler: Answers a request. A `FeatureKitError` that it raises becomes an error response.
        context: The server's state.
        scope: The scope that a token needs; `None` for a public route.
        methods: The HTTP methods; `GET` includes `HEAD`.
    """
    endpoint = Endpoint(handler, context, scope, path)
    return Route(path, endpoint, methods=list(methods), name=path)


class Endpoint:
    """A handler as an ASGI application, without the cost of Starlette's function wrapper."""

    def __init__(
        self, handler: Handler, context: ServerContext, scope: Scope | None, path: str
    ) -> None:
        self._handler = handler
        self._tokens = context.tokens
        self._store = context.store
        self._scope = scope
        self._counter = context.request_metrics.counter(path)

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        start, status = perf_counter(), 500
        request = Request(scope, receive, send)
        try:
            try:
                response = self._check_access(request) if self._scope else None
                if self._scope and not self._store.is_registry_loaded:
                    await asyncio.to_thread(self._store.load_registry)
                if response is None:
                    response = await self._handler(request)
            except FeatureKitError as error:
                response = error_response(error)
            except HTTPException as error:
                response = http_exception_response(error)
            status = response.status_code
            await response(scope, receive, send)
        finally:
            self._counter.count(scope["method"], status, perf_counter() - start)

    def _check_access(self, request: Request) -> Response | None:
        """Return the response that refuses a request; `None` if it is allowed."""
        if self._scope == "write" and _is_cross_site(request):
            return http_error_response(403, "writes from a page of another site are not allowed")
        if not self._tokens:
            return None
        granted = self._tokens.scope_of(request.headers.get("authorization", ""))
        if granted is None:
            return _challenge(401, "a valid bearer token is required", "")
        if granted not in ("write", self._scope):
            text = f"this token does not have the scope '{self._scope}'"
            return _challenge(403, text, ' error="insufficient_scope"')
        return None


def http_exception_response(error: HTTPException) -> Response:
    """Return the response for an unknown path, a wrong method or an unreadable body."""
    detail = error.detail
    if detail == HTTPStatus(error.status_code).phrase:
        detail = detail.lower()
    return http_error_response(error.status_code, detail, headers=dict(error.headers or {}))


def _challenge(status: int, message: str, reason: str) -> Response:
    headers = {"WWW-Authenticate": f"Bearer{reason}"}
    return http_error_response(status, message, headers=headers)


def _is_cross_site(request: Request) -> bool:
    """Return whether a browser sent the request for a page of another origin."""
    origin = request.headers.get("origin")
    return origin is not None and origin.partition("://")[2] != request.headers.get("host")
