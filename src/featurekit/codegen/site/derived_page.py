"""The page of a derived feature view."""

from __future__ import annotations

from featurekit.codegen.catalog import (
    computation_text,
    default_text,
    derived_entities,
    request_values,
)
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
    derived_badge,
    field_anchor,
    names_list,
    page_of,
    tag_list,
)
from featurekit.codegen.site.page import Page
from featurekit.codegen.site.snippets import folded
from featurekit.codegen.site.view_page import declaration
from featurekit.models import DerivedView

_ROOT = "../"


def derived_page(site: Site, view: DerivedView) -> Page:
    """Return the page of a derived view: what its features are computed from, and how."""
    pairs: list[tuple[str, Child]] = [
        ("Entities", names_list("entity", derived_entities(site.registry, view), _ROOT)),
        ("Computed from", breakable(", ".join(view.derived.from_))),
        ("Request data", breakable(", ".join(request_values(site.registry, view))) or None),
        ("Owner", person(view.owner) if view.owner else None),
    ]
    return Page(
        page_of("view", view.name),
        view.name,
        "views.html",
        (
            card("About", facts(pairs), tag_list(view)),
            card("Fields", _fields(site, view), note=f"{len(view.fields_)}"),
            card("Declaration", folded("YAML", declaration("feature_views", view))),
        ),
        lead=prose(view.description) if view.description else None,
        badges=[derived_badge(), " ", deprecated_badge(view)],
    )


def _fields(site: Site, view: DerivedView) -> Html:
    rows: list[list[Child]] = []
    for name, field in view.fields_.items():
        used = site.registry.derivations.used(view.name, [name])
        rows.append(
            [
                el("span", {"class": "mono", "id": field_anchor(name)}, breakable(name)),
                span("type", field.type),
                span("mono", default_text(field) or '""') if field.default is not None else None,
                span("mono", breakable(computation_text(field))),
                breakable(", ".join(each.full_name for each in used)),
                names_list("service", site.services_of_field.get((view.name, name), []), _ROOT),
                about(field),
            ]
        )
    columns = ("Field", "Type", "Default", "Computed as", "Inputs", "Services", "About")
    return table(f"Fields of {view.name}", columns, rows)
