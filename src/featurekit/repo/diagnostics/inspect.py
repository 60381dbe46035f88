"""Inspection of one entity: everything that is stored in its hash, declared or not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from featurekit.errors import StoreError
from featurekit.lower.cell_decoder import decode_at
from featurekit.lower.keys import entity_key
from featurekit.lower.read import inspect_requests
from featurekit.plan import EntityPlan, FieldPlan, RepoPlan
from featurekit.ports import OnlineStore
from featurekit.wire import Reply, command

UNKNOWN = "unknown"
"""The status of a stored field that no view declares."""


@dataclass(frozen=True, slots=True)
class InspectedField:
    """One field that is stored or declared.

    Attributes:
        name: The field's name.
        view: The view that declares it; empty if none does.
        dtype: The field's type; empty if no view declares it.
        value: The decoded value, of a window that at the time of the call; the default if the field has
            one and nothing is stored.
        raw: The stored bytes; `None` if nothing is stored.
        ttl_ms: The field's own TTL; `None` if it has none.
        status: `present`, `default`, `missing`, `invalid`, `unknown`, `retired`, `clock` for the
            event time of a view, or `guard` for what identifies repeated events of its windows.
    """

    name: str
    view: str
    dtype: str
    value: object
    raw: bytes | None
    ttl_ms: int | None
    status: str


@dataclass(frozen=True, slots=True)
class Inspection:
    """Everything that is stored for one entity.

    Attributes:
        key: The key of the entity's hash.
        found: Whether anything is stored.
        key_ttl_ms: The key's TTL; `None` if it has none.
        encoding: The server's encoding of the hash, as `listpack`; empty if unknown.
        fields: Declared fields in the order of the views, then the others.
    """

    key: str
    found: bool
    key_ttl_ms: int | None
    encoding: str
    fields: tuple[InspectedField, ...]


def inspect_entity(
    repo: RepoPlan, store: OnlineStore, entity: str, entity_id: object, now_ms: int
) -> Inspection:
    """Return everything that is stored for one entity.

    Args:
        repo: The applied registry, compiled.
        store: The online store.
        entity: The entity's name; `_global` for a view without an entity, whose name is the id.
        entity_id: The value of its join key; a tuple or dict for several; or the id as text.
        now_ms: The time at which windows are computed.

    Raises:
        UnknownNameError: There is no such entity.
        StoreError: The hash cannot be read.
    """
    plan, entity_id = repo.locate(entity, entity_id)
    key = entity_key(plan.key, entity_id)
    views = [view for view in repo.views if view.key.entity == plan.name]
    declared = {field.name: (view.name, field) for view in views for field in view.fields}
    own = {view.event_time_field: "clock" for view in views}
    own |= {view.guard_field: "guard" for view in views if view.guard_field}
    stored = _stored_fields(store, key)
    names = list(dict.fromkeys([*declared, *stored]))
    ttls, key_ttl, encoding = store.run([key] * 3, inspect_requests(key, names))
    if not isinstance(ttls, list) or len(ttls) != len(names):
        ttls = [None] * len(names)
    fields = (
        _declared_field(*declared[name], stored.get(name), _ttl_or_none(ttl), now_ms)
        if name in declared
        else _other_field(name, stored[name], _ttl_or_none(ttl), plan, own)
        for name, ttl in zip(names, ttls, strict=True)
    )
    return Inspection(
        key=key.decode(),
        found=bool(stored),
        key_ttl_ms=_ttl_or_none(key_ttl),
        encoding=encoding.decode(errors="replace") if isinstance(encoding, bytes) else "",
        fields=tuple(fields),
    )


def _stored_fields(store: OnlineStore, key: bytes) -> dict[str, bytes]:
    reply: Any = store.run([key], [command(b"HGETALL", key)])[0]
    if not isinstance(reply, list) or not all(isinstance(part, bytes) for part in reply):
        where = f"{store.describe()}, {key.decode(errors='replace')}"
        raise StoreError(f"the hash cannot be read: {reply}", where=where)
    names = [name.decode(errors="replace") for name in reply[::2]]
    return dict(zip(names, reply[1::2], strict=False))


def _ttl_or_none(reply: Reply) -> int | None:
    return reply if isinstance(reply, int) and reply >= 0 else None


def _declared_field(
    view: str, field: FieldPlan, raw: bytes | None, ttl_ms: int | None, now_ms: int
) -> InspectedField:
    value, status = decode_at(field, raw, now_ms)
    return InspectedField(field.name, view, str(field.dtype), value, raw, ttl_ms, status)


def _other_field(
    name: str,
    raw: bytes,
    ttl_ms: int | None,
    entity: EntityPlan,
    own: Mapping[str | None, str],
) -> InspectedField:
    """Describe a stored field that no view declares."""
    view, status = "", UNKNOWN
    if name in entity.retired:
        status = "retired"
    elif name in own:
        view, status = name[1:], own[name]  # the field is named `@{view}`
    text = raw.decode(errors="backslashreplace")
    return InspectedField(name, view, "", text, raw, ttl_ms, status)
