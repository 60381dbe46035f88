"""Deletions of stored values: retired fields, and entities that a source no longer has.

Each is one scan of an entity's keys. It pauses after each page for as long as the page took, so that it
takes at most half of one server's time, and may be interrupted: what is done stays done.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from featurekit.errors import StoreError, StoreUnfitError
from featurekit.lower.keys import entity_key_test
from featurekit.plan import RepoPlan, ViewPlan
from featurekit.ports import OnlineStore, StoreHandle
from featurekit.runtime.marks import end_reset, start_reset
from featurekit.wire import ErrorReply, Reply, command, first_error, text_command

_MAX_PAUSE_S = 0.1

_REMEMBERED_MS = 91 * 24 * 3600 * 1000
"""How long a replay knows of a deletion: longer than any window."""

_REMEMBERED_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class DeletedValues:
    """What was deleted.

    Attributes:
        entities: Entities that lost a value.
        values: Values that were deleted.
    """

    entities: int = 0
    values: int = 0

    def __add__(self, other: DeletedValues) -> DeletedValues:
        return DeletedValues(self.entities + other.entities, self.values + other.values)


@dataclass(frozen=True, slots=True)
class DeletedEntities:
    """What was deleted of some entities.

    Attributes:
        entities: Entities of which something was stored.
        dead_letters: Dead letters about them.
    """

    entities: int
    dead_letters: int


def delete_keys(store: OnlineStore, keys: Sequence[bytes]) -> int:
    """Delete some hashes; return how many there were.

    Raises:
        StoreError: The store refuses it.
    """
    replies = store.run_admin(keys, [command(b"UNLINK", key) for key in keys])
    for key, reply in zip(keys, replies, strict=True):
        if isinstance(reply, ErrorReply):
            where = f"{store.describe()}, {key.decode(errors='replace')}"
            raise StoreError(f"the hash cannot be deleted: {reply}", where=where)
    return sum(reply for reply in replies if isinstance(reply, int))


def remember_deletions(
    store: OnlineStore, prefix: str, keys: Sequence[bytes], now_ms: int
) -> None:
    """Store that entities are deleted now, so that a replay leaves out their events up to now.

    Raises:
        StoreError: The store refuses it.
    """
    place, till = _deletions_key(prefix), now_ms + _REMEMBERED_MS
    for start in range(0, len(keys), _REMEMBERED_AT_ONCE):
        names = [_key_hash(key) for key in keys[start : start + _REMEMBERED_AT_ONCE]]
        times = [item for name in names for item in (name, now_ms)]
        data = text_command("HSET", place, *times)
        data += text_command("HPEXPIREAT", place, till, "FIELDS", len(names), *names)
        if error := first_error(store.run((place,), (data,), 2)):
            raise StoreError(f"the deletion cannot be stored: {error}", where=place.decode())


def deletion_times(store: OnlineStore, prefix: str) -> Callable[[bytes], int | None]:
    """Return the function from a key to the time at which its entity was deleted last, if it was.

    Raises:
        StoreError: The store refuses to say it.
    """
    place = _deletions_key(prefix)
    reply = store.call("HGETALL", place, key=place)
    if not isinstance(reply, list):
        raise StoreError(f"the deletions cannot be read: {reply!r}", where=place.decode())
    times = dict(zip(reply[::2], reply[1::2], strict=True))
    known = {name: int(time) for name, time in times.items() if isinstance(time, bytes)}
    return (lambda key: known.get(_key_hash(key))) if known else (lambda _key: None)


def _deletions_key(prefix: str) -> bytes:
    return f"{prefix}:@deleted".encode()


def _key_hash(key: bytes) -> bytes:
    return hashlib.blake2b(key, digest_size=8).hexdigest().encode()


def delete_retired(
    repo: RepoPlan, store: OnlineStore, on_page: Callable[[int], None] | None = None
) -> DeletedValues:
    """Delete the values of fields and entities that are no longer declared.

    Args:
        repo: The applied registry, compiled.
        store: The online store.
        on_page: Called after each page of keys with the number of values deleted so far.
    """
    names_by_key = [(entity.key, entity.retired) for entity in repo.entities if entity.retired]
    names_by_key += [(each.key, tuple(name for name, _ in each.types)) for each in repo.removed]
    deleted = DeletedValues()
    for key_plan, names in names_by_key:
        for keys in _paced_pages(store, key_plan.scan_pattern()):
            deleted += _delete_fields(store, keys, names)
            if on_page is not None:
                on_page(deleted.values)
    return deleted


def retired_names(repo: RepoPlan) -> list[str]:
    """Return the fields and entities whose values `delete_retired` deletes, as `entity:field`."""
    names = [f"{entity.name}:{name}" for entity in repo.entities for name in entity.retired]
    return names + [f"{each.key.entity}:{name}" for each in repo.removed for name, _ in each.types]


@dataclass(frozen=True, slots=True)
class LoadTimes:
    """When a load wrote, by the clock of the store's server, in milliseconds since the epoch.

    Attributes:
        start_ms: A time before its first write; of several servers, the earliest.
        end_ms: A time after its last write; of several servers, the latest.
    """

    start_ms: int
    end_ms: int


def server_times_ms(store: OnlineStore) -> list[int]:
    """Return the time of each server.

    Raises:
        StoreUnfitError: A server does not report it to this user.
    """
    if store.capabilities.transactions:  # one server
        reply = store.call("TIME")
        if isinstance(reply, list):
            seconds, microseconds = map(int, reply)  # type: ignore[arg-type]
            return [seconds * 1000 + microseconds // 1000]
    servers = store.info("server")
    times = [info.get("server_time_usec", "") for info in servers]
    if not times or not all(map(str.isdecimal, times)):
        raise StoreUnfitError(
            "the server does not report its time, by which the entities that a load wrote are known",
            hint="grant the user +time, or +info on a cluster",
        )
    return [int(text) // 1000 for text in times]


def prune_view(
    store: OnlineStore,
    view: ViewPlan,
    times: LoadTimes,
    is_excluded: Callable[[bytes], bool],
    before_delete: Callable[[], None],
) -> Iterator[int]:
    """Delete the values of entities that a load did not write; yield their number, page by page.

    What a load wrote expires at a time between its start and its end plus the TTL; no other value of the
    view does, unless it was written with another TTL at just the right time. Such values stay.

    Args:
        store: The online store.
        view: The view, with the TTL of the load.
        times: When the load wrote.
        is_excluded: Returns whether an entity keeps its values, by key.
        before_delete: Called before each deletion; raises to stop.
    """
    names = [field.name for field in view.fields]
    for keys in _paced_pages(store, view.key.scan_pattern()):
        unwritten = _unwritten(store, view, keys, times)
        pruned = [key for key in unwritten if not is_excluded(key)]
        if pruned:
            before_delete()
        yield _delete_fields(store, pruned, names).entities


def _unwritten(
    store: OnlineStore, view: ViewPlan, keys: Sequence[bytes], times: LoadTimes
) -> list[bytes]:
    """Return the keys that do not expire at a time which the load set."""
    if view.expires == "key":
        requests = [command(b"PEXPIRETIME", key) for key in keys]
        ttls_ms = [view.ttl_ms]
    else:
        names = [field.name.encode() for field in view.fields]
        count = b"%d" % len(names)
        requests = [command(b"HPEXPIRETIME", key, b"FIELDS", count, *names) for key in keys]
        ttls_ms = [field.ttl_ms for field in view.fields]
    replies = store.run_admin(keys, requests)
    return [
        key
        for key, reply in zip(keys, replies, strict=True)
        if not _is_written(reply if isinstance(reply, list) else [reply], ttls_ms, times)
    ]


def _is_written(deadlines: Sequence[Reply], ttls_ms: Sequence[int], times: LoadTimes) -> bool:
    return any(
        isinstance(deadline, int) and times.start_ms <= deadline - ttl_ms <= times.end_ms
        for deadline, ttl_ms in zip(deadlines, ttls_ms, strict=False)
    )


def _delete_fields(
    store: OnlineStore, keys: Sequence[bytes], names: Sequence[str]
) -> DeletedValues:
    """Delete fields of some hashes. Keys of another type are left alone."""
    if not keys:
        return DeletedValues()
    encoded = [name.encode() for name in names]
    replies = store.run_admin(keys, [command(b"HDEL", key, *encoded) for key in keys])
    counts = [reply for reply in replies if isinstance(reply, int)]
    return DeletedValues(sum(count > 0 for count in counts), sum(counts))


def _paced_pages(store: OnlineStore, pattern: str) -> Iterator[list[bytes]]:
    """Yield pages of keys, and pause after each for as long as it took."""
    start = time.monotonic()
    for keys in store.scan(pattern):
        yield keys
        time.sleep(min(_MAX_PAUSE_S, time.monotonic() - start))
        start = time.monotonic()


def delete_entities(repo: RepoPlan, handle: StoreHandle, entity: str | None) -> int:
    """Delete the hashes of one entity, or of all entities; return how many were deleted.

    Keys that no entity can have, and keys of other types than hashes, stay. The marks of views with
    windows go first, and remember the time of the reset: without the events, a count of 0 is not true.
    """
    store = handle.store
    entities = repo.entities_named(entity) if entity is not None else list(repo.entities)
    keys = {each.key for each in entities}
    marked = [view for view in repo.views if view.key in keys and start_reset(store, view)]
    deleted = sum(
        _delete_hashes(store, list(filter(is_own, page)))
        for plan in entities
        for is_own in [entity_key_test(plan.key)]
        for page in store.scan(plan.key.scan_pattern())
    )
    for view in marked:
        end_reset(store, view, handle.now_ms())
    return deleted


def _delete_hashes(store: OnlineStore, keys: list[bytes]) -> int:
    def run(name: bytes, keys: list[bytes]) -> list[Reply]:
        replies = store.run_admin(keys, [command(name, key) for key in keys])
        for key, reply in zip(keys, replies, strict=True):
            if isinstance(reply, ErrorReply):
                where = f"{store.describe()}, {key.decode(errors='replace')}"
                raise StoreError(f"the hash cannot be deleted: {reply}", where=where)
        return replies

    types = run(b"TYPE", keys)
    hashes = [key for key, kind in zip(keys, types, strict=True) if kind == b"hash"]
    return sum(reply for reply in run(b"UNLINK", hashes) if isinstance(reply, int))
