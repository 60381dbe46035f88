"""`featurekit list`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import click

from featurekit.cli.applied import applied_registry
from featurekit.cli.screen import Piece, show_json, show_line, show_table
from featurekit.cli.session import Session, session_command
from featurekit.models import format_duration
from featurekit.registry import Registry
from featurekit.repo import FeatureStore
from featurekit.repo.definitions import (
    default_text,
    document_of,
    join_keys_text,
    kind_of,
    ttl_text,
)

Row = tuple[dict[str, object], list[Piece]]


class Listing(NamedTuple):
    """One kind of thing: its columns, and its rows for programs and for people."""

    headings: tuple[str, ...]
    rows: Callable[[Registry], Iterator[Row]]


def _entities(registry: Registry) -> Iterator[Row]:
    for entity in registry.entities:
        views = [view.name for view in registry.feature_views if view.entity == entity.name]
        cells: list[Piece] = [
            entity.name,
            join_keys_text(entity),
            ", ".join(views),
            entity.description,
        ]
        yield document_of("entity", entity, views=views), cells


def _views(registry: Registry) -> Iterator[Row]:
    for view in registry.feature_views:
        refresh, ttl = format_duration(view.how.refresh), format_duration(view.how.ttl_ms)
        fields = str(len(view.fields_))
        cells: list[Piece] = [
            view.name,
            view.entity,
            kind_of(view),
            refresh,
            ttl,
            fields,
            view.description,
        ]
        yield document_of("feature_view", view), cells


def _services(registry: Registry) -> Iterator[Row]:
    for service in registry.feature_services:
        cells: list[Piece] = [service.name, ", ".join(service.features), service.description]
        yield document_of("feature_service", service), cells


def _fields(registry: Registry) -> Iterator[Row]:
    for view in registry.feature_views:
        for name, field in view.fields_.items():
            feature, ttl = f"{view.name}:{name}", ttl_text(view, name)
            cells: list[Piece] = [feature, field.type, default_text(field), ttl, field.description]
            yield document_of("field", field, feature=feature, entity=view.entity, ttl=ttl), cells


LISTINGS = {
    "entities": Listing(("entity", "join keys", "views", ""), _entities),
    "views": Listing(("view", "entity", "kind", "refresh", "ttl", "fields", ""), _views),
    "services": Listing(("service", "features", ""), _services),
    "fields": Listing(("field", "type", "default", "ttl", ""), _fields),
}
OVERVIEW = ("entities", "views", "services")


@session_command("list")
@click.argument("what", type=click.Choice(list(LISTINGS)), required=False)
def command(session: Session, what: str | None) -> None:
    """List entities, views, services or fields.

    Lists what is applied; without WHAT, entities, views and services.
    """
    with FeatureStore(session.repo) as store:
        registry = applied_registry(store)
    chosen = [what] if what else OVERVIEW
    listed = {name: list(LISTINGS[name].rows(registry)) for name in chosen}
    if session.json:
        documents = {name: [document for document, _ in rows] for name, rows in listed.items()}
        show_json(documents[what] if what else documents)
        return
    for index, (name, rows) in enumerate(listed.items()):
        if index:
            show_line()
        show_table(LISTINGS[name].headings, [cells for _, cells in rows], right=("fields",))
