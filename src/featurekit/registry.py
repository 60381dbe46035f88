"""The registry: the applied definitions, stored as canonical JSON.

A registry is immutable. It also contains the fields that an entity no longer declares (`retired`),
which batch writes delete, and the entities that are no longer declared (`removed`), whose bytes may
still be stored when they are declared again. Any change, also of a description, changes its fingerprint.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeVar

from pydantic import ValidationError

from featurekit.derivations import CycleError, Derivations, Sources
from featurekit.errors import FeatureKitError, RegistryError
from featurekit.expressions import Expression, ExpressionError, from_document
from featurekit.feature_lists import SelectedFeature, expand_features, item_view
from featurekit.models.definitions import (
    Entity,
    FeatureService,
    FeatureView,
    LoadedRepo,
)
from featurekit.models.derived import Computation, DerivedView, FunctionSource, Request
from featurekit.models.fields import ConstrainedValue, TypedValue
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
        feature_views: The feature views that are stored, sorted by name.
        feature_services: The feature services, sorted by name.
        retired: The hash fields that each entity no longer declares, sorted.
        removed: The entities that are no longer declared, sorted by name.
        derived_views: The feature views that are computed, sorted by name.
        requests: The request data, sorted by name.
        computations: How each derived feature is computed, by `view:field`.
    """

    project: str
    key_prefix: str
    entities: tuple[Entity, ...] = ()
    feature_views: tuple[FeatureView, ...] = ()
    feature_services: tuple[FeatureService, ...] = ()
    retired: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    removed: tuple[RemovedEntity, ...] = ()
    derived_views: tuple[DerivedView, ...] = ()
    requests: tuple[Request, ...] = ()
    computations: Mapping[str, Computation] = field(default_factory=dict)

    @classmethod
    def from_loaded(cls, loaded: LoadedRepo, previous: Registry | None) -> Registry:
        """Return the registry of a loaded repository that replaces `previous`."""
        registry = cls(
            project=loaded.config.project,
            key_prefix=loaded.config.online_store.key_prefix,
            entities=tuple(sorted(loaded.entities, key=lambda e: e.name)),
            feature_views=tuple(sorted(loaded.feature_views, key=lambda v: v.name)),
            feature_services=tuple(sorted(loaded.feature_services, key=lambda s: s.name)),
            derived_views=tuple(sorted(loaded.derived_views, key=lambda v: v.name)),
            requests=tuple(sorted(loaded.requests, key=lambda r: r.name)),
            computations=loaded.computations,
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
        return tuple(dict.fromkeys(expand_features(service.items, self._fields)))

    @property
    def _fields(self) -> dict[str, Iterable[str]]:
        """The field names of each view, stored or derived."""
        stored: dict[str, Iterable[str]] = {v.name: v.fields_ for v in self.feature_views}
        return stored | {view.name: view.fields_ for view in self.derived_views}

    @cached_property
    def derivations(self) -> Derivations:
        """The derived features over what they are computed from."""
        sources = Sources(self.feature_views, self.derived_views, self.requests)
        return Derivations(sources, self.computations)

    def entities_of(self, service: FeatureService) -> list[str]:
        """Return the entities that a service's features belong to, each once."""
        entities = {view.name: view.entity for view in self.feature_views}
        found: dict[str | None, None] = {}
        for view, field_name in ((each.view, each.field) for each in self.features_of(service)):
            if view in entities:
                found[entities[view]] = None
            else:
                used = self.derivations.used(view, [field_name])
                found |= dict.fromkeys(entities[i.source] for i in used if i.kind == "stored")
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
        if self.derived_views:
            data["derived_views"] = [self._dump_derived(view) for view in self.derived_views]
        if self.requests:
            data["requests"] = [_dump_model(request) for request in self.requests]
        text = json.dumps(
            data, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
        )
        return text + "\n"

    def _dump_derived(self, view: DerivedView) -> dict[str, Any]:
        """Return a derived view, with the checked tree of each expression beside its text."""
        data = _dump_model(view)
        for name, spec in data["fields"]:
            computation = self.computations[f"{view.name}:{name}"]
            if isinstance(computation, Expression):
                spec["tree"] = computation.document()
            else:
                spec["source_hash"] = computation.sha256
        return data

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
                requests=tuple(_load_model(Request, item) for item in data.get("requests", ())),
            )
            registry = _with_derived_views(registry, data.get("derived_views", ()))
            _encode_values(registry)
        except (
            ValueError, KeyError, TypeError, AttributeError, RecursionError, CycleError,
        ) as error:  # fmt: skip
            raise _damaged_error(error) from error
        registry._check_references()  # noqa: SLF001 - an instance of this class
        return registry

    def _check_references(self) -> None:
        entities = {entity.name for entity in self.entities}
        fields = self._fields
        wrong = [v.name for v in self.feature_views if v.entity and v.entity not in entities]
        wrong += [v.name for v in self.feature_views if v.is_windowed and not _has_windows(v)]
        wrong += [
            service.name
            for service in self.feature_services
            if any(item_view(item) not in fields for item in service.items)
            or any(each.field not in fields[each.view] for each in self.features_of(service))
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


def _with_derived_views(registry: Registry, documents: Sequence[dict[str, Any]]) -> Registry:
    """Return the registry with derived views, whose trees are checked as texts are.

    Raises:
        FeatureKitError: A tree is not valid, or a feature depends on itself.
        KeyError: A key is missing, or an input of a function.
    """
    trees: dict[str, object] = {}
    views = []
    for document in documents:
        pairs = [(name, dict(spec)) for name, spec in document["fields"]]
        for name, spec in pairs:
            trees[f"{document['name']}:{name}"] = spec.pop(
                "tree" if "expr" in spec else "source_hash"
            )
        views.append(_load_model(DerivedView, {**document, "fields": pairs}))
    derived = tuple(views)
    sources = Sources(registry.feature_views, derived, registry.requests)
    computations: dict[str, Computation] = {}
    for view in derived:
        for name, field_spec in view.fields_.items():
            tree = trees[f"{view.name}:{name}"]
            computations[f"{view.name}:{name}"] = (
                from_document(tree, sources.scope(view, name).types())
                if field_spec.expr is not None
                else FunctionSource(_require_text(tree))
            )
    registry = replace(registry, derived_views=derived, computations=computations)
    for view in derived:
        for name in view.fields_:
            registry.derivations.inlined(view.name, name)
    return registry


def _encode_values(registry: Registry) -> None:
    """Encode all defaults and choices, which are not checked against their types before.

    Raises:
        ValueRefusedError: One is not of its type.
    """
    specs: list[TypedValue] = [
        *(spec for view in registry.feature_views for spec in view.fields_.values()),
        *(spec for view in registry.derived_views for spec in view.fields_.values()),
        *(spec for request in registry.requests for spec in request.fields_.values()),
    ]
    for spec in specs:
        _ = spec.default_bytes
        if isinstance(spec, ConstrainedValue):
            _ = spec.constraints


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
    problem = repr(error)
    if isinstance(error, ValidationError):
        problem = error.errors()[0]["msg"]
    elif isinstance(error, FeatureKitError):
        problem = error.message
    return RegistryError(
        f"the registry is damaged: {problem}",
        hint="restore it from version control or a backup, or remove it and apply again",
    )
