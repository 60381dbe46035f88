"""Find out which server of a cluster serves which slot, and remember it.

redis-py's `NodesManager` asks the cluster. The result is kept here as plain lists, which a read
indexes once for each key. A topology may be out of date at any time: the servers then answer `MOVED`.
"""

from __future__ import annotations

import asyncio
from binascii import crc_hqx
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import count, repeat
from secrets import token_hex
from time import monotonic
from typing import Any

import redis
from redis.cluster import ClusterNode, NodesManager
from redis.connection import Connection, SSLConnection
from redis.exceptions import RedisClusterException
from typing_extensions import override

from featurekit.errors import StoreError, StoreUnavailableError
from featurekit.stores.connect import check_tls_files, connection_arguments
from featurekit.stores.deadline import Deadline
from featurekit.stores.error_mapping import connect_error, user_text
from featurekit.stores.url import Address, StoreUrl

SLOTS = 16384
CRCS = 1 << 16
UNSERVED = -1
"""The owner of a slot that no server serves."""

MIN_REFRESH_S = 0.1
"""A topology younger than this is not requested again."""

SKIP_REPLICA_S = 1.0
"""How long reads skip a replica that did not answer."""

Route = Callable[[int], Address]
"""Returns the server of a shard, given by its index, that requests go to."""


def slot_of(key: bytes) -> int:
    """Return the slot of a key: that of its hash tag, if it has one.

    Examples:
        >>> slot_of(b"fs:user:{vip}:u1") == slot_of(b"vip")
        True
        >>> slot_of(b"123456789")
        12739
    """
    if b"{" in key:
        start = key.index(b"{") + 1
        end = key.find(b"}", start)
        if end > start:
            key = key[start:end]
    return crc_hqx(key, 0) % SLOTS


@dataclass(frozen=True, slots=True)
class Shard:
    """A primary and its replicas."""

    primary: Address
    replicas: tuple[Address, ...] = ()


