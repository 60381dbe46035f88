"""`featurekit describe`."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import click

from featurekit.cli.applied import applied_registry
from featurekit.cli.context import Session, session_command
from featurekit.cli.output import DIM, Piece, Styled, show_json, show_line, show_pairs, show_table
from featurekit.errors import UnknownNameError
from featurekit.models import Entity, FeatureService, FeatureView, format_duration
from featurekit.models.model import Described
from featurekit.plan import RepoPlan
from featurekit.registry import Registry
from featurekit.repo import FeatureStore
from featurekit.repo.catalog import (
    constraints_text,
    default_text,
    definition_document,
    descriptive_rows,
    expiry_text,
    join_keys_text,
    key_text,
    services_with_field,
    source_text,
    ttl_text,
    view_kind,
)

FIELD_HEADINGS = ("field", "type", "default", "ttl", "rules", "")


@session_command("describe")
@click.argument("name", metavar="NAME|VIEW:FIELD")
def command(session: Session, name: str) -> None:
    """Tell everything about an entity, view, service or field.

    Tells what is applied. Where an entity, a view and a service share a name, all are told of.
    """
    with FeatureStore(session.repo) as store:
        registry, plan = applied_registry(store), store.compiled
    found = list(_found(registry, plan, name))
    if not found:
        known = [*_names(registry)]
        raise UnknownNameError.among("entity, view or service", name, known)
    if session.json:
        documents = [document for document, _ in found]
        show_json(documents[0] if len(documents) == 1 else documents)
        return
    for index, (_, show) in enumerate(found):
        if index:
            show_line()
        show()


Found = tuple[dict[str, object], Callable[[], None]]


def _names(registry: Registry) -> Iterator[str]:
    for things in (registry.entities, registry.feature_views, registry.feature_services):
        yield from (thing.name for thing in things)


def _found(registry: Registry, plan: RepoPlan, name: str) -> Iterator[Found]:
    view_name, colon, field = name.partition(":")
    views = [view for view in registry.feature_views if view.name == view_name]
    if colon:
        plan.view(view_name).field(field)  # raises with the nearest names
        yield from (_field(registry, view, field) for view in views)
        return
    yield from (_entity(registry, plan, e) for e in registry.entities if e.name == name)
    yield from (_view(registry, view) for view in views)
    yield from (_service(registry, s) for s in registry.feature_services if s.name == name)


def _head(kind: str, name: str, model: Described) -> None:
    show_line(Styled(f"{kind} ", DIM), Styled(name, "bold"))
    if model.description:
        show_line(model.description)
    show_line()


def _entity(registry: Registry, plan: RepoPlan, entity: Entity) -> Found:
    compiled = plan.entity(entity.name)
    key = key_text(compiled.key)
    views = [view.name for view in registry.feature_views if view.entity == entity.name]
    document = definition_document(
        "entity", entity, key=key, views=views, retired=compiled.retired
    )

    def show() -> None:
        _head("entity", entity.name, entity)
        pairs: list[tuple[str, Piece]] = [
            ("join keys", join_keys_text(entity)),
            ("key", key),
            ("views", ", ".join(views)),
            ("retired fields", ", ".join(compiled.retired)),
        ]
        show_pairs([*pairs, *descriptive_rows(entity)])

    return document, show


def _view(registry: Registry, view: FeatureView) -> Found:
    services = sorted(
        {s for name in view.fields_ for s in services_with_field(registry, view.name, name)}
    )
    document = definition_document(
        "feature_view", view, ttl=format_duration(view.ingestion.ttl_ms), services=services
    )

    def show() -> None:
        _head("feature view", view.name, view)
        pairs: list[tuple[str, Piece]] = [
            ("entity", view.entity),
            (
                "written",
                f"in batches, every {_refresh(view)}"
                if view.batch
                else f"by a stream, every {_refresh(view)}",
            ),
            ("expires", expiry_text(view)),
            ("ordering", view.stream.ordering if view.stream else ""),
            ("source", source_text(view)),
            ("services", ", ".join(services)),
        ]
        show_pairs([*pairs, *descriptive_rows(view)])
        show_line()
        show_table(FIELD_HEADINGS, [_field_row(view, name) for name in view.fields_])

    return document, show


def _refresh(view: FeatureView) -> str:
    return format_duration(view.ingestion.refresh)


def _field_row(view: FeatureView, name: str) -> list[Piece]:
    field = view.fields_[name]
    cells = [name, field.type, default_text(field), ttl_text(view, name), constraints_text(field)]
    return [*cells, Styled(field.description, DIM)]


def _field(registry: Registry, view: FeatureView, name: str) -> Found:
    field, services = view.fields_[name], services_with_field(registry, view.name, name)
    feature, ttl = f"{view.name}:{name}", ttl_text(view, name)
    document = definition_document(
        "field", field, feature=feature, entity=view.entity, ttl=ttl, services=services
    )

    def show() -> None:
        _head("field", feature, field)
        pairs: list[tuple[str, Piece]] = [
            ("type", field.type),
            ("default", default_text(field)),
            ("lives", f"{ttl} after it is written"),
            ("rules", constraints_text(field)),
            ("entity", view.entity),
            ("written", f"by {view_kind(view)}, every {_refresh(view)}"),
            ("services", ", ".join(services)),
        ]
        show_pairs([*pairs, *descriptive_rows(field)])

    return document, show


def _service(registry: Registry, service: FeatureService) -> Found:
    views = {view.name: view for view in registry.feature_views}
    features = registry.features_of(service)
    entities = registry.entities_of(service)
    document = definition_document("feature_service", service, entities=entities) | {
        "features": [f"{view}:{field}" for view, field in features]
    }

    def show() -> None:
        _head("feature service", service.name, service)
        show_pairs([("entities", ", ".join(entities)), *descriptive_rows(service)])
        show_line()
        rows = [
            [f"{view}:{name}", *_field_row(views[view], name)[1:-1]] for view, name in features
        ]
        show_table(FIELD_HEADINGS[:-1], rows)

    return document, show
