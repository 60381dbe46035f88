"""The server behind `memory://`: fakeredis with a clock, corrected where real servers differ.

fakeredis reads the system's clock in many places, and rounds times through floats. Here, each server
has a clock of its own in whole milliseconds. It stands still while a command, a transaction or a script
runs, as on a server. Without a clock that was set, it is the system's.

A clock that was set stands just after its millisecond: a value that has lived for the whole of its
TTL is gone. A real server compares whole milliseconds, so it may serve a value up to a millisecond
longer; which one depends on chance there, and must not here.

tests/testkit/test_memory_server.py compares random scripts with real servers. What cannot be corrected is
refused by name: `KEEPTTL` of `HSETEX`, and the commands that fakeredis does not know, such as `CONFIG`.
"""

from __future__ import annotations

import heapq
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import fakeredis
from fakeredis._core import Database
from fakeredis._helpers import SimpleError
from fakeredis._msgs import WRONGTYPE_MSG, XREADGROUP_KEY_OR_GROUP_NOT_FOUND_MSG
from fakeredis._socket import FakeSocket
from fakeredis.commands_mixins import hash_mixin, streams_mixin
from fakeredis.model import Hash, XStream, _hash, _stream

from featurekit.wire import ErrorReply

VERSION = (8, 0)
MAX_DEADLINE_MS = 2**46
"""The first deadline of a hash field that Redis refuses."""


class _CommandTime(threading.local):
    """The time of the command that runs in this thread, in milliseconds; `None` outside of one."""

    ms: int | None = None
    is_set: bool = False


_command_time = _CommandTime()


def _now_ms() -> int:
    """Return the time of the running command, or of the system outside of a `memory://` server."""
    now_ms = _command_time.ms
    return time.time_ns() // 1_000_000 if now_ms is None else now_ms


def _expiry_ms() -> float:
    """Return the time that deadlines are compared with: just after the millisecond of a set clock."""
    return _now_ms() + 0.5 if _command_time.is_set else _now_ms()


# fakeredis imports these functions by name into the modules of the commands.
hash_mixin.current_time = streams_mixin.current_time = _stream.current_time = _now_ms
_hash.current_time = _expiry_ms
_stream.time = SimpleNamespace(time=lambda: (_now_ms() + 0.5) / 1000)


class _Database(Database):  # type: ignore[misc]
    """A database whose keys expire by the time of the running command."""

    @property
    def time(self) -> float:
        return _now_ms() / 1000

    @time.setter
    def time(self, now_s: float) -> None:
        """Ignore the system's time, which fakeredis sets before each command."""

    def expired(self, item: Any) -> bool:
        return item.expireat is not None and item.expireat < _expiry_ms() / 1000

    def _remove_expired(self) -> None:
        heap, now_s = self._expiry_heap, _expiry_ms() / 1000
        while heap and heap[0][0] < now_s:
            _, key = heapq.heappop(heap)
            item = self._dict.get(key)
            if item is not None and self.expired(item):
                del self._dict[key]


class MemoryServer(fakeredis.FakeServer):  # type: ignore[misc]
    """One server in this process.

    Args:
        clock: Returns the time in milliseconds since the epoch, and whether it was set.
    """

    def __init__(self, clock: Callable[[], tuple[int, bool]]) -> None:
        super().__init__(version=VERSION)
        self.clock = clock
        self.has_lua = False
        self.dbs: dict[int, _Database] = defaultdict(lambda: _Database(self.lock))

    def delete_expired(self) -> None:
        """Delete what has expired, which fakeredis otherwise does when it is next read."""
        with self.lock, self.at_its_time():
            for database in self.dbs.values():
                hashes = [key for key in database if isinstance(database[key].value, Hash)]
                for key in hashes:
                    if not database[key].value:
                        del database[key]

    @contextmanager
    def at_its_time(self) -> Iterator[None]:
        """Let the commands of the block run at the server's time."""
        _command_time.ms, _command_time.is_set = self.clock()
        try:
            yield
        finally:
            _command_time.ms = None

    def connect(self) -> Any:
        """Return a new connection."""
        connection = _Connection(server=self, version=VERSION, protocol=2, driver_info=None)
        connection.connect()
        return connection


class _Connection(fakeredis.FakeRedisConnection):  # type: ignore[misc]
    def _connect(self) -> _Socket:
        return _Socket(
            self._server,
            client_class=self._client_class,
            db=self.db,
            client_info=self._client_info,
        )


