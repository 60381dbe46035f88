"""Endpoints for the applied registry and the status of its views, such as `GET /v1/status`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import asdict

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from featurekit.codegen.catalog import definition_document, services_with_field, view_kind
from featurekit.errors import UnknownNameError
from featurekit.models import Entity, FeatureService, FeatureView
from featurekit.registry import Registry
from featurekit.server.context import ServerContext
from featurekit.server.registry_reloader import RegistryReloader
from featurekit.server.responses import json_response
from featurekit.server.routing import Handler, route

Document = dict[str, object]


def registry_routes(context: ServerContext, reloader: RegistryReloader) -> list[BaseRoute]:
    """Return the routes for the registry and the status of its views."""

    async def registry(_request: Request) -> Response:
        applied = context.store.applied
        return json_response(
            {
                "project": applied.project,
                "key_prefix": applied.key_prefix,
                "fingerprint": applied.fingerprint,
                **{kind: documents(applied) for kind, (documents, _) in _KINDS.items()},
            }
        )

    async def status(_request: Request) -> Response:
        applied = context.store.applied
        views = await asyncio.to_thread(context.store.status)
        store_state = await asyncio.to_thread(context.store.store_state)
        return json_response(
            {
                "project": applied.project,
                "fingerprint": applied.fingerprint,
                "reloads": reloader.reloads,
                "registry_error": reloader.error,
                "store_state": store_state.value,
                "views": [asdict(view) for view in views],
            }
        )

    routes: list[BaseRoute] = [
        route("/v1/registry", registry, context=context),
        route("/v1/status", status, context=context),
    ]
    for kind, (documents, noun) in _KINDS.items():
        list_all, get_one = _list(context, kind, documents), _get(context, documents, noun)
        routes.append(route(f"/v1/{kind}", list_all, context=context))
        routes.append(route(f"/v1/{kind}/{{name}}", get_one, context=context))
    return routes


def _list(
    context: ServerContext, kind: str, documents: Callable[[Registry], list[Document]]
) -> Handler:
    async def list_all(_request: Request) -> Response:
        return json_response({kind: documents(context.store.applied)})

    return list_all


def _get(
    context: ServerContext, documents: Callable[[Registry], list[Document]], noun: str
) -> Handler:
    async def get_one(request: Request) -> Response:
        name, known = request.path_params["name"], documents(context.store.applied)
        for document in known:
            if document["name"] == name:
                return json_response(document)
        raise UnknownNameError.among(noun, name, [str(document["name"]) for document in known])

    return get_one


def _entity_documents(registry: Registry) -> list[Document]:
    return [_entity_document(registry, entity) for entity in registry.entities]


def _view_documents(registry: Registry) -> list[Document]:
    return [_view_document(registry, view) for view in registry.feature_views]


def _service_documents(registry: Registry) -> list[Document]:
    return [_service_document(registry, service) for service in registry.feature_services]


_KINDS: dict[str, tuple[Callable[[Registry], list[Document]], str]] = {
    "entities": (_entity_documents, "entity"),
    "views": (_view_documents, "feature view"),
    "services": (_service_documents, "feature service"),
}


def _entity_document(registry: Registry, entity: Entity) -> Document:
    """Return an entity with the names of its views."""
    views = [view.name for view in registry.feature_views if view.entity == entity.name]
    join_keys = [{"name": name, "type": dtype} for name, dtype in entity.join_keys.items()]
    return definition_document("entity", entity, views=views) | {"join_keys": join_keys}


def _view_document(registry: Registry, view: FeatureView) -> Document:
    """Return a view with its fields in order and the services that use it."""
    fields = [
        definition_document("field", field)
        | {"name": name, "ttl_ms": view.field_ttl_ms(name) or view.ingestion.ttl_ms}
        for name, field in view.fields_.items()
    ]
    services = sorted(
        {s for name in view.fields_ for s in services_with_field(registry, view.name, name)}
    )
    return definition_document("feature_view", view) | {
        "written": view_kind(view),
        "refresh_ms": view.ingestion.refresh,
        "ttl_ms": view.ingestion.ttl_ms,
        "fields": fields,
        "services": services,
    }


def _service_document(registry: Registry, service: FeatureService) -> Document:
    """Return a service with each of its features and its entities."""
    return definition_document("feature_service", service) | {
        "features": [feature.to_item() for feature in registry.features_of(service)],
        "entities": registry.entities_of(service),
    }
