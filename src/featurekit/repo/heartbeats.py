"""Beats: what the workers of a project tell of themselves while they live.

Each worker has a field in one hash, under a key that no entity can have, and the field has a TTL
of its own that the worker renews. So a worker that dies vanishes by the product's own promise.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from types import TracebackType
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
from featurekit.runtime.worker import StreamReport
from featurekit.wire import ErrorReply, command, first_error

BEAT_S = 3.0
TTL_MS = 10_000
"""How long a worker is taken to live after its last beat."""

END_S = 1.0


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """What one worker did since it started, and how it does.

    Attributes:
        name: The name that it reads under.
        host: Its machine.
        pid: Its process.
        view: The stream view that it feeds.
        started_ms: When it started.
        at_ms: When it told this.
        read: Events read and done with.
        written: Events that the store took.
        ignored: Events that tell nothing about the view.
        dropped_older: Events older than what the store held.
        dropped_expired: Events past their expiry on arrival.
        rejected: Events put among the dead letters.
        events_per_second: Of those read, since it told before.
        lag: Events that its group has yet to read; `None` if that is not known.
        newest_age_ms: How long ago the newest event arrived at the source; `None` for none.
        trouble: Why it is waiting; empty if it is not.
        error: The last thing that went wrong, over or not; empty if nothing did.
        age_ms: How long ago it told this, by the clock of whoever asks.
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
    age_ms: int = 0


class HeartbeatReport(Protocol):
    """Whoever feeds a stream view and tells of it: a `Worker`, or a program of one's own."""

    @property
    def view(self) -> str:
        """The view's name."""

    @property
    def last_error(self) -> str:
        """The last thing that went wrong, over or not; empty if nothing did."""

    def snapshot(self) -> StreamReport:
        """All that it did so far, and how things stand. Asked in another thread."""


def beats_key(project: str) -> bytes:
    """The key of the hash of a project's workers."""
    return f"featurekit:{{{project}}}:workers".encode()


def workers(store: OnlineStore, project: str) -> list[WorkerStatus]:
    """The workers that live, by view and name.

    Raises:
        StoreError: The store is away, or this user may not read them.
    """
    key = beats_key(project)
    reply = store.read([key], [command(b"HGETALL", key)])[0]
    if isinstance(reply, ErrorReply):
        raise StoreError(f"the workers cannot be read: {reply}", where=key.decode())
    told = [_state(data) for data in reply[1::2]] if isinstance(reply, list) else []
    states = [replace(s, age_ms=max(0, now_ms() - s.at_ms)) for s in told if s is not None]
    return sorted(states, key=lambda state: (state.view, state.name))


def _state(data: bytes) -> WorkerStatus | None:
    names = {field.name for field in fields(WorkerStatus)} - {"age_ms"}
    try:
        document = json.loads(data)
        return WorkerStatus(**{name: document[name] for name in names})
    except (ValueError, TypeError, KeyError):  # of another version
        return None


def _unit(key: bytes, items: list[tuple[bytes, bytes]], dialect: Dialect) -> tuple[bytes, int]:
    """The commands that set these fields, each with its TTL, and how many replies they get."""
    if not (dialect.hsetex or dialect.transactions):
        return row_command(key, {TTL_MS: items}, (), 0, hsetex=False), 1
    parts = set_commands(key, items, TTL_MS, hsetex=dialect.hsetex)
    if len(parts) == 1:
        return parts[0], 1
    return transaction(WriteGroup(b"".join(parts), len(parts), 0)), len(parts) + 2


class Heartbeat:
    """Tells of some workers every few seconds while the block runs, in a thread of its own.

    That they are told of is never worth a stop: a store that is away is passed over, and a user
    who may not write there is taken at that word.

    Args:
        store: Where it is told.
        project: The project.
        name: The name that the workers read under.
        crew: The workers.
    """

    def __init__(
        self, store: OnlineStore, project: str, name: str, crew: Sequence[HeartbeatReport]
    ) -> None:
        self._store = store
        self._key = beats_key(project)
        self._crew = {f"{worker.view}@{name}".encode(): worker for worker in crew}
        self._self = {"name": name, "host": socket.gethostname(), "pid": os.getpid()}
        self._since: dict[bytes, tuple[float, int]] = {}
        self._started_ms = now_ms()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="pulse", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join(END_S)

    def _beat(self) -> None:
        allowed = True
        while allowed and not self._stop.wait(0 if not self._since else BEAT_S):
            allowed = self._tell()
        if allowed:
            with suppress(StoreError):
                self._send(command(b"HDEL", self._key, *self._crew), 1)

    def _tell(self) -> bool:
        """Tell of all workers; returns whether that is allowed."""
        items = [
            (name, json.dumps(self._document(name, worker)).encode())
            for name, worker in self._crew.items()
        ]
        try:
            return self._send(*_unit(self._key, items, self._store.capabilities))
        except StoreError:
            return True

    def _send(self, data: bytes, replies: int) -> bool:
        error = first_error(self._store.run([self._key], [data], replies))
        return error is None or error.code != "NOPERM"

    def _document(self, name: bytes, worker: HeartbeatReport) -> Mapping[str, Any]:
        report, now = worker.snapshot(), time.monotonic()
        then, read = self._since.get(name, (now, report.read))
        self._since[name] = now, report.read
        rate = (report.read - read) / (now - then) if now > then else 0.0
        document = asdict(report) | self._self | {"error": worker.last_error}
        document |= {"started_ms": self._started_ms, "at_ms": now_ms()}
        del document["seconds"], document["reasons"]
        return document | {"events_per_second": round(rate, 1)}
