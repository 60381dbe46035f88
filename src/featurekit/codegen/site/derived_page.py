"""The page of a derived feature view."""

from __future__ import annotations

<<<<<<< HEAD
from featurekit.codegen.catalog import (
    computation_text,
    default_text,
    derived_entities,
    request_values,
)
=======
from featurekit.codegen.catalog import computation_text, default_text, derived_entities
from featurekit.codegen.site.flow import flow_diagram
>>>>>>> dbd27eba (Show derived views on the generated site)
from featurekit.codegen.site.html import (
    Child,
    Html,
    breakable,
    card,
    el,
    facts,
<<<<<<< HEAD
=======
    link,
>>>>>>> dbd27eba (Show derived views on the generated site)
    person,
    prose,
    span,
    table,
)
from featurekit.codegen.site.names import (
    Site,
    about,
    deprecated_badge,
<<<<<<< HEAD
    derived_badge,
    field_anchor,
=======
    field_address,
    field_anchor,
    kind_badge,
>>>>>>> dbd27eba (Show derived views on the generated site)
    names_list,
    page_of,
    tag_list,
)
from featurekit.codegen.site.page import Page
<<<<<<< HEAD
from featurekit.codegen.site.snippets import folded
from featurekit.codegen.site.view_page import declaration
from featurekit.models import DerivedView
=======
from featurekit.codegen.site.snippets import folded, reading
from featurekit.codegen.site.view_page import declaration
from featurekit.compiler import compile_read
from featurekit.models.derived import DerivedView
>>>>>>> dbd27eba (Show derived views on the generated site)

_ROOT = "../"


def derived_page(site: Site, view: DerivedView) -> Page:
<<<<<<< HEAD
    """Return the page of a derived view: what its features are computed from, and how."""
    pairs: list[tuple[str, Child]] = [
        ("Entities", names_list("entity", derived_entities(site.registry, view), _ROOT)),
        ("Computed from", breakable(", ".join(view.derived.from_))),
        ("Request data", breakable(", ".join(request_values(site.registry, view))) or None),
=======
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
>>>>>>> dbd27eba (Show derived views on the generated site)
        ("Owner", person(view.owner) if view.owner else None),
    ]
    return Page(
        page_of("view", view.name),
        view.name,
        "views.html",
        (
            card("About", facts(pairs), tag_list(view)),
<<<<<<< HEAD
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
=======
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
>>>>>>> dbd27eba (Show derived views on the generated site)
        rows.append(
            [
                el("span", {"class": "mono", "id": field_anchor(name)}, breakable(name)),
                span("type", field.type),
                span("mono", default_text(field) or '""') if field.default is not None else None,
<<<<<<< HEAD
                span("mono", breakable(computation_text(field))),
                breakable(", ".join(each.full_name for each in used)),
=======
                el("code", None, computation_text(field)),
                span("words mono", inputs),
>>>>>>> dbd27eba (Show derived views on the generated site)
                names_list("service", site.services_of_field.get((view.name, name), []), _ROOT),
                about(field),
            ]
        )
<<<<<<< HEAD
    columns = ("Field", "Type", "Default", "Computed as", "Inputs", "Services", "About")
    return table(f"Fields of {view.name}", columns, rows)
=======
    return table(f"Features of {view.name}", columns, rows)
>>>>>>> dbd27eba (Show derived views on the generated site)
