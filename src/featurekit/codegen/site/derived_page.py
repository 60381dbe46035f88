"""The page of a derived feature view."""

from __future__ import annotations

from featurekit.codegen.catalog import computation_text, default_text, derived_entities
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
    field_address,
    field_anchor,
    kind_badge,
    names_list,
    page_of,
    tag_list,
)
from featurekit.codegen.site.page import Page
from featurekit.codegen.site.snippets import folded, reading
from featurekit.codegen.site.view_page import declaration
from featurekit.compiler import compile_read
from featurekit.models.derived import DerivedView

_ROOT = "../"


def derived_page(site: Site, view: DerivedView) -> Page:
    """Return the page of a derived view: what each feature is computed from."""
    read = compile_read(site.plan, [view.name])
    keys = {key.name: str(key.dtype) for group in read.groups for key in group.key.join_keys}
    sent = {column.name: str(column.field.dtype) for column in read.requests}
    used = site.registry.derivations.used(view.name, view.fields_)
    stored = dict.fromkeys(each.source for each in used if each.kind == "stored")
    diagram = flow_diagram(site, [site.views[name] for name in stored], _ROOT)
    pairs: list[tuple[str, Child]] = [
        ("Written", "never: computed when it is read"),
        ("Computed from", names_list("view", [*stored], _ROOT)),
        ("Entities", names_list("entity", derived_entities(site.registry, view), _ROOT)),
        ("Request data", ", ".join(f"{name}: {dtype}" for name, dtype in sent.items()) or None),
        ("Services", names_list("service", _services(site, view), _ROOT)),
        ("Owner", person(view.owner) if view.owner else None),
    ]
    return Page(
        page_of("view", view.name),
        view.name,
        "views.html",
        (
            card("About", facts(pairs), tag_list(view)),
            card("Features", _features(site, view), note=f"{len(view.fields_)}"),
            card("Where its inputs come from, and where they go", diagram) if diagram else None,
            card("Read it", reading([view.name], keys, sent)),
            card("Declaration", folded("YAML", declaration("feature_views", view))),
        ),
        lead=prose(view.description) if view.description else None,
        badges=[kind_badge(view), " ", deprecated_badge(view)],
    )


def _services(site: Site, view: DerivedView) -> list[str]:
    return [service.name for service in site.services_of_view[view.name]]


def _features(site: Site, view: DerivedView) -> Html:
    columns = ("Feature", "Type", "Default", "Computed as", "Inputs", "Services", "About")
    rows: list[list[Child]] = []
    for name, field in view.fields_.items():
        inputs: list[Child] = []
        for each in site.registry.derivations.used(view.name, [name]):
            text = f"{each.source}:{each.field}"
            is_stored = each.kind == "stored"
            address = field_address(each.source, each.field, _ROOT)
            inputs += [link(address, breakable(text)) if is_stored else breakable(text), " "]
        rows.append(
            [
                el("span", {"class": "mono", "id": field_anchor(name)}, breakable(name)),
                span("type", field.type),
                span("mono", default_text(field) or '""') if field.default is not None else None,
                el("code", None, computation_text(field)),
                span("words mono", inputs),
                names_list("service", site.services_of_field.get((view.name, name), []), _ROOT),
                about(field),
            ]
        )
    return table(f"Features of {view.name}", columns, rows)
