"""Rows of join keys and features, split into rows of views."""

from __future__ import annotations

from collections.abc import Mapping

from featurekit.errors import RequestError, UnknownNameError
from featurekit.plan import RepoPlan, ViewPlan
from featurekit.types import short_repr

Row = Mapping[str, object]
"""Join keys and features, by name."""


def split_row(repo: RepoPlan, row: Row, view: str | None = None) -> dict[str, Row]:
    """Return the rows of the views that a row has features of, each with the join keys.

    Args:
        repo: The compiled repository.
        row: The join keys of one entity, and features of any of its views.
        view: The view of all the features.

    Raises:
        RequestError: No entity has such join keys, or several have; or the row has no features.
        UnknownNameError: The entity has no such feature.
    """
    entities: dict[object, list[ViewPlan]] = {}
    for plan in [repo.view(view)] if view else repo.views:
        if _key_names(plan) <= row.keys():
            entities.setdefault(plan.key, []).append(plan)
    fitting = [views for views in entities.values() if row.keys() <= _names(views)]
    if len(fitting) > 1:
        raise RequestError(
            f"the row {short_repr(row)} may be of {_list_views(fitting)}",
            hint="name the view: given_features(row, view=...)",
        )
    if not fitting:
        raise _misfit(repo, row, list(entities.values()), view)
    [views] = fitting
    keys = {name: row[name] for name in row if name in _key_names(views[0])}
    fields = {plan.name: row.keys() & {field.name for field in plan.fields} for plan in views}
    parts: dict[str, Row] = {
        name: keys | {field: row[field] for field in row if field in present}
        for name, present in fields.items()
        if present
    }
    if not parts:
        raise RequestError(f"the row {short_repr(row)} has no features")
    return parts


def _misfit(
    repo: RepoPlan, row: Row, entities: list[list[ViewPlan]], view: str | None
) -> RequestError | UnknownNameError:
    """Return why a row fits no entity: its join keys, or a feature."""
    keyed = [views for views in entities if views[0].key.join_keys or view]
    if keyed:  # the entity with the most of the row's names
        views = max(keyed, key=lambda each: len(row.keys() & _names(each)))
        unknown = next(name for name in row if name not in _names(views))
        where = f"feature view {view}" if view else f"entity {views[0].key.entity}"
        return UnknownNameError.among(
            "feature", unknown, _names(views) - _key_names(views[0]), where=where
        )
    known = {
        plan.key.entity: ", ".join(key.name for key in plan.key.join_keys)
        for plan in repo.views
        if plan.key.join_keys
    }
    listed = "; ".join(f"{entity} has {names}" for entity, names in known.items())
    return RequestError(f"the row {short_repr(row)} has the join keys of no entity", hint=listed)


def _key_names(plan: ViewPlan) -> set[str]:
    return {key.name for key in plan.key.join_keys}


def _names(views: list[ViewPlan]) -> set[str]:
    """Return the join keys and the fields of an entity's views."""
    fields = {field.name for plan in views for field in plan.fields}
    return fields | _key_names(views[0])


def _list_views(entities: list[list[ViewPlan]]) -> str:
    return " or ".join(", ".join(plan.name for plan in views) for views in entities)
