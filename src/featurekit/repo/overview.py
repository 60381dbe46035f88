"""Overviews: how much of each entity, view and field is stored, and how the server does.

All of it is bounded: entities are sampled, and counts are of the sample.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from featurekit.keys import KeyPlan
from featurekit.plan import RepoPlan, ViewPlan
from featurekit.ports import DEFAULT_READ_OPTIONS, OnlineStore, ReadOptions
from featurekit.repo.sample import Sample, sample
from featurekit.wire import Reply, command, text_command

_GONE = -2
"""What `HPTTL` says of a field that is not there, and `PTTL` of a key."""


@dataclass(frozen=True, slots=True)
class EntityLife:
    """How many entities are stored.

    Attributes:
        entity: The entity.
        sampled: Keys looked at.
        present: Those of them with a live field of any view.
        whole: Whether all keys there are were looked at.
    """

    entity: str
    sampled: int
    present: int
    whole: bool


@dataclass(frozen=True, slots=True)
class ViewLife:
    """How much of one view is stored, among the entities looked at.

    Attributes:
        view: The view.
        sampled: Entities looked at.
        live: Those of them with a live field of the view.
        newest_ttl_ms: The most that any live field has left, by its own TTL or the key's; `None`
            if nothing of it expires, or nothing lives.
        oldest_ttl_ms: The least.
        fields: For each field, the entities in which it lives.
    """

    view: str
    sampled: int
    live: int
    newest_ttl_ms: int | None
    oldest_ttl_ms: int | None
    fields: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What the server tells of itself, or several of a cluster together; 0 where it does not.

    Attributes:
        name: Its name and version.
        servers: How many there are.
        uptime_s: Seconds since it started, or the newest of them.
        memory_bytes: Memory in use.
        memory_limit_bytes: Its `maxmemory`; 0 for no limit.
        clients: Connections.
        commands_per_second: Commands of all its clients.
        keys: Keys in all databases, whoever's they are.
        evicted_keys: Keys it removed for want of memory since it started.
        expired_fields: Fields that it expired since it started, where it counts them.
    """

    name: str
    servers: int = 1
    uptime_s: int = 0
    memory_bytes: int = 0
    memory_limit_bytes: int = 0
    clients: int = 0
    commands_per_second: int = 0
    keys: int = 0
    evicted_keys: int = 0
    expired_fields: int = 0


@dataclass(frozen=True, slots=True)
class Overview:
    """What is stored; `of` is the fingerprint of the registry that says what could be."""

    of: str
    entities: tuple[EntityLife, ...]
    views: tuple[ViewLife, ...]


def overview(
    repo: RepoPlan,
    store: OnlineStore,
    samples: Mapping[str, Sample],
    terms: ReadOptions = DEFAULT_READ_OPTIONS,
) -> Overview:
    """How much is stored of the entities sampled, in two round trips per entity.

    Args:
        repo: The applied repository.
        store: Where it is stored.
        samples: For each entity, the keys to look at.
        terms: On which terms the store is read.
    """
    entities, views = [], []
    for plan in repo.entities:
        found = samples[plan.name]
        of_entity = [view for view in repo.views if view.key.entity == plan.name]
        codes = _codes(store, found.keys, of_entity, terms)
        present = sum(any(_lives(row)) for row in codes)
        entities.append(EntityLife(plan.name, len(found.keys), present, found.whole))
        at = 0
        for view in of_entity:
            views.append(
                _view_life(view, [(row[at : at + len(view.fields)], row[-1]) for row in codes])
            )
            at += len(view.fields)
    order = {view.name: index for index, view in enumerate(repo.views)}
    return Overview(
        repo.fingerprint, tuple(entities), tuple(sorted(views, key=lambda v: order[v.view]))
    )


def samples_of(repo: RepoPlan, store: OnlineStore, most: int) -> dict[str, Sample]:
    """Up to `most` keys of each entity."""
    return {e.name: sample(store, e.key.scan_pattern(), most) for e in repo.entities}


def ids_of(plan: KeyPlan, keys: Sequence[bytes]) -> list[str]:
    """The ids in keys, as `inspect` takes them; keys that are not text are left out."""
    head = plan.entity_prefix.encode()
    ids = []
    for key in keys:
        try:
            ids.append(key.removeprefix(head).decode())
        except UnicodeDecodeError:
            continue
    return ids


def _codes(
    store: OnlineStore, keys: Sequence[bytes], views: Sequence[ViewPlan], terms: ReadOptions
) -> list[list[int]]:
    """For each key, what `HPTTL` says of the views' fields and, after them, `PTTL` of the key."""
    names = [field.name for view in views for field in view.fields]
    if not keys or not names:
        return []
    requests = [
        text_command("HPTTL", key, "FIELDS", len(names), *names) + command(b"PTTL", key)
        for key in keys
    ]
    replies = store.read(keys, requests, replies_per_request=2, options=terms)
    return [
        [*_ints(fields, len(names)), ttl if isinstance(ttl, int) else _GONE]
        for fields, ttl in zip(replies[::2], replies[1::2], strict=True)
    ]


def _ints(reply: Reply, count: int) -> list[int]:
    if not isinstance(reply, list) or len(reply) != count:
        return [_GONE] * count
    return [code if isinstance(code, int) else _GONE for code in reply]


def _lives(row: Sequence[int]) -> list[bool]:
    return [code != _GONE for code in row[:-1]]


def _view_life(view: ViewPlan, rows: Sequence[tuple[Sequence[int], int]]) -> ViewLife:
    fields = dict.fromkeys((field.name for field in view.fields), 0)
    left: list[int] = []
    live = 0
    for codes, key_ttl in rows:
        live += any(code != _GONE for code in codes)
        for name, code in zip(fields, codes, strict=True):
            if code == _GONE:
                continue
            fields[name] += 1
            if ends := [ttl for ttl in (code, key_ttl) if ttl >= 0]:
                left.append(min(ends))
    return ViewLife(
        view.name, len(rows), live, max(left, default=None), min(left, default=None), fields
    )


def server_facts(store: OnlineStore) -> ServerFacts:
    """What the servers tell of themselves, together."""
    servers = store.info("server")

    def total(section: str, *names: str) -> int:
        return sum(max(_number(told.get(n, "")) for n in names) for told in store.info(section))

    return ServerFacts(
        name=store.capabilities.server,
        servers=len(servers),
        uptime_s=min((_number(told.get("uptime_in_seconds", "")) for told in servers), default=0),
        memory_bytes=total("memory", "used_memory"),
        memory_limit_bytes=total("memory", "maxmemory"),
        clients=total("clients", "connected_clients"),
        commands_per_second=total("stats", "instantaneous_ops_per_sec"),
        keys=sum(_keys(text) for told in store.info("keyspace") for text in told.values()),
        evicted_keys=total("stats", "evicted_keys"),
        expired_fields=total("stats", "expired_fields", "expired_subkeys"),
    )


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else 0


def _keys(text: str) -> int:
    """The keys of a database, in `keys=200,expires=200,avg_ttl=0`."""
    found = dict(part.partition("=")[::2] for part in text.split(","))
    return _number(found.get("keys", ""))