class Topology:
    """The shards of a cluster and their slots.

    Attributes:
        shards: In no particular order.
        owners: For each slot the index of its shard, or `UNSERVED`.
        found_at: When the cluster was asked, by the monotonic clock.
    """

    def __init__(self, shards: Iterable[Shard], owners: Sequence[int]) -> None:
        self.shards = list(shards)
        self.owners = list(owners)
        self._by_crc = self.owners * (CRCS // SLOTS)
        self.found_at = monotonic()

    def primary_of(self, shard: int) -> Address:
        """Return the primary of a shard, given by its index."""
        return self.shards[shard].primary

    @property
    def primaries(self) -> list[Address]:
        """The primaries that serve slots, sorted by address."""
        return sorted({self.shards[owner].primary for owner in set(self.owners) - {UNSERVED}})

    @property
    def addresses(self) -> list[Address]:
        """All servers, primaries first."""
        replicas = [replica for shard in self.shards for replica in shard.replicas]
        return [*(shard.primary for shard in self.shards), *replicas]

    def owners_of(self, keys: Sequence[bytes]) -> list[int]:
        """Return the index of each key's shard, or `UNSERVED`."""
        # Every read does this for all of its keys: without a Python loop, unless there are hash tags.
        if b"{" in b"".join(keys):
            return [self.owners[slot_of(key)] for key in keys]
        return list(map(self._by_crc.__getitem__, map(crc_hqx, keys, repeat(0))))

    def primaries_of(self, keys: Sequence[bytes]) -> list[Address | None]:
        """Return the primary of each key; `None` for a slot without a server."""
        primaries = [shard.primary for shard in self.shards]
        owners = self.owners_of(keys)
        return [primaries[owner] if owner != UNSERVED else None for owner in owners]

    def record_move(self, slot: int, address: Address) -> bool:
        """Record that a slot has moved to a server; return whether it was a known primary."""
        for index, shard in enumerate(self.shards):
            if shard.primary == address:
                self._set_owner(slot, index)
                return True
        self.shards.append(Shard(address))
        self._set_owner(slot, len(self.shards) - 1)
        return False

    def _set_owner(self, slot: int, owner: int) -> None:
        self.owners[slot] = owner
        for crc in range(slot, CRCS, SLOTS):
            self._by_crc[crc] = owner


class TopologyCache:
    """The last known topology of one cluster, and the replicas that did not answer recently.

    Attributes:
        known: The last known topology; `None` before the first request for it.
    """

    def __init__(self, url: StoreUrl) -> None:
        self._url = url
        self._skip_until: dict[Address, float] = {}
        self._reads = count()
        self.known: Topology | None = None

    def newer_than(self, seen: Topology | None) -> Topology | None:
        """Return the known topology if it differs from `seen` or is too young to request again."""
        known = self.known
        if known is None or (known is seen and monotonic() - known.found_at >= MIN_REFRESH_S):
            return None
        return known

    def known_or_fail(self) -> Topology:
        """Return the known topology, for a call that has no time left to request it.

        Raises:
            StoreUnavailableError: There is none yet.
        """
        if self.known is None:
            raise StoreUnavailableError(f"no server of {self._url} has answered yet")
        return self.known

    def fetch(self, deadline: Deadline, unresponsive: Iterable[Address] = ()) -> Topology:
        """Request the topology; if no server answers, keep the known one.

        Args:
            deadline: The time limit of the call that needs it.
            unresponsive: Servers that did not answer just now; they are asked last.

        Raises:
            StoreError: No server answers, and no topology is known.
        """
        known = self.known
        candidates = [*(known.addresses if known else ()), *self._url.hosts]
        try:
            self.known = fetched = fetch_topology(self._url, candidates, deadline, unresponsive)
        except StoreUnavailableError:
            if known is None:
                raise
            return known
        return fetched

    async def fetch_async(self, deadline: Deadline, unresponsive: Iterable[Address]) -> Topology:
        """Do the same as `fetch` on another thread."""
        return await asyncio.to_thread(self.fetch, deadline, unresponsive)

    def route(self, topology: Topology, *, replicas: bool) -> Route:
        """Return the route to each shard's primary, or to its replicas in turn."""
        if not replicas:
            return topology.primary_of
        turn, now, skip_until = next(self._reads), monotonic(), self._skip_until

        def route_to_replica(owner: int) -> Address:
            shard = topology.shards[owner]
            usable = [each for each in shard.replicas if skip_until.get(each, 0.0) <= now]
            return usable[turn % len(usable)] if usable else shard.primary

        return route_to_replica

    def skip_replicas(self, unresponsive: Iterable[Address], topology: Topology) -> None:
        """Send no reads to these replicas for `SKIP_REPLICA_S`."""
        until, primaries = monotonic() + SKIP_REPLICA_S, set(topology.primaries)
        self._skip_until |= {each: until for each in unresponsive if each not in primaries}


def key_on_server(topology: Topology, address: Address, prefix: str) -> bytes:
    """Return a random key that starts with `prefix` and whose slot a server serves."""
    while True:
        key = f"{prefix}{token_hex(8)}".encode()
        [owner] = topology.owners_of([key])
        if owner != UNSERVED and topology.primary_of(owner) == address:
            return key


def fetch_topology(
    url: StoreUrl,
    candidates: Iterable[Address],
    deadline: Deadline,
    unresponsive: Iterable[Address] = (),
) -> Topology:
    """Ask servers, one after another, for the topology of their cluster.

    Args:
        url: The cluster's URL.
        candidates: The servers to ask.
        deadline: The time limit of the call that needs it.
        unresponsive: Candidates that did not answer just now; they are asked last.

    Raises:
        StoreUnavailableError: No candidate can be reached.
        StoreError: They reject this user, or are not in a cluster.
    """
    check_tls_files(url)
    ask_last = set(unresponsive)
    error: StoreError | None = None
    incomplete: Topology | None = None
    for address in sorted(dict.fromkeys(candidates), key=ask_last.__contains__):
        try:
            topology = _ask_server(url.for_server(*address), deadline)
        except StoreError as failure:
            is_silent = isinstance(failure, StoreUnavailableError)
            if error is None or (isinstance(error, StoreUnavailableError) and not is_silent):
                error = failure  # a rejection says more than a server that does not answer
        else:
            if UNSERVED not in topology.owners:
                return topology
            incomplete = topology
        if monotonic() > deadline.deadline_s:
            break
    if incomplete is not None:
        return incomplete
    assert error  # noqa: S101 - a URL has at least one host
    raise error


class _TlsConnection(SSLConnection):
    """A connection that redis-py's pool accepts although TLS 1.3 session tickets are unread."""

    @override
    def can_read(self, timeout: float = 0) -> bool:
        return False


def _ask_server(url: StoreUrl, deadline: Deadline) -> Topology:
    """Return the topology as one server knows it."""
    # A silent server leaves half of the remaining time to the others.
    timeout_s = deadline.cap(url.connect_timeout_s, share=0.5)
    options: dict[str, Any] = connection_arguments(url, timeout_s)
    make_node: Any = ClusterNode  # it has no type annotations
    node = make_node(options.pop("host"), options.pop("port"))
    del options["db"]
    kind = _TlsConnection if url.scheme == "rediss" else Connection
    try:
        manager = NodesManager([node], from_url=True, connection_class=kind, **options)
    except (redis.RedisError, RedisClusterException) as error:
        raise _topology_error(url, error, Deadline(timeout_s)) from error
    except IndexError as error:  # what redis-py raises for a cluster without slots
        raise StoreUnavailableError(f"{url} is in a cluster that serves no slots") from error
    try:
        return _parse_slots(manager, url.host)
    finally:
        manager.close()


def _parse_slots(manager: NodesManager, asked_host: str) -> Topology:
    """Convert redis-py's slots cache; an empty host means the host that was asked."""
    indices: dict[Address, int] = {}
    shards: list[Shard] = []
    owners = [UNSERVED] * SLOTS
    for slot, nodes in manager.slots_cache.items():
        primary, *replicas = [(node.host or asked_host, node.port) for node in nodes]
        if primary not in indices:
            indices[primary] = len(shards)
            shards.append(Shard(primary, tuple(replicas)))
        owners[slot] = indices[primary]
    return Topology(shards, owners)


def _topology_error(url: StoreUrl, error: Exception, deadline: Deadline) -> StoreError:
    """Convert redis-py's error, which wraps its cause once or twice."""
    cause: BaseException = error
    while (inner := cause.__cause__ or cause.__context__) is not None:
        cause = inner
        if isinstance(cause, redis.RedisError):
            break
    if isinstance(cause, redis.exceptions.NoPermissionError):
        return StoreError(
            f"{user_text(url)} may not ask {url} for the cluster's topology: {cause}",
            hint="grant +cluster|slots",
        )
    if isinstance(cause, redis.ResponseError) and "cluster support disabled" in str(cause):
        return StoreError(f"{url} is not a cluster", hint="write redis:// for a single server")
    if not isinstance(cause, Exception):
        raise cause
    return connect_error(url, cause, deadline)
