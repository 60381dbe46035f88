"""Measure the memory of sample hashes on a server, and compute what they add to its tables.

The sample has keys of its own, below the repository's prefix, where no entity can be: `{prefix}:@...`. Each
key is as long as the one that it stands for, since its length counts. All of it expires after
`SAMPLE_TTL_MS`, so that nothing stays if the process is killed.

`MEMORY USAGE` leaves out the server's own tables: of keys, of their deadlines and of keys with field TTLs.
Their sizes are powers of two, so they are computed for the number of keys to come. Constants were measured
with Valkey 9.1 and Redis 8.0, as differences of `used_memory`.
"""

from __future__ import annotations

import random
import re
import string
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

import pyarrow as pa

from featurekit.errors import StoreError
from featurekit.lower.chunks import build_chunk
from featurekit.plan import ViewPlan
from featurekit.ports import Chunk, OnlineStore
from featurekit.repo.deletion import delete_keys
from featurekit.repo.estimate_rows import Row, ViewRows
from featurekit.wire import ErrorReply, Reply, text_command

SAMPLE_TTL_MS = 600_000

_DIGITS = string.digits + string.ascii_lowercase
_TOKEN_CHARACTERS = 4
_NUMBER_CHARACTERS = 4
_BATCH = 500

WIDE = "hashtable"
"""The encoding of a hash that is not compact."""

_DEFAULT_LIMITS = {"hash-max-listpack-value": 64, "hash-max-listpack-entries": 512}

_REDIS_ENTRY = 24
"""The bytes of an entry of a table in Redis; its allocator may round them up."""

_REDIS_EMBEDS_DEADLINES = (8, 2)
"""The version from which on keys hold their deadlines, so that their table has no entries."""

