"""Cross checks: what one declaration says about another, and values about their types."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from featurekit.errors import nearest
from featurekit.loader.declared import KINDS, Declared, Item, N
from featurekit.loader.places import Finding
from featurekit.loader.values import value_findings
from featurekit.models.definitions import Entity, FeatureService, FeatureView


def cross_check(declared: Declared) -> None:
    """Add to the findings what is wrong between the declarations."""
    entities = {item.model.name: item.model for item in declared.entities}
    findings = declared.findings
    findings += _duplicates(declared.entities)
    findings += _duplicates(declared.feature_views)
    findings += _duplicates(declared.feature_services)
    for entity in declared.entities:
        findings += _entity(entity)
    views = [*declared.feature_views, *declared.salvaged]
    for view in views:
        findings += _entity_reference(declared, view)
        findings += value_findings(view)
        if (about := entities.get(view.model.entity)) is not None:
            findings += _join_keys(view, about)
    findings += _shared_fields(views)
    for view in declared.feature_views:
        findings += _field_ttls(view)
        if (about := entities.get(view.model.entity)) is not None:
            findings += _columns(view, about)
    findings += _owners(declared.feature_views)
    for service in declared.feature_services:
        findings += _service(declared, service)
        findings += _join_key_types(declared, service)


def _duplicates(items: Sequence[Item[N]]) -> Iterator[Finding]:
    first: dict[str, Item[N]] = {}
    for item in items:
        name = item.model.name
        other = first.setdefault(name, item)
        if other is not item:
            kind = KINDS[type(item.model)]
            yield Finding(
                item.at("name"), f"{kind} '{name}' is declared twice, first at {other.at('name')}"
            )


def _entity(item: Item[Entity]) -> Iterator[Finding]:
    entity = item.model
    key = entity.hash_tag.join_key if entity.hash_tag else None
    if key is not None and key not in entity.join_keys:
        yield Finding(
            item.at("hash_tag", "join_key"),
            f"entity '{entity.name}': hash_tag: no join key named '{key}'",
            nearest(key, entity.join_keys),
        )


def _is_known(declared: Declared, kind: str, name: str) -> bool:
    return declared.is_partial or (kind, name) in declared.broken


def _entity_reference(declared: Declared, item: Item[FeatureView]) -> Iterator[Finding]:
    name = item.model.entity
    known = [entity.model.name for entity in declared.entities]
    if name and name not in known and not _is_known(declared, "entity", name):
        yield Finding(
            item.at("entity"),
            f"feature view '{item.model.name}': no entity named '{name}'",
            nearest(name, known),
        )


def _field_ttls(item: Item[FeatureView]) -> Iterator[Finding]:
    view = item.model
    if not view.owns_key:
        return
    for name, spec in view.fields_.items():
        if spec.ttl is not None:
            yield Finding(
                item.key_at("fields", name, "ttl"),
                f"field '{view.name}:{name}': a ttl of its own cannot act, since the view "
                "expires by its key",
                "remove it, or write `expires: field` under `batch`",
            )


def _join_keys(item: Item[FeatureView], entity: Entity) -> Iterator[Finding]:
    view = item.model
    for name in view.fields_:
        if name in entity.join_keys:
            yield Finding(
                item.key_at("fields", name),
                f"field '{view.name}:{name}' has the name of a join key of entity '{entity.name}'",
                "a join key is part of the key already; give the field another name",
            )


def _columns(item: Item[FeatureView], entity: Entity) -> Iterator[Finding]:
    view = item.model
    kind = "batch" if view.batch else "stream"
    known = [*view.fields_, *entity.join_keys]
    for column in view.how.source.columns if view.how.source else ():
        if column not in known:
            yield Finding(
                item.key_at(kind, "source", "columns", column),
                f"feature view '{view.name}': columns: no field or join key named '{column}'",
                nearest(column, known),
            )


def _shared_fields(views: Sequence[Item[FeatureView]]) -> Iterator[Finding]:
    first: dict[tuple[str, str], Item[FeatureView]] = {}
    for item in views:
        for name in item.model.fields_:
            other = first.setdefault((item.model.entity, name), item)
            if other.model.name != item.model.name:
                yield Finding(
                    item.key_at("fields", name),
                    f"field '{name}' is in two views of entity '{item.model.entity}', "
                    f"'{item.model.name}' and '{other.model.name}' "
                    f"({other.key_at('fields', name)})",
                    "all views of an entity share its hash; give one of them another name",
                )


def _owners(views: Sequence[Item[FeatureView]]) -> Iterator[Finding]:
    first: dict[str, Item[FeatureView]] = {}
    for item in views:
        view = item.model
        if not view.owns_key:
            continue
        other = first.setdefault(view.entity, item)
        if other.model.name != view.name:
            yield Finding(
                item.at("batch"),
                f"feature view '{view.name}' would be the second to expire the keys of entity "
                f"'{view.entity}', after '{other.model.name}' ({other.at('batch')})",
                "a key has one TTL; write `expires: field` under `batch` of one of them",
            )


def _service(declared: Declared, item: Item[FeatureService]) -> Iterator[Finding]:
    views = {view.model.name: view.model for view in declared.feature_views}
    service = item.model
    for index, feature in enumerate(service.features):
        name, _, field = feature.partition(":")
        place = item.at("features", index)
        lead = f"feature service '{service.name}'"
        view = views.get(name)
        if view is None:
            if not _is_known(declared, "feature view", name):
                message = f"{lead}: no feature view named '{name}'"
                yield Finding(place, message, nearest(name, views))
        elif field and field not in view.fields_:
            message = f"{lead}: no field named '{field}' in feature view '{name}'"
            yield Finding(place, message, nearest(field, view.fields_))
        if feature in service.features[:index]:
            yield Finding(place, f"{lead}: '{feature}' is here twice")


def _join_key_types(declared: Declared, item: Item[FeatureService]) -> Iterator[Finding]:
    """One request names each join key once, so it has one type in all entities of a service."""
    about = {view.model.name: view.model.entity for view in declared.feature_views}
    asked = {about.get(feature.partition(":")[0]) for feature in item.model.features}
    first: dict[str, Entity] = {}
    for entity in (e.model for e in declared.entities if e.model.name in asked):
        for key, key_type in entity.join_keys.items():
            other = first.setdefault(key, entity)
            if other.join_keys[key] != key_type:
                yield Finding(
                    item.at("features"),
                    f"feature service '{item.model.name}': join key '{key}' is "
                    f"{other.join_keys[key]} in entity '{other.name}' and {key_type} in entity "
                    f"'{entity.name}', so that one request cannot ask for both",
                    "give one of the join keys another name",
                )
