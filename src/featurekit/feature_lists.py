"""Lists of features: `view:field`, `view`, or a view with an alias or other join keys.

Definitions, Python, HTTP and the command line accept the same items. A mapping such as
`{view: airport_weather, as: origin, join_keys: {airport: origin}}` becomes a `ViewItem`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from typing_extensions import override

from featurekit.errors import RequestError, name_hint

GLOBAL = "_global"
"""What stands for the entity of views without one, in keys and commands."""

NamePairs = tuple[tuple[str, str], ...]

ITEM_KEYS = ("view", "as", "join_keys", "fields")
"""The keys of an item that is a mapping."""

_ALIAS = re.compile(r"[a-z][a-z0-9_]*")
_EXAMPLE = (
    "for example {'view': 'airport_weather', 'as': 'origin', 'join_keys': {'airport': 'origin'}}"
)


@dataclass(frozen=True, slots=True)
class ViewItem:
    """A view in a list of features, with an alias or with other join keys.

    Attributes:
        view: The view.
        alias: The name that stands for the view; its columns are named `{alias}__{field}`.
        join_keys: Pairs of (join key of the view's entity, its name in a request); others keep
            their names.
        fields: The fields to read; `None` for all.
    """

    view: str
    alias: str | None = None
    join_keys: NamePairs = ()
    fields: tuple[str, ...] | None = None

    @override
    def __str__(self) -> str:
        fields = "" if self.fields is None else f":{','.join(self.fields)}"
        return f"{self.view}{fields}{_roles_text(self.alias, self.join_keys)}"

    def has_field(self, name: str) -> bool:
        """Return whether the item selects a field of its view."""
        return self.fields is None or name in self.fields


FeatureItem = str | ViewItem
"""An item of a list of features."""


@dataclass(frozen=True, slots=True)
class SelectedFeature:
    """One feature that a list selects. See `ViewItem` for the attributes."""

    view: str
    field: str
    alias: str | None = None
    join_keys: NamePairs = ()

    @override
    def __str__(self) -> str:
        return f"{self.view}:{self.field}{_roles_text(self.alias, self.join_keys)}"

    def to_item(self) -> str | dict[str, Any]:
        """Return the feature as an item of a list that selects it alone, as JSON has it."""
        if self.alias is None and not self.join_keys:
            return str(self)
        item: dict[str, Any] = {"view": self.view, "fields": [self.field]}
        item |= {} if self.alias is None else {"as": self.alias}
        return item | ({"join_keys": dict(self.join_keys)} if self.join_keys else {})


def global_entity(view: str) -> str:
    """Return the name that stands for the entity of a view without one."""
    return f"{GLOBAL}:{view}"


def item_view(item: FeatureItem) -> str:
    """Return the name of an item's view."""
    return item.partition(":")[0] if isinstance(item, str) else item.view


def expand_features(
    items: Iterable[FeatureItem], fields: Mapping[str, Iterable[str]]
) -> Iterator[SelectedFeature]:
    """Yield the features of a list, in order.

    Args:
        items: The items of the list.
        fields: The field names of each view.
    """
    for item in items:
        if isinstance(item, str):
            view, colon, field = item.partition(":")
            for name in [field] if colon else fields[view]:
                yield SelectedFeature(view, name)
        else:
            for name in fields[item.view] if item.fields is None else item.fields:
                yield SelectedFeature(item.view, name, item.alias, item.join_keys)


def parse_feature_list(features: Iterable[object]) -> tuple[FeatureItem, ...]:
    """Return the items of a list as Python and HTTP have it, each a text or a mapping.

    Raises:
        RequestError: An item has another form.
    """
    return tuple(_parse_item(item, index) for index, item in enumerate(features))


def _parse_item(item: object, index: int) -> FeatureItem:
    if isinstance(item, str | ViewItem):
        return item
    if not isinstance(item, Mapping):
        raise RequestError(
            f"{item!r} is not a feature, expected text such as view:field, or a mapping",
            hint=_EXAMPLE,
        )
    where = f"features, item {index + 1}"
    for key in item:
        if key not in ITEM_KEYS:
            raise RequestError(
                f"unknown key {key!r}", where=where, hint=name_hint(str(key), ITEM_KEYS)
            )
    view, alias = item.get("view"), item.get("as")
    if not isinstance(view, str):
        raise RequestError("'view' must be the name of a feature view", where=where, hint=_EXAMPLE)
    if alias is not None and not (isinstance(alias, str) and _ALIAS.fullmatch(alias)):
        raise RequestError(
            f"'as' is {alias!r}, expected a name of lower-case letters, digits and _", where=where
        )
    join_keys = _parse_join_keys(item.get("join_keys"), where)
    return ViewItem(view, alias, join_keys, _parse_fields(item.get("fields"), where))


def _parse_fields(raw: object, where: str) -> tuple[str, ...] | None:
    if raw is None:
        return None
    if isinstance(raw, list | tuple) and raw and all(isinstance(name, str) for name in raw):
        return tuple(dict.fromkeys(raw))
    raise RequestError(f"'fields' is {raw!r}, expected a list of names", where=where)


def _parse_join_keys(raw: object, where: str) -> NamePairs:
    if raw is None:
        return ()
    if not isinstance(raw, Mapping) or not all(map(_is_identifier, [*raw, *raw.values()])):
        raise RequestError(
            f"'join_keys' is {raw!r}, expected a mapping of join keys to their names in the request",
            where=where,
            hint=_EXAMPLE,
        )
    return join_key_pairs(raw)


def _is_identifier(value: object) -> bool:
    return isinstance(value, str) and value.isidentifier()


def join_key_pairs(join_keys: Mapping[str, str]) -> NamePairs:
    """Return the join keys that a mapping renames, sorted."""
    return tuple(sorted((key, name) for key, name in join_keys.items() if key != name))


def renamed_join_keys(names: Iterable[str], pairs: NamePairs) -> list[str]:
    """Return the names that a request has for the join keys of an entity, in declared order.

    Raises:
        RequestError: A pair renames what is not a join key, or two join keys get one name.
    """
    declared, new = list(names), dict(pairs)
    for key in new:
        if key not in declared:
            raise RequestError(f"unknown join key '{key}'", hint=name_hint(key, declared))
    renamed = [new.get(name, name) for name in declared]
    if repeated := [name for name in renamed if renamed.count(name) > 1]:
        raise RequestError(
            f"two join keys would be named '{repeated[0]}'", hint="give each a name of its own"
        )
    return renamed


def _roles_text(alias: str | None, join_keys: NamePairs) -> str:
    renamed = ", ".join(f"{key}: {name}" for key, name in join_keys)
    return (f" as {alias}" if alias else "") + (f" ({renamed})" if renamed else "")
