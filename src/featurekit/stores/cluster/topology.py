"""Topologies: which server of a cluster has which slot.

redis-py's nodes manager asks the cluster; what it found is kept here as plain lists, which a read
looks up once for each key. A topology may be out of date at any time: servers tell by `MOVED`.
"""

from __future__ import annotations

from binascii import crc_hqx
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import repeat
from secrets import token_hex
from time import monotonic
from typing import Any

import redis
from redis.cluster import ClusterNode, NodesManager
from redis.connection import Connection, SSLConnection
from redis.exceptions import RedisClusterException
from typing_extensions import override

from featurekit.errors import StoreError, StoreUnavailableError
from featurekit.stores.connection import check_tls_files, connection_arguments
from featurekit.stores.deadline import Deadline
from featurekit.stores.error_mapping import connect_error, user_text
from featurekit.stores.url import Address, StoreUrl

SLOTS = 16384
CRCS = 1 << 16
NOBODY = -1


def slot_of(key: bytes) -> int:
    """The slot of a key: that of its hash tag, if it has one.

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


class _Encrypted(SSLConnection):
    """One that redis-py's pool takes for clean when the server has sent tickets of TLS 1.3."""

    @override
    def can_read(self, timeout: float = 0) -> bool:
        return False


class Topology:
    """The shards of a cluster and their slots.

    Attributes:
        shards: In no particular order.
        owners: For each slot an index into the shards; `NOBODY` where nobody serves it.
        found_at: When this was asked for, by the monotonic clock.
    """

    def __init__(self, shards: Iterable[Shard], owners: Sequence[int]) -> None:
        self.shards = list(shards)
        self.owners = list(owners)
        self._by_crc = self.owners * (CRCS // SLOTS)
        self.found_at = monotonic()

    def primary_of(self, shard: int) -> Address:
        """The primary of a shard, by its index."""
        return self.shards[shard].primary

    @property
    def primaries(self) -> list[Address]:
        """The primaries that serve slots, in the order of their addresses."""
        return sorted({self.shards[owner].primary for owner in set(self.owners) - {NOBODY}})

    @property
    def addresses(self) -> list[Address]:
        """All servers, primaries first."""
        replicas = [replica for shard in self.shards for replica in shard.replicas]
        return [*(shard.primary for shard in self.shards), *replicas]

    def owners_of(self, keys: Sequence[bytes]) -> list[int]:
        """The shard of each key."""
        # A read does this for all of its keys: without a loop in Python, unless there are tags.
        if b"{" in b"".join(keys):
            return [self.owners[slot_of(key)] for key in keys]
        return list(map(self._by_crc.__getitem__, map(crc_hqx, keys, repeat(0))))

    def learn(self, slot: int, address: Address) -> bool:
        """Take in that a slot has moved to a server; whether that server was known as a primary."""
        for index, shard in enumerate(self.shards):
            if shard.primary == address:
                self._set(slot, index)
                return True
        self.shards.append(Shard(address))
        self._set(slot, len(self.shards) - 1)
        return False

    def _set(self, slot: int, owner: int) -> None:
        self.owners[slot] = owner
        for crc in range(slot, CRCS, SLOTS):
            self._by_crc[crc] = owner


def key_at(topology: Topology, address: Address, head: str) -> bytes:
    """A new key that begins with `head` and is in a slot of a server."""
    while True:
        key = f"{head}{token_hex(8)}".encode()
        [owner] = topology.owners_of([key])
        if owner != NOBODY and topology.primary_of(owner) == address:
            return key


def find_topology(
    url: StoreUrl, candidates: Iterable[Address], deadline: Deadline, away: Iterable[Address] = ()
) -> Topology:
    """Ask servers, one after another, for the topology of their cluster.

    Args:
        url: The cluster's.
        candidates: Whom to ask.
        deadline: That of the call that needs it.
        away: Those of them that did not answer just now, who are asked last.

    Raises:
        StoreUnavailableError: None of them can be reached.
        StoreError: They refuse this user, or are no cluster.
    """
    check_tls_files(url)
    absent = set(away)
    error: StoreError | None = None
    found: Topology | None = None
    for address in sorted(dict.fromkeys(candidates), key=absent.__contains__):
        try:
            found = _ask(url.for_server(*address), deadline)
        except StoreError as each:
            error = each if not isinstance(error, StoreError) or _worse(each, error) else error
        else:
            if NOBODY not in found.owners:
                return found
        if monotonic() > deadline.deadline_s:
            break
    if found is not None:
        return found
    assert error  # noqa: S101  (a URL has one host at least)
    raise error


def _worse(error: StoreError, than: StoreError) -> bool:
    """Whether an error tells more: a refusal tells more than a server that is away."""
    return isinstance(than, StoreUnavailableError) and not isinstance(error, StoreUnavailableError)


def _ask(url: StoreUrl, deadline: Deadline) -> Topology:
    """The topology as one server knows it."""
    # One that is silent leaves half of the time to the others.
    timeout_s = deadline.cap(url.connect_timeout_s, share=0.5)
    options: dict[str, Any] = connection_arguments(url, timeout_s)
    make_node: Any = ClusterNode  # it has no types
    node = make_node(options.pop("host"), options.pop("port"))
    del options["db"]
    kind = _Encrypted if url.scheme == "rediss" else Connection
    try:
        manager = NodesManager([node], from_url=True, connection_class=kind, **options)
    except (redis.RedisError, RedisClusterException) as error:
        raise _refusal(url, error, Deadline(timeout_s)) from error
    except IndexError as error:  # what redis-py makes of a cluster without slots
        raise StoreUnavailableError(f"{url} is in a cluster that serves no slots") from error
    try:
        return _plain(manager, url.host)
    finally:
        manager.close()


def _plain(manager: NodesManager, asked: str) -> Topology:
    """What the manager found; a host that is left out is the one that was asked."""
    indices: dict[Address, int] = {}
    shards: list[Shard] = []
    owners = [NOBODY] * SLOTS
    for slot, nodes in manager.slots_cache.items():
        primary, *replicas = [(node.host or asked, node.port) for node in nodes]
        if primary not in indices:
            indices[primary] = len(shards)
            shards.append(Shard(primary, tuple(replicas)))
        owners[slot] = indices[primary]
    return Topology(shards, owners)


def _refusal(url: StoreUrl, error: Exception, deadline: Deadline) -> StoreError:
    """What kept a server from telling; redis-py wraps it, once or twice."""
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
        return StoreError(f"{url} is no cluster", hint="write redis:// for one server")
    if not isinstance(cause, Exception):
        raise cause
    return connect_error(url, cause, deadline)
