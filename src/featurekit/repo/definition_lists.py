"""The methods of `FeatureStore` that return what is applied, as plain data."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal, TypeVar

from featurekit import models
from featurekit.codegen.catalog import (
    computation_text,
    derived_entities,
    request_values,
    view_kind,
)
from featurekit.errors import UnknownNameError
from featurekit.models.fields import TypedValue
from featurekit.models.model import Described
from featurekit.printable import HtmlCell, html_table
from featurekit.registry import Registry
from featurekit.types import codec_of


@dataclass(frozen=True, kw_only=True)
class Definition:
    """What every definition has.

    Attributes:
        name: Its name.
        description: Its description for people.
        owner: The person or team responsible.
        tags: Its labels.
        deprecated: Whether it is deprecated, or why.
    """

    name: str
    description: str = ""
    owner: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    deprecated: bool | str = False


@dataclass(frozen=True, kw_only=True)
class Entity(Definition):
    """An applied entity, also with `name`, `description`, `owner`, `tags` and `deprecated`.

    Attributes:
        join_keys: The join keys with their types, in order.
    """

    join_keys: Mapping[str, str]

    @property
    def join_key(self) -> str:
        """The name of the first join key, as in Feast."""
        return next(iter(self.join_keys))


@dataclass(frozen=True, kw_only=True)
class Feature(Definition):
    """A feature of an applied view, with `name` and so on as `Entity`.

    Attributes:
        dtype: Its type, as in YAML.
        default: The value that readers return if none is stored; `None` without one.
        ttl: How long a value lives.
    """

    dtype: str
    default: object
    ttl: timedelta


@dataclass(frozen=True, kw_only=True)
class FeatureView(Definition):
    """An applied feature view, with `name` and so on as `Entity`.

    Attributes:
        entity: The entity that its features describe, if it has one.
        kind: `batch` or `stream`.
        refresh: How often it is expected to be written.
        ttl: How long its values live, unless a feature has its own TTL.
        features: Its features, in order.
    """

    entity: str | None
    kind: Literal["batch", "stream"]
    refresh: timedelta
    ttl: timedelta
    features: tuple[Feature, ...]


@dataclass(frozen=True, kw_only=True)
class DerivedFeature(Definition):
    """A feature that is computed when it is read, with `name` and so on as `Entity`.

    Attributes:
        dtype: Its type, as in YAML.
        default: The value that readers return if there is none; `None` without one.
        computation: The expression, or the function with its arguments.
    """

    dtype: str
    default: object
    computation: str


@dataclass(frozen=True, kw_only=True)
class DerivedFeatureView(Definition):
    """An applied feature view of which nothing is stored, with `name` and so on as `Entity`.

    Attributes:
        entities: The entities of its inputs.
        request_values: The values of requests that it is computed from.
        features: Its features, in order.
    """

    entities: tuple[str, ...]
    request_values: tuple[str, ...]
    features: tuple[DerivedFeature, ...]


@dataclass(frozen=True, kw_only=True)
class FeatureService(Definition):
    """An applied feature service, with `name` and so on as `Entity`.

    `get_online_features` and `online_reader` take it, or its name, as `features`.

    Attributes:
        entities: The entities that its features describe.
        features: Its features in order, as `view:field`, or as `view:field as alias`.
    """

    entities: tuple[str, ...]
    features: tuple[str, ...]


D = TypeVar("D", bound=Definition)
Tags = Mapping[str, str] | None


class DefinitionLists(ABC):
    """Lists the applied definitions, with Feast's names."""

    @property
    @abstractmethod
    def applied(self) -> Registry:
        """The applied registry.

        Raises:
            RegistryError: Nothing is applied yet.
        """

    def list_entities(self, tags: Tags = None) -> list[Entity]:
        """Return the applied entities, by name; with `tags`, only those with all of these labels."""
        return [each for each in map(_entity, self.applied.entities) if _has(each, tags)]

    def list_feature_views(self, tags: Tags = None) -> list[FeatureView]:
        """Return the applied batch and stream views, by name; `tags` as in `list_entities`."""
        return [each for each in map(_view, self.applied.feature_views) if _has(each, tags)]

    def list_batch_feature_views(self, tags: Tags = None) -> list[FeatureView]:
        """Return the applied batch views, by name; `tags` as in `list_entities`."""
        return [view for view in self.list_feature_views(tags) if view.kind == "batch"]

    def list_stream_feature_views(self, tags: Tags = None) -> list[FeatureView]:
        """Return the applied stream views, by name; `tags` as in `list_entities`."""
        return [view for view in self.list_feature_views(tags) if view.kind == "stream"]

    def list_on_demand_feature_views(self, tags: Tags = None) -> list[DerivedFeatureView]:
        """Return the applied derived views, by name; `tags` as in `list_entities`."""
        views = (_derived_view(self.applied, each) for each in self.applied.derived_views)
        return [each for each in views if _has(each, tags)]

    def list_feature_services(self, tags: Tags = None) -> list[FeatureService]:
        """Return the applied feature services, by name; `tags` as in `list_entities`."""
        services = (_service(self.applied, each) for each in self.applied.feature_services)
        return [each for each in services if _has(each, tags)]

    def get_entity(self, name: str) -> Entity:
        """Return an applied entity.

        Raises:
            UnknownNameError: There is none with this name.
        """
        return _named("entity", name, self.list_entities())

    def get_feature_view(self, name: str) -> FeatureView:
        """Return an applied batch or stream view.

        Raises:
            UnknownNameError: There is none with this name.
        """
        return _named("feature view", name, self.list_feature_views())

    def get_feature_service(self, name: str) -> FeatureService:
        """Return an applied feature service.

        Raises:
            UnknownNameError: There is none with this name.
        """
        return _named("feature service", name, self.list_feature_services())


