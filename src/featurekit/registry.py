"""The registry: the applied definitions, stored as canonical JSON.

A registry is immutable. It also contains the fields that an entity no longer declares (`retired`),
which batch writes delete, and the entities that are no longer declared (`removed`), whose bytes may
still be stored when they are declared again. Any change, also of a description, changes its fingerprint.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeVar

from pydantic import ValidationError

from featurekit.errors import RegistryError
from featurekit.expressions import ExpressionError
from featurekit.feature_lists import SelectedFeature, expand_features, item_view
from featurekit.models.definitions import (
    Entity,
    FeatureService,
    FeatureView,
    LoadedRepo,
)
from featurekit.models.model import APPLIED, Model
from featurekit.types import parse_dtype

FORMAT = 1
"""The version of the JSON document; other versions are refused."""

M = TypeVar("M", bound=Model)

_ORDERED_MAPPINGS = ("join_keys", "inputs", "fields")
"""Mappings whose order matters; the JSON document has them as lists of pairs."""


@dataclass(frozen=True)
class RemovedEntity:
    """An entity that is no longer declared.

    Attributes:
        entity: Its last declaration, with its keys.
        types: The types of the fields that its hashes may hold; `None` if not known.
    """

    entity: Entity
    types: Mapping[str, str | None]


@dataclass(frozen=True)
class Registry:
    """The applied definitions of a repository.

    Attributes:
        project: The project's name.
        key_prefix: The prefix of all keys.
        entities: The entities, sorted by name.
        feature_views: The feature views, sorted by name.
        feature_services: The feature services, sorted by name.
        retired: The hash fields that each entity no longer declares, sorted.
        removed: The entities that are no longer declared, sorted by name.
    """

    project: str
    key_prefix: str
    entities: tuple[Entity, ...] = ()
    feature_views: tuple[FeatureView, ...] = ()
    feature_services: tuple[FeatureService, ...] = ()
    retired: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    removed: tuple[RemovedEntity, ...] = ()

    @classmethod
    def from_loaded(cls, loaded: LoadedRepo, previous: Registry | None) -> Registry:
        """Return the registry of a loaded repository that replaces `previous`."""
        registry = cls(
            project=loaded.config.project,
            key_prefix=loaded.config.online_store.key_prefix,
            entities=tuple(sorted(loaded.entities, key=lambda e: e.name)),
            feature_views=tuple(sorted(loaded.feature_views, key=lambda v: v.name)),
            feature_services=tuple(sorted(loaded.feature_services, key=lambda s: s.name)),
        )
        if previous is None:
            return registry
        return replace(
            registry,
            retired=registry._retired_since(previous),
            removed=registry._removed_since(previous),
        )

    def features_of(self, service: FeatureService) -> tuple[SelectedFeature, ...]:
        """Return the features of a service, in order, each once."""
        fields = {view.name: view.fields_ for view in self.feature_views}
        return tuple(dict.fromkeys(expand_features(service.items, fields)))

    def entities_of(self, service: FeatureService) -> list[str]:
        """Return the entities that a service's features belong to, each once."""
        entities = {view.name: view.entity for view in self.feature_views}
        found = dict.fromkeys(entities[item_view(item)] for item in service.items)
        return [entity for entity in found if entity is not None]

    @property
    def all_entities(self) -> tuple[Entity, ...]:
        """The entities, then one without join keys for each view without an entity."""
        names = [view.entity_name for view in self.feature_views if view.entity is None]
        return (*self.entities, *map(_global_entity, names))

    def hash_fields(self, entity: str) -> set[str]:
        """Return all fields of an entity's hash, including event times and guards of windows."""
        views = [view for view in self.feature_views if view.entity_name == entity]
        names = {name for view in views for name in view.fields_}
        own = {name for view in views for name in (view.event_time_field, view.guard_field)}
        return names | {name for name in own if name is not None}

    def _retired_since(self, previous: Registry) -> dict[str, tuple[str, ...]]:
        retired = {}
        removed_types = {removed.entity.name: removed.types for removed in previous.removed}
        for entity in self.all_entities:
            before = previous.hash_fields(entity.name) | {*previous.retired.get(entity.name, ())}
            before |= {*removed_types.get(entity.name, ())}
            if removed := before - self.hash_fields(entity.name):
                retired[entity.name] = tuple(sorted(removed))
        return retired

    def _removed_since(self, previous: Registry) -> tuple[RemovedEntity, ...]:
        declared = {entity.name for entity in self.all_entities}
        removed = [
            RemovedEntity(entity, previous._hash_types(entity.name))
            for entity in previous.all_entities
        ]
        left = [each for each in (*previous.removed, *removed) if each.entity.name not in declared]
        return tuple(sorted(left, key=lambda each: each.entity.name))

    def _hash_types(self, entity: str) -> dict[str, str | None]:
        """Return the types of all fields that an entity's hashes may hold, in order of their names."""
        types: dict[str, str | None] = dict.fromkeys(self.hash_fields(entity))
        types |= dict.fromkeys(self.retired.get(entity, ()))
        for view in self.feature_views:
            if view.entity_name == entity:
                types |= {name: str(spec.dtype) for name, spec in view.fields_.items()}
        return dict(sorted(types.items()))

    def to_json(self) -> str:
        """Return the registry as canonical JSON; equal registries have equal text."""
        data = {
            "format": FORMAT,
            "project": self.project,
            "key_prefix": self.key_prefix,
            "entities": [_dump_model(entity) for entity in self.entities],
            "feature_views": [_dump_model(view) for view in self.feature_views],
            "feature_services": [_dump_model(service) for service in self.feature_services],
            "retired": {name: list(fields) for name, fields in self.retired.items()},
        }
        if self.removed:
            data["removed"] = [
                {"entity": _dump_model(each.entity), "types": dict(each.types)}
                for each in self.removed
            ]
        text = json.dumps(
            data, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
        )
        return text + "\n"

    @classmethod
    def from_json(cls, text: str) -> Registry:
        """Return the registry that `to_json` wrote.

        Raises:
            RegistryError: The document is damaged, or has another version.
        """
        try:
            data = json.loads(text)
            if data["format"] != FORMAT:
                raise RegistryError(
                    f"the registry has format {data['format']}, this version reads {FORMAT}",
                    hint="install the version of featurekit that wrote it, or a newer one",
                )
            registry = cls(
                project=_require_text(data["project"]),
                key_prefix=_require_text(data["key_prefix"]),
                entities=tuple(_load_model(Entity, item) for item in data["entities"]),
                feature_views=tuple(
                    _load_model(FeatureView, item) for item in data["feature_views"]
                ),
                feature_services=tuple(
                    _load_model(FeatureService, item) for item in data["feature_services"]
                ),
                retired={
                    _require_text(name): tuple(map(_require_text, fields))
                    for name, fields in data["retired"].items()
                },
                removed=tuple(map(_load_removed, data.get("removed", ()))),
            )
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise _damaged_error(error) from error
        registry._check_references()
        return registry

    def _check_references(self) -> None:
        entities = {entity.name for entity in self.entities}
        views = {view.name: view for view in self.feature_views}
        wrong = [v.name for v in self.feature_views if v.entity and v.entity not in entities]
        wrong += [v.name for v in self.feature_views if v.is_windowed and not _has_windows(v)]
        wrong += [
            service.name
            for service in self.feature_services
            if any(item_view(item) not in views for item in service.items)
            or any(
                each.field not in views[each.view].fields_ for each in self.features_of(service)
            )
        ]
        if wrong:
            raise RegistryError(
                f"the registry is damaged: '{wrong[0]}' refers to a missing definition"
            )

    @cached_property
    def fingerprint(self) -> str:
        """The SHA-256 of the canonical JSON in hex; output shows its first 16 digits."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()


def _has_windows(view: FeatureView) -> bool:
    """Return whether a view has all that its aggregates need, with conditions that hold up."""
    try:
        for name in view.fields_:
            view.condition(name)
    except ExpressionError:
        return False
    return view.stream is not None and all(
        each.has_tiles
        and (each.of in view.inputs or (each.of is None and each.aggregate == "count"))
        for each in view.fields_.values()
    )


def _dump_model(model: Model) -> dict[str, Any]:
    data = model.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    return {key: list(v.items()) if key in _ORDERED_MAPPINGS else v for key, v in data.items()}


def _load_model(model: type[M], data: dict[str, Any]) -> M:
    fields = {key: dict(v) if key in _ORDERED_MAPPINGS else v for key, v in data.items()}
    return model.model_validate(fields, context={APPLIED: True})


def _load_removed(data: dict[str, Any]) -> RemovedEntity:
    types = {
        _require_text(name): None if dtype is None else str(parse_dtype(dtype))
        for name, dtype in data["types"].items()
    }
    entity = data["entity"]
    if not entity["join_keys"]:
        return RemovedEntity(_global_entity(_require_text(entity["name"])), types)
    return RemovedEntity(_load_model(Entity, entity), types)


def _global_entity(name: str) -> Entity:
    """Return the entity without join keys of a view without an entity; files cannot declare it."""
    return Entity.model_construct(name=name, join_keys={})


def _require_text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not text")
    return value


def _damaged_error(error: Exception) -> RegistryError:
    problem = error.errors()[0]["msg"] if isinstance(error, ValidationError) else repr(error)
    return RegistryError(
        f"the registry is damaged: {problem}",
        hint="restore it from version control or a backup, or remove it and apply again",
    )