_VALKEY_BUCKET, _VALKEY_SLOTS, _VALKEY_CHAINS = 64, 7, 1.08
_VALKEY_WIDE, _VALKEY_FIELD_TTL, _REDIS_FIELD_TTL = 12, 10, 3


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured of some hashes.

    Attributes:
        bytes: The mean of their memory, with their part of the server's tables.
        encodings: How many have each encoding.
    """

    bytes: float
    encodings: Counter[str]

    @property
    def wide_share(self) -> float:
        """The share of hashes that are not compact."""
        return self.encodings[WIDE] / max(1, sum(self.encodings.values()))


@dataclass(frozen=True, slots=True)
class ServerMemory:
    """How a server stores hashes.

    Attributes:
        name: The server and its version, such as `valkey 9.1.2`.
        allocator: Its memory allocator.
        quantum: The unit that small allocations are rounded up to.
        keys: The keys that it holds now; in a cluster, all servers.
        servers: How many servers share the keys.
        used_bytes: The memory that they use now.
        max_bytes: Their `maxmemory` in all; 0 for no limit.
        max_value_bytes: The longest value in a compact hash.
        max_fields: The most fields in a compact hash.
    """

    name: str
    allocator: str
    quantum: int
    keys: int
    servers: int
    used_bytes: int
    max_bytes: int
    max_value_bytes: int
    max_fields: int

    @classmethod
    def of(cls, store: OnlineStore) -> ServerMemory:
        """Ask the servers of a store."""
        memory = store.info("memory")
        first = memory[0] if memory else {}
        spaces = [space for server in store.info("keyspace") for space in server.values()]
        limits = {name: _config(store, name) for name in _DEFAULT_LIMITS}
        return cls(
            store.capabilities.server,
            first.get("mem_allocator", "unknown"),
            _quantum(store),
            sum(_count_of(space) for space in spaces),
            max(1, len(memory)),
            sum(int(server.get("used_memory", 0)) for server in memory),
            sum(int(server.get("maxmemory", 0)) for server in memory),
            limits["hash-max-listpack-value"],
            limits["hash-max-listpack-entries"],
        )

    @property
    def is_valkey(self) -> bool:
        """Whether it is Valkey."""
        return self.name.startswith("valkey")

    def table_bytes(self, added: int) -> float:
        """Return what a table gains for each of some more keys.

        A cluster has a table for each of its slots, whose number is a power of two as well.
        """
        if not added:
            return 0.0
        before = self._slots(self.keys) if self.keys else 0.0
        return max(0.0, (self._slots(self.keys + added) - before) / added)

    def _slots(self, keys: float) -> float:
        if not self.is_valkey:
            return 8.0 * _power_of_two(keys)
        return _VALKEY_BUCKET * _VALKEY_CHAINS * _power_of_two(keys / _VALKEY_SLOTS)

    def overhead_bytes(self, form: HashForm, count: int) -> float:
        """Return what `MEMORY USAGE` leaves out of a hash, as a mean of `count` hashes."""
        total = self.table_bytes(count)
        total += form.deadlines * self.table_bytes(round(form.deadlines * count))
        if self.is_valkey:
            total += form.field_ttls * self.table_bytes(round(form.field_ttls * count))
            return total + _VALKEY_FIELD_TTL * form.field_ttls + _VALKEY_WIDE * form.wide
        entry = -(-_REDIS_ENTRY // self.quantum) * self.quantum
        rounded = entry - _REDIS_ENTRY
        total += rounded + _REDIS_FIELD_TTL * form.field_ttls + form.wide * form.fields * rounded
        found = re.search(r"(\d+)\.(\d+)", self.name)
        version = (int(found[1]), int(found[2])) if found else _REDIS_EMBEDS_DEADLINES
        return total + (form.deadlines * entry if version < _REDIS_EMBEDS_DEADLINES else 0)


@dataclass(frozen=True, slots=True)
class HashForm:
    """What some hashes are like.

    Attributes:
        deadlines: The share whose key has a TTL.
        field_ttls: The share with TTLs of fields.
        wide: The share that is not compact.
        fields: The mean number of fields.
    """

    deadlines: float
    field_ttls: float
    wide: float
    fields: float

    @classmethod
    def of(cls, views: Sequence[ViewRows], wide: float) -> HashForm:
        """Return what the hashes of a sample are like."""
        hashes = [
            [(each.view, row) for each, row in zip(views, rows, strict=True) if row is not None]
            for rows in zip(*(each.rows for each in views), strict=True)
        ]
        hashes = [parts for parts in hashes if parts]
        count = max(1, len(hashes))

        def share(expires: str) -> float:
            return sum(any(view.expires == expires for view, _ in h) for h in hashes) / count

        fields = sum(
            sum(value is not None for value in row) + (view.event_time_field is not None)
            for parts in hashes
            for view, row in parts
        )
        return cls(share("key"), share("field"), wide, fields / count)


def _power_of_two(count: float) -> int:
    return 1 << max(2, (ceil(count) - 1).bit_length())


def _count_of(keyspace: str) -> int:
    keys = dict(part.partition("=")[::2] for part in keyspace.split(",")).get("keys", "0")
    return int(keys)


def _config(store: OnlineStore, name: str) -> int:
    reply = _ask(store, "CONFIG", "GET", name)
    if isinstance(reply, list) and len(reply) > 1 and isinstance(reply[1], bytes):
        return int(reply[1])
    return _DEFAULT_LIMITS[name]


def _quantum(store: OnlineStore) -> int:
    """Return the unit of jemalloc; 8 for another allocator, and if the user may not ask."""
    reply = _ask(store, "MEMORY", "MALLOC-STATS")
    text = reply.decode(errors="replace") if isinstance(reply, bytes) else ""
    _, found, rest = text.partition("Quantum size:")
    return int(rest.split()[0]) if found else 8


def _ask(store: OnlineStore, *command: str) -> Reply:
    """Return the reply of one server; an error reply says that the user may not ask."""
    return store.call(*command, key=b"featurekit")


class SampleHashes:
    """Writes hashes, measures them, and deletes them again.

    Use it as a context manager: at the end, also after Ctrl-C, all its keys are deleted.

    Args:
        store: The online store.
        prefix: The prefix of all keys.
        server: What is known of the server.
    """

    def __init__(self, store: OnlineStore, prefix: str, server: ServerMemory) -> None:
        self._store, self._prefix, self._server = store, prefix, server
        self._written: dict[bytes, None] = {}

    def __enter__(self) -> SampleHashes:
        return self

    def __exit__(self, *_: object) -> None:
        self.delete()

    def delete(self) -> None:
        """Delete all hashes that were written."""
        keys = list(self._written)
        for start in range(0, len(keys), _BATCH):
            delete_keys(self._store, keys[start : start + _BATCH])
        self._written.clear()

    def measure(
        self, keys: Sequence[bytes], views: Sequence[ViewRows], count: int
    ) -> Measured | None:
        """Return the memory of hashes with these keys and rows; `None` if none has a value.

        Args:
            keys: The keys that they stand for.
            views: What they hold.
            count: How many there will be.
        """
        written = self.write(keys, views)
        usage = self._replies(written, "MEMORY", "USAGE", after=("SAMPLES", 0))
        encodings = self._replies(written, "OBJECT", "ENCODING")
        sizes = [reply for reply in usage if isinstance(reply, int)]
        if not sizes:
            return None
        counted = Counter(reply.decode() for reply in encodings if isinstance(reply, bytes))
        wide_share = counted[WIDE] / max(1, sum(counted.values()))
        mean = sum(sizes) / len(sizes)
        form = HashForm.of(views, wide_share)
        return Measured(mean + self._server.overhead_bytes(form, count), counted)

    def _replies(
        self, keys: Sequence[bytes], *command: str, after: tuple[str | int, ...] = ()
    ) -> list[Reply]:
        found: list[Reply] = []
        for start in range(0, len(keys), _BATCH):
            part = keys[start : start + _BATCH]
            requests = [text_command(*command, key, *after) for key in part]
            found += self._store.run_admin(part, requests)
        for reply in found:
            if isinstance(reply, ErrorReply):
                raise StoreError(
                    f"{' '.join(command)} is refused: {reply}",
                    where=self._store.describe(),
                    hint="the user needs the rights +memory|usage +object|encoding; an in-memory "
                    "store has none of them",
                )
        return found

    def write(self, keys: Sequence[bytes], views: Sequence[ViewRows]) -> list[bytes]:
        """Write hashes with keys of their own, as long as the given ones; return their keys."""
        token = "".join(random.choices(_DIGITS, k=_TOKEN_CHARACTERS))  # noqa: S311 - no secret
        own = [self._sample_key(token, number, len(key)) for number, key in enumerate(keys)]
        self._written.update(dict.fromkeys(own))
        for each in views:
            self._write_view(own, each)
        return own

    def _sample_key(self, token: str, number: int, length: int) -> bytes:
        head = f"{self._prefix}:@{token}"
        text = ""
        while number:
            number, digit = divmod(number, len(_DIGITS))
            text = _DIGITS[digit] + text
        return (head + text.rjust(max(_NUMBER_CHARACTERS, length - len(head)), "0")).encode()

    def _write_view(self, keys: Sequence[bytes], each: ViewRows) -> None:
        view = each.view.with_ttl(SAMPLE_TTL_MS)
        rows = [(key, row) for key, row in zip(keys, each.rows, strict=True) if row is not None]
        for start in range(0, len(rows), _BATCH):
            self._send(view, rows[start : start + _BATCH])

    def _send(self, view: ViewPlan, rows: Sequence[tuple[bytes, Row]]) -> None:
        keys = pa.array([key for key, _ in rows], pa.binary())
        columns: list[Any] = [
            pa.array([row[number] for _, row in rows], pa.binary())
            for number in range(len(view.fields))
        ]
        if view.event_time_field:
            columns.insert(0, pa.array([b"1795000000000"] * len(rows), pa.binary()))
        encoded = build_chunk(view, keys, columns, self._store.capabilities)
        chunk = Chunk(
            encoded.data,
            encoded.replies,
            encoded.reply_lines,
            len(rows),
            lambda: (keys.to_pylist(), encoded.row_ends()),
        )
        for _, replies in self._store.load([chunk]):
            errors = encoded.row_errors(replies) if replies is not None else {}
            if errors:
                raise StoreError(
                    f"the sample is refused: {next(iter(errors.values()))}",
                    where=self._store.describe(),
                )
