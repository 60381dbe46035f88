"""Compile a feature service or a list of features into a `ReadPlan`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set

from featurekit.errors import RequestError, UnknownNameError, name_hint
from featurekit.keys import KeyPlan
from featurekit.models.definitions import expand_features
from featurekit.plan import FieldPlan, ReadColumn, ReadGroup, ReadPlan, RepoPlan, ViewPlan

_Feature = tuple[ViewPlan, FieldPlan]


def compile_read(
    repo: RepoPlan,
    features: str | Sequence[str],
    *,
    full_feature_names: bool = False,
    max_age_ms: Mapping[str, int] | None = None,
) -> ReadPlan:
    """Return the plan of a read.

    Args:
        repo: The compiled repository.
        features: A service's name, or a list of `view:field` and `view`, in the order of the
            response; duplicates are returned once.
        full_feature_names: Name columns `view__field` instead of `field`. Columns whose short
            names collide with each other or with a join key always get their full names.
        max_age_ms: The maximum age of values, by view.

    Raises:
        UnknownNameError: A service, view or field does not exist.
        RequestError: The list is empty, its entities cannot share a request, or `max_age_ms`
            names a view that is not read.
    """
    max_age_ms = max_age_ms or {}
    if isinstance(features, str):
        name, wanted = features, _service_features(repo, features)
    else:
        name, wanted = "features", _listed_features(repo, features)
    keys = list(dict.fromkeys(view.key for view, _ in wanted))
    _check_join_keys(keys)
    _check_max_ages(repo, max_age_ms, {view.name for view, _ in wanted})
    slots: list[dict[str, int]] = [{} for _ in keys]
    columns = []
    names = _column_names(wanted, keys, full=full_feature_names)
    for column, (view, field) in zip(names, wanted, strict=True):
        group = keys.index(view.key)
        most_ms = max_age_ms.get(view.name)
        columns.append(
            ReadColumn(
                name=column,
                view=view.name,
                field=field,
                group=group,
                slot=slots[group].setdefault(field.name, len(slots[group])),
                event_time_field=view.event_time_field,
                min_remaining_ttl_ms=_min_remaining_ttl_ms(view, field, most_ms),
                max_event_age_ms=most_ms if _has_row_time(view) else None,
            )
        )
    groups = tuple(ReadGroup(key, tuple(fields)) for key, fields in zip(keys, slots, strict=True))
    return ReadPlan(name, groups, tuple(columns), repo.fingerprint)


def _service_features(repo: RepoPlan, name: str) -> list[_Feature]:
    kind = "feature" if ":" in name else "feature view"
    if kind == "feature" or name in {view.name for view in repo.views} - {
        service.name for service in repo.services
    }:
        raise RequestError(
            f"'{name}' is a {kind}, expected the name of a feature service",
            hint=f"pass a list of features: ['{name}']",
        )
    views = {view.name: view for view in repo.views}
    return [(views[view], views[view].field(field)) for view, field in repo.service(name).features]


def _listed_features(repo: RepoPlan, references: Sequence[str]) -> list[_Feature]:
    if not references:
        raise RequestError("the list of features is empty", hint="name at least one view:field")
    views = {view.name: view for view in repo.views}
    services = {service.name for service in repo.services}
    for reference in references:
        if not isinstance(reference, str):
            raise RequestError(f"{reference!r} is not a feature, expected text such as view:field")
        if reference in services:
            raise RequestError(
                f"'{reference}' is a feature service, expected features in the list",
                hint=f"pass the name alone: '{reference}'",
            )
        name = reference.partition(":")[0]
        if name not in views:
            raise _unknown_view(repo, name, where=f"feature '{reference}'")
    fields = {view.name: [field.name for field in view.fields] for view in repo.views}
    pairs = dict.fromkeys(expand_features(references, fields))
    return [(views[view], views[view].field(field)) for view, field in pairs]


def _unknown_view(repo: RepoPlan, name: str, *, where: str) -> UnknownNameError:
    owners = [view.name for view in repo.views if name in {field.name for field in view.fields}]
    if owners:
        hint = f"it is a field: name its view too, as in '{owners[0]}:{name}'"
        return UnknownNameError(f"unknown feature view '{name}'", where=where, hint=hint)
    return UnknownNameError.among("feature view", name, [v.name for v in repo.views], where=where)


def _check_max_ages(repo: RepoPlan, views: Iterable[str], read: Set[str]) -> None:
    for name in views:
        if name not in read:
            repo.view(name)
            raise RequestError(
                f"feature view '{name}' is not among the features of this read",
                where="max_age",
                hint=name_hint(name, read),
            )


def _min_remaining_ttl_ms(view: ViewPlan, field: FieldPlan, max_age_ms: int | None) -> int | None:
    """Return the TTL that a value of the maximum age has left; 0 if it expires earlier."""
    return None if max_age_ms is None else max(0, (field.ttl_ms or view.ttl_ms) - max_age_ms)


def _has_row_time(view: ViewPlan) -> bool:
    """Return whether the store holds the time of a row whose TTL counts from its write."""
    return view.kind == "batch" and view.event_time_field is not None


def _check_join_keys(keys: Sequence[KeyPlan]) -> None:
    first: dict[str, KeyPlan] = {}
    for key in keys:
        for part in key.join_keys:
            other = first.setdefault(part.name, key)
            if part not in other.join_keys:
                raise RequestError(
                    f"join key '{part.name}' has different types in the entities "
                    f"'{other.entity}' and '{key.entity}', which one request cannot combine",
                    hint="rename one of the join keys, or read the entities separately",
                )


def _column_names(wanted: Sequence[_Feature], keys: Sequence[KeyPlan], *, full: bool) -> list[str]:
    counts = Counter(field.name for _, field in wanted)
    counts.update({part.name for key in keys for part in key.join_keys})
    names = [
        f"{view.name}__{field.name}" if full or counts[field.name] > 1 else field.name
        for view, field in wanted
    ]
    duplicates = [name for name, count in Counter(names).items() if count > 1]
    if duplicates:
        raise RequestError(
            f"two columns would be named '{duplicates[0]}'",
            hint="read these features in separate requests",
        )
    return names
