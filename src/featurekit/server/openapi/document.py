"""The document: OpenAPI 3.1 of one registry, as one server serves it."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from featurekit.plan import RepoPlan
from featurekit.registry import Registry
from featurekit.server.context import ServerContext
from featurekit.server.openapi import fixed, parts
from featurekit.server.openapi.rows import read_service, write_view

_TEXT = """Features over HTTP. Read a service, or features named one by one, and get rows of values
with their statuses; or use Feast's own paths, which its clients know. A value's status is `present`;
`default` or `missing` where nothing is stored; `stale` where it is older than `max_age` allows; `invalid`
where what is stored cannot be read; `unavailable` where its server is away (`partial`)."""


def document_of(site: ServerContext, registry: Registry, repo: RepoPlan) -> dict[str, Any]:
    """The document.

    Args:
        site: Its limits, and whether it asks for tokens.
        registry: What is applied.
        repo: The same, compiled.
    """
    most = site.limits.entities
    paths: fixed.Paths = {}
    schemas = parts.SCHEMAS | fixed.SCHEMAS
    for service in registry.feature_services:
        operation, own = read_service(registry, repo, service, most)
        paths[f"/v1/services/{service.name}/read"] = {"post": operation}
        schemas |= own
    for view in registry.feature_views:
        operation, own = write_view(registry, view, most)
        paths[f"/v1/views/{view.name}/write"] = {"post": operation}
        schemas |= own
    paths |= fixed.v1_paths(registry, most)
    paths |= fixed.feast_paths(registry, most)
    paths |= fixed.tending_paths()
    components: dict[str, Any] = {"schemas": schemas, "responses": parts.error_responses()}
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": f"Features of {registry.project}",
            "version": registry.fingerprint[:16],
            "description": _TEXT,
            "x-featurekit": version("featurekit"),
        },
        "tags": [{"name": name} for name in ("Read", "Write", "Diagnostics", "Tend", "Feast")],
        "paths": paths,
        "components": components,
    }
    if site.tokens:
        components["securitySchemes"] = {"bearer": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"bearer": []}]
    return document
