"""Links, badges and short texts for definitions, as all pages of the site show them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from urllib.parse import quote

from featurekit.codegen.catalog import derived_entities, view_kind
from featurekit.codegen.site.html import Child, Html, breakable, el, link, person, prose, span
from featurekit.compiler import compile_repo
from featurekit.models import Entity, FeatureService, FeatureView
from featurekit.models.derived import DerivedView
from featurekit.models.fields import TypedValue
from featurekit.models.model import Described
from featurekit.plan import RepoPlan
from featurekit.registry import Registry

FOLDERS = {"entity": "entities", "view": "views", "service": "services"}
"""The folder of the pages of each kind of definition."""


MOST_NAMES = 12
"""The most names in one cell of a table."""


@dataclass(frozen=True)
class Site:
    """The registry that a site is about."""

    registry: Registry

    @cached_property
    def plan(self) -> RepoPlan:
        """The compiled registry."""
        return compile_repo(self.registry)

    @cached_property
    def views(self) -> dict[str, FeatureView]:
        """The views by name."""
        return {view.name: view for view in self.registry.feature_views}

    @cached_property
    def all_views(self) -> dict[str, FeatureView | DerivedView]:
        """The stored views and the derived ones, by name."""
        return self.views | {view.name: view for view in self.registry.derived_views}

    @cached_property
    def services_of_view(self) -> dict[str, list[FeatureService]]:
        """The services that read any field of a view, by view."""
        found: dict[str, list[FeatureService]] = {name: [] for name in self.all_views}
        for service in self.registry.feature_services:
            for name in dict.fromkeys(each.view for each in self.registry.features_of(service)):
                found[name].append(service)
        return found

    @cached_property
    def services_of_field(self) -> dict[tuple[str, str], list[str]]:
        """The services that read a field, by view and field."""
        found: dict[tuple[str, str], list[str]] = {}
        for service in self.registry.feature_services:
            pairs = ((each.view, each.field) for each in self.registry.features_of(service))
            for pair in dict.fromkeys(pairs):
                found.setdefault(pair, []).append(service.name)
        return found

    def views_of(self, entity: Entity) -> list[FeatureView]:
        """Return the views of an entity."""
        return [view for view in self.registry.feature_views if view.entity == entity.name]

    def fields(self) -> Iterator[tuple[FeatureView | DerivedView, str, TypedValue]]:
        """Yield all fields with their views."""
        for view in self.all_views.values():
            for name, field in view.fields_.items():
                yield view, name, field


def page_of(kind: str, name: str, root: str = "") -> str:
    """Return the address of a definition's page, from a page with that way to the root."""
    return f"{root}{FOLDERS[kind]}/{name}.html"


def field_anchor(name: str) -> str:
    """Return the id of a field in the page of its view."""
    return f"field-{name}"


def field_address(view: str, field: str, root: str = "") -> str:
    """Return the address of a field."""
    return f"{page_of('view', view, root)}#{quote(field_anchor(field))}"


def name_link(kind: str, name: str, root: str) -> Html:
    """Return a link to a definition's page."""
    return link(page_of(kind, name, root), breakable(name), kind="name-link")


def names_list(kind: str, names: list[str], root: str) -> Html | None:
    """Return links to definitions of a kind; of many, the first ones and how many more there are."""
    if not names:
        return None
    shown = names if len(names) <= MOST_NAMES else names[: MOST_NAMES - 2]
    links = [link(page_of(kind, name, root), breakable(name)) for name in shown]
    more = len(names) - len(shown)
    return span("words", links, span("quiet", f"and {more:,} more") if more else None)


def entity_link(site: Site, view: FeatureView | DerivedView, root: str) -> Child:
    """Return a link to the entity of a view, or to those that a derived view is computed from."""
    if isinstance(view, DerivedView):
        entities = derived_entities(site.registry, view)
        return names_list("entity", entities, root) or span("quiet", "none")
    if view.entity is None:
        return span("quiet", "none: one row for all")
    return link(page_of("entity", view.entity, root), breakable(view.entity))


def kind_badge(view: FeatureView | DerivedView) -> Html:
    """Return `batch`, `stream` or `derived` as a badge."""
    kind = "derived" if isinstance(view, DerivedView) else view_kind(view)
    return span(f"badge badge-{kind}", kind)


def deprecated_badge(model: Described) -> Html | None:
    """Return a badge for what is deprecated, with the reason."""
    if not model.deprecated:
        return None
    reason = None if model.deprecated is True else [": ", prose(model.deprecated)]
    return span("badge status-missing", "deprecated", reason)


def key_list(keys: Mapping[str, str]) -> Html:
    """Return join keys with their types."""
    return span(
        "words mono", [el("span", None, f"{name}: {dtype}") for name, dtype in keys.items()]
    )


def tag_list(model: Described) -> Html | None:
    """Return the tags of a definition."""
    if not model.tags:
        return None
    return span("tags", [span("tag", f"{name}={text}") for name, text in model.tags.items()])


def about(model: Described) -> Child:
    """Return the description, deprecation, owner and tags of a definition, for a cell."""
    parts = [
        prose(model.description) if model.description else None,
        deprecated_badge(model),
        span("quiet", person(model.owner)) if model.owner else None,
        tag_list(model),
    ]
    return el("span", {"class": "about"}, parts) if any(parts) else None
