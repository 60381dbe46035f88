"""Compile a feature service or a list of features into a `ReadPlan`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from featurekit.compiler.marks import with_marks
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
from featurekit.plan import (
    Column,
    DerivedColumn,
    DerivedFeature,
    DerivedInput,
    DerivedViewPlan,
    FieldPlan,
    ReadColumn,
    ReadGroup,
    ReadPlan,
    RepoPlan,
    RequestColumn,
    ViewPlan,
)

_Role = tuple[str | None, KeyPlan]
"""The alias of an entity in a read, if it has one, and its key with the join keys of the request."""

_Place = tuple[str | None, KeyPlan, str, str]
"""The role, the view and the field of a stored feature."""


class _Stored(NamedTuple):
    """A stored feature of a read. `key` has the join keys as a request names them."""

    view: ViewPlan
    field: FieldPlan
    alias: str | None
    key: KeyPlan

    @property
    def role(self) -> _Role:
        return self.alias, self.key

    @property
    def place(self) -> _Place:
        return self.alias, self.key, self.view.name, self.field.name


class _Derived(NamedTuple):
    """A derived feature of a read, and the stored features and request values that it needs."""

    view: DerivedViewPlan
    feature: DerivedFeature
    alias: str | None
    inputs: tuple[_Stored | DerivedInput, ...]

    @property
    def field(self) -> FieldPlan:
        return self.feature.field


_Wanted = _Stored | _Derived


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
    stored = _stored_features(wanted)
    if not stored:
        raise RequestError(
            "none of these features is stored or computed from stored ones",
            where=name,
            hint="read them together with a stored feature",
        )
    roles = dict.fromkeys(each.role for each in stored)
    _check_roles(roles)
    _check_aliases([*wanted, *stored])
    _check_max_ages(repo, max_age_ms, stored)
    join_keys = {part.name for _, key in roles for part in key.join_keys}
    requests = _request_columns(wanted, join_keys)
    reserved = join_keys | {request.name for request in requests}
    slots: dict[_Role, dict[str, int]] = {role: {} for role in roles}
    read = {each.place: _read_column(each, slots, max_age_ms) for each in stored}
    names = _column_names(wanted, reserved, full=full_feature_names)
    shown = sum(isinstance(each, _Stored) for each in wanted)
    plan = ReadPlan(
        name,
        tuple(ReadGroup(key, tuple(fields), alias) for (alias, key), fields in slots.items()),
        tuple(_response_columns(wanted, names, read, requests)),
        repo.fingerprint,
        inputs=tuple(read.values())[shown:],
        requests=requests,
        ignored_request_values=_ignored_request_values(repo, wanted, reserved),
    )
    return with_marks(repo, plan, max_age_ms)


def _stored_features(wanted: Sequence[_Wanted]) -> list[_Stored]:
    """Return the stored features of the response, then those that only derived ones need."""
    stored = {each.place: each for each in wanted if isinstance(each, _Stored)}
    for derived in wanted:
        for each in derived.inputs if isinstance(derived, _Derived) else ():
            if isinstance(each, _Stored):
                stored.setdefault(each.place, each)
    return list(stored.values())


def _read_column(
    each: _Stored, slots: Mapping[_Role, dict[str, int]], max_age_ms: Mapping[str, int]
) -> ReadColumn:
    """Return the column of a stored feature, which gets a slot in its group."""
    view, field, alias, _ = each
    most_ms = max_age_ms.get(alias or "", max_age_ms.get(view.name))
    slot = slots[each.role]
    return ReadColumn(
        name=f"{alias or view.name}__{field.name}",
        view=view.name,
        field=field,
        group=list(slots).index(each.role),
        slot=slot.setdefault(field.name, len(slot)),
        event_time_field=view.event_time_field,
        min_remaining_ttl_ms=_min_remaining_ttl_ms(view, field, most_ms),
        max_event_age_ms=most_ms if _has_row_time(view) else None,
        alias=alias,
    )


def _response_columns(
    wanted: Sequence[_Wanted],
    names: Sequence[str],
    stored: Mapping[_Place, ReadColumn],
    requests: Sequence[RequestColumn],
) -> Iterator[Column]:
    """Yield the features of the response under their names."""
    places = {place: index for index, place in enumerate(stored)}
    values = {request.name: index for index, request in enumerate(requests)}
    for name, each in zip(names, wanted, strict=True):
        if isinstance(each, _Stored):
            yield replace(stored[each.place], name=name)
            continue
        arguments = tuple(
            places[input_.place] if isinstance(input_, _Stored) else values[input_.field.name]
            for input_ in each.inputs
        )
        yield DerivedColumn(name, each.view.name, each.feature, arguments, each.alias)


def _request_columns(
    wanted: Sequence[_Wanted], join_keys: Container[str]
) -> tuple[RequestColumn, ...]:
    """Return the values of requests that derived features need, each once."""
    found: dict[str, DerivedInput] = {}
    for derived in wanted:
        for each in derived.inputs if isinstance(derived, _Derived) else ():
            if isinstance(each, _Stored):
                continue
            name = each.field.name
            other = found.setdefault(name, each)
            if name in join_keys or other.source != each.source:
                what = (
                    "is a join key"
                    if name in join_keys
                    else f"is also a value of '{other.source}'"
                )
                raise RequestError(
                    f"the value '{name}' of request '{each.source}' {what} of this read",
                    hint="rename one of them, or read the features separately",
                )
    return tuple(RequestColumn(name, each.field) for name, each in found.items())


def _ignored_request_values(
    repo: RepoPlan, wanted: Sequence[_Wanted], reserved: Container[str]
) -> tuple[str, ...]:
    """Return the values that no feature needs, of the declarations from which one needs a value."""
    inputs = (
        each for derived in wanted if isinstance(derived, _Derived) for each in derived.inputs
    )
    used = {each.source for each in inputs if isinstance(each, DerivedInput)}
    declared = (field.name for each in repo.requests if each.name in used for field in each.fields)
    return tuple(name for name in dict.fromkeys(declared) if name not in reserved)


def _service_features(repo: RepoPlan, name: str) -> list[_Wanted]:
    kind = "feature" if ":" in name else "feature view"
    if kind == "feature" or name in _view_fields(repo).keys() - {
        service.name for service in repo.services
    }:
        raise RequestError(
            f"'{name}' is a {kind}, expected the name of a feature service",
            hint=f"pass a list of features: ['{name}']",
        )
    return _compile_features(repo, repo.service(name).features)


def _listed_features(repo: RepoPlan, items: Sequence[FeatureItem]) -> list[_Wanted]:
    if not items:
        raise RequestError("the list of features is empty", hint="name at least one view:field")
    fields = _view_fields(repo)
    services = {service.name for service in repo.services}
    for item in items:
        if item in services:
            raise RequestError(
                f"'{item}' is a feature service, expected features in the list",
                hint=f"pass the name alone: '{item}'",
            )
        if item_view(item) not in fields:
            raise _unknown_view(fields, item_view(item), where=f"feature '{item}'")
    return _compile_features(repo, dict.fromkeys(expand_features(items, fields)))


def _view_fields(repo: RepoPlan) -> dict[str, list[str]]:
    """Return the fields of each view, stored or derived."""
    fields = {view.name: [field.name for field in view.fields] for view in repo.views}
    return fields | {
        view.name: [feature.name for feature in view.features] for view in repo.derived_views
    }


def _compile_features(repo: RepoPlan, selected: Iterable[SelectedFeature]) -> list[_Wanted]:
    views = {view.name: view for view in repo.views}
    derived_views = {view.name: view for view in repo.derived_views}
    features: list[_Wanted] = []
    for each in selected:
        if each.view in derived_views:
            view = derived_views[each.view]
            feature = view.feature(each.field)
            inputs = tuple(
                input_ if input_.is_request else _compile_input(views[input_.source], input_, each)
                for input_ in feature.inputs
            )
            features.append(_Derived(view, feature, each.alias, inputs))
        else:
            features.append(_compile_stored(views[each.view], each))
    _check_renamed(features, selected)
    return features


def _compile_stored(view: ViewPlan, each: SelectedFeature) -> _Stored:
    field, key = view.field(each.field), view.key
    if each.join_keys:
        key = _renamed_key(key, each)
    return _Stored(view, field, each.alias, key)


def _compile_input(view: ViewPlan, input_: DerivedInput, each: SelectedFeature) -> _Stored:
    """Return an input of a derived feature: under its alias, if join keys of its view are renamed."""
    names = {part.name for part in view.key.join_keys}
    renamed = tuple(pair for pair in each.join_keys if pair[0] in names)
    alias = each.alias if renamed else None
    return _compile_stored(view, SelectedFeature(view.name, input_.field.name, alias, renamed))


def _renamed_key(key: KeyPlan, feature: SelectedFeature) -> KeyPlan:
    """Return the key with its join keys as a request names them; its bytes are the same."""
    try:
        names = renamed_join_keys([part.name for part in key.join_keys], feature.join_keys)
    except RequestError as error:
        raise RequestError(error.message, where=f"feature '{feature}'", hint=error.hint) from error
    parts = [replace(part, name=name) for part, name in zip(key.join_keys, names, strict=True)]
    return replace(key, join_keys=tuple(parts))


def _check_renamed(features: Sequence[_Wanted], selected: Iterable[SelectedFeature]) -> None:
    """Check that each join key that a derived view renames is one of its inputs' entities."""
    known: dict[SelectedFeature, set[str]] = {}
    for feature, each in zip(features, selected, strict=True):
        if isinstance(feature, _Derived) and each.join_keys:
            item = replace(each, field="")
            stored = [input_ for input_ in feature.inputs if isinstance(input_, _Stored)]
            keys = {part.name for input_ in stored for part in input_.view.key.join_keys}
            known.setdefault(item, set()).update(keys)
    for item, keys in known.items():
        for name, _ in item.join_keys:
            if name not in keys:
                raise RequestError(
                    f"unknown join key '{name}'",
                    where=f"feature view '{item.view}'",
                    hint=name_hint(name, keys),
                )


