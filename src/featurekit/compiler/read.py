"""Compile a feature service or a list of features into a `ReadPlan`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import replace
from typing import NamedTuple

from featurekit.errors import RequestError, UnknownNameError, name_hint
from featurekit.feature_lists import (
    FeatureItem,
    SelectedFeature,
    expand_features,
    item_view,
    parse_feature_list,
    renamed_join_keys,
)
from featurekit.keys import KeyPlan
from featurekit.plan import FieldPlan, ReadColumn, ReadGroup, ReadPlan, RepoPlan, ViewPlan


class _Feature(NamedTuple):
    """A feature of a read. `key` has the join keys as a request names them."""

    view: ViewPlan
    field: FieldPlan
    alias: str | None
    key: KeyPlan


def compile_read(
    repo: RepoPlan,
    features: str | Sequence[object],
    *,
    full_feature_names: bool = False,
    max_age_ms: Mapping[str, int] | None = None,
) -> ReadPlan:
    """Return the plan of a read.

    Args:
        repo: The compiled repository.
        features: A service's name, or a list of `view:field`, `view` and mappings with an alias,
            in the order of the response; duplicates are returned once.
        full_feature_names: Name columns `view__field` instead of `field`. Columns whose short
            names collide with each other or with a join key always get their full names.
            Columns of a view with an alias are always named `{alias}__{field}`.
        max_age_ms: The maximum age of values, by alias or by view.

    Raises:
        UnknownNameError: A service, view or field does not exist.
        RequestError: The list is empty, its entities cannot share a request, or `max_age_ms`
            names a view that is not read.
    """
    max_age_ms = max_age_ms or {}
    if isinstance(features, str):
        name, wanted = features, _service_features(repo, features)
    else:
        name, wanted = "features", _listed_features(repo, parse_feature_list(features))
    roles = dict.fromkeys((each.alias, each.key) for each in wanted)
    groups_of = {role: index for index, role in enumerate(roles)}
    _check_roles(roles)
    _check_aliases(wanted)
    _check_max_ages(repo, max_age_ms, {n for each in wanted for n in (each.alias, each.view.name)})
    slots: list[dict[str, int]] = [{} for _ in roles]
    columns = []
    names = _column_names(wanted, full=full_feature_names)
    for column, (view, field, alias, key) in zip(names, wanted, strict=True):
        group = groups_of[alias, key]
        most_ms = max_age_ms.get(alias or "", max_age_ms.get(view.name))
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
                alias=alias,
            )
        )
    groups = tuple(
        ReadGroup(key, tuple(fields), alias)
        for (alias, key), fields in zip(roles, slots, strict=True)
    )
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
    return _compile_features(repo, repo.service(name).features)


def _listed_features(repo: RepoPlan, items: Sequence[FeatureItem]) -> list[_Feature]:
    if not items:
        raise RequestError("the list of features is empty", hint="name at least one view:field")
    views = {view.name for view in repo.views}
    services = {service.name for service in repo.services}
    for item in items:
        if item in services:
            raise RequestError(
                f"'{item}' is a feature service, expected features in the list",
                hint=f"pass the name alone: '{item}'",
            )
        if item_view(item) not in views:
            raise _unknown_view(repo, item_view(item), where=f"feature '{item}'")
    fields = {view.name: [field.name for field in view.fields] for view in repo.views}
    return _compile_features(repo, dict.fromkeys(expand_features(items, fields)))


def _compile_features(repo: RepoPlan, selected: Iterable[SelectedFeature]) -> list[_Feature]:
    views = {view.name: view for view in repo.views}
    features = []
    for each in selected:
        view = views[each.view]
        field, key = view.field(each.field), view.key
        if each.join_keys:
            key = _renamed_key(key, each)
        features.append(_Feature(view, field, each.alias, key))
    return features


def _renamed_key(key: KeyPlan, feature: SelectedFeature) -> KeyPlan:
    """Return the key with its join keys as a request names them; its bytes are the same."""
    try:
        names = renamed_join_keys([part.name for part in key.join_keys], feature.join_keys)
    except RequestError as error:
        raise RequestError(error.message, where=f"feature '{feature}'", hint=error.hint) from error
    parts = [replace(part, name=name) for part, name in zip(key.join_keys, names, strict=True)]
    return replace(key, join_keys=tuple(parts))


def _unknown_view(repo: RepoPlan, name: str, *, where: str) -> UnknownNameError:
    owners = [view.name for view in repo.views if name in {field.name for field in view.fields}]
    if owners:
        hint = f"it is a field: name its view too, as in '{owners[0]}:{name}'"
        return UnknownNameError(f"unknown feature view '{name}'", where=where, hint=hint)
    return UnknownNameError.among("feature view", name, [v.name for v in repo.views], where=where)


def _check_max_ages(repo: RepoPlan, names: Iterable[str], read: Set[str | None]) -> None:
    for name in names:
        if name not in read:
            repo.view(name)
            raise RequestError(
                f"feature view '{name}' is not among the features of this read",
                where="max_age",
                hint=name_hint(name, [each for each in read if each]),
            )


def _min_remaining_ttl_ms(view: ViewPlan, field: FieldPlan, max_age_ms: int | None) -> int | None:
    """Return the TTL that a value of the maximum age has left; 0 if it expires earlier."""
    return None if max_age_ms is None else max(0, (field.ttl_ms or view.ttl_ms) - max_age_ms)


def _has_row_time(view: ViewPlan) -> bool:
    """Return whether the store holds the time of a row whose TTL counts from its write."""
    return view.kind == "batch" and view.event_time_field is not None


def _check_roles(roles: Iterable[tuple[str | None, KeyPlan]]) -> None:
    """Check that one request can name the entities, and one response can."""
    first: dict[str, KeyPlan] = {}
    names: dict[str, KeyPlan] = {}
    for alias, key in roles:
        for part in key.join_keys:
            other = first.setdefault(part.name, key)
            if part not in other.join_keys:
                raise RequestError(
                    f"join key '{part.name}' has different types in the entities "
                    f"'{other.entity}' and '{key.entity}', which one request cannot combine",
                    hint="rename one of the join keys, or read the entities separately",
                )
        name = alias or key.entity
        if names.setdefault(name, key) is not key:
            raise RequestError(
                f"'{name}' would stand for two entities of one row",
                hint="give each view with other join keys an alias of its own, with `as`",
            )


def _check_aliases(wanted: Sequence[_Feature]) -> None:
    aliases = {each.alias for each in wanted}
    for each in wanted:
        if each.alias is None and each.view.name in aliases:
            raise RequestError(
                f"the alias '{each.view.name}' is the name of another view of this read",
                hint="choose another alias",
            )


def _column_names(wanted: Sequence[_Feature], *, full: bool) -> list[str]:
    join_keys = {part.name for each in wanted for part in each.key.join_keys}
    counts = Counter(each.field.name for each in wanted if each.alias is None)
    counts.update(join_keys)
    names = []
    for view, field, alias, _ in wanted:
        is_full = alias or full or counts[field.name] > 1
        names.append(f"{alias or view.name}__{field.name}" if is_full else field.name)
    duplicates = [name for name, n in Counter([*names, *join_keys]).items() if n > 1]
    if duplicates:
        raise RequestError(
            f"two columns would be named '{duplicates[0]}'",
            hint="give one of the views another name with `as`, or read them in separate requests",
        )
    return names
