"""The pages of entities and services, and those that list definitions."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain

from featurekit.codegen.catalog import (
    default_text,
    key_text,
    logging_text,
    rules_text,
    ttl_text,
)
from featurekit.codegen.site.flow import flow_diagram
from featurekit.codegen.site.html import (
    Child,
    Html,
    breakable,
    card,
    el,
    facts,
    link,
    person,
    prose,
    span,
    table,
)
from featurekit.codegen.site.names import (
    Site,
    about,
    deprecated_badge,
    entity_link,
    field_address,
    key_list,
    kind_badge,
    name_link,
    names_list,
    page_of,
    tag_list,
)
from featurekit.codegen.site.page import Page
from featurekit.codegen.site.snippets import folded, reading
from featurekit.codegen.site.view_page import declaration
from featurekit.compiler import compile_read
from featurekit.models import Entity, FeatureService, FeatureView, format_duration
from featurekit.models.derived import DerivedView
from featurekit.models.model import Described, Named
from featurekit.plan import ReadPlan

_ROOT = "../"


def entity_page(site: Site, entity: Entity) -> Page:
    """Return the page of an entity."""
    views = site.views_of(entity)
    services = dict.fromkeys(s.name for v in views for s in site.services_of_view[v.name])
    pairs: list[tuple[str, Child]] = [
        ("Join keys", key_list(entity.join_keys)),
        ("Key in the store", span("mono", breakable(key_text(site.plan.entity(entity.name).key)))),
        ("Services", names_list("service", [*services], _ROOT)),
        ("Owner", person(entity.owner) if entity.owner else None),
    ]
    diagram = flow_diagram(site, views, _ROOT)
    return Page(
        page_of("entity", entity.name),
        entity.name,
        "entities.html",
        (
            card("About", facts(pairs), tag_list(entity)),
            card("Where its features come from", diagram) if diagram else None,
            *(_view_fields(view) for view in views),
            card("Declaration", folded("YAML", declaration("entities", entity))),
        ),
        lead=prose(entity.description) if entity.description else None,
        badges=deprecated_badge(entity),
    )


def _view_fields(view: FeatureView) -> Html:
    columns = ("Field", "Type", "Default", "TTL", "About")
    rows = [
        [
            link(field_address(view.name, name, _ROOT), breakable(name), kind="name-link mono"),
            span("type", field.type),
            default_text(field),
            ttl_text(view, name),
            about(field),
        ]
        for name, field in view.fields_.items()
    ]
    title = [name_link("view", view.name, _ROOT), " ", kind_badge(view)]
    return card(title, table(f"Fields of {view.name}", columns, rows))


def service_page(site: Site, service: FeatureService) -> Page:
    """Return the page of a feature service."""
    read = compile_read(site.plan, service.name)
    views = [site.views[name] for name in dict.fromkeys(column.view for column in read.stored)]
    sent = {column.name: str(column.field.dtype) for column in read.requests}
    keys = {key.name: str(key.dtype) for group in read.groups for key in group.key.join_keys}
    pairs: list[tuple[str, Child]] = [
        ("Join keys of a request", key_list(keys)),
        ("Request data", key_list(sent) if sent else None),
        ("Entities", names_list("entity", site.registry.entities_of(service), _ROOT)),
        ("Log of what was served", logging_text(service)),
        ("Owner", person(service.owner) if service.owner else None),
    ]
    diagram = flow_diagram(site, views, _ROOT, service)
    return Page(
        page_of("service", service.name),
        service.name,
        "services.html",
        (
            card("About", facts(pairs), tag_list(service)),
            card("Where its features come from", diagram) if diagram else None,
            card("Features", _columns(site, read), note=f"{len(read.columns)}, in this order"),
            card("Read it", reading(service.name, keys, sent)),
            card("Declaration", folded("YAML", declaration("feature_services", service))),
        ),
        lead=prose(service.description) if service.description else None,
        badges=deprecated_badge(service),
    )


def _columns(site: Site, read: ReadPlan) -> Html:
    columns = ("Feature", "Type", "View", "As", "Default", "Rules", "About")
    rows = []
    for column in read.columns:
        field = site.all_views[column.view].fields_[column.field.name]
        address = field_address(column.view, column.field.name, _ROOT)
        rows.append(
            [
                link(address, breakable(column.name), kind="name-link mono"),
                span("type", field.type),
                name_link("view", column.view, _ROOT),
                column.alias,
                default_text(field),
                rules_text(field),
                about(field),
            ]
        )
    return table("Features", columns, rows)


def overview_page(site: Site) -> Page:
    """Return the first page."""
    registry = site.registry
    views, services = registry.feature_views, registry.feature_services
    streams = sum(view.stream is not None for view in views)
    fields = sum(len(view.fields_) for view in site.all_views.values())
    derived = len(registry.derived_views)
    figures = [
        ("features.html", "Features", fields, ""),
        (
            "views.html",
            "Views",
            len(site.all_views),
            _kinds(len(views) - streams, streams, derived),
        ),
        ("entities.html", "Entities", len(registry.entities), ""),
        ("services.html", "Services", len(services), ""),
    ]
    diagram = flow_diagram(site, views, "")
    return Page(
        "index.html",
        f"Features of {registry.project}",
        "index.html",
        (
            el("dl", {"class": "figures"}, [_figure(*each) for each in figures]),
            card("How data flows", diagram, note="sources, views, services") if diagram else None,
            card("Services", service_table(site)) if services else None,
            card("Views", view_table(site)) if site.all_views else None,
            card("Entities", entity_table(site)) if registry.entities else None,
            None if site.all_views else span("nothing", "No feature view is declared yet."),
        ),
        lead="What is declared, where it comes from, how long it lives and who reads it.",
    )


def _kinds(batches: int, streams: int, derived: int) -> str:
    counts = {"batch": batches, "stream": streams, "derived": derived}
    return ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)


def _figure(href: str, name: str, count: int, note: str) -> Html:
    value = link(href, f"{count:,}", kind="figure-value")
    return el(
        "div",
        {"class": "figure"},
        el("dt", None, name),
        el("dd", None, value, span("figure-note", note) if note else None),
    )


def list_pages(site: Site) -> list[Page]:
    """Return the pages that list definitions of a kind."""
    return [
        _list_page("features.html", "Features", _feature_table(site), "feature"),
        _list_page("views.html", "Views", view_table(site), "view"),
        _list_page("entities.html", "Entities", entity_table(site), "entity"),
        _list_page("services.html", "Services", service_table(site), "service"),
        Page(
            "owners.html",
            "Owners",
            "owners.html",
            (*_owner_cards(site), _deprecated(registry_items(site))),
        ),
    ]


def _list_page(file: str, title: str, content: Html, noun: str) -> Page:
    search = el(
        "div",
        {"class": "filter", "hidden": "", "data-filter": ""},
        el(
            "input",
            {
                "type": "search",
                "class": "input",
                "aria-label": f"Show only some {title.lower()}",
                "placeholder": f"Name, owner, tag or other text of {_article(noun)}",
            },
        ),
    )
    box = el("section", {"class": "card"}, el("div", {"class": "card-body"}, search, content))
    return Page(file, title, file, (box,))


def _article(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def _feature_table(site: Site) -> Html:
    columns = ("Feature", "Type", "View", "Entity", "TTL", "Services", "About")
    rows = [
        [
            link(field_address(view.name, name), breakable(name), kind="name-link mono"),
            span("type", field.type),
            name_link("view", view.name, ""),
            entity_link(site, view, ""),
            ttl_text(view, name) if isinstance(view, FeatureView) else None,
            names_list("service", site.services_of_field.get((view.name, name), []), ""),
            about(field),
        ]
        for view, name, field in site.fields()
    ]
    return table("Features", columns, rows)


def view_table(site: Site) -> Html:
    """Return a table of all views."""
    columns = ("View", "Kind", "Entity", "Fields", "Written every", "TTL", "About")
    rows = [
        [
            name_link("view", view.name, ""),
            kind_badge(view),
            entity_link(site, view, ""),
            str(len(view.fields_)),
            *(
                ("computed when read", None)
                if isinstance(view, DerivedView)
                else map(format_duration, (view.ingestion.refresh, view.ingestion.ttl_ms))
            ),
            about(view),
        ]
        for view in site.all_views.values()
    ]
    return table("Views", columns, rows)


def entity_table(site: Site) -> Html:
    """Return a table of all entities."""
    columns = ("Entity", "Join keys", "Views", "About")
    rows = [
        [
            name_link("entity", entity.name, ""),
            key_list(entity.join_keys),
            names_list("view", [view.name for view in site.views_of(entity)], ""),
            about(entity),
        ]
        for entity in site.registry.entities
    ]
    return table("Entities", columns, rows)


def service_table(site: Site) -> Html:
    """Return a table of all services."""
    columns = ("Service", "Features", "Entities", "Views", "About")
    rows = []
    for service in site.registry.feature_services:
        features = site.registry.features_of(service)
        views = dict.fromkeys(each.view for each in features)
        rows.append(
            [
                name_link("service", service.name, ""),
                str(len(features)),
                names_list("entity", site.registry.entities_of(service), ""),
                names_list("view", [*views], ""),
                about(service),
            ]
        )
    return table("Services", columns, rows)


Item = tuple[str, str, str, Described]
"""A kind, a name, an address and a definition."""


def registry_items(site: Site) -> list[Item]:
    """Return all definitions, and the fields."""
    registry = site.registry
    named: Iterable[tuple[str, Named]] = chain(
        (("service", each) for each in registry.feature_services),
        (("view", each) for each in site.all_views.values()),
        (("entity", each) for each in registry.entities),
    )
    items: list[Item] = [(kind, each.name, page_of(kind, each.name), each) for kind, each in named]
    items += [
        ("feature", name, field_address(view.name, name), field)
        for view, name, field in site.fields()
    ]
    return items


def _owner_cards(site: Site) -> list[Html]:
    owned: dict[str, list[Item]] = {}
    for item in registry_items(site):
        owned.setdefault(item[3].owner, []).append(item)
    nameless = [each for each in owned.pop("", []) if each[0] != "feature"]
    cards = [
        card(person(owner), _item_table(owner, items), note=f"owns {len(items)}")
        for owner, items in sorted(owned.items())
    ]
    if nameless:
        cards.append(card("Without an owner", _item_table("Without an owner", nameless)))
    return cards


def _deprecated(items: list[Item]) -> Html | None:
    found = [item for item in items if item[3].deprecated]
    return (
        card("Deprecated", _item_table("Deprecated", found), anchor="deprecated")
        if found
        else None
    )


def _item_table(caption: str, items: list[Item]) -> Html:
    rows: list[list[Child]] = [
        [
            link(address, breakable(name), kind="name-link"),
            kind,
            [
                prose(model.description) if model.description else None,
                " ",
                deprecated_badge(model),
            ],
        ]
        for kind, name, address, model in items
    ]
    return table(caption, ("Name", "Kind", "About"), rows)
