"""Heartbeats of stream workers, stored with a TTL in the online store.

All workers of a project share one hash, under a key that no entity can have. Each worker has one
field, which holds its status as JSON and expires 10 seconds after the last heartbeat. A worker that
stops deletes its field; the field of a worker that dies expires. A second hash, which does not expire,
holds when workers last wrote each view, so that a view that fell silent differs from a new one.
"""

from __future__ import annotations

import json
import os
import re
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol, Self

from featurekit.errors import StoreError
from featurekit.lower.write_group import (
    Dialect,
    WriteGroup,
    row_command,
    set_commands,
    transaction,
)
from featurekit.ports import OnlineStore
from featurekit.repo.store_handle import now_ms
from featurekit.repo.stored_records import decode_record, parse_json
from featurekit.runtime.worker import StreamReport
from featurekit.wire import ErrorReply, command, first_error

INTERVAL_S = 3.0
"""Interval between two heartbeats."""

TTL_MS = 10_000
"""How long a worker counts as running after its last heartbeat."""

JOIN_TIMEOUT_S = 1.0

_IS_TIME = re.compile(rb"[0-9]{1,15}").fullmatch


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """The last heartbeat of one worker: totals since its start, and its current state.

    Attributes:
        name: The consumer's name.
        host: The worker's host.
        pid: The worker's process id.
        view: The stream view that the worker writes.
        started_ms: When the worker started.
        at_ms: When it sent this heartbeat.
        read: Events read and handled.
        written: Events written.
        ignored: Events that do not concern the view.
        dropped_older: Events older than the stored one.
        dropped_expired: Events past their expiry on arrival.
        rejected: Events that became dead letters.
        events_per_second: Events read per second since the previous heartbeat.
        lag: Events that the consumer group has not read yet; `None` if unknown.
        newest_age_ms: Age of the newest event since its arrival at the source; `None` without events.
        trouble: What the worker is waiting for; empty if it is not waiting.
        error: The last error, past or present; empty if there was none.
        lost: Events that the source deleted before they were done.
        repeated: Events that had been applied before; only of views with windows.
        age_ms: Age of this heartbeat, by the clock of the reader.
    """

    name: str
    host: str
    pid: int
    view: str
    started_ms: int
    at_ms: int
    read: int
    written: int
    ignored: int
    dropped_older: int
    dropped_expired: int
    rejected: int
    events_per_second: float
    lag: int | None
    newest_age_ms: int | None
    trouble: str
    error: str
    lost: int = 0
    repeated: int = 0
    age_ms: int = 0


class HeartbeatSource(Protocol):
    """A writer of a stream view whose heartbeats are sent: a `Worker`, or a program's own."""

    @property
    def view(self) -> str:
        """The view's name."""

    @property
    def last_error(self) -> str:
        """The last error, past or present; empty if there was none."""

    def snapshot(self) -> StreamReport:
        """Return the totals so far and the current state. Called in another thread."""


def heartbeats_key(project: str) -> bytes:
    """Return the key of the hash that holds a project's heartbeats."""
    return f"featurekit:{{{project}}}:workers".encode()


def last_writes_key(project: str) -> bytes:
    """Return the key of the hash that holds when workers last wrote each view."""
    return f"featurekit:{{{project}}}:last_writes".encode()


def read_workers(store: OnlineStore, project: str) -> list[WorkerStatus]:
    """Return the running workers, sorted by view and name.

    Raises:
        StoreError: The store is away, or this user may not read the heartbeats.
    """
    key = heartbeats_key(project)
    reply = store.read([key], [command(b"HGETALL", key)])[0]
    if isinstance(reply, ErrorReply):
        where = f"{store.describe()}, {key.decode()}"
        raise StoreError(f"the heartbeats cannot be read: {reply}", where=where)
    fields = reply[1::2] if isinstance(reply, list) else []
    statuses = [_decode_status(data) for data in fields if isinstance(data, bytes)]
    now = now_ms()
    aged = [replace(s, age_ms=max(0, now - s.at_ms)) for s in statuses if s is not None]
    return sorted(aged, key=lambda status: (status.view, status.name))


