"""Compiling a read: a service or a list of features as one request for each entity."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set

from featurekit.errors import RequestError, UnknownNameError, nearest
from featurekit.keys import KeyPlan
from featurekit.plan import FieldPlan, ReadColumn, ReadGroup, ReadPlan, RepoPlan, ViewPlan

_Feature = tuple[ViewPlan, FieldPlan]


def compile_read(
    repo: RepoPlan,
    features: str | Sequence[str],
    *,
    full_feature_names: bool = False,
    max_age_ms: Mapping[str, int] | None = None,
) -> ReadPlan:
    """The plan of a read.

    Args:
        repo: The plan of the repository.
        features: A service's name, or a list of `view:field` and `view`, in the order of the
            answer; one that is named twice is answered once.
        full_feature_names: Name columns `view__field` and not `field`. Columns whose bare names
            collide, with each other or with a join key, are named so in any case.
        max_age_ms: For some of the views, how old their values may be.

    Raises:
        UnknownNameError: There is no such service, view or field.
        RequestError: The list is empty, or its entities cannot be asked for in one request; or an
            age is bound of a view that is not read.
    """
    max_age_ms = max_age_ms or {}
    if isinstance(features, str):
        name, wanted = features, _service(repo, features)
    else:
        name, wanted = "features", list(dict.fromkeys(_listed(repo, features)))
    keys = list(dict.fromkeys(view.key for view, _ in wanted))
    _check_join_keys(keys)
    _check_ages(repo, max_age_ms, {view.name for view, _ in wanted})
    fields: list[dict[str, int]] = [{} for _ in keys]
    columns = []
    names = _column_names(wanted, keys, full=full_feature_names)
    for column, (view, field) in zip(names, wanted, strict=True):
        group = keys.index(view.key)
        columns.append(
            ReadColumn(
                name=column,
                view=view.name,
                field=field,
                group=group,
                slot=fields[group].setdefault(field.name, len(fields[group])),
                event_time_field=view.event_time_field,
                least_ttl_ms=_least_ttl_ms(view, field, max_age_ms.get(view.name)),
            )
        )
    groups = tuple(ReadGroup(key, tuple(slots)) for key, slots in zip(keys, fields, strict=True))
    return ReadPlan(name, groups, tuple(columns), repo.fingerprint)


def _check_ages(repo: RepoPlan, views: Iterable[str], read: Set[str]) -> None:
    for name in views:
        if name not in read:
            repo.view(name)
            raise RequestError(
                f"feature view '{name}' is not among the features that are read",
                where="max_age",
                hint=nearest(name, read),
            )


def _least_ttl_ms(view: ViewPlan, field: FieldPlan, max_age_ms: int | None) -> int | None:
    """What must be left of the TTL; nothing, if values are gone before they are too old."""
    return None if max_age_ms is None else max(0, (field.ttl_ms or view.ttl_ms) - max_age_ms)


def _service(repo: RepoPlan, name: str) -> list[_Feature]:
    if ":" in name:
        raise RequestError(
            f"'{name}' is a feature, expected the name of a feature service",
            hint=f"pass a list of features: ['{name}']",
        )
    try:
        service = repo.service(name)
    except UnknownNameError:
        if name in {view.name for view in repo.views}:
            raise RequestError(
                f"'{name}' is a feature view, expected the name of a feature service",
                hint=f"pass a list of features: ['{name}']",
            ) from None
        raise
    views = {view.name: view for view in repo.views}
    return [(views[view], views[view].field(field)) for view, field in service.features]


def _listed(repo: RepoPlan, features: Sequence[str]) -> Iterator[_Feature]:
    if not features:
        raise RequestError("no features asked for", hint="name at least one, as view:field")
    for feature in features:
        if not isinstance(feature, str):
            raise RequestError(f"{feature!r} is no feature, expected text as view:field")
        name, colon, field = feature.partition(":")
        view = _view(repo, name, feature)
        if colon:
            yield view, view.field(field)
        else:
            yield from ((view, each) for each in view.fields)


def _view(repo: RepoPlan, name: str, feature: str) -> ViewPlan:
    if name == feature and name in {service.name for service in repo.services}:
        raise RequestError(
            f"'{name}' is a feature service, expected features in the list",
            hint=f"pass the name alone: '{name}'",
        )
    view = next((view for view in repo.views if view.name == name), None)
    if view is None:
        raise UnknownNameError(
            f"no feature view named '{name}'",
            where=f"feature '{feature}'",
            hint=nearest(name, [view.name for view in repo.views]),
        )
    return view


def _check_join_keys(keys: Sequence[KeyPlan]) -> None:
    first: dict[str, KeyPlan] = {}
    for key in keys:
        for part in key.join_keys:
            other = first.setdefault(part.name, key)
            if part not in other.join_keys:
                raise RequestError(
                    f"join key '{part.name}' has another type in entity '{key.entity}' than in "
                    f"'{other.entity}', so that one request cannot ask for both",
                    hint="rename one of them, or read them apart",
                )


def _column_names(wanted: Sequence[_Feature], keys: Sequence[KeyPlan], *, full: bool) -> list[str]:
    taken = Counter(field.name for _, field in wanted)
    taken.update({part.name for key in keys for part in key.join_keys})
    names = [
        f"{view.name}__{field.name}" if full or taken[field.name] > 1 else field.name
        for view, field in wanted
    ]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise RequestError(f"two columns would be named '{twice[0]}'", hint="read them apart")
    return names
