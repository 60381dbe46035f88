"""Build the ASGI application of a server.

It is plain Starlette without middleware, which reads do not even pass: see `direct`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute

from featurekit.errors import FeatureKitError, RegistryError, StoreError
from featurekit.server.access import AccessCheck
from featurekit.server.context import ServerContext
from featurekit.server.direct import DirectApp
from featurekit.server.feast_api import feast_read_routes, feast_write_routes
from featurekit.server.metrics_endpoint import MetricsEndpoint
from featurekit.server.openapi.document import openapi_routes
from featurekit.server.registry_api import registry_routes
from featurekit.server.registry_reloader import RegistryReloader
from featurekit.server.request_metrics import UNMATCHED
from featurekit.server.responses import RETRY_AFTER_S, http_error_response, json_response
from featurekit.server.routing import http_exception_response, route
from featurekit.server.v1_api import v1_read_routes, v1_write_routes
from featurekit.server.write_jobs import MaterializeJobs


def create_app(context: ServerContext, extra: Sequence[BaseRoute] = ()) -> Starlette:
    """Return the ASGI application of a server.

    Args:
        context: The server's state.
        extra: Further routes, such as those of the console.
    """
    reloader, jobs = RegistryReloader(context.store), MaterializeJobs(context.store)
    metrics, access = MetricsEndpoint(context, reloader), AccessCheck(context)
    unmatched = context.request_metrics.counter(UNMATCHED)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        async with reloader.running(), metrics.running():
            yield
        await context.store.close_async()
        context.store.close()

    async def no_route(request: Request, error: Exception) -> Response:
        if not isinstance(error, HTTPException):
            raise error
        methods = (error.headers or {}).get("Allow", "")
        response = access.preflight(request, methods) or http_exception_response(error)
        access.add_cors_headers(request, response)
        unmatched.count(request.method, response.status_code, 0.0)
        return response

    async def to_docs(_request: Request) -> Response:
        return RedirectResponse("docs")

    reads = [*v1_read_routes(context), *feast_read_routes(context)]
    app = DirectApp(
        routes=[
            *reads,
            *feast_write_routes(context, jobs),
            *v1_write_routes(context, jobs),
            *_probe_routes(context),
            *registry_routes(context, reloader),
            *metrics.routes(),
            *openapi_routes(context),
            *extra,
            route("/", to_docs, context=context, scope=None),
        ],
        exception_handlers={HTTPException: no_route, Exception: _internal_error},
        lifespan=lifespan,
    )
    app.answer_directly(reads, _internal_error)
    return app


def _probe_routes(context: ServerContext) -> list[BaseRoute]:
    """Return `/health`, 200 while the process runs, and `/ready`, 200 while it can serve."""

    async def health(_request: Request) -> Response:
        return Response()

    async def ready(request: Request) -> Response:
        try:
            await asyncio.to_thread(context.store.load_registry)
            fingerprint = context.store.compiled.fingerprint
            await context.store.ping_async()
        except FeatureKitError as error:
            reason = error.message if _may_read(request) else _public_reason(error)
            return json_response(
                {"ready": False, "reason": reason}, 503, {"Retry-After": str(RETRY_AFTER_S)}
            )
        return json_response({"ready": True, "fingerprint": fingerprint})

    def _may_read(request: Request) -> bool:
        tokens = context.tokens
        return not tokens or bool(tokens.scope_of(request.headers.get("authorization", "")))

    return [
        route("/health", health, context=context, scope=None, check_access=False),
        route("/ready", ready, context=context, scope=None),
    ]


def _public_reason(error: FeatureKitError) -> str:
    """Return why the server is not ready, without the store's address and user."""
    if isinstance(error, RegistryError):
        return "no registry can be served"
    return "the online store is unavailable" if isinstance(error, StoreError) else "not ready"


async def _internal_error(_request: Request, _error: Exception) -> Response:
    """Answer after a bug. Starlette raises the error again, so that uvicorn logs it."""
    return http_error_response(500, "internal server error; see the server's log")
