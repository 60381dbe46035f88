"""Check the features of a service against the views and entities that are declared."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from featurekit.errors import RequestError, name_hint
from featurekit.feature_lists import (
    FeatureItem,
    NamePairs,
    ViewItem,
    expand_features,
    item_view,
    renamed_join_keys,
)
from featurekit.loader.declarations import Declaration, Declarations
from featurekit.loader.problems import LocatedProblem, Path
from featurekit.models.definitions import Entity, FeatureService, parse_feature_entry
from featurekit.models.scalars import format_raw

UnknownView = Callable[[str], tuple[str, str] | None]
"""Returns message and hint for the name of a view that is not declared, `None` for others."""


@dataclass(frozen=True, slots=True)
class _Item:
    """An item of a service's list that is valid by itself.

    Attributes:
        feature: The item.
        path: Its path in the service.
        fields: The fields of its view, if they are known.
        entities: The entities of its features that are known with all their join keys.
        requests: The values of requests that its features are computed from.
        is_derived: Whether its features are computed.
    """

    feature: FeatureItem
    path: Path
    fields: list[str] | None
    entities: tuple[Entity, ...]
    requests: tuple[str, ...] = ()
    is_derived: bool = False

    @property
    def alias(self) -> str | None:
        """The alias that the item gives its view."""
        return None if isinstance(self.feature, str) else self.feature.alias

    @property
    def join_keys(self) -> NamePairs:
        """The join keys that the item renames."""
        return () if isinstance(self.feature, str) else self.feature.join_keys

    def roles(self) -> Iterator[tuple[str | None, Entity, NamePairs]]:
        """Yield the alias of each entity and the join keys of it that the item renames.

        A derived view reads an entity under its alias only if it renames one of its join keys.
        """
        for entity in self.entities:
            renamed = tuple(pair for pair in self.join_keys if pair[0] in entity.join_keys)
            is_aliased = bool(renamed) or not self.is_derived
            yield (self.alias if is_aliased else None), entity, renamed

    def named_fields(self) -> list[tuple[Path, str]]:
        """Return the fields that the item names, each with its path in the service."""
        if isinstance(self.feature, ViewItem):
            fields = enumerate(self.feature.fields or ())
            return [((*self.path, "fields", index), field) for index, field in fields]
        field = self.feature.partition(":")[2]
        return [(self.path, field)] if field else []


def service_problems(
    declarations: Declarations, service: Declaration[FeatureService], unknown_view: UnknownView
) -> Iterator[LocatedProblem]:
    """Yield the problems of a service's features."""
    items = list(_items(declarations, service))
    seen = set()
    for item in items:
        yield from _check_names(service, item, unknown_view)
        if item.feature in seen:
            message = f"{service.label}: '{item.feature}' is listed twice"
            yield LocatedProblem(service.at(*item.path), message)
        seen.add(item.feature)
    yield from _check_roles(service, items)
    yield from _check_join_key_types(service, items)
    yield from _check_request_names(service, items)


def service_warnings(
    declarations: Declarations, service: Declaration[FeatureService]
) -> Iterator[LocatedProblem]:
    """Warn of a service without a stored feature, which no read returns."""
    if not any(item.entities for item in _items(declarations, service)):
        yield LocatedProblem(
            service.at("features"),
            f"{service.label} cannot be read: none of its features is stored or computed from stored "
            "ones",
            "add a stored feature",
        )


