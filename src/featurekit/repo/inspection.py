"""Inspection: what is stored, when it was loaded, and how to be rid of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from featurekit.errors import StoreError
from featurekit.lower.keys import key_function, parse_entity_id
from featurekit.lower.read import decode_cell, inspect_requests
from featurekit.plan import FieldPlan, RepoPlan
from featurekit.ports import OnlineStore
from featurekit.repo.history import History, Run
from featurekit.wire import ErrorReply, Reply, command

UNKNOWN = "unknown"
"""The status of what is in a hash and in no view."""


@dataclass(frozen=True, slots=True)
class InspectedField:
    """One field of a hash, or one that should be there.

    Attributes:
        name: The field.
        view: Its view; empty if it is in none.
        dtype: Its type; empty if it is in no view.
        value: The value, decoded; the default where there is one and nothing is stored.
        raw: The bytes; `None` if nothing is stored.
        ttl_ms: The field's own TTL; `None` if it has none.
        status: `present`, `default`, `missing`, `invalid`, `unknown` or `retired`.
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
    """All that is stored for one entity.

    Attributes:
        key: The key of its hash.
        found: Whether anything is stored.
        key_ttl_ms: The key's TTL; `None` if it has none.
        encoding: How the server keeps the hash, as `listpack`; empty if it does not tell.
        fields: Declared fields view by view, then the rest.
    """

    key: str
    found: bool
    key_ttl_ms: int | None
    encoding: str
    fields: tuple[InspectedField, ...]


def inspect(repo: RepoPlan, store: OnlineStore, entity: str, entity_id: object) -> Inspection:
    """All that is stored for one entity.

    Args:
        repo: The applied repository.
        store: Where to look.
        entity: The entity's name.
        entity_id: The value of its join key; a tuple or dict of several; or the text of its id.
    """
    plan = repo.entity(entity)
    if isinstance(entity_id, str):
        entity_id = parse_entity_id(plan.key, entity_id)
    key = key_function(plan.key)(entity_id)
    views = [view for view in repo.views if view.key.entity == entity]
    declared = {f.name: (view.name, f) for view in views for f in view.fields}
    clocks = [view.event_time_field for view in views if view.event_time_field]
    stored = _hash(store.run([key], [command(b"HGETALL", key)])[0], key)
    names = list(dict.fromkeys([*declared, *stored]))
    requests = inspect_requests(key, names)
    ttls, key_ttl, encoding = store.run([key] * 3, requests)
    lives = ttls if isinstance(ttls, list) and len(ttls) == len(names) else [None] * len(names)
    fields = [
        _field(
            name,
            declared.get(name),
            stored.get(name),
            life,
            retired={*plan.retired},
            clocks=clocks,
        )
        for name, life in zip(names, lives, strict=True)
    ]
    return Inspection(
        key=key.decode(),
        found=bool(stored),
        key_ttl_ms=key_ttl if isinstance(key_ttl, int) and key_ttl >= 0 else None,
        encoding=encoding.decode() if isinstance(encoding, bytes) else "",
        fields=tuple(fields),
    )


def _hash(reply: Any, key: bytes) -> dict[str, bytes]:
    if not isinstance(reply, list):
        raise StoreError(f"it cannot be read: {reply}", where=key.decode(errors="replace"))
    names = [name.decode(errors="replace") for name in reply[::2]]
    return dict(zip(names, reply[1::2], strict=True))


def _field(
    name: str,
    declared: tuple[str, FieldPlan] | None,
    raw: bytes | None,
    life: Reply,
    *,
    retired: set[str],
    clocks: Sequence[str],
) -> InspectedField:
    ttl_ms = life if isinstance(life, int) and life >= 0 else None
    if declared is None:
        status = "retired" if name in retired else "clock" if name in clocks else UNKNOWN
        text = (raw or b"").decode(errors="backslashreplace")
        return InspectedField(
            name, name[1:] if name in clocks else "", "", text, raw, ttl_ms, status
        )
    view, field = declared
    value, status = decode_cell(field, raw)
    return InspectedField(name, view, str(field.dtype), value, raw, ttl_ms, status)


@dataclass(frozen=True, slots=True)
class StreamFreshness:
    """How fresh a stream view is, by some of its entities.

    Attributes:
        sampled: Entities looked at.
        live_share: The share of them that has a live field of the view; `None` if there are none.
        newest_ttl_ms: The most that any of these fields has left; `None` if none lives.
        oldest_ttl_ms: The least.
        lag: Events that its workers have yet to read; `None` if that is not known.
    """

    sampled: int
    live_share: float | None
    newest_ttl_ms: int | None
    oldest_ttl_ms: int | None
    lag: int | None


@dataclass(frozen=True, slots=True)
class ViewStatus:
    """How one view does.

    Attributes:
        view: The view.
        kind: `batch` or `stream`.
        refresh_ms: How often it is expected to be written.
        last_run_ms: When the last load ended; `None` for never.
        rows: Rows that it wrote.
        seconds: How long it took.
        error: Why it failed; empty if it did not.
        age_ms: Time since a load last ended well; `None` for never.
        late: Whether that is longer ago than `refresh_ms`, or has never been. Never of streams:
            their events pass by this history.
        stream: How fresh a stream view is; `None` of batch views, and if the store is away.
    """

    view: str
    kind: str
    refresh_ms: int
    last_run_ms: int | None
    rows: int
    seconds: float
    error: str
    age_ms: int | None
    late: bool
    stream: StreamFreshness | None = None


def status(repo: RepoPlan, history: History, now_ms: int) -> list[ViewStatus]:
    """How each view does, by the history of loads."""
    runs = history.last([view.name for view in repo.views])
    return [_status_of(v.name, v.kind, v.refresh_ms, runs.get(v.name), now_ms) for v in repo.views]


def _status_of(view: str, kind: str, refresh_ms: int, run: Run | None, now_ms: int) -> ViewStatus:
    age_ms = now_ms - run.good_ms if run is not None and run.good_ms else None
    late = kind == "batch" and (age_ms is None or age_ms > refresh_ms)
    if run is None:
        return ViewStatus(view, kind, refresh_ms, None, 0, 0.0, "", age_ms, late)
    return ViewStatus(
        view,
        kind,
        refresh_ms,
        run.ended_ms,
        run.rows_written,
        run.seconds,
        run.error,
        age_ms,
        late,
    )


def reset(repo: RepoPlan, store: OnlineStore, entity: str | None) -> int:
    """Delete the hashes of one entity, or of all; returns how many there were."""
    entities = [repo.entity(entity)] if entity is not None else list(repo.entities)
    deleted = 0
    for plan in entities:
        for page in store.scan(plan.key.scan_pattern()):
            replies = store.run(page, [command(b"UNLINK", key) for key in page])
            for key, reply in zip(page, replies, strict=True):
                if isinstance(reply, ErrorReply):
                    raise StoreError(
                        f"it cannot be deleted: {reply}", where=key.decode(errors="replace")
                    )
                deleted += reply if isinstance(reply, int) else 0
    return deleted
