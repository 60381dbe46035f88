"""The history of loads and applies, stored in the online store that they changed.

It describes one deployment and is not part of the registry. It holds the newest 50 loads of each
view and the newest 100 applies. Only diagnostics depend on it, so that records which cannot be
decoded are skipped.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, Generic, TypeVar

from featurekit.changes import Change
from featurekit.errors import StoreError
from featurekit.ports import KeyedCommand, OnlineStore, StoreHandle
from featurekit.repo.stored_records import decode_record, parse_json
from featurekit.runtime.load import RejectedKeys
from featurekit.wire import ErrorReply, Reply, text_command

MAX_LOADS = 50
"""Loads kept for each view."""

MAX_APPLIES = 100
"""Applies kept."""

MAX_REJECTING_LOADS = 5
"""Loads of each view whose rejected keys are kept."""

_MAX_ERROR_LENGTH = 2000


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
    """The history of a project in its online store: a list for each view, and a list of applies."""

    def __init__(self, handle: StoreHandle, project: str) -> None:
        self._handle = handle
        self._loads_key = f"featurekit:{{{project}}}:runs:"
        self._applies_key = f"featurekit:{{{project}}}:applies"
        self._rejected_key = f"featurekit:{{{project}}}:rejected:"

    def last_load(self, view: str) -> Query[LoadRecord | None]:
        """Return the query for the newest load of a view."""
        key = self._loads_key + view

        def first(replies: Sequence[Reply]) -> LoadRecord | None:
            return next(_records(LoadRecord, self._documents(replies[0], key)), None)

        return Query([(key, ("LRANGE", key, 0, 0))], first)

    def new_load(self, record: LoadRecord, rejected: RejectedKeys | None = None) -> Query[None]:
        """Return the query that adds a load, and the keys of its rejected rows if given."""
        loads = self._loads_key + record.view
        commands = self._push(loads, _load_document(record), MAX_LOADS)
        if rejected is not None:
            document = _rejected_document(record.started_ms, rejected)
            commands += self._push(self._rejected_key + record.view, document, MAX_REJECTING_LOADS)
        return self._pushed(commands)

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
        """Return the recorded loads of these views, newest first."""
        return _newest_first(
            record
            for view in views
            for record in _records(LoadRecord, self._range(self._loads_key + view, MAX_LOADS))
        )

    def record_apply(self, record: ApplyRecord) -> None:
        """Add the newest apply."""
        commands = self._push(self._applies_key, asdict(record), MAX_APPLIES)
        self._pushed(commands).run(self._handle.store)

    def applies(self) -> list[ApplyRecord]:
        """Return the recorded applies, newest first."""
        return list(_records(ApplyRecord, self._range(self._applies_key, MAX_APPLIES)))

    def _range(self, key: str, count: int) -> list[object]:
        return self._documents(self._call("LRANGE", key, 0, count - 1), key)

    def _documents(self, reply: Reply, key: str) -> list[object]:
        if isinstance(reply, ErrorReply):
            raise self._refused(reply, key)
        return [_json_or_none(item) for item in reply] if isinstance(reply, list) else []

    def _push(
        self, key: str, document: Mapping[str, object], max_length: int
    ) -> list[KeyedCommand]:
        return [
            (key, ("LPUSH", key, json.dumps(document))),
            (key, ("LTRIM", key, 0, max_length - 1)),
        ]

    def _pushed(self, commands: Sequence[KeyedCommand]) -> Query[None]:
        def check(replies: Sequence[Reply]) -> None:
            for (key, _), reply in zip(commands, replies, strict=True):
                if isinstance(reply, ErrorReply):
                    raise self._refused(reply, key)

        return Query(commands, check)

    def _call(self, *args: str | int) -> Reply:
        reply = self._handle.store.call(*args, key=str(args[1]))
        if isinstance(reply, ErrorReply):
            raise self._refused(reply, str(args[1]))
        return reply

    def _refused(self, reply: ErrorReply, key: str) -> StoreError:
        where = f"{self._handle.store.describe()}, {key}"
        return StoreError(f"the store refused the history: {reply}", where=where)


def _load_document(record: LoadRecord) -> dict[str, object]:
    return asdict(record) | {"error": record.error[:_MAX_ERROR_LENGTH]}


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
