"""Replies that no server of the right kind sends: one clear error or `invalid`, never a value."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import hiredis
import pytest

from featurekit import FeatureStore, StreamOptions
from featurekit.errors import FeatureKitError
from featurekit.runtime.worker import WorkerOptions
from featurekit.wire import command
from tests.promise.repos import write_repo
from tests.servers import Server

DEFINITIONS = """
entities: [{name: user, join_keys: {user_id: string}}]
feature_views:
  - {name: profile, entity: user, batch: {refresh: 1h}, fields: {n: int64, f: float64, s: string}}
  - name: activity
    entity: user
    stream: {refresh: 1m, ordering: event_time, source: {type: redis_stream, stream: events}}
    fields: {m: int64}
"""
REPLIES: dict[str, bytes] = {
    "integer": b":1\r\n",
    "null": b"$-1\r\n",
    "no list": b"*-1\r\n",
    "empty list": b"*0\r\n",
    "nested": b"*1\r\n*1\r\n:1\r\n",
    "status": b"+7\r\n",
    "text": b"$3\r\n789\r\n",
    "empty text": b"$0\r\n\r\n",
    "not text": b"$2\r\n\xff\xfe\r\n",
    "short": b"*2\r\n$1\r\n1\r\n$-1\r\n",
    "errors": b"*3\r\n-ERR x\r\n$-1\r\n-ERR y\r\n",
    "lists": b"*3\r\n*0\r\n*0\r\n*0\r\n",
    "error": b"-ERR refused\r\n",
    "map": b"%1\r\n+a\r\n:1\r\n",
    "nan": b",nan\r\n",
    "big": b"(99999999999999999999999999\r\n",
    "two": b":1\r\n:2\r\n",
    "queued": b"+QUEUED\r\n",
    "not a reply": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "too long": b"$99999999999999999999\r\n",
    "too many": b"*99999999999999999999\r\n",
    "cut": b"",
}


class ReplyProxy:
    """Forwards to a server, but answers one command with other bytes, or closes the connection."""

    def __init__(self, target: Path, path: Path) -> None:
        self.url = f"unix://{path}?timeout=2&load_timeout=2"
        self.replaced = ""
        self.reply = b""
        self._target = target
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(50)
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        requests = hiredis.Reader()
        with client, socket.socket(socket.AF_UNIX) as server, suppress(OSError):
            server.connect(str(self._target))
            while data := client.recv(65536):
                requests.feed(data)
                while (request := requests.gets()) is not False:
                    reply = self._reply(server, request)
                    if not reply:
                        return
                    client.sendall(reply)

    def _reply(self, server: socket.socket, request: list[bytes]) -> bytes:
        if request[0].decode().upper() == self.replaced:
            return self.reply
        server.sendall(command(*request))
        replies, received = hiredis.Reader(), b""
        while replies.gets() is False:
            data = server.recv(65536)
            replies.feed(data)
            received += data
        return received


@pytest.fixture
def proxy(valkey: Server, folder: Path) -> Iterator[ReplyProxy]:
    proxy = ReplyProxy(valkey.socket, folder / "p")
    yield proxy
    proxy.close()


def load(store: FeatureStore) -> None:
    store.write_batch("profile", {"u1": {"n": 1, "f": 1.5, "s": "a"}})


def write(store: FeatureStore) -> None:
    store.stream_writer("activity").write("u1", {"m": 3}, event_timestamp=datetime.now(UTC))


def work(store: FeatureStore) -> None:
    """Read the events in another thread, which is stopped if it waits for the server to recover."""
    stop, ended = threading.Event(), threading.Event()
    options = StreamOptions("w", once=True, worker=WorkerOptions(wait_s=0.01, grace_s=0.1))

    def stop_late() -> None:
        ended.wait(0.5)
        stop.set()

    threading.Thread(target=stop_late, daemon=True).start()
    try:
        store.streams.run(["activity"], options, stop=stop)
    finally:
        ended.set()
    store.streams.dead_letters("activity")


def check(row: dict[str, object]) -> None:
    right = {"n": 1, "f": 1.5, "s": "a", "m": 3}
    for name, value in row.items():
        assert value is None or name not in right or value == right[name], row


def read_one(store: FeatureStore) -> None:
    row = store.online_reader(["profile"]).read("u1")
    check({name: getattr(row, name) for name in ("n", "f", "s")})


def read_several(store: FeatureStore) -> None:
    reader = store.online_reader(["profile", "activity"], freshness=True)
    for row in reader.read_many(["u1", "u2"]):
        check({name: getattr(row, name) for name in ("n", "f", "s", "m")})
    rows = [{"user_id": "u1"}]
    response = store.get_online_features(
        ["profile:n", "activity"], rows, max_age={"activity": "1h"}
    )
    check(response.to_rows()[0])


def read_async(store: FeatureStore) -> None:
    async def read() -> None:
        response = await store.get_online_features_async(["profile"], [{"user_id": "u1"}])
        check(response.to_rows()[0])

    asyncio.run(read())


def inspect(store: FeatureStore) -> None:
    store.inspect("user", "u1")


def diagnose(store: FeatureStore) -> None:
    store.streams.workers()
    store.diagnostics.overview()
    store.diagnostics.stream_lag()


READ = ("HMGET", "HPTTL", "PTTL", "HGETALL", "EVALSHA", "OBJECT", "SCAN", "INFO")
CONSUMED = ("XREADGROUP", "XAUTOCLAIM", "XINFO", "EXEC", "XGROUP", "XACK", "XREVRANGE", "XADD")
WRITTEN = (
    "COMMAND",
    "HELLO",
    "MULTI",
    "EXEC",
    "SET",
    "EVAL",
    "EVALSHA",
    "SCRIPT",
    "HSETEX",
    "HSET",
)


@pytest.mark.parametrize("name", REPLIES)
@pytest.mark.parametrize(
    ("actions", "commands"),
    [
        ((read_one, read_several, read_async, inspect, diagnose), READ),
        pytest.param((load, write), WRITTEN, marks=pytest.mark.slow),
        pytest.param((work,), CONSUMED, marks=pytest.mark.slow),
    ],
    ids=["read", "write", "work"],
)
def test_an_unexpected_reply_is_an_error_or_no_value(
    tmp_path: Path,
    proxy: ReplyProxy,
    valkey: Server,
    name: str,
    actions: tuple[Callable[[FeatureStore], None], ...],
    commands: tuple[str, ...],
) -> None:
    write_repo(tmp_path, proxy.url, DEFINITIONS)
    with FeatureStore(tmp_path) as store:
        store.apply()
        load(store)
        write(store)
    with valkey.client() as client:
        for each in commands:
            proxy.replaced, proxy.reply = each, REPLIES[name]
            for action in actions:
                for lock in client.keys("*@lock*"):
                    client.delete(lock)
                client.xadd("events", {"user_id": "u1", "m": "5", "event_timestamp": "x"})
                with FeatureStore(tmp_path) as store, suppress(FeatureKitError):
                    action(store)
    proxy.replaced = ""
