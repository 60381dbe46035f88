"""Rows of join keys and features, split into rows of views."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from featurekit.errors import RequestError, UnknownNameError
from featurekit.plan import RepoPlan, ViewPlan
from featurekit.types import short_repr

Row = Mapping[str, object]
"""Join keys and features, by name."""


@dataclass
class _Entity:
    """The views of one entity that rows may have features of."""

    views: list[ViewPlan]

    @cached_property
    def keys(self) -> set[str]:
        return {key.name for key in self.views[0].key.join_keys}

    @cached_property
    def owners(self) -> dict[str, str]:
        """The view of each feature that is written as it is."""
        written = (view for view in self.views if view.windows is None)
        return {field.name: view.name for view in written for field in view.fields}

    @cached_property
    def names(self) -> set[str]:
        return self.keys | self.owners.keys()

    @property
    def label(self) -> str:
        return ", ".join(view.name for view in self.views)


class RowSplitter:
    """Finds the entity and the views of rows.

    Args:
        repo: The compiled repository.
        view: The view of all the features of the rows, if it is known.

    Raises:
        UnknownNameError: There is no such view.
    """

    def __init__(self, repo: RepoPlan, view: str | None = None) -> None:
        self._view = view
        by_key: dict[object, list[ViewPlan]] = {}
        for plan in [repo.view(view)] if view else repo.views:
            by_key.setdefault(plan.key, []).append(plan)
        self._entities = list(map(_Entity, by_key.values()))
        self._computed = _computed(repo)

    def split(self, row: Row) -> dict[str, Row]:
        """Return the row of each view that a row has features of, each with the join keys.

        Raises:
            RequestError: No entity has such join keys, or several have; or the row has no features, or
                one that is computed.
            UnknownNameError: The entity has no such feature.
        """
        if not isinstance(row, Mapping):
            raise RequestError(
                f"expected a dict of join keys and features, not {short_repr(row)}",
                hint="several rows are several arguments: given_features(row, row)",
            )
        names = row.keys()
        keyed = [each for each in self._entities if each.keys <= names]
        fitting = [each for each in keyed if names <= each.names]
        if len(fitting) > 1:
            raise RequestError(
                f"the row {short_repr(row)} may be of {' or '.join(e.label for e in fitting)}",
                hint="name the view: given_features(row, view=...)",
            )
        if not fitting:
            raise self._misfit(row, keyed)
        [entity] = fitting
        keys = {name: value for name, value in row.items() if name in entity.keys}
        parts: dict[str, dict[str, object]] = {}
        for name, value in row.items():
            if name not in entity.keys:
                parts.setdefault(entity.owners[name], dict(keys))[name] = value
        if not parts:
            raise RequestError(f"the row {short_repr(row)} has no features")
        return dict(parts)

    def _misfit(self, row: Row, keyed: Sequence[_Entity]) -> RequestError | UnknownNameError:
        """Return why a row fits no entity: its join keys, or a feature."""
        known = [each for each in keyed if each.keys or self._view]
        if known:  # the entity with the most of the row's names
            entity = max(known, key=lambda each: len(row.keys() & each.names))
            unknown = next(name for name in row if name not in entity.names)
            if unknown in self._computed:
                return self._computed[unknown]
            where = f"entity {entity.views[0].key.entity}"
            where = f"feature view {self._view}" if self._view else where
            return UnknownNameError.among("feature", unknown, entity.owners, where=where)
        needed = {
            each.views[0].key.entity: ", ".join(key.name for key in each.views[0].key.join_keys)
            for each in self._entities
        }
        listed = "; ".join(f"{entity} has {names}" for entity, names in needed.items() if names)
        return RequestError(
            f"the row {short_repr(row)} has the join keys of no entity", hint=listed
        )


def _computed(repo: RepoPlan) -> dict[str, RequestError]:
    """Return why no row has the features that are computed, and the inputs of windows."""
    errors: dict[str, RequestError] = {}
    for view in repo.views:
        if view.windows is None:
            continue
        error = RequestError(
            f"{view.name} computes its features from events",
            hint=f'write events: given_events("{view.name}", ...)',
        )
        names = (field.name for field in (*view.fields, *view.windows.event_fields))
        errors.update(dict.fromkeys(names, error))
    for derived in repo.derived_views:
        error = RequestError(
            f"{derived.name} computes its features when they are read",
            hint="write the features that they are computed from",
        )
        errors.update(dict.fromkeys((each.name for each in derived.features), error))
    return errors
