"""The registry: what was applied, remembered as canonical JSON.

Immutable. It also remembers the fields that an entity once had (`retired`), which batch writes
delete. Its fingerprint changes whenever anything in it does, descriptions included.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

from pydantic import ValidationError

from featurekit.errors import RegistryError
from featurekit.models.definitions import (
    Entity,
    FeatureService,
    FeatureView,
    LoadedRepo,
    expand_features,
)
from featurekit.models.model import Model

FORMAT = 1
"""The version of the JSON; another one is refused."""

M = TypeVar("M", bound=Model)

_ORDERED = ("join_keys", "fields")
"""Mappings whose order means something; canonical JSON has them as lists of pairs."""


@dataclass(frozen=True)
class Registry:
    """A repository's definitions, as applied.

    Attributes:
        project: The project's name.
        key_prefix: What all keys begin with.
        entities: Sorted by name; so are views and services.
        feature_views: The feature views.
        feature_services: The feature services.
        retired: The hash fields that each entity once had and has no more, sorted.
    """

    project: str
    key_prefix: str
    entities: tuple[Entity, ...] = ()
    feature_views: tuple[FeatureView, ...] = ()
    feature_services: tuple[FeatureService, ...] = ()
    retired: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def from_loaded(cls, loaded: LoadedRepo, previous: Registry | None) -> Registry:
        """The registry of a repository that follows `previous`."""
        registry = cls(
            project=loaded.config.project,
            key_prefix=loaded.config.online_store.key_prefix,
            entities=tuple(sorted(loaded.entities, key=lambda e: e.name)),
            feature_views=tuple(sorted(loaded.feature_views, key=lambda v: v.name)),
            feature_services=tuple(sorted(loaded.feature_services, key=lambda s: s.name)),
        )
        retired = registry._retired_since(previous) if previous else {}
        return cls(**{**vars(registry), "retired": retired})

    def features_of(self, service: FeatureService) -> tuple[tuple[str, str], ...]:
        """Return the (view, field) pairs of a service, in order, each once."""
        fields = {view.name: view.fields_ for view in self.feature_views}
        return tuple(dict.fromkeys(expand_features(service.features, fields)))

    def entities_of(self, service: FeatureService) -> list[str]:
        """Return the entities that a service's features belong to, each once."""
        entities = {view.name: view.entity for view in self.feature_views}
        return list(dict.fromkeys(entities[view] for view, _ in self.features_of(service)))

    def hash_fields(self, entity: str) -> set[str]:
        """All fields of an entity's hash, with those that keep event times."""
        views = [view for view in self.feature_views if view.entity == entity]
        names = {name for view in views for name in view.fields_}
        return names | {view.event_time_field for view in views if view.event_time_field}

    def _retired_since(self, previous: Registry) -> dict[str, tuple[str, ...]]:
        retired = {}
        for entity in self.entities:
            once = previous.hash_fields(entity.name) | {*previous.retired.get(entity.name, ())}
            if gone := once - self.hash_fields(entity.name):
                retired[entity.name] = tuple(sorted(gone))
        return retired

    def to_json(self) -> str:
        """The registry as canonical JSON: equal registries give equal text."""
        data = {
            "format": FORMAT,
            "project": self.project,
            "key_prefix": self.key_prefix,
            "entities": [_dump(entity) for entity in self.entities],
            "feature_views": [_dump(view) for view in self.feature_views],
            "feature_services": [_dump(service) for service in self.feature_services],
            "retired": {name: list(fields) for name, fields in self.retired.items()},
        }
        text = json.dumps(
            data, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
        )
        return text + "\n"

    @classmethod
    def from_json(cls, text: str) -> Registry:
        """The registry of `to_json`.

        Raises:
            RegistryError: It is damaged, or of another version.
        """
        try:
            data = json.loads(text)
            if data["format"] != FORMAT:
                raise RegistryError(
                    f"the registry has format {data['format']}, this version reads {FORMAT}",
                    hint="install the version of featurekit that wrote it, or a newer one",
                )
            registry = cls(
                project=_text(data["project"]),
                key_prefix=_text(data["key_prefix"]),
                entities=tuple(_load(Entity, item) for item in data["entities"]),
                feature_views=tuple(_load(FeatureView, item) for item in data["feature_views"]),
                feature_services=tuple(
                    _load(FeatureService, item) for item in data["feature_services"]
                ),
                retired={
                    _text(name): tuple(map(_text, fields))
                    for name, fields in data["retired"].items()
                },
            )
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise _damaged(error) from error
        registry._check_references()
        return registry

    def _check_references(self) -> None:
        entities = {entity.name for entity in self.entities}
        views = {view.name: view.fields_ for view in self.feature_views}
        wrong = [view.name for view in self.feature_views if view.entity not in entities]
        for service in self.feature_services:
            for feature in service.features:
                view, _, name = feature.partition(":")
                if view not in views or (name and name not in views[view]):
                    wrong.append(service.name)
        if wrong:
            raise RegistryError(
                f"the registry is damaged: '{wrong[0]}' refers to what is not there"
            )

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the canonical JSON, in hex; people are shown the first 16 digits."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()


def _dump(model: Model) -> dict[str, Any]:
    data = model.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    return {key: list(v.items()) if key in _ORDERED else v for key, v in data.items()}


def _load(model: type[M], data: dict[str, Any]) -> M:
    unpaired = {key: dict(v) if key in _ORDERED else v for key, v in data.items()}
    return model.model_validate(unpaired)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not text")
    return value


def _damaged(error: Exception) -> RegistryError:
    fact = error.errors()[0]["msg"] if isinstance(error, ValidationError) else repr(error)
    return RegistryError(
        f"the registry is damaged: {fact}",
        hint="restore it from version control or a backup, or remove it and apply again",
    )
