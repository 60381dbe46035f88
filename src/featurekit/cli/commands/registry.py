"""The commands `list` and `describe`, which show what is applied."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from typing import NamedTuple

import click

from featurekit.cli.commands.batch import TIME
from featurekit.cli.context import CliContext, cli_command
from featurekit.cli.formatting import format_age, format_count, format_seconds, format_size
from featurekit.cli.output import DIM, RED, Cell, Styled, print_line, print_pairs, print_table
from featurekit.codegen.catalog import (
    computation_text,
    constraints_text,
    default_text,
    definition_document,
    derived_entities,
    descriptive_rows,
    expiry_text,
    history_rows,
    join_keys_text,
    key_text,
    logging_text,
    ordering_text,
    request_values,
    services_with_field,
    ttl_text,
    view_kind,
    view_source_text,
    window_rows,
)
from featurekit.compiler.fields import compile_fields
from featurekit.errors import RequestError, UnknownNameError
from featurekit.models import Entity, FeatureService, FeatureView, format_duration
from featurekit.models.derived import DerivedField, DerivedView, Request
from featurekit.models.model import Described
from featurekit.plan import RepoPlan
from featurekit.plan.fields import find_plan
from featurekit.registry import Registry
from featurekit.repo import FeatureStore
from featurekit.repo.history import LoadRecord

Row = tuple[dict[str, object], list[Cell]]
"""One definition or event, as a JSON document and as the cells of a table row."""


class Listing(NamedTuple):
    """The column headings of a list, and a function that yields its rows."""

    headings: tuple[str, ...]
    rows: Callable[[FeatureStore], Iterator[Row]]


def _entity_rows(store: FeatureStore) -> Iterator[Row]:
    registry = store.applied
    for entity in registry.entities:
        views = _views_of(registry, entity)
        cells: list[Cell] = [
            entity.name,
            join_keys_text(entity),
            ", ".join(views),
            entity.description,
        ]
        yield definition_document("entity", entity, views=views), cells


def _views_of(registry: Registry, entity: Entity) -> list[str]:
    return [view.name for view in registry.feature_views if view.entity == entity.name]


def _view_rows(store: FeatureStore) -> Iterator[Row]:
    for view in store.applied.feature_views:
        cells: list[Cell] = [
            view.name,
            view.entity or "none",
            view_kind(view),
            format_duration(view.ingestion.refresh),
            format_duration(view.ingestion.ttl_ms),
            str(len(view.fields_)),
            view.description,
        ]
        yield definition_document("feature_view", view), cells
    for derived in store.applied.derived_views:
        entities = derived_entities(store.applied, derived)
        cells = [
            derived.name,
            ", ".join(entities) or "none",
            "derived",
            *("-", "-"),
            str(len(derived.fields_)),
            derived.description,
        ]
        yield definition_document("feature_view", derived, entities=entities), cells


def _request_rows(store: FeatureStore) -> Iterator[Row]:
    for request in store.applied.requests:
        values = ", ".join(f"{name}: {spec.type}" for name, spec in request.fields_.items())
        yield definition_document("request", request), [request.name, values, request.description]


def _service_rows(store: FeatureStore) -> Iterator[Row]:
    for service in store.applied.feature_services:
        cells: list[Cell] = [service.name, ", ".join(map(str, service.items)), service.description]
        yield definition_document("feature_service", service), cells


def _field_rows(store: FeatureStore) -> Iterator[Row]:
    for view in store.applied.feature_views:
        for name, field in view.fields_.items():
            feature, ttl = f"{view.name}:{name}", ttl_text(view, name)
            cells: list[Cell] = [feature, field.type, default_text(field), ttl, field.description]
            yield (
                definition_document("field", field, feature=feature, entity=view.entity, ttl=ttl),
                cells,
            )
    for derived in store.applied.derived_views:
        for name, spec in derived.fields_.items():
            feature = f"{derived.name}:{name}"
            entities = derived_entities(store.applied, derived, name)
            cells = [feature, spec.type, default_text(spec), "-", spec.description]
            yield definition_document("field", spec, feature=feature, entities=entities), cells


def _load_rows(store: FeatureStore) -> Iterator[Row]:
    return _rows_of_loads(store.load_history())


def _rows_of_loads(loads: Iterable[LoadRecord]) -> Iterator[Row]:
    now_ms = time.time_ns() // 1_000_000
    for load in loads:
        cells: list[Cell] = [
            load.view,
            "never" if load.never_ended else format_age(now_ms - load.ended_ms),
            format_count(load.rows_read),
            format_count(load.rows_written),
            Styled(format_count(load.rows_rejected), RED if load.rows_rejected else ""),
            format_size(load.size_bytes),
            format_seconds(load.seconds),
            Styled(load.error, RED) if load.error else load.rejects_path,
        ]
        yield asdict(load), cells


def _apply_rows(store: FeatureStore) -> Iterator[Row]:
    now_ms = time.time_ns() // 1_000_000
    for apply in store.apply_history():
        cells: list[Cell] = [
            format_age(now_ms - apply.at_ms),
            apply.who,
            apply.after[:16],
            "; ".join(map(str, apply.changes)) or Styled("only descriptions", DIM),
        ]
        yield asdict(apply), cells


LISTINGS = {
    "entities": Listing(("entity", "join keys", "views", ""), _entity_rows),
    "views": Listing(("view", "entity", "kind", "refresh", "ttl", "fields", ""), _view_rows),
    "requests": Listing(("request", "values", ""), _request_rows),
    "services": Listing(("service", "features", ""), _service_rows),
    "fields": Listing(("field", "type", "default", "ttl", ""), _field_rows),
    "loads": Listing(
        ("view", "ended", "read", "written", "rejected", "size", "took", ""), _load_rows
    ),
    "applies": Listing(("when", "who", "registry", ""), _apply_rows),
}
NUMERIC_COLUMNS = ("fields", "read", "written", "rejected", "size", "took")
DEFAULT_LISTINGS = ("entities", "views", "services")


@cli_command("list")
@click.argument("what", type=click.Choice(list(LISTINGS)), required=False)
@click.argument("name", required=False)
@click.option(
    "--since", metavar="TIME", help=f"Show all loads that ended at or after this time: {TIME}."
)
@click.option("--until", metavar="TIME", help="Show all loads that ended at or before this time.")
def list_command(
    context: CliContext, what: str | None, name: str | None, since: str | None, until: str | None
) -> None:
    """List entities, views, requests, services, fields, loads or applies.

    Without an argument, lists the applied entities, views, services, and requests if there are any. Shows the last 50 loads of
    each view and the last 100 applies, newest first. With --since or --until, shows all loads of
    that time that the log has.

    NAME limits the list to one definition, to the fields of this name in all views, or to the loads
    of one view.

    \b
    featurekit list fields tx_count_7d
    featurekit list loads user_profile --since 2026-11-01
    """  # noqa: D301 - click reads the backspace
    chosen = [what] if what else DEFAULT_LISTINGS
    is_range = (since, until) != (None, None)
    if is_range and what != "loads":
        raise RequestError(
            "--since and --until limit loads", hint="featurekit list loads --since TIME"
        )
    with context.open_store() as store:
        if is_range:
            loads = store.load_history(name, since=since, until=until)
            listed = {"loads": list(_rows_of_loads(loads))}
        else:
            listed = {kind: list(LISTINGS[kind].rows(store)) for kind in chosen}
            if not what and (requests := list(_request_rows(store))):
                listed["requests"] = requests
    if what and name and not is_range:
        listed[what] = _named_rows(what, name, listed[what])
    if context.json:
        documents = {kind: [document for document, _ in rows] for kind, rows in listed.items()}
        context.print_json(documents[what] if what else documents)
        return
    for index, (kind, rows) in enumerate(listed.items()):
        if index:
            print_line()
        cells = [cells for _, cells in rows]
        print_table(LISTINGS[kind].headings, cells, right=NUMERIC_COLUMNS)


def _named_rows(what: str, name: str, rows: list[Row]) -> list[Row]:
    """Return the rows of a name; a field is named by its own name, or with its view.

    Raises:
        UnknownNameError: There are none.
        RequestError: The rows of this list have no names.
    """
    if what == "applies":
        raise RequestError("applies have no names", hint="leave the name out")
    names = [_row_names(document) for document, _ in rows]
    if not (found := [row for row, own in zip(rows, names, strict=True) if name in own]):
        raise UnknownNameError.among(LISTINGS[what].headings[0], name, {own[0] for own in names})
    return found


def _row_names(document: dict[str, object]) -> list[str]:
    """Return the names of a definition or load; of a field the own name comes last."""
    name = str(document.get("feature") or document.get("name") or document["view"])
    return [name, name.rpartition(":")[2]]


Description = tuple[dict[str, object], Callable[[], None]]
"""A definition as a JSON document, and a function that prints it."""

FIELD_HEADINGS = ("field", "type", "default", "ttl", "rules", "")


@cli_command("describe")
@click.argument("name", metavar="NAME|VIEW:FIELD")
def describe_command(context: CliContext, name: str) -> None:
    """Show the details of an entity, view, service or field.

    Describes what is applied. Shows everything that has the name: an entity and a view, or fields of
    several views.
    """
    with context.open_store() as store:
        registry, plan = store.applied, store.compiled
    descriptions = list(_describe(registry, plan, name))
    if not descriptions:
        kinds = "entity, view, request, service or field"
        raise UnknownNameError.among(kinds, name, set(_all_names(registry)))
    if context.json:
        documents = [document for document, _ in descriptions]
        context.print_json(documents[0] if len(documents) == 1 else documents)
        return
    for index, (_, print_description) in enumerate(descriptions):
        if index:
            print_line()
        print_description()


def _all_names(registry: Registry) -> Iterator[str]:
    views: list[FeatureView | DerivedView] = [*registry.feature_views, *registry.derived_views]
    for items in (registry.entities, views, registry.requests, registry.feature_services):
        yield from (item.name for item in items)
    for view in views:
        yield from view.fields_


def _describe(registry: Registry, plan: RepoPlan, name: str) -> Iterator[Description]:
    view_name, colon, field = name.partition(":")
    views = [view for view in registry.feature_views if view.name == view_name]
    derived = [view for view in registry.derived_views if view.name == view_name]
    if colon and derived:
        plan.derived_view(view_name).feature(field)  # raises for an unknown name
        yield from (_describe_derived_field(registry, view, field) for view in derived)
        return
    if colon:
        plan.view(view_name).field(field)  # raises for an unknown name
        yield from (_describe_field(registry, view, field) for view in views)
        return
    yield from (_describe_entity(registry, plan, e) for e in registry.entities if e.name == name)
    yield from (_describe_view(registry, view) for view in views)
    yield from (_describe_derived_view(registry, view) for view in derived)
    yield from (_describe_request(each) for each in registry.requests if each.name == name)
    yield from (
        _describe_service(registry, s) for s in registry.feature_services if s.name == name
    )
    with_field = [view for view in registry.feature_views if name in view.fields_]
    yield from (_describe_field(registry, view, name) for view in with_field)
    with_feature = [view for view in registry.derived_views if name in view.fields_]
    yield from (_describe_derived_field(registry, view, name) for view in with_feature)


def _print_heading(kind: str, name: str, model: Described) -> None:
    print_line(Styled(f"{kind} ", DIM), Styled(name, "bold"))
    if model.description:
        print_line(model.description)
    print_line()


def _describe_entity(registry: Registry, plan: RepoPlan, entity: Entity) -> Description:
    compiled = plan.entity(entity.name)
    key, views = key_text(compiled.key), _views_of(registry, entity)
    document = definition_document(
        "entity", entity, key=key, views=views, retired=compiled.retired
    )

    def print_description() -> None:
        _print_heading("entity", entity.name, entity)
        pairs: list[tuple[str, Cell]] = [
            ("join keys", join_keys_text(entity)),
            ("key", key),
            ("views", ", ".join(views)),
            ("retired fields", ", ".join(compiled.retired)),
        ]
        print_pairs([*pairs, *descriptive_rows(entity)])

    return document, print_description


def _describe_view(registry: Registry, view: FeatureView) -> Description:
    services = sorted(
        {s for name in view.fields_ for s in services_with_field(registry, view.name, name)}
    )
    ttl = format_duration(view.ingestion.ttl_ms)
    document = definition_document("feature_view", view, ttl=ttl, services=services)

    def print_description() -> None:
        _print_heading("feature view", view.name, view)
        pairs: list[tuple[str, Cell]] = [
            ("entity", view.entity or "none"),
            ("kind", view_kind(view)),
            ("refresh", format_duration(view.ingestion.refresh)),
            ("expires", expiry_text(view)),
            ("ordering", ordering_text(view)),
            ("source", view_source_text(view)),
            *history_rows(view),
            *window_rows(view),
            ("services", ", ".join(services)),
        ]
        print_pairs([*pairs, *descriptive_rows(view)])
        print_line()
        print_table(FIELD_HEADINGS, [_field_cells(view, name) for name in view.fields_])

    return document, print_description


def _field_cells(view: FeatureView, name: str) -> list[Cell]:
    field = view.fields_[name]
    cells = [name, field.type, default_text(field), ttl_text(view, name), constraints_text(field)]
    return [*cells, Styled(field.description, DIM)]


def _describe_field(registry: Registry, view: FeatureView, name: str) -> Description:
    field, services = view.fields_[name], services_with_field(registry, view.name, name)
    feature, ttl = f"{view.name}:{name}", ttl_text(view, name)
    more: dict[str, object] = {"entity": view.entity, "ttl": ttl, "services": services}
    aggregate = find_plan("field", compile_fields(view), name).aggregate
    if aggregate is not None:
        more["stored_as"] = f"{aggregate.head}..."
    document = definition_document("field", field, feature=feature, **more)

    def print_description() -> None:
        _print_heading("field", feature, field)
        pairs: list[tuple[str, Cell]] = [
            ("type", field.type),
            ("default", default_text(field)),
            ("ttl", ttl),
            ("aggregate" if aggregate else "rules", constraints_text(field)),
            ("stored as", str(more.get("stored_as", ""))),
            ("entity", view.entity or "none"),
            ("view kind", view_kind(view)),
            ("refresh", format_duration(view.ingestion.refresh)),
            ("services", ", ".join(services)),
        ]
        print_pairs([*pairs, *descriptive_rows(field)])

    return document, print_description


DERIVED_HEADINGS = ("field", "type", "default", "computed as", "")


def _describe_derived_view(registry: Registry, view: DerivedView) -> Description:
    services = sorted(
        {s for name in view.fields_ for s in services_with_field(registry, view.name, name)}
    )
    entities, requests = derived_entities(registry, view), request_values(registry, view)
    document = definition_document(
        "feature_view", view, entities=entities, requests=requests, services=services
    )

    def print_description() -> None:
        _print_heading("feature view", view.name, view)
        pairs: list[tuple[str, Cell]] = [
            ("entities", ", ".join(entities) or "none"),
            ("kind", "derived"),
            ("from", ", ".join(view.derived.from_)),
            ("request data", ", ".join(requests)),
            ("services", ", ".join(services)),
        ]
        print_pairs([*pairs, *descriptive_rows(view)])
        print_line()
        rows = [[name, *_derived_cells(spec)] for name, spec in view.fields_.items()]
        print_table(DERIVED_HEADINGS, rows)

    return document, print_description


def _derived_cells(spec: DerivedField) -> list[Cell]:
    text = computation_text(spec)
    return [spec.type, default_text(spec), text, Styled(spec.description, DIM)]


def _describe_derived_field(registry: Registry, view: DerivedView, name: str) -> Description:
    field, services = view.fields_[name], services_with_field(registry, view.name, name)
    entities, requests = (
        derived_entities(registry, view, name),
        request_values(registry, view, name),
    )
    used = [each.full_name for each in registry.derivations.used(view.name, [name])]
    document = definition_document(
        "field",
        field,
        feature=f"{view.name}:{name}",
        entities=entities,
        requests=requests,
        computed_from=used,
        services=services,
    )

    def print_description() -> None:
        _print_heading("field", f"{view.name}:{name}", field)
        pairs: list[tuple[str, Cell]] = [
            ("type", field.type),
            ("default", default_text(field)),
            ("computed as", computation_text(field)),
            ("computed from", ", ".join(used)),
            ("entities", ", ".join(entities) or "none"),
            ("view kind", "derived"),
            ("services", ", ".join(services)),
        ]
        print_pairs([*pairs, *descriptive_rows(field)])

    return document, print_description


def _describe_request(request: Request) -> Description:
    document = definition_document("request", request)

    def print_description() -> None:
        _print_heading("request", request.name, request)
        print_pairs(descriptive_rows(request))
        rows = [
            [name, spec.type, default_text(spec), constraints_text(spec), spec.description]
            for name, spec in request.fields_.items()
        ]
        print_table(("value", "type", "default", "rules", ""), rows)

    return document, print_description


def _describe_service(registry: Registry, service: FeatureService) -> Description:
    views = {view.name: view for view in registry.feature_views}
    derived = {view.name: view for view in registry.derived_views}
    features = registry.features_of(service)
    entities = registry.entities_of(service)
    document = definition_document("feature_service", service, entities=entities) | {
        "features": [feature.to_item() for feature in features]
    }

    def print_description() -> None:
        _print_heading("feature service", service.name, service)
        pairs: list[tuple[str, Cell]] = [
            ("entities", ", ".join(entities)),
            ("logging", logging_text(service)),
        ]
        print_pairs([*pairs, *descriptive_rows(service)])
        print_line()
        rows: list[list[Cell]] = []
        for each in features:
            if each.view in derived:
                type_, default, text, _ = _derived_cells(derived[each.view].fields_[each.field])
                rows.append([str(each), type_, default, "-", text])
            else:
                rows.append([str(each), *_field_cells(views[each.view], each.field)[1:-1]])
        print_table(FIELD_HEADINGS[:-1], rows)

    return document, print_description
