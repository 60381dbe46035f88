"""Health: whether the process lives, and whether it can answer."""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from featurekit.errors import FeatureKitError
from featurekit.server.answers import RETRY_AFTER_S, json_response
from featurekit.server.context import ServerContext
from featurekit.server.routing import route


def health_routes(site: ServerContext) -> list[BaseRoute]:
    """`/health`, which is 200 while the process lives, and `/ready`, for load balancers."""

    async def health(_request: Request) -> Response:
        return Response()

    async def ready(_request: Request) -> Response:
        try:
            await asyncio.to_thread(site.store.load_registry)
            fingerprint = site.store.compiled.fingerprint
            await site.store.ping_async()
        except FeatureKitError as error:
            return json_response(
                {"ready": False, "reason": error.message},
                503,
                {"Retry-After": str(RETRY_AFTER_S)},
            )
        return json_response({"ready": True, "fingerprint": fingerprint})

    return [
        route("/health", health, site=site, scope=None),
        route("/ready", ready, site=site, scope=None),
    ]
