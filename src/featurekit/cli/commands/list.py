"""`featurekit list`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import NamedTuple

import click

from featurekit.cli.applied import applied_registry
from featurekit.cli.context import Session, session_command
from featurekit.cli.formatting import ago, count, seconds, size
from featurekit.cli.output import BAD, DIM, Piece, Styled, show_json, show_line, show_table
from featurekit.models import format_duration
from featurekit.repo import FeatureStore
from featurekit.repo.catalog import (
    default_text,
    definition_document,
    join_keys_text,
    ttl_text,
    view_kind,
)

Row = tuple[dict[str, object], list[Piece]]


class Listing(NamedTuple):
    """One kind of thing: its columns, and its rows for programs and for people."""

    headings: tuple[str, ...]
    rows: Callable[[FeatureStore], Iterator[Row]]


def _entities(store: FeatureStore) -> Iterator[Row]:
    registry = applied_registry(store)
    for entity in registry.entities:
        views = [view.name for view in registry.feature_views if view.entity == entity.name]
        cells: list[Piece] = [
            entity.name,
            join_keys_text(entity),
            ", ".join(views),
            entity.description,
        ]
        yield definition_document("entity", entity, views=views), cells


def _views(store: FeatureStore) -> Iterator[Row]:
    registry = applied_registry(store)
    for view in registry.feature_views:
        refresh, ttl = (
            format_duration(view.ingestion.refresh),
            format_duration(view.ingestion.ttl_ms),
        )
        fields = str(len(view.fields_))
        cells: list[Piece] = [
            view.name,
            view.entity,
            view_kind(view),
            refresh,
            ttl,
            fields,
            view.description,
        ]
        yield definition_document("feature_view", view), cells


def _services(store: FeatureStore) -> Iterator[Row]:
    registry = applied_registry(store)
    for service in registry.feature_services:
        cells: list[Piece] = [service.name, ", ".join(service.features), service.description]
        yield definition_document("feature_service", service), cells


def _fields(store: FeatureStore) -> Iterator[Row]:
    registry = applied_registry(store)
    for view in registry.feature_views:
        for name, field in view.fields_.items():
            feature, ttl = f"{view.name}:{name}", ttl_text(view, name)
            cells: list[Piece] = [feature, field.type, default_text(field), ttl, field.description]
            yield (
                definition_document("field", field, feature=feature, entity=view.entity, ttl=ttl),
                cells,
            )


def _loads(store: FeatureStore) -> Iterator[Row]:
    now_ms = time.time_ns() // 1_000_000
    for run in store.load_history():
        cells: list[Piece] = [
            run.view,
            ago(now_ms - run.ended_ms),
            count(run.rows_read),
            count(run.rows_written),
            Styled(count(run.rows_rejected), BAD if run.rows_rejected else ""),
            size(run.size_bytes),
            seconds(run.seconds),
            Styled(run.error, BAD) if run.error else run.rejects_path,
        ]
        yield asdict(run), cells


def _applies(store: FeatureStore) -> Iterator[Row]:
    now_ms = time.time_ns() // 1_000_000
    for apply in store.apply_history():
        cells: list[Piece] = [
            ago(now_ms - apply.at_ms),
            apply.who,
            apply.after[:16],
            "; ".join(map(str, apply.changes)) or Styled("descriptions alone", DIM),
        ]
        yield asdict(apply), cells


LISTINGS = {
    "entities": Listing(("entity", "join keys", "views", ""), _entities),
    "views": Listing(("view", "entity", "kind", "refresh", "ttl", "fields", ""), _views),
    "services": Listing(("service", "features", ""), _services),
    "fields": Listing(("field", "type", "default", "ttl", ""), _fields),
    "loads": Listing(("view", "ended", "read", "written", "rejected", "size", "took", ""), _loads),
    "applies": Listing(("when", "who", "registry", ""), _applies),
}
NUMBERS = ("fields", "read", "written", "rejected", "size", "took")
OVERVIEW = ("entities", "views", "services")


@session_command("list")
@click.argument("what", type=click.Choice(list(LISTINGS)), required=False)
def command(session: Session, what: str | None) -> None:
    """List entities, views, services or fields, or the last loads or applies.

    Lists what is applied; without WHAT, entities, views and services. Of loads it lists the last 50
    of each view, of applies the last 100, newest first.
    """
    chosen = [what] if what else OVERVIEW
    with FeatureStore(session.repo) as store:
        listed = {name: list(LISTINGS[name].rows(store)) for name in chosen}
    if session.json:
        documents = {name: [document for document, _ in rows] for name, rows in listed.items()}
        show_json(documents[what] if what else documents)
        return
    for index, (name, rows) in enumerate(listed.items()):
        if index:
            show_line()
        show_table(LISTINGS[name].headings, [cells for _, cells in rows], right=NUMBERS)
