"""Counts of what is stored for each entity, view and field, and figures of the server.

The counts are of a sample, so that the work is bounded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from featurekit.plan import RepoPlan, ViewPlan
from featurekit.ports import DEFAULT_READ_OPTIONS, OnlineStore, ReadOptions
from featurekit.repo.diagnostics.sampling import Sample
from featurekit.wire import Reply, command, text_command

_MISSING = -2
"""The reply of `HPTTL` for a field, and of `PTTL` for a key, that does not exist."""


@dataclass(frozen=True, slots=True)
class EntityCount:
    """How many entities are stored.

    Attributes:
        entity: The entity's name.
        sampled: Keys in the sample.
        present: Sampled keys that have a value of any view.
        whole: Whether the sample contains all keys of the entity.
    """

    entity: str
    sampled: int
    present: int
    whole: bool


@dataclass(frozen=True, slots=True)
class ViewCount:
    """How much of one view is stored in a sample of its entities.

    Attributes:
        view: The view's name.
        sampled: Entities in the sample.
        live: Sampled entities that have a value of the view.
        newest_ttl_ms: The longest remaining TTL of any value, from the field or its key; `None` if
            nothing is stored or nothing expires.
        oldest_ttl_ms: The shortest remaining TTL.
        fields: Maps each field to the number of sampled entities that have a value.
        newest_age_ms: The age of the newest value, computed from its declared and its remaining TTL;
            `None` if it is not known.
        whole: Whether the sample contains all entities.
    """

    view: str
    sampled: int
    live: int
    newest_ttl_ms: int | None
    oldest_ttl_ms: int | None
    fields: Mapping[str, int]
    newest_age_ms: int | None = None
    whole: bool = True

    @property
    def live_share(self) -> float | None:
        """The share of the sampled entities that has a value; `None` for an empty sample."""
        return self.live / self.sampled if self.sampled else None


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """Figures from `INFO`, summed over the servers of a cluster; 0 if a server does not report one.

    Attributes:
        name: Name and version.
        servers: Number of servers.
        uptime_s: Seconds since the start of the server that started last.
        memory_bytes: Used memory.
        memory_limit_bytes: `maxmemory`; 0 for no limit.
        clients: Client connections.
        commands_per_second: Commands of all clients.
        keys: Keys in all databases, including those of other applications.
        evicted_keys: Keys evicted since the start.
        expired_fields: Fields expired since the start.
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
    """Counts of a sample.

    Attributes:
        fingerprint: The fingerprint of the registry whose entities and views were counted.
        entities: One for each entity.
        views: One for each view, in the order of the registry.
    """

    fingerprint: str
    entities: tuple[EntityCount, ...]
    views: tuple[ViewCount, ...]


def overview(
    repo: RepoPlan,
    store: OnlineStore,
    samples: Mapping[str, Sample],
    options: ReadOptions = DEFAULT_READ_OPTIONS,
) -> Overview:
    """Count what is stored of the sampled entities, in one round trip per entity and server.

    Args:
        repo: The applied registry, compiled.
        store: The online store.
        samples: Maps each entity to a sample of its keys.
        options: Read options.
    """
    entities: list[EntityCount] = []
    views: dict[str, ViewCount] = {}
    for entity in repo.entities:
        sample = samples[entity.name]
        views_of_entity = [view for view in repo.views if view.key.entity == entity.name]
        rows = _ttls(store, sample.keys, views_of_entity, options)
        present = sum(any(ttl != _MISSING for ttl in row[:-1]) for row in rows)
        entities.append(EntityCount(entity.name, len(sample.keys), present, sample.whole))
        start = 0
        for view in views_of_entity:
            end = start + len(view.fields)
            cells = [(row[start:end], row[-1]) for row in rows]
            views[view.name] = _count_view(view, cells, whole=sample.whole)
            start = end
    return Overview(
        repo.fingerprint, tuple(entities), tuple(views[view.name] for view in repo.views)
    )


def _ttls(
    store: OnlineStore, keys: Sequence[bytes], views: Sequence[ViewPlan], options: ReadOptions
) -> list[list[int]]:
    """Return, for each key, the `HPTTL` of every field of the views and then the key's `PTTL`."""
    names = [field.name for view in views for field in view.fields]
    if not keys or not names:
        return []
    requests = [
        text_command("HPTTL", key, "FIELDS", len(names), *names) + command(b"PTTL", key)
        for key in keys
    ]
    replies = store.read(keys, requests, replies_per_request=2, options=options)
    return [
        [*_integers(fields, len(names)), ttl if isinstance(ttl, int) else _MISSING]
        for fields, ttl in zip(replies[::2], replies[1::2], strict=True)
    ]


def _integers(reply: Reply, count: int) -> list[int]:
    if not isinstance(reply, list) or len(reply) != count:
        return [_MISSING] * count
    return [ttl if isinstance(ttl, int) else _MISSING for ttl in reply]


def _count_view(
    view: ViewPlan, rows: Sequence[tuple[Sequence[int], int]], *, whole: bool
) -> ViewCount:
    fields = dict.fromkeys((field.name for field in view.fields), 0)
    remaining: list[int] = []
    ages: list[int] = []
    live = 0
    for field_ttls, key_ttl in rows:
        live += any(ttl != _MISSING for ttl in field_ttls)
        for field, field_ttl in zip(view.fields, field_ttls, strict=True):
            if field_ttl == _MISSING:
                continue
            fields[field.name] += 1
            if ttls := [ttl for ttl in (field_ttl, key_ttl) if ttl >= 0]:
                remaining.append(min(ttls))
            own_ttl = field_ttl if field.ttl_ms else key_ttl
            if own_ttl >= 0:
                ages.append(max(0, (field.ttl_ms or view.ttl_ms) - own_ttl))
    return ViewCount(
        view=view.name,
        sampled=len(rows),
        live=live,
        newest_ttl_ms=max(remaining, default=None),
        oldest_ttl_ms=min(remaining, default=None),
        fields=fields,
        newest_age_ms=min(ages, default=None),
        whole=whole,
    )


def server_info(store: OnlineStore) -> ServerInfo:
    """Return the figures of the store's servers from `INFO`."""
    servers = store.info("server")

    def total(section: str, *names: str) -> int:
        return sum(max(_to_int(info.get(n, "")) for n in names) for info in store.info(section))

    return ServerInfo(
        name=store.capabilities.server,
        servers=len(servers),
        uptime_s=min((_to_int(info.get("uptime_in_seconds", "")) for info in servers), default=0),
        memory_bytes=total("memory", "used_memory"),
        memory_limit_bytes=total("memory", "maxmemory"),
        clients=total("clients", "connected_clients"),
        commands_per_second=total("stats", "instantaneous_ops_per_sec"),
        keys=sum(_key_count(text) for info in store.info("keyspace") for text in info.values()),
        evicted_keys=total("stats", "evicted_keys"),
        expired_fields=total("stats", "expired_fields", "expired_subkeys"),
    )


def _to_int(text: str) -> int:
    return int(text) if text.isdecimal() else 0


def _key_count(text: str) -> int:
    """Return the number of keys in `keys=200,expires=200,avg_ttl=0`."""
    return _to_int(dict(part.partition("=")[::2] for part in text.split(",")).get("keys", ""))