def _items(declarations: Declarations, service: Declaration[FeatureService]) -> Iterator[_Item]:
    views = {view.model.name: view for view in declarations.feature_views}
    derived = {view.model.name: view for view in declarations.derived_views}
    entities = {
        entity.model.name: entity.model
        for entity in declarations.entities
        if entity.names("join_keys") == list(entity.model.join_keys)
    }
    entities |= {
        view.model.entity_name: Entity.model_construct(name=view.model.entity_name, join_keys={})
        for view in declarations.feature_views
        if "entity" not in view.data
    }
    listed = service.data.get("features")
    for index, raw in enumerate(listed if isinstance(listed, list) else ()):
        feature = parse_feature_entry(raw)
        if feature is None:
            continue
        name, path = item_view(feature), ("features", index)
        if name in derived and declarations.derivations is not None:
            fields = derived[name].names("fields")
            selected = [each.field for each in expand_features([feature], {name: fields or ()})]
            used = declarations.derivations.used(name, selected)
            stored = dict.fromkeys(each.source for each in used if each.kind == "stored")
            names = dict.fromkeys(views[source].model.entity_name for source in stored)
            known = tuple(entities[each] for each in names if each in entities)
            requests = tuple(each.field for each in used if each.kind == "request")
            yield _Item(feature, path, fields, known, requests, is_derived=True)
        else:
            view = views.get(name)
            entity = entities.get(view.model.entity_name) if view else None
            fields = view.names("fields") if view else None
            yield _Item(feature, path, fields, (entity,) if entity else ())


def _check_names(
    service: Declaration[FeatureService], item: _Item, unknown_view: UnknownView
) -> Iterator[LocatedProblem]:
    name = item_view(item.feature)
    if unknown := unknown_view(name):
        path = item.path if isinstance(item.feature, str) else (*item.path, "view")
        yield LocatedProblem(service.at(*path), f"{service.label}: {unknown[0]}", unknown[1])
    for path, field in item.named_fields():
        if item.fields is not None and field not in item.fields:
            message = (
                f"{service.label}: unknown field {format_raw(field)} in feature view '{name}'"
            )
            hint = name_hint(field, item.fields)
            yield LocatedProblem(service.at(*path), message, hint)
    if item.entities:
        try:
            renamed_join_keys([key for e in item.entities for key in e.join_keys], item.join_keys)
        except RequestError as error:
            location = service.at(*item.path, "join_keys")
            yield LocatedProblem(location, f"{service.label}: {error.message}", error.hint)


def _check_roles(
    service: Declaration[FeatureService], items: list[_Item]
) -> Iterator[LocatedProblem]:
    """A response says once for each alias, or else entity, whether it is found."""
    first: dict[str, tuple[str, NamePairs]] = {}
    views = {item_view(item.feature) for item in items if item.alias is None}
    for item in items:
        if item.alias in views:
            yield LocatedProblem(
                service.at(*item.path, "as"),
                f"{service.label}: the alias '{item.alias}' is the name of another view of the list",
                "choose another alias",
            )
        for alias, entity, renamed in item.roles():
            name, role = alias or entity.name, (entity.name, renamed)
            if first.setdefault(name, role) == role:
                continue
            yield LocatedProblem(
                service.at(*item.path),
                f"{service.label}: '{name}' would stand for two entities of one row",
                "give each view with other join keys an alias of its own, with `as`",
            )


def _check_join_key_types(
    service: Declaration[FeatureService], items: list[_Item]
) -> Iterator[LocatedProblem]:
    """A request gives each join key once, so its type must be equal in all entities."""
    first: dict[str, tuple[str, Entity]] = {}
    known = [(entity, pairs) for item in items for _, entity, pairs in item.roles()]
    for entity, join_keys in {
        (entity.name, pairs): (entity, pairs) for entity, pairs in known
    }.values():
        renamed = dict(join_keys)
        for key, key_type in entity.join_keys.items():
            name = renamed.get(key, key)
            other_type, other = first.setdefault(name, (key_type, entity))
            if other_type != key_type:
                yield LocatedProblem(
                    service.at("features"),
                    f"{service.label}: join key '{name}' is {other_type} in entity "
                    f"'{other.name}' and {key_type} in entity '{entity.name}'; a request cannot "
                    "have both types",
                    "rename one of the join keys",
                )


def _check_request_names(
    service: Declaration[FeatureService], items: list[_Item]
) -> Iterator[LocatedProblem]:
    """A request has one value under each name: a join key that an item renames is none of its data."""
    values = {name for item in items for name in item.requests}
    for item in items:
        for join_key, name in item.join_keys:
            if name in values:
                yield LocatedProblem(
                    service.at(*item.path, "join_keys", join_key),
                    f"{service.label}: join key '{join_key}' would have the name of the request value "
                    f"'{name}'",
                    "choose another name",
                )
