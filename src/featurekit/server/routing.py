"""Routing: a handler as a route that knows who may call it, and says what went wrong."""

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
from starlette.types import Scope as Connection

from featurekit.errors import FeatureKitError
from featurekit.server.answers import error_response, refusal
from featurekit.server.auth import Scope
from featurekit.server.context import ServerContext

Handler = Callable[[Request], Awaitable[Response]]


def route(
    path: str,
    handler: Handler,
    *,
    site: ServerContext,
    scope: Scope | None = "read",
    methods: Sequence[str] = ("GET",),
) -> Route:
    """A route of this server.

    Args:
        path: As Starlette writes it: `/v1/views/{name}`.
        handler: Answers a request. What it raises as a `FeatureKitError` becomes one message.
        site: Whose tokens count.
        scope: What a token must allow; `None` for a route open to all.
        methods: `GET` allows `HEAD` too.
    """
    return Route(path, Endpoint(handler, site, scope, path), methods=list(methods), name=path)


class Endpoint:
    """A handler as an ASGI application, without Starlette's own wrapping of functions."""

    def __init__(
        self, handler: Handler, site: ServerContext, scope: Scope | None, path: str
    ) -> None:
        self._handler = handler
        self._tokens = site.tokens
        self._store = site.store
        self._scope = scope
        self._count = site.traffic.of(path)

    async def __call__(self, scope: Connection, receive: Receive, send: Send) -> None:
        """Answer one request."""
        start, status = perf_counter(), 500
        request = Request(scope, receive, send)
        try:
            try:
                response = self._refusal(request) if self._scope else None
                if self._scope and not self._store.is_registry_loaded:
                    await asyncio.to_thread(self._store.load_registry)
                if response is None:
                    response = await self._handler(request)
            except FeatureKitError as error:
                response = error_response(error)
            except HTTPException as error:
                response = refused(error)
            status = response.status_code
            await response(scope, receive, send)
        finally:
            self._count.answered(scope["method"], status, perf_counter() - start)

    def _refusal(self, request: Request) -> Response | None:
        """Why this request may not be made; `None` if it may."""
        if self._scope == "write" and _is_from_another_site(request):
            return refusal(403, "a page of another site may not write here")
        if not self._tokens:
            return None
        allowed = self._tokens.scope_of(request.headers.get("authorization", ""))
        if allowed is None:
            return _challenge(401, "a valid bearer token is needed", "")
        if allowed not in ("write", self._scope):
            text = f"this token is not for '{self._scope}'"
            return _challenge(403, text, ' error="insufficient_scope"')
        return None


def refused(error: HTTPException) -> Response:
    """An error of HTTP itself: an unknown path, a wrong method, a body too large."""
    detail = error.detail
    if detail == HTTPStatus(error.status_code).phrase:
        detail = detail.lower()
    return refusal(error.status_code, detail, headers=dict(error.headers or {}))


def _challenge(status: int, message: str, reason: str) -> Response:
    return refusal(status, message, headers={"WWW-Authenticate": f"Bearer{reason}"})


def _is_from_another_site(request: Request) -> bool:
    """Whether a browser sends this for a page that did not come from here."""
    origin = request.headers.get("origin")
    return origin is not None and origin.partition("://")[2] != request.headers.get("host")
