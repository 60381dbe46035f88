"""The log of loads, the applies and the applied registries, stored in the online store that they changed.

They describe one deployment. Records which cannot be decoded are skipped.

The log of a view is a list of its newest loads, newest first, and a hash of blocks with those before
(`load_blocks`). A load pushes its record. If the list has become long, it then seals the oldest records:
a script adds a block and takes its records off the list, unless another load has done so. Nothing is ever
changed, and blocks are removed only when they are too old, or the log is too large.

While a load runs, a note of it is stored. A load that finds the note of another one, whose lock it has
taken over, records that one as a load that never ended.
"""

from __future__ import annotations

import json
import zlib
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any, Generic, TypeVar

from featurekit.changes import Change
from featurekit.errors import RegistryError, StoreError
from featurekit.history_ports import PastLoad
from featurekit.ports import KeyedCommand, OnlineStore, StoreHandle
from featurekit.registry import Registry
from featurekit.repo.load_blocks import BlockName, decode_block, encode_block
from featurekit.repo.stored_records import decode_record, parse_json
from featurekit.runtime.load import RejectedKeys
from featurekit.wire import ErrorReply, Reply, text_command

NEVER_ENDED = "it never ended: its process was killed or interrupted, or lost the store"
"""The error of a load that began, and did not record its end."""

NEWEST_LOADS = 50
"""Loads of each view that `loads` returns, and that are never in a block."""

BLOCK_LOADS = 256
"""Loads in a block."""

MAX_APPLIES = 1000
"""Applies kept."""

_MAX_UNSEALED = NEWEST_LOADS + 4 * BLOCK_LOADS
"""Loads of a view that are kept in its list if blocks cannot be written."""

_BLOCKS_PER_CALL = 16

_SEAL = """
local oldest = redis.call('LRANGE', KEYS[1], -1, -1)[1]
if oldest ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[2], ARGV[3], ARGV[4])
redis.call('LTRIM', KEYS[1], 0, -1 - ARGV[2])
for i = 5, #ARGV do redis.call('HDEL', KEYS[2], ARGV[i]) end
return 1
"""

MAX_REJECTING_LOADS = 5
"""Loads of each view whose rejected keys are kept."""

_MAX_ERROR_LENGTH = 2000
_MAX_REGISTRY_BYTES = 256_000_000


@dataclass(frozen=True, slots=True)
class LoadRecord:
    """One load of a view.

    Attributes:
        view: The view's name.
        started_ms: When the load started.
        ended_ms: When it ended.
        rows_read: Rows read from the source.
        rows_written: Rows written, one for each entity.
        rows_rejected: Rows that did not fit the view.
        rows_superseded: Rows replaced by a newer row of the same entity.
        rows_future: Rows left out because their time is after the start of the load.
        rows_kept: Rows left out because their entities have newer rows (`ordering: event_time`), or
            any values (`missing_only`).
        entities_pruned: Entities that lost the view's values because the source no longer had them.
        size_bytes: Bytes sent.
        seconds: Duration.
        server_seconds: CPU time of the store's server; 0 if it does not report it.
        error: Why the load failed; empty if it succeeded.
        rejects_path: The file of the rejected rows; empty if there is none.
        good_ms: When the last successful load of the view ended, this load included; 0 for never. A
            load that left out or rejected all its rows does not count.
        window_start_ms: The load took rows at or after this time; `None` for all.
        window_end_ms: The load took rows before this time; `None` for all.
        newest_event_ms: The newest event time of the rows read; `None` if they have none.
        newest_written_ms: The newest event time that loads of the view wrote, this load included;
            `None` if not known. A load of older rows is refused.
        corrects_ms: The start of the load whose rejected rows this one loads; `None` for any other.
        expires_ms: When the last of the values expires that successful loads wrote, this load included;
            0 if none was written, `None` if not known.
        scanned_ms: When it began to read the source; 0 if not known.
        source_identity: What identifies the contents of the declared source as they were read, such as
            a digest of the sizes and times of its files; empty if the rows are not from that source.
        fingerprint: The fingerprint of the registry in force; empty if not known.
        ttl_ms: The TTL that was used instead of the declared ones; `None` for none.
        missing_only: Whether it wrote only entities without any value of the view.
        never_ended: Whether it began, and did not record its end: how much it wrote is not known.
            `ended_ms` is then when that was found.
    """

    view: str
    started_ms: int = 0
    ended_ms: int = 0
    rows_read: int = 0
    rows_written: int = 0
    rows_rejected: int = 0
    rows_superseded: int = 0
    rows_future: int = 0
    rows_kept: int = 0
    entities_pruned: int = 0
    size_bytes: int = 0
    seconds: float = 0.0
    server_seconds: float = 0.0
    error: str = ""
    rejects_path: str = ""
    good_ms: int = 0
    window_start_ms: int | None = None
    window_end_ms: int | None = None
    newest_event_ms: int | None = None
    newest_written_ms: int | None = None
    corrects_ms: int | None = None
    expires_ms: int | None = None
    scanned_ms: int = 0
    source_identity: str = ""
    fingerprint: str = ""
    ttl_ms: int | None = None
    missing_only: bool = False
    never_ended: bool = False

    @property
    def end_ms(self) -> int:
        """The time before which rows were taken: later ones were of the future."""
        end_ms = self.started_ms + 1
        return end_ms if self.window_end_ms is None else min(end_ms, self.window_end_ms)


