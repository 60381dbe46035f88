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
        """The view of each field."""
        return {field.name: view.name for view in self.views for field in view.fields}

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

    def split(self, row: Row) -> dict[str, Row]:
        """Return the row of each view that a row has features of, each with the join keys.

        Raises:
            RequestError: No entity has such join keys, or several have; or the row has no features.
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
