"""The page of a feature view."""

from __future__ import annotations

from collections.abc import Iterator

import yaml

from featurekit.codegen.catalog import (
    constraints_text,
    default_text,
    definition_document,
    history_rows,
    ordering_text,
    ttl_text,
    view_kind,
    view_source_text,
    without_password,
)
from featurekit.codegen.site.flow import flow_diagram
from featurekit.codegen.site.html import (
    Child,
    Html,
    breakable,
    card,
    el,
    facts,
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
    field_anchor,
    kind_badge,
    names_list,
    page_of,
    tag_list,
)
from featurekit.codegen.site.page import Page
from featurekit.codegen.site.snippets import folded, reading
from featurekit.models import FeatureView, format_duration
from featurekit.models.model import Model
from featurekit.types import parse_dtype

_ROOT = "../"
_MOST_PARTS = 24
"""The most parts of the bar that shows how long values live."""

_LONG = 80
"""A longer source is folded."""


def view_page(site: Site, view: FeatureView) -> Page:
    """Return the page of a view."""
    diagram = flow_diagram(site, [view], _ROOT)
    keys = {key.name: str(key.dtype) for key in site.plan.view(view.name).key.join_keys}
    return Page(
        page_of("view", view.name),
        view.name,
        "views.html",
        (
            card("Where it comes from, and where it goes", diagram),
            card("About", facts(_facts(site, view)), _life(view), _source(view), tag_list(view)),
            card("Fields", _fields(site, view), note=f"{len(view.fields_)}"),
            card("Read it", reading([view.name], keys)),
            card("Declaration", folded("YAML", declaration("feature_views", view))),
        ),
        lead=prose(view.description) if view.description else None,
        badges=[kind_badge(view), " ", deprecated_badge(view)],
    )


def declaration(kind: str, model: Model) -> Html:
    """Return the YAML that declares a definition."""
    document = definition_document(kind, model)
    del document["kind"]
    name = document.pop("name")
    text = yaml.safe_dump(
        {kind: [{"name": name, **document}]}, sort_keys=False, allow_unicode=True, width=90
    )
    return el("pre", {"tabindex": "0"}, el("code", None, without_password(text)))


def _facts(site: Site, view: FeatureView) -> Iterator[tuple[str, Child]]:
    ingestion = view.ingestion
    every = format_duration(ingestion.refresh)
    yield "Entity", entity_link(site, view, _ROOT)
    yield "Written", f"in batches, every {every}" if view.batch else f"by a stream, every {every}"
    yield "Expires", _expiry(view)
    yield (
        "Latest wins by",
        {"event_time": "event time", "arrival": "arrival"}.get(ordering_text(view)),
    )
    source = view_source_text(view)
    if len(source) <= _LONG:
        yield "Source", breakable(source)
    for name, text in history_rows(view):
        yield _HISTORY_NAMES[name], breakable(text)
    yield "Owner", person(view.owner) if view.owner else None


_HISTORY_NAMES = {
    "batch_source": "History for training",
    "lookback": "Rows are loaded up to an age of",
    "schedule": "Loads run",
    "log": "Log of events",
}


def _expiry(view: FeatureView) -> str:
    ingestion = view.ingestion
    missed = ingestion.ttl_ms // ingestion.refresh - 1
    ttl = format_duration(ingestion.ttl_ms)
    after = f"{ttl} after {'a load' if view.batch else 'its event'}"
    scope = "the whole entity" if view.owns_key else "field by field"
    if missed < 1:
        return f"{after}, {scope}"
    return f"{after}, {scope}; survives {missed} missed {'write' if missed == 1 else 'writes'}"


def _life(view: FeatureView) -> Html:
    """Return a bar that shows how many writes may fail before values expire."""
    ingestion = view.ingestion
    parts = min(max(ingestion.ttl_ms // ingestion.refresh, 1), _MOST_PARTS)
    every, ttl = format_duration(ingestion.refresh), format_duration(ingestion.ttl_ms)
    texts = (f"written, and expected again after {every}", f"gone after {ttl}")
    return el(
        "div",
        {"class": f"life life-{view_kind(view)}"},
        el("div", {"class": "life-bar", "aria-hidden": "true"}, [span("life-part")] * parts),
        el("div", {"class": "life-text"}, [el("span", None, text) for text in texts]),
    )


def _source(view: FeatureView) -> Html | None:
    source = view_source_text(view)
    return folded("Source", el("pre", None, source)) if len(source) > _LONG else None


def _fields(site: Site, view: FeatureView) -> Html:
    columns = ("Field", "Type", "Default", "TTL", "Rules", "Services", "About")
    common = format_duration(view.ingestion.ttl_ms)
    rows: list[list[Child]] = []
    for name, field in view.fields_.items():
        ttl = ttl_text(view, name)
        rows.append(
            [
                el("span", {"class": "mono", "id": field_anchor(name)}, breakable(name)),
                span("type", str(parse_dtype(field.type))),
                span("mono", default_text(field) or '""') if field.default is not None else None,
                ttl if ttl != common else None,
                constraints_text(field),
                names_list("service", site.services_of_field.get((view.name, name), []), _ROOT),
                about(field),
            ]
        )
    return table(f"Fields of {view.name}", columns, rows)