@dataclass(frozen=True, slots=True)
class LogBounds:
    """How much of the log of loads is kept.

    Attributes:
        keep_ms: How long a load is kept. Its block goes when all its loads are older.
        max_bytes: The most bytes of the blocks of one view; the oldest go first.
    """

    keep_ms: int = 400 * 86_400_000
    max_bytes: int = 8 * 2**20


DEFAULT_BOUNDS = LogBounds()


@dataclass(frozen=True, slots=True)
class ApplyRecord:
    """One apply that changed the registry.

    Attributes:
        at_ms: When it happened.
        who: The user who applied, as `user@host`.
        before: The fingerprint of the registry before; empty if there was none.
        after: The fingerprint of the registry after.
        changes: The changes; empty if only descriptions changed.
    """

    at_ms: int
    who: str = ""
    before: str = ""
    after: str = ""
    changes: tuple[Change, ...] = ()


R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Query(Generic[R]):
    """A step of the history that a load sends together with commands of its own.

    Attributes:
        commands: The commands.
        result: Returns the result for their replies. Raises `StoreError` if one is an error.
    """

    commands: Sequence[KeyedCommand]
    result: Callable[[Sequence[Any]], R]

    def run(self, store: OnlineStore) -> R:
        """Send the commands by themselves, and return the result."""
        return self.result(store.call_many(self.commands))


T = TypeVar("T", LoadRecord, ApplyRecord)


