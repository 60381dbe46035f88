"""A clock for a real server: instead of waiting, it moves all that is stored back in time."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import redis
from typing_extensions import override

from featurekit.repo.time_arguments import Span, to_span_ms
from featurekit.testing import Clock
from featurekit.testing.store_under_test import StoreUnderTest
from tests.servers import Server, patient

PREFIX = "fs:"


class ServerClock(Clock):
    """The system's clock. `advance` shifts deadlines and event times in the store back."""

    def __init__(self, server: Server) -> None:
        super().__init__()
        self._server = server

    @override
    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    @override
    def now(self) -> datetime:
        return datetime.now(UTC)

    @override
    def advance(self, duration: Span) -> None:
        shift_ms = to_span_ms(duration, where="duration")
        started_ms = self.now_ms()
        while (
            self.now_ms() == started_ms
        ):  # what was written in this millisecond has lived for its TTL
            time.sleep(0.0005)
        with self._server.client() as client:
            for key in client.scan_iter(f"{PREFIX}*"):
                if client.type(key) == b"hash":
                    _shift(client, key, shift_ms)


def _shift(client: redis.Redis, key: bytes, shift_ms: int) -> None:
    """Move the deadlines and event times of a hash back, in one transaction."""
    names: Any = client.hkeys(key)
    deadlines: Any = client.hpexpiretime(key, *names) if names else []
    times = {name: value for name, value in client.hgetall(key).items() if name[:1] == b"@"}
    key_deadline: Any = client.pexpiretime(key.decode())
    with client.pipeline(transaction=True) as pipe:
        for name, value in times.items():
            pipe.hset(key, name, str(int(value) - shift_ms))  # clears the deadline of the field
        for name, deadline in zip(names, deadlines, strict=True):
            if deadline > 0:
                pipe.hpexpireat(key, max(1, deadline - shift_ms), name)
        if key_deadline > 0:
            pipe.pexpireat(key, max(1, key_deadline - shift_ms))
        pipe.execute()


class ServerFeatureStore(StoreUnderTest):
    """A feature store on a real server, with the verbs of the test kit."""

    def __init__(self, folder: Path, server: Server) -> None:
        self.clock = ServerClock(server)
        super().__init__(folder, url=patient(server.url))
        self.apply()


def ago(store: StoreUnderTest, duration: timedelta) -> datetime:
    """Return a time before now."""
    return store.clock.now() - duration