def views_table(views: Iterable[models.FeatureView], caption: str) -> str:
    """Return feature views as an HTML table, for notebooks."""
    rows = [
        [
            HtmlCell(view.name, view.description),
            HtmlCell(view.entity or "none"),
            HtmlCell(view_kind(view)),
            HtmlCell(models.format_duration(view.ingestion.refresh)),
            HtmlCell(models.format_duration(view.ingestion.ttl_ms)),
            HtmlCell(", ".join(view.fields_)),
        ]
        for view in views
    ]
    headings = ("feature view", "entity", "kind", "refresh", "ttl", "features")
    return html_table(headings, rows, caption)


def _named(kind: str, name: str, items: list[D]) -> D:
    by_name = {item.name: item for item in items}
    if name not in by_name:
        raise UnknownNameError.among(kind, name, by_name)
    return by_name[name]


def _has(item: Definition, tags: Tags) -> bool:
    return (tags or {}).items() <= item.tags.items()


def _described(model: Described) -> dict[str, Any]:
    return {
        "description": model.description,
        "owner": model.owner,
        "tags": dict(model.tags),
        "deprecated": model.deprecated,
    }


def _entity(entity: models.Entity) -> Entity:
    return Entity(name=entity.name, join_keys=dict(entity.join_keys), **_described(entity))


def _view(view: models.FeatureView) -> FeatureView:
    return FeatureView(
        name=view.name,
        entity=view.entity,
        kind=view_kind(view),
        refresh=timedelta(milliseconds=view.ingestion.refresh),
        ttl=timedelta(milliseconds=view.ingestion.ttl_ms),
        features=tuple(_feature(view, name) for name in view.fields_),
        **_described(view),
    )


def _feature(view: models.FeatureView, name: str) -> Feature:
    spec = view.fields_[name]
    ttl_ms = view.field_ttl_ms(name) or view.ingestion.ttl_ms
    ttl = timedelta(milliseconds=ttl_ms)
    return Feature(name=name, dtype=spec.type, default=_default(spec), ttl=ttl, **_described(spec))


def _derived_view(registry: Registry, view: models.DerivedView) -> DerivedFeatureView:
    return DerivedFeatureView(
        name=view.name,
        entities=tuple(derived_entities(registry, view)),
        request_values=tuple(request_values(registry, view)),
        features=tuple(
            DerivedFeature(
                name=name,
                dtype=spec.type,
                default=_default(spec),
                computation=computation_text(spec),
                **_described(spec),
            )
            for name, spec in view.fields_.items()
        ),
        **_described(view),
    )


def _default(spec: TypedValue) -> object:
    return None if spec.default is None else codec_of(spec.dtype).from_json(spec.default)


def _service(registry: Registry, service: models.FeatureService) -> FeatureService:
    return FeatureService(
        name=service.name,
        entities=tuple(registry.entities_of(service)),
        features=tuple(map(str, registry.features_of(service))),
        **_described(service),
    )