class History:
    """The log of a project's loads in its online store, its applies and its registries.

    Args:
        handle: The online store.
        project: The project.
        bounds: How much of the log this process keeps when it adds to it; `None` for what the last
            `apply` of a process with a file has stored.
    """

    def __init__(self, handle: StoreHandle, project: str, bounds: LogBounds | None = None) -> None:
        self._handle = handle
        self._own_bounds = bounds
        prefix = f"featurekit:{{{project}}}:"
        self._loads_key = prefix + "runs:"
        self._blocks_key = prefix + "load_blocks:"
        self._begun_key = prefix + "begun:"
        self._bounds_key = prefix + "load_log"
        self._applies_key = prefix + "applies"
        self._registries_key = prefix + "registries"
        self._rejected_key = prefix + "rejected:"

    def last_load(self, view: str) -> Query[LoadRecord | None]:
        """Return the query for the newest load of a view."""
        key = self._loads_key + view

        def first(replies: Sequence[Reply]) -> LoadRecord | None:
            return next(_records(LoadRecord, self._documents(replies[0], key)), None)

        return Query([(key, ("LRANGE", key, 0, 0))], first)

    def begin_load(self, note: LoadRecord) -> None:
        """Note that a load has begun, which holds the lock of its view, and record one that never ended.

        Args:
            note: What is recorded if it never ends.

        Raises:
            StoreError: The store is unavailable, or refuses a command.
        """
        note = replace(note, never_ended=True)
        key, text = self._begun_key + note.view, json.dumps(_load_document(note))
        before = self._note(self._call("SET", key, text, "GET"))
        # It is the same one if the reply was lost, and the command repeated.
        if before is not None and before.started_ms != note.started_ms:
            ended = replace(before, view=note.view, ended_ms=note.started_ms)
            self.new_load(ended).run(self._handle.store)

    def end_load(self, view: str) -> KeyedCommand:
        """Return the command that removes the note of a load, after its record is added."""
        key = self._begun_key + view
        return key, ("DEL", key)

    def begun_loads(self, views: Sequence[str]) -> dict[str, LoadRecord]:
        """Return the notes of the loads that have begun and not ended, by view."""
        keys = [(self._begun_key + view).encode() for view in views]
        replies = self._handle.store.read(keys, [text_command("GET", key) for key in keys])
        notes = {view: self._note(reply) for view, reply in zip(views, replies, strict=True)}
        return {view: note for view, note in notes.items() if note is not None}

    def _note(self, reply: Reply) -> LoadRecord | None:
        return next(_records(LoadRecord, [_json_or_none(reply)]), None)

    def new_load(self, record: LoadRecord, rejected: RejectedKeys | None = None) -> Query[int]:
        """Return the query that adds a load, and the keys of its rejected rows if given.

        Its result is the number of loads in the view's list, for `seal`.
        """
        key = self._loads_key + record.view
        commands = [_push(key, _load_document(record))]
        if rejected is not None:
            rejected_key = self._rejected_key + record.view
            document = _rejected_document(record.started_ms, rejected)
            commands.append(_push(rejected_key, document))
            commands.append(_trim(rejected_key, MAX_REJECTING_LOADS))
        return self._pushed(commands)

    def seal(self, view: str, listed: int) -> None:
        """Move the oldest loads of a view's list into a block, if the list is long enough.

        Args:
            view: The view.
            listed: How many loads its list has.

        Raises:
            StoreError: The store is unavailable, or refuses a command. The list stays as it is, unless
                it is too long: then its oldest loads are dropped.
        """
        if listed < NEWEST_LOADS + BLOCK_LOADS:
            return
        key, blocks_key = self._loads_key + view, self._blocks_key + view
        try:
            oldest = self._bytes("LRANGE", key, -BLOCK_LOADS, -1)
            kept = self._block_names(view)
            records = reversed([*_records(LoadRecord, map(_json_or_none, oldest))])
            documents = [_load_document(record) for record in records]
            name, block = encode_block(documents) if documents else (BlockName(0, 0, 0, 0), b"")
            gone = self._outdated([*kept, name])
            values = (oldest[-1], len(oldest), str(name), block)
            names = [str(name) for name in gone]
            self._call("EVAL", _SEAL, 2, key, blocks_key, *values, *names, key=key)
        except StoreError:
            if listed > _MAX_UNSEALED:
                self._call("LTRIM", key, 0, _MAX_UNSEALED - 1)
            raise

    def _outdated(self, names: Sequence[BlockName]) -> list[BlockName]:
        """Return the blocks that are too old, and the oldest of those that are too many bytes."""
        bounds = self._bounds()
        since_ms = self._handle.now_ms() - bounds.keep_ms
        size_bytes, gone = 0, []
        for name in sorted(names, reverse=True):
            size_bytes += name.size_bytes
            if name.last_ms < since_ms or size_bytes > bounds.max_bytes or not name.records:
                gone.append(name)
        return gone

    def _bounds(self) -> LogBounds:
        if self._own_bounds is not None:
            return self._own_bounds
        stored = _json_or_none(self._call("GET", self._bounds_key))
        found = decode_record(LogBounds, stored) if isinstance(stored, dict) else None
        return found or DEFAULT_BOUNDS

    def keep_bounds(self) -> None:
        """Store how much of the log is kept, for processes that have only the registry.

        Raises:
            StoreError: The store is unavailable, or refuses a command.
        """
        bounds = self._own_bounds or DEFAULT_BOUNDS
        if bounds == DEFAULT_BOUNDS:
            self._call("DEL", self._bounds_key)
        else:
            self._call("SET", self._bounds_key, json.dumps(asdict(bounds)))

    def load_log(
        self, view: str, start_ms: int = 0, end_ms: int | None = None
    ) -> Iterator[LoadRecord]:
        """Yield the loads of a view that ended within a range of times, oldest first.

        Args:
            view: The view.
            start_ms: The earliest end of a load.
            end_ms: The latest end of a load; `None` for any.

        Raises:
            StoreError: The store is unavailable, or refuses a command.
        """
        # The list is read first: loads that are sealed after that are in both, and in neither otherwise.
        key = self._loads_key + view
        listed = [*_records(LoadRecord, self._documents(self._call("LRANGE", key, 0, -1), key))]
        names = self._block_names(view)
        wanted = [
            name
            for name in sorted(names)
            if name.last_ms >= start_ms and (end_ms is None or name.first_ms <= end_ms)
        ]
        last_ms = max((name.last_ms for name in names), default=0)
        sealed = set[tuple[int, int]]()
        oldest_ms = min((record.ended_ms for record in listed), default=0)
        for record in self._sealed(view, wanted):
            if record.ended_ms >= oldest_ms:
                sealed.add((record.started_ms, record.ended_ms))
            if _is_within(record, start_ms, end_ms):
                yield record
        for record in reversed(listed):
            is_sealed = (
                record.ended_ms <= last_ms and (record.started_ms, record.ended_ms) in sealed
            )
            if _is_within(record, start_ms, end_ms) and not is_sealed:
                yield record

    def past_loads(self, view: str) -> list[PastLoad]:
        """Return the loads of a view from its source that succeeded, oldest first.

        Loads of rows from elsewhere do not count, nor do those with `missing_only`.
        """
        return [
            PastLoad(record.scanned_ms, record.ended_ms, record.window_start_ms, record.end_ms)
            for record in self.load_log(view)
            if record.source_identity and not record.error and not record.missing_only
        ]

    def _sealed(self, view: str, names: Sequence[BlockName]) -> Iterator[LoadRecord]:
        for start in range(0, len(names), _BLOCKS_PER_CALL):
            fields = [str(name) for name in names[start : start + _BLOCKS_PER_CALL]]
            for block in self._bytes("HMGET", self._blocks_key + view, *fields):
                yield from _records(LoadRecord, decode_block(block))

    def _block_names(self, view: str) -> list[BlockName]:
        found = map(BlockName.parse, self._bytes("HKEYS", self._blocks_key + view))
        return [name for name in found if name is not None]

    def rejected_keys(self, view: str) -> dict[int, RejectedKeys]:
        """Return the keys of rejected rows, by the start of the load; of the newest loads only."""
        return dict(_rejected_keys(self._range(self._rejected_key + view, MAX_REJECTING_LOADS)))

    def last_loads(self, views: Sequence[str]) -> dict[str, LoadRecord]:
        """Return the newest load of each view that was loaded before."""
        # `read` and not `call`: metrics need this when the store is away, and reads time out sooner.
        keys = [(self._loads_key + view).encode() for view in views]
        replies = self._handle.store.read(
            keys, [text_command("LRANGE", key, 0, 0) for key in keys]
        )
        documents = {
            view: self._documents(reply, view) for view, reply in zip(views, replies, strict=True)
        }
        return _first_records(documents)

    def loads(self, views: Sequence[str]) -> list[LoadRecord]:
        """Return the newest loads of these views, newest first."""
        return _newest_first(
            record
            for view in views
            for record in _records(LoadRecord, self._range(self._loads_key + view, NEWEST_LOADS))
        )

    def loads_between(
        self, views: Sequence[str], start_ms: int, end_ms: int | None
    ) -> list[LoadRecord]:
        """Return all loads of these views that ended within a range of times, newest first."""
        return _newest_first(
            record for view in views for record in self.load_log(view, start_ms, end_ms)
        )

    def record_apply(self, record: ApplyRecord) -> None:
        """Add the newest apply, and drop the registries that were in force only before the log begins."""
        commands = [
            _push(self._applies_key, asdict(record)),
            _trim(self._applies_key, MAX_APPLIES),
        ]
        self._pushed(commands).run(self._handle.store)
        since_ms = self._handle.now_ms() - self._bounds().keep_ms
        kept = set[str]()
        for apply in self.applies(MAX_APPLIES):
            kept |= {apply.before, apply.after}
            if apply.at_ms < since_ms:
                break
        names = self._bytes("HKEYS", self._registries_key)
        if gone := {*names} - {name.encode() for name in kept}:
            self._call("HDEL", self._registries_key, *gone)

    def applies(self, count: int = 100) -> list[ApplyRecord]:
        """Return the newest applies, newest first."""
        return list(_records(ApplyRecord, self._range(self._applies_key, count)))

    def has_registry(self, fingerprint: str) -> Query[bool]:
        """Return the query whether a registry is kept; true if that is not known."""
        key = self._registries_key
        return Query([(key, ("HEXISTS", key, fingerprint))], lambda replies: replies[0] != 0)

    def keep_registry(self, registry: Registry) -> None:
        """Keep a registry by its fingerprint, for as long as the log has loads under it."""
        key, data = self._registries_key, zlib.compress(registry.to_json().encode(), 9)
        self._call("HSETNX", key, registry.fingerprint, data)

    def registry(self, fingerprint: str) -> Registry | None:
        """Return the registry that was applied with a fingerprint; `None` if it is not kept."""
        data = self._call("HGET", self._registries_key, fingerprint)
        if not isinstance(data, bytes):
            return None
        try:
            text = zlib.decompressobj().decompress(data, _MAX_REGISTRY_BYTES).decode()
            registry = Registry.from_json(text)
        except (zlib.error, UnicodeDecodeError, RegistryError):
            return None
        return registry if registry.fingerprint == fingerprint else None

    def _range(self, key: str, count: int) -> list[object]:
        return self._documents(self._call("LRANGE", key, 0, count - 1), key)

    def _documents(self, reply: Reply, key: str) -> list[object]:
        if isinstance(reply, ErrorReply):
            raise self._refused(reply, key)
        return [_json_or_none(item) for item in reply] if isinstance(reply, list) else []

    def _pushed(self, commands: Sequence[KeyedCommand]) -> Query[int]:
        def check(replies: Sequence[Reply]) -> int:
            for (key, _), reply in zip(commands, replies, strict=True):
                if isinstance(reply, ErrorReply):
                    raise self._refused(reply, key)
            return replies[0] if isinstance(replies[0], int) else 0

        return Query(commands, check)

    def _call(self, *args: str | int | bytes, key: str = "") -> Reply:
        key = key or str(args[1])
        reply = self._handle.store.call(*args, key=key)
        if isinstance(reply, ErrorReply):
            raise self._refused(reply, key)
        return reply

    def _bytes(self, *args: str | int) -> list[bytes]:
        reply = self._call(*args)
        items = reply if isinstance(reply, list) else []
        return [item for item in items if isinstance(item, bytes)]

    def _refused(self, reply: ErrorReply, key: str) -> StoreError:
        where = f"{self._handle.store.describe()}, {key}"
        return StoreError(f"the store refused the history: {reply}", where=where)