def read_last_writes(store: OnlineStore, project: str) -> dict[str, int]:
    """Return when workers last wrote each stream view, in milliseconds since the epoch.

    Raises:
        StoreError: The store is away.
    """
    key = last_writes_key(project)
    reply = store.read([key], [command(b"HGETALL", key)])[0]
    pairs = reply if isinstance(reply, list) else []
    return {
        view.decode(errors="replace"): int(time_)
        for view, time_ in zip(pairs[::2], pairs[1::2], strict=False)
        if isinstance(view, bytes) and isinstance(time_, bytes) and _IS_TIME(time_)
    }


def _decode_status(data: bytes) -> WorkerStatus | None:
    document = parse_json(data)
    return decode_record(WorkerStatus, document) if isinstance(document, dict) else None


def _set_commands(
    key: bytes, items: list[tuple[bytes, bytes]], dialect: Dialect
) -> tuple[bytes, int]:
    """Return the commands that set these fields with their TTL, and the number of replies."""
    if not (dialect.hsetex or dialect.transactions):
        return row_command(key, {TTL_MS: items}, (), 0, hsetex=False), 1
    commands = set_commands(key, items, TTL_MS, hsetex=dialect.hsetex)
    if len(commands) == 1:
        return commands[0], 1
    return transaction(WriteGroup(b"".join(commands), len(commands), 0)), len(commands) + 2


class Heartbeats:
    """A context manager that sends the heartbeats of some workers from a thread.

    Heartbeats never stop a worker: errors of the store are ignored, and sending ends for good if
    this user may not write the key.

    Args:
        store: The online store.
        project: The project's name.
        name: The consumer's name.
        workers: The workers, one for each view.
    """

    def __init__(
        self, store: OnlineStore, project: str, name: str, workers: Sequence[HeartbeatSource]
    ) -> None:
        self._store = store
        self._key = heartbeats_key(project)
        self._last_writes_key = last_writes_key(project)
        self._written: dict[str, int] = {}  # events written by view, at the last heartbeat
        self._workers = {f"{worker.view}@{name}".encode(): worker for worker in workers}
        self._identity = {"name": name, "host": socket.gethostname(), "pid": os.getpid()}
        self._previous: dict[bytes, tuple[float, int]] = {}  # (time, events read) by field
        self._started_ms = now_ms()
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=self._send_until_stopped, name="featurekit heartbeats", daemon=True
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(JOIN_TIMEOUT_S)

    def _send_until_stopped(self) -> None:
        permitted = True
        while permitted and not self._stop.wait(INTERVAL_S if self._previous else 0):
            permitted = self._send_all()
        if permitted:
            with suppress(StoreError):
                self._send_last_writes()
                self._send(command(b"HDEL", self._key, *self._workers), 1)

    def _send_all(self) -> bool:
        """Send one heartbeat of each worker; return whether this user may write the key."""
        items = [
            (name, json.dumps(self._document(name, worker)).encode())
            for name, worker in self._workers.items()
        ]
        try:
            self._send_last_writes()
            return self._send(*_set_commands(self._key, items, self._store.capabilities))
        except StoreError:
            return True

    def _send_last_writes(self) -> None:
        """Store the time for each view that was written since the last heartbeat."""
        written = {w.view: w.snapshot().written for w in self._workers.values()}
        changed = [v for v, n in written.items() if n > self._written.get(v, 0)]
        self._written = written
        if changed:
            pairs = [part for view in changed for part in (view.encode(), b"%d" % now_ms())]
            key = self._last_writes_key
            self._store.run([key], [command(b"HSET", key, *pairs)])

    def _send(self, data: bytes, replies: int) -> bool:
        error = first_error(self._store.run([self._key], [data], replies))
        return error is None or error.code != "NOPERM"

    def _document(self, name: bytes, worker: HeartbeatSource) -> Mapping[str, Any]:
        report, now = worker.snapshot(), time.monotonic()
        before, read = self._previous.get(name, (now, report.read))
        self._previous[name] = now, report.read
        rate = (report.read - read) / (now - before) if now > before else 0.0
        document = asdict(report) | self._identity | {"error": worker.last_error}
        document |= {"started_ms": self._started_ms, "at_ms": now_ms()}
        del document["seconds"], document["reasons"]
        return document | {"events_per_second": round(rate, 1)}
