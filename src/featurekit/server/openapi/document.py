"""Build and serve the OpenAPI 3.1 document of a registry, and the page that shows it."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from featurekit.plan import RepoPlan
from featurekit.registry import Registry
from featurekit.server.context import ServerContext
from featurekit.server.openapi import operations, paths
from featurekit.server.responses import json_bytes
from featurekit.server.routing import route
from featurekit.server.static_files import file_response

_PAGE = "docs.html"

_DESCRIPTION = """Read and write features over HTTP. `/v1` returns rows of values with their statuses;
Feast's own paths work with Feast clients. The status of a value is `present`; `default` or `missing` if
no value is stored; `stale` if it is older than `max_age`; `invalid` if the stored bytes cannot be
decoded; `unavailable` if its server is down and the request set `partial`."""


def openapi_routes(context: ServerContext) -> list[BaseRoute]:
    """Return the routes of the document and of its page. The page is public."""
    document = _CachedDocument(context)

    async def openapi(request: Request) -> Response:
        return document.response(request)

    async def page(request: Request) -> Response:
        return file_response(__package__, _PAGE, request)

    async def file(request: Request) -> Response:
        return file_response(__package__, request.path_params["name"], request)

    return [
        route("/openapi.json", openapi, context=context),
        route("/docs", page, context=context, scope=None),
        route("/docs/{name}", file, context=context, scope=None),
    ]


class _CachedDocument:
    """The document as bytes, built once per registry."""

    def __init__(self, context: ServerContext) -> None:
        self._context = context
        self._cached: tuple[RepoPlan, bytes] | None = None

    def response(self, request: Request) -> Response:
        plan = self._context.store.compiled
        cached = self._cached
        if cached is None or cached[0] is not plan:
            document = openapi_document(self._context, self._context.store.applied, plan)
            cached = self._cached = (plan, json_bytes(document))
        etag = f'"{plan.fingerprint[:20]}"'
        headers = {"ETag": etag, "Cache-Control": "no-cache"}
        if etag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return Response(cached[1], headers=headers, media_type="application/json")


def openapi_document(context: ServerContext, registry: Registry, plan: RepoPlan) -> dict[str, Any]:
    """Return the OpenAPI document.

    Args:
        context: The server's state, with its limits and tokens.
        registry: The applied registry.
        plan: The compiled registry.
    """
    most = context.limits.entities
    routes: paths.Paths = {}
    schemas = operations.SCHEMAS | paths.SCHEMAS
    for service in registry.feature_services:
        operation, own = operations.read_service(registry, plan, service, most)
        routes[f"/v1/services/{service.name}/read"] = {"post": operation}
        schemas |= own
    for view in registry.feature_views:
        operation, own = operations.write_view(registry, view, most)
        routes[f"/v1/views/{view.name}/write"] = {"post": operation}
        schemas |= own
    routes |= paths.v1_paths(registry, most)
    routes |= paths.feast_paths(registry, most)
    routes |= paths.monitoring_paths()
    components: dict[str, Any] = {"schemas": schemas, "responses": operations.error_responses()}
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": f"Features of {registry.project}",
            "version": registry.fingerprint[:16],
            "description": _DESCRIPTION,
            "x-featurekit": version("featurekit"),
        },
        "tags": [{"name": name} for name in ("Read", "Write", "Registry", "Monitoring", "Feast")],
        "paths": routes,
        "components": components,
    }
    if context.tokens:
        components["securitySchemes"] = {"bearer": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"bearer": []}]
    return document