def _push(key: str, document: Mapping[str, object]) -> KeyedCommand:
    return key, ("LPUSH", key, json.dumps(document))


def _trim(key: str, max_length: int) -> KeyedCommand:
    return key, ("LTRIM", key, 0, max_length - 1)


def _is_within(record: LoadRecord, start_ms: int, end_ms: int | None) -> bool:
    return record.ended_ms >= start_ms and (end_ms is None or record.ended_ms <= end_ms)


def _load_document(record: LoadRecord) -> dict[str, object]:
    """Return the stored form of a record: what differs from the defaults."""
    document = asdict(record) | {"error": record.error[:_MAX_ERROR_LENGTH]}
    unset = asdict(LoadRecord(""))
    return {name: value for name, value in document.items() if value != unset[name]}


def _rejected_document(started_ms: int, keys: RejectedKeys) -> dict[str, object]:
    hashes = keys.to_bytes()[: RejectedKeys.MAX_BYTES]
    return {"started_ms": started_ms, "keys": b64encode(hashes).decode()}


def _rejected_keys(documents: Iterable[object]) -> Iterator[tuple[int, RejectedKeys]]:
    for document in documents:
        match document:
            case {"started_ms": int(started_ms), "keys": str(text)}:
                with suppress(ValueError):
                    yield started_ms, RejectedKeys(b64decode(text, validate=True))


