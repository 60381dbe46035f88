"""The plan of a repository."""

from __future__ import annotations

from dataclasses import dataclass

from featurekit.errors import UnknownNameError
from featurekit.feature_lists import GLOBAL, SelectedFeature, global_entity
from featurekit.keys import KeyPlan
from featurekit.plan.derived import DerivedViewPlan, RequestPlan
from featurekit.plan.fields import find_plan
from featurekit.plan.views import LogPlan, ViewPlan
from featurekit.types import DType


@dataclass(frozen=True, slots=True)
class ServicePlan:
    """A named list of features, in order, each once.

    Attributes:
        logging: The log of what is served; `None` if there is none.
    """

    name: str
    features: tuple[SelectedFeature, ...]
    logging: LogPlan | None = None


@dataclass(frozen=True, slots=True)
class EntityPlan:
    """One entity: how its keys are built, and the fields that it no longer declares."""

    name: str
    key: KeyPlan
    retired: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RemovedEntityPlan:
    """An entity that is no longer declared, but of which values may still be stored.

    Attributes:
        key: How its keys were built.
        types: Pairs of (hash field, type); the type is `None` if it is not known.
    """

    key: KeyPlan
    types: tuple[tuple[str, DType | None], ...]


@dataclass(frozen=True, slots=True)
class RepoPlan:
    """A compiled repository.

    Attributes:
        project: The project's name.
        prefix: The prefix of all keys.
        fingerprint: The fingerprint of the compiled registry.
        views: The views that are stored.
        removed: The entities that are no longer declared.
        derived_views: The views that are computed when they are read.
        requests: What callers send along.
    """

    project: str
    prefix: str
    fingerprint: str
    entities: tuple[EntityPlan, ...] = ()
    views: tuple[ViewPlan, ...] = ()
    services: tuple[ServicePlan, ...] = ()
    removed: tuple[RemovedEntityPlan, ...] = ()
    derived_views: tuple[DerivedViewPlan, ...] = ()
    requests: tuple[RequestPlan, ...] = ()

    def view(self, name: str) -> ViewPlan:
        """Return a stored view by name; raise `UnknownNameError` if there is none."""
        if name in {view.name for view in self.derived_views}:
            raise UnknownNameError(
                f"feature view '{name}' is derived: it is computed when it is read",
                hint="nothing of it is loaded, written or stored; name the views of its inputs",
            )
        return find_plan("feature view", self.views, name)

    def derived_view(self, name: str) -> DerivedViewPlan:
        """Return a derived view by name; raise `UnknownNameError` if it does not exist."""
        return find_plan("derived feature view", self.derived_views, name)

    def service(self, name: str) -> ServicePlan:
        """Return a service by name; raise `UnknownNameError` if it does not exist."""
        return find_plan("feature service", self.services, name)

    def entity(self, name: str) -> EntityPlan:
        """Return an entity by name; raise `UnknownNameError` if it does not exist."""
        return find_plan("entity", self.entities, name)

    def entities_named(self, name: str) -> list[EntityPlan]:
        """Return the entity of a name, or for `_global` those of all views without an entity."""
        if name != GLOBAL:
            return [self.entity(name)]
        return [entity for entity in self.entities if not entity.key.join_keys]

    def locate(self, entity: str, entity_id: object) -> tuple[EntityPlan, object]:
        """Return an entity and an id in it; `_global` has the ids of views without an entity.

        Raises:
            UnknownNameError: There is no such entity.
        """
        if entity != GLOBAL:
            return self.entity(entity), entity_id
        names = [each.name.partition(":")[2] for each in self.entities_named(GLOBAL)]
        if entity_id not in names:
            raise UnknownNameError.among("feature view without an entity", str(entity_id), names)
        return self.entity(global_entity(str(entity_id))), ()