def _unknown_view(fields: Mapping[str, list[str]], name: str, *, where: str) -> UnknownNameError:
    owners = [view for view, names in fields.items() if name in names]
    if owners:
        hint = f"it is a field: name its view too, as in '{owners[0]}:{name}'"
        return UnknownNameError(f"unknown feature view '{name}'", where=where, hint=hint)
    return UnknownNameError.among("feature view", name, fields, where=where)


def _check_max_ages(repo: RepoPlan, names: Iterable[str], stored: Sequence[_Stored]) -> None:
    read = {name for each in stored for name in (each.alias, each.view.name)}
    for name in names:
        if name in read:
            continue
        hint = name_hint(name, [each for each in read if each])
        if name in {view.name for view in repo.derived_views}:
            message = f"feature view '{name}' is derived, and ages are those of stored views"
            raise RequestError(
                message, where="max_age", hint=f"name the views of its inputs; {hint}"
            )
        repo.view(name)
        raise RequestError(
            f"feature view '{name}' is not among the features of this read",
            where="max_age",
            hint=hint,
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


def _check_aliases(wanted: Sequence[_Wanted]) -> None:
    aliases = {each.alias for each in wanted}
    for each in wanted:
        if each.alias is None and each.view.name in aliases:
            raise RequestError(
                f"the alias '{each.view.name}' is the name of another view of this read",
                hint="choose another alias",
            )


def _column_names(wanted: Sequence[_Wanted], reserved: Container[str], *, full: bool) -> list[str]:
    """Return the names of the columns; `reserved` has the other names of a request."""
    counts = Counter(each.field.name for each in wanted if each.alias is None)
    names = []
    for each in wanted:
        name = each.field.name
        is_full = each.alias or full or counts[name] > 1 or name in reserved
        names.append(f"{each.alias or each.view.name}__{name}" if is_full else name)
    duplicates = [name for name, n in Counter(names).items() if n > 1 or name in reserved]
    if duplicates:
        raise RequestError(
            f"two columns would be named '{duplicates[0]}'",
            hint="give one of the views another name with `as`, or read them in separate requests",
        )
    return names