class _Socket(FakeSocket):  # type: ignore[misc]
    """The server's side of a connection."""

    def _process_command(self, fields: list[bytes]) -> None:
        with self._server.at_its_time():
            super()._process_command(fields)

    def _decode_error(self, error: SimpleError) -> ErrorReply:
        return ErrorReply(error.value.removeprefix("ERR ") if _has_code(error) else error.value)

    def _get_server_runtime(self, server: MemoryServer) -> Any:
        runtime = super()._get_server_runtime(server)
        if not server.has_lua:
            runtime.execute(b"redis.acl_check_cmd = function() return true end")
            server.has_lua = True
        return runtime

    # Keys: deadlines are whole milliseconds, kept as seconds that round back to them.

    def expire(self, key: Any, seconds: int, *options: bytes) -> int:
        return self._set_deadline(key, "expire", seconds * 1000, _now_ms(), options)

    def pexpire(self, key: Any, ms: int, *options: bytes) -> int:
        return self._set_deadline(key, "pexpire", ms, _now_ms(), options)

    def expireat(self, key: Any, seconds: int, *options: bytes) -> int:
        return self._set_deadline(key, "expireat", seconds * 1000, 0, options)

    def pexpireat(self, key: Any, ms: int, *options: bytes) -> int:
        return self._set_deadline(key, "pexpireat", ms, 0, options)

    def _set_deadline(
        self, key: Any, name: str, ms: int, since_ms: int, options: tuple[bytes, ...]
    ) -> int:
        invalid_in = name if abs(ms) > _MAX_INT64 or ms + since_ms > _MAX_INT64 else None
        done: int = self._expireat(key, (ms + since_ms) / 1000, *options, invalid_in=invalid_in)
        if done and ms + since_ms <= _now_ms():
            key.value = None  # a server deletes it at once
        return done

    def ttl(self, key: Any) -> int:
        left_ms = self.pttl(key)
        return left_ms if left_ms < 0 else (left_ms + 500) // 1000

    def pttl(self, key: Any) -> int:
        deadline_ms = self.pexpiretime(key)
        return deadline_ms if deadline_ms < 0 else max(0, deadline_ms - _now_ms())

    def expiretime(self, key: Any) -> int:
        deadline_ms = self.pexpiretime(key)
        return deadline_ms if deadline_ms < 0 else (deadline_ms + 500) // 1000

    def pexpiretime(self, key: Any) -> int:
        if not key:
            return -2
        return -1 if key.expireat is None else round(key.expireat * 1000)

    def time(self) -> list[bytes]:
        seconds, ms = divmod(_now_ms(), 1000)
        return [b"%d" % seconds, b"%d" % (ms * 1000)]

    # Fields

    def _hexpire(
        self, key: Any, when_ms: int, *args: bytes, command: str = "hexpire"
    ) -> list[int]:
        _check_deadline(when_ms, command)
        codes: list[int] = super()._hexpire(key, when_ms, *args, command=command)
        if _DELETED in codes:  # a hash is deleted with its last field
            key.updated()
        return codes

    def httl(self, key: Any, *args: bytes) -> list[int]:
        return [-(-left // 1000) if left > 0 else left for left in self.hpttl(key, *args)]

    def hexpiretime(self, key: Any, *args: bytes) -> list[int]:
        return [-(-ms // 1000) if ms > 0 else ms for ms in self.hpexpiretime(key, *args)]

    # Streams

    def xreadgroup(self, *args: bytes) -> Any:
        names = [arg.lower() for arg in args]
        streams = args[names.index(b"streams") + 1 :] if b"streams" in names else ()
        for name in streams[: len(streams) // 2]:
            stream = self._db[name].value if name in self._db else None
            if stream is None:
                raise SimpleError(_NO_GROUP.format(name.decode(), args[1].decode()))
            if not isinstance(stream, XStream):
                raise SimpleError(WRONGTYPE_MSG)
        return super().xreadgroup(*args)

    def xpending(self, key: Any, group: bytes, *args: bytes) -> Any:
        reply = super().xpending(key, group, *args)
        if args:
            return reply
        consumers = [[name, b"%d" % count] for name, count in reply[3] or ()]
        return [*reply[:3], consumers or None]

    def hsetex(self, key: Any, *args: bytes) -> Any:
        options = [arg.lower() for arg in args[: _options_end(args)]]
        if b"keepttl" in options:
            raise SimpleError("ERR KEEPTTL of HSETEX is not supported by memory://: " + _KEEPTTL)
        for option, unit_ms, is_relative in _EXPIRY_OPTIONS:
            if option in options[:-1]:
                given = options[options.index(option) + 1]
                if given.isdigit():
                    when_ms = int(given) * unit_ms + (_now_ms() if is_relative else 0)
                    _check_deadline(when_ms, "hsetex")
        return super().hsetex(key, *args)


_NO_GROUP = XREADGROUP_KEY_OR_GROUP_NOT_FOUND_MSG
_DELETED = 2
"""The code of `HPEXPIRE` for a field whose deadline has passed."""

_KEEPTTL = "Redis loses the value where the field has expired"
_MAX_INT64 = 2**63 - 1
_EXPIRY_OPTIONS = (
    (b"ex", 1000, True),
    (b"px", 1, True),
    (b"exat", 1000, False),
    (b"pxat", 1, False),
)


def _has_code(error: SimpleError) -> bool:
    """Return whether an error has a code of its own after `ERR`."""
    text: str = error.value
    return text.startswith("ERR BUSYGROUP ")


def _options_end(args: tuple[bytes, ...]) -> int:
    """Return the index of `FIELDS`."""
    return next((i for i, arg in enumerate(args) if arg.lower() == b"fields"), len(args))


def _check_deadline(when_ms: int, command: str) -> None:
    if when_ms >= MAX_DEADLINE_MS:
        raise SimpleError(f"ERR invalid expire time in '{command}' command")
