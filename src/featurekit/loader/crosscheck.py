"""Cross checks: what one declaration says about another, and values about their types.

They work on what could be read, so that an error in one place hides none in another; and they
are silent about what rests on something that could not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from featurekit.errors import nearest
from featurekit.loader.declared import Declared, Item, N
from featurekit.loader.places import Finding
from featurekit.loader.values import value_findings
from featurekit.models.definitions import Entity, FeatureService, FeatureView, is_feature
from featurekit.models.plain import found


def cross_check(declared: Declared) -> None:
    """Add to the findings what is wrong between the declarations."""
    entities = {item.model.name: item for item in declared.entities}
    findings = declared.findings
    findings += _duplicates("entity", declared.entities)
    findings += _duplicates("feature view", declared.feature_views)
    findings += _duplicates("feature service", declared.feature_services)
    for entity in declared.entities:
        findings += _hash_tag(entity)
    for view in declared.feature_views:
        findings += _entity_reference(declared, view)
        findings += value_findings(view)
        findings += _field_ttls(view)
        findings += _unread_times(view)
        if (about := entities.get(view.model.entity)) is not None:
            findings += _join_keys(view, about)
            findings += _columns(view, about)
    findings += _shared_fields(declared.feature_views)
    findings += _owners(declared.feature_views)
    for service in declared.feature_services:
        findings += _references(declared, service)
        findings += _join_key_types(declared, service)


def _duplicates(kind: str, items: Sequence[Item[N]]) -> Iterator[Finding]:
    first: dict[str, Item[N]] = {}
    for item in items:
        name = item.model.name
        other = first.setdefault(name, item)
        if name and other is not item:
            yield Finding(
                item.at("name"), f"{kind} '{name}' is declared twice, first at {other.at('name')}"
            )


def _hash_tag(item: Item[Entity]) -> Iterator[Finding]:
    tag, known = item.model.hash_tag, item.names("join_keys")
    key = tag.join_key if tag else None
    if key is not None and known is not None and key not in known:
        yield Finding(
            item.at("hash_tag", "join_key"),
            f"{item.shown}: hash_tag: no join key named {found(key)}",
            nearest(key, known),
        )


def _missed(
    declared: Declared, kind: str, name: str, items: Sequence[Item[N]]
) -> tuple[str, str] | None:
    """Message and hint for a name that is not there, if all that may have it were read."""
    known = [item.model.name for item in items if item.model.name]
    if not name or name in known or declared.is_partial or kind in declared.unnamed:
        return None
    return f"no {kind} named {found(name)}", nearest(name, known)


def _entity_reference(declared: Declared, item: Item[FeatureView]) -> Iterator[Finding]:
    if missed := _missed(declared, "entity", item.model.entity, declared.entities):
        yield Finding(item.at("entity"), f"{item.shown}: {missed[0]}", missed[1])


def _owns_key(view: FeatureView) -> bool:
    """Whether it surely expires keys; one with both `batch` and `stream` may not."""
    return view.owns_key and view.stream is None


def _field_ttls(item: Item[FeatureView]) -> Iterator[Finding]:
    view = item.model
    for name, spec in view.fields_.items() if _owns_key(view) else ():
        if spec.ttl is not None:
            yield Finding(
                item.key_at("fields", name, "ttl"),
                f"{item.field(name)}: a ttl of its own cannot act, since the view "
                "expires by its key",
                "remove it, or write `expires: field` under `batch`",
            )


def _unread_times(item: Item[FeatureView]) -> Iterator[Finding]:
    stream = item.model.stream
    source = stream.source if stream else None
    if stream is None or source is None or source.event_timestamp_field is None:
        return
    if stream.ordering != "event_time":
        yield Finding(
            item.key_at("stream", "source", "event_timestamp_field"),
            f"{item.shown}: event_timestamp_field: nothing reads it, since the view orders events "
            "by arrival",
            "remove it, or write `ordering: event_time` under `stream`",
        )


def _join_keys(item: Item[FeatureView], entity: Item[Entity]) -> Iterator[Finding]:
    for name in item.names("fields") or ():
        if name in (entity.names("join_keys") or ()):
            yield Finding(
                item.key_at("fields", name),
                f"{item.field(name)} has the name of a join key of {entity.shown}",
                "a join key is part of the key already; give the field another name",
            )


def _columns(item: Item[FeatureView], entity: Item[Entity]) -> Iterator[Finding]:
    view = item.model
    fields, join_keys = item.names("fields"), entity.names("join_keys")
    if fields is None or join_keys is None:
        return
    known = [*fields, *join_keys]
    for kind, how in (("batch", view.batch), ("stream", view.stream)):
        for column in how.source.columns if how and how.source else ():
            if column not in known:
                yield Finding(
                    item.key_at(kind, "source", "columns", column),
                    f"{item.shown}: columns: no field or join key named {found(column)}",
                    nearest(column, known),
                )


def _shared_fields(views: Sequence[Item[FeatureView]]) -> Iterator[Finding]:
    first: dict[tuple[str, str], Item[FeatureView]] = {}
    for item in views:
        entity = item.model.entity
        for name in (item.names("fields") or ()) if entity else ():
            other = first.setdefault((entity, name), item)
            if other.shown != item.shown:
                yield Finding(
                    item.key_at("fields", name),
                    f"{item.field(name)} is a field of entity '{entity}' already, in "
                    f"{other.shown} ({other.key_at('fields', name)})",
                    "all views of an entity share its hash; give one of them another name",
                )


def _owners(views: Sequence[Item[FeatureView]]) -> Iterator[Finding]:
    first: dict[str, Item[FeatureView]] = {}
    for item in views:
        entity = item.model.entity
        if not (entity and _owns_key(item.model)):
            continue
        other = first.setdefault(entity, item)
        if other.shown != item.shown:
            yield Finding(
                item.at("batch"),
                f"{item.shown} would be the second to expire the keys of entity "
                f"'{entity}', after {other.shown} ({other.at('batch')})",
                "a key has one TTL; write `expires: field` under `batch` of one of them",
            )


def _references(declared: Declared, item: Item[FeatureService]) -> Iterator[Finding]:
    views = {view.model.name: view for view in declared.feature_views}
    seen = set()
    for index, feature in _features(item):
        name, _, field = feature.partition(":")
        place = item.at("features", index)
        if missed := _missed(declared, "feature view", name, declared.feature_views):
            yield Finding(place, f"{item.shown}: {missed[0]}", missed[1])
        known = views[name].names("fields") if name in views else None
        if field and known is not None and field not in known:
            message = f"{item.shown}: no field named {found(field)} in feature view '{name}'"
            yield Finding(place, message, nearest(field, known))
        if feature in seen:
            yield Finding(place, f"{item.shown}: '{feature}' is here twice")
        seen.add(feature)


def _features(item: Item[FeatureService]) -> list[tuple[int, str]]:
    """The features of a service, without those that are none, and where they stand."""
    listed = item.data.get("features")
    return [
        (index, str(feature))
        for index, feature in enumerate(listed if isinstance(listed, list) else ())
        if isinstance(feature, str) and is_feature(feature)
    ]


def _join_key_types(declared: Declared, item: Item[FeatureService]) -> Iterator[Finding]:
    """One request names each join key once, so it has one type in all entities of a service."""
    about = {view.model.name: view.model.entity for view in declared.feature_views}
    asked = {about.get(feature.partition(":")[0]) for _, feature in _features(item)}
    first: dict[str, Entity] = {}
    for entity in (e.model for e in declared.entities if e.model.name in asked):
        for key, key_type in entity.join_keys.items():
            other = first.setdefault(key, entity)
            if other.join_keys[key] != key_type:
                yield Finding(
                    item.at("features"),
                    f"{item.shown}: join key '{key}' is {other.join_keys[key]} in entity "
                    f"'{other.name}' and {key_type} in entity '{entity.name}', so that one "
                    "request cannot ask for both",
                    "give one of the join keys another name",
                )