def _newest_first(records: Iterable[LoadRecord]) -> list[LoadRecord]:
    return sorted(records, key=lambda record: record.ended_ms, reverse=True)


def _first_records(documents: Mapping[str, Sequence[object]]) -> dict[str, LoadRecord]:
    first = {view: next(_records(LoadRecord, found), None) for view, found in documents.items()}
    return {view: record for view, record in first.items() if record is not None}


def _json_or_none(item: Reply) -> object:
    return parse_json(item) if isinstance(item, bytes) else None


def _records(kind: type[T], documents: Iterable[object]) -> Iterator[T]:
    """Yield the documents that are valid records; skip damaged ones and those of other versions."""
    for document in documents:
        if isinstance(document, dict) and (record := _record(kind, document)) is not None:
            yield record


def _record(kind: type[T], document: dict[str, Any]) -> T | None:
    changes = document.get("changes")
    if isinstance(changes, list):
        document = document | {"changes": tuple(_valid_changes(changes))}
    return decode_record(kind, document)


def _valid_changes(documents: Sequence[Any]) -> Iterator[Change]:
    for document in documents:
        if isinstance(document, dict) and {*document} >= {"kind", "subject", "detail"}:
            yield Change(
                document["kind"],
                str(document["subject"]),
                str(document["detail"]),
                str(document.get("attribute", "")),
                document.get("before"),
                document.get("after"),
            )
