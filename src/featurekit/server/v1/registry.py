"""What is served: `GET /v1/registry`, its entities, views and services, and `GET /v1/status`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import asdict

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from featurekit.errors import RegistryError, UnknownNameError
from featurekit.models import Entity, FeatureService, FeatureView
from featurekit.registry import Registry
from featurekit.repo.catalog import document_of, kind_of, services_with
from featurekit.server.answers import json_response
from featurekit.server.context import ServerContext
from featurekit.server.registry_reloader import RegistryReloader
from featurekit.server.routing import Handler, route

Document = dict[str, object]


def v1_registry_routes(site: ServerContext, following: RegistryReloader) -> list[BaseRoute]:
    """The routes that tell what is applied, and how it does."""

    async def registry(_request: Request) -> Response:
        applied = applied_registry(site)
        return json_response(
            {
                "project": applied.project,
                "key_prefix": applied.key_prefix,
                "fingerprint": applied.fingerprint,
                **{kind: documents(applied) for kind, (documents, _) in _KINDS.items()},
            }
        )

    async def status(_request: Request) -> Response:
        applied = applied_registry(site)
        states = await asyncio.to_thread(site.store.status)
        return json_response(
            {
                "project": applied.project,
                "fingerprint": applied.fingerprint,
                "reloads": following.reloads,
                "registry_error": following.error,
                "views": [asdict(state) for state in states],
            }
        )

    routes: list[BaseRoute] = [
        route("/v1/registry", registry, site=site),
        route("/v1/status", status, site=site),
    ]
    for kind, (documents, noun) in _KINDS.items():
        routes.append(route(f"/v1/{kind}", _all(site, kind, documents), site=site))
        routes.append(route(f"/v1/{kind}/{{name}}", _one(site, documents, noun), site=site))
    return routes


def applied_registry(site: ServerContext) -> Registry:
    """What is applied.

    Raises:
        RegistryError: Nothing is applied yet.
    """
    applied = site.store.registry
    if applied is None:
        raise RegistryError("nothing is applied yet", hint="run `featurekit apply` first")
    return applied


def _all(
    site: ServerContext, kind: str, documents: Callable[[Registry], list[Document]]
) -> Handler:
    async def all_of(_request: Request) -> Response:
        return json_response({kind: documents(applied_registry(site))})

    return all_of


def _one(
    site: ServerContext, documents: Callable[[Registry], list[Document]], noun: str
) -> Handler:
    async def one_of(request: Request) -> Response:
        name, known = request.path_params["name"], documents(applied_registry(site))
        for document in known:
            if document["name"] == name:
                return json_response(document)
        raise UnknownNameError.among(noun, name, [str(document["name"]) for document in known])

    return one_of


def entity_documents(registry: Registry) -> list[Document]:
    """The entities, each with its views."""
    return [_entity(registry, entity) for entity in registry.entities]


def view_documents(registry: Registry) -> list[Document]:
    """The views, each with its fields in order and the services that ask for them."""
    return [_view(registry, view) for view in registry.feature_views]


def service_documents(registry: Registry) -> list[Document]:
    """The services, each with its features one by one."""
    return [_service(registry, service) for service in registry.feature_services]


_KINDS: dict[str, tuple[Callable[[Registry], list[Document]], str]] = {
    "entities": (entity_documents, "entity"),
    "views": (view_documents, "feature view"),
    "services": (service_documents, "feature service"),
}


def _entity(registry: Registry, entity: Entity) -> Document:
    views = [view.name for view in registry.feature_views if view.entity == entity.name]
    return document_of("entity", entity, views=views) | {"join_keys": _pairs(entity)}


def _pairs(entity: Entity) -> list[Document]:
    return [{"name": name, "type": dtype} for name, dtype in entity.join_keys.items()]


def _view(registry: Registry, view: FeatureView) -> Document:
    fields = [
        document_of("field", field)
        | {"name": name, "ttl_ms": view.field_ttl_ms(name) or view.ingestion.ttl_ms}
        for name, field in view.fields_.items()
    ]
    services = sorted(
        {s for name in view.fields_ for s in services_with(registry, view.name, name)}
    )
    return document_of("feature_view", view) | {
        "written": kind_of(view),
        "refresh_ms": view.ingestion.refresh,
        "ttl_ms": view.ingestion.ttl_ms,
        "fields": fields,
        "services": services,
    }


def _service(registry: Registry, service: FeatureService) -> Document:
    return document_of("feature_service", service) | {
        "features": [f"{view}:{field}" for view, field in registry.features_of(service)],
        "entities": registry.entities_of(service),
    }
