"""The application: the routes of one site put together.

Plain Starlette without middleware of our own: on the hot path a framework's work is most of the
cost.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from featurekit.server.answers import refusal
from featurekit.server.context import ServerContext
from featurekit.server.feast.loading import feast_loading_routes
from featurekit.server.feast.reading import feast_reading_routes
from featurekit.server.feast.writing import feast_writing_routes
from featurekit.server.health import health_routes
from featurekit.server.jobs import Jobs
from featurekit.server.openapi.routes import front_routes, openapi_routes
from featurekit.server.registry_reloader import RegistryReloader
from featurekit.server.request_metrics import UNMATCHED
from featurekit.server.routing import refused
from featurekit.server.scraping import Scraping
from featurekit.server.v1.reading import v1_reading_routes
from featurekit.server.v1.registry import v1_registry_routes
from featurekit.server.v1.writing import v1_writing_routes


def create_app(site: ServerContext, extra: Sequence[BaseRoute] = ()) -> Starlette:
    """The ASGI application of a site.

    Args:
        site: What it serves, and on which terms.
        extra: Further routes, as those of the console.
    """
    following, jobs = RegistryReloader(site.store), Jobs(site.store)
    scraping, unmatched = Scraping(site, following), site.traffic.of(UNMATCHED)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        async with following.running(), scraping.running():
            yield
        await site.store.close_async()
        site.store.close()

    async def no_route(request: Request, error: Exception) -> Response:
        if not isinstance(error, HTTPException):
            raise error
        unmatched.answered(request.method, error.status_code, 0.0)
        return refused(error)

    return Starlette(
        routes=[
            *feast_reading_routes(site),
            *v1_reading_routes(site),
            *feast_writing_routes(site),
            *feast_loading_routes(site, jobs),
            *v1_writing_routes(site, jobs),
            *health_routes(site),
            *v1_registry_routes(site, following),
            *scraping.routes(),
            *openapi_routes(site),
            *extra,
            *front_routes(site),
        ],
        exception_handlers={HTTPException: no_route, Exception: _failed},
        lifespan=lifespan,
    )


async def _failed(_request: Request, _error: Exception) -> Response:
    """A bug: Starlette raises it again after this answer, so that uvicorn logs it."""
    return refusal(500, "the server failed; its log tells why")
