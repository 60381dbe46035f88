"""Workers that die, stall and take over from one another: every event counts once."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
from typing_extensions import override

from featurekit.errors import RequestError
from featurekit.plan import RedisStreamPlan, ViewPlan
from featurekit.ports import Consumer, EventSource, Progress
from featurekit.runtime.marks import write_mark
from featurekit.runtime.window_writer import WriteAttempt
from featurekit.runtime.worker import Worker, WorkerOptions
from featurekit.runtime.writer import StreamWriter
from featurekit.streams import open_stream
from tests.servers import Server
from tests.windows.simulation import (
    FEATURES,
    Handle,
    Sent,
    from_stored,
    positioned,
    windowed_view,
)

EVENTS, ENTITIES = 600, 25
PACE = WorkerOptions(batch_size=20, wait_s=0.05)
STREAM = RedisStreamPlan(group="g", stream="tx")


@pytest.fixture
def handle(server: Server) -> Iterator[Handle]:
    """The store of each kind of server."""
    handle = Handle(server.url)
    yield handle
    handle.close()


class _DiedError(Exception):
    """Stands for the death of a worker."""


class _DyingWriter(StreamWriter):
    """Writes only some of the events before it dies, or waits until others have taken them over."""

    def __init__(self, view: ViewPlan, handle: Handle, rng: random.Random) -> None:
        super().__init__(view, handle)
        self._rng = rng

    @override
    def write_read(self, events: Any, attempt: WriteAttempt) -> Any:
        rng, batch = self._rng, list(events)
        if rng.random() < 0.1:
            time.sleep(rng.choice([0.02, 0.06]))  # others claim the entries meanwhile
        if rng.random() < 0.2:
            super().write_read(batch[: rng.randint(0, len(batch))], attempt)
            raise _DiedError
        if rng.random() < 0.1:  # the reply was lost
            super().write_read(batch, attempt)
            attempt = WriteAttempt(is_repeated=True)
        return super().write_read(batch, attempt)


def view_of_stream() -> ViewPlan:
    features = {name: FEATURES[name] for name in ("count_24h", "points_1h")}
    return windowed_view("group", features, stream=STREAM)


def open_source(view: ViewPlan, url: str, name: str) -> EventSource:
    """A consumer that claims the entries of others soon."""
    return open_stream(view, STREAM, Consumer(name, 30), lambda: Handle(url).store, {})


def fill(handle: Handle, rng: random.Random) -> Counter[str]:
    """Add events to the stream; return how many each entity has."""
    counts: Counter[str] = Counter()
    for _ in range(EVENTS):
        user = f"u{rng.randint(0, ENTITIES - 1)}"
        counts[user] += 1
        handle.store.call("XADD", "tx", "*", "user_id", user, "points", 3, key="tx")
    return counts


def is_done(handle: Handle) -> bool:
    groups: Any = handle.store.call("XINFO", "GROUPS", "tx", key="tx")
    group = dict(zip(groups[0][::2], groups[0][1::2], strict=True))
    return bool(group[b"pending"] == 0 and group[b"lag"] == 0)


def stored(handle: Handle, user: str) -> tuple[int, int]:
    key = f"fs:user:{user}"
    data: Any = handle.store.call("HMGET", key, "count_24h", "points_1h", key=key)
    now_ms = handle.now_ms() + 1
    return tuple(
        from_stored(name, each, now_ms)
        for name, each in zip(("count_24h", "points_1h"), data, strict=True)
    )


@pytest.mark.parametrize("seed", [1, 2])
def test_a_group_of_dying_workers_counts_every_entry_once(server: Server, seed: int) -> None:
    rng, handle, view = random.Random(seed), Handle(server.url), view_of_stream()
    counts = fill(handle, rng)
    handle.store.call("XGROUP", "CREATE", "tx", "g", "0", key="tx")
    deadline = time.monotonic() + 60

    def run(number: int) -> None:
        life, own = 0, random.Random(seed * 100 + number)
        while time.monotonic() < deadline and not is_done(handle):
            life += 1
            source = open_source(view, server.url, f"w{number}-{life}")
            writer = _DyingWriter(view, Handle(server.url), own)
            worker = Worker(writer, source, PACE, lambda _report: None, handle.now_ms)
            try:
                while time.monotonic() < deadline and not is_done(handle):
                    if events := source.read(own.randint(1, 20), 0.02):
                        worker.process(events)
            except _DiedError:
                continue

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert is_done(handle)
    assert {user: stored(handle, user) for user in counts} == {
        user: (count, 3 * count) for user, count in counts.items()
    }
    handle.close()


class _Consumer:
    """A consumer of one partition, which may not know that it was replaced."""

    def __init__(self, writer: StreamWriter, partition: int, at: int) -> None:
        self.writer, self.partition, self.at = writer, partition, at

    def step(self, log: Sequence[tuple[str, Sent]], rng: random.Random) -> bool:
        """Write the next events; return whether it survived."""
        part = log[self.at : self.at + rng.randint(1, 30)]
        batch = [
            positioned(user, each, f"tx/{self.partition}/{each.offset}") for user, each in part
        ]
        users = list(dict.fromkeys(user for user, _ in part))
        if rng.random() < 0.15:  # it dies after the calls of some entities
            alive = set(rng.sample(users, rng.randint(0, len(users))))
            self.writer.write_read([e for e in batch if e[0] in alive], WriteAttempt())
            return False
        for _ in range(2 if rng.random() < 0.1 else 1):
            self.writer.write_read(batch, WriteAttempt())
        self.at += len(part)
        return True


def test_consumers_of_partitions_count_every_message_once(handle: Handle) -> None:
    for seed in range(3):
        rng, now_ms = random.Random(seed), handle.now_ms()
        view = windowed_view("offset", {"count_24h": FEATURES["count_24h"]})
        writer = StreamWriter(view, handle)
        logs = [
            [(f"s{seed}u{rng.randint(0, 4)}", Sent(0, now_ms - rng.randint(0, 10**6), {}, o))
             for o in range(150)]
            for _ in range(3)
        ]  # fmt: skip
        committed, zombies = [0, 0, 0], list[_Consumer]()
        live = [_Consumer(writer, number, 0) for number in range(3)]
        while any(each.at < 150 for each in live):
            if zombies and rng.random() < 0.2:
                zombie = rng.choice(zombies)
                zombie.step(logs[zombie.partition], rng)
            number = rng.randrange(3)
            survived = live[number].step(logs[number], rng)
            if survived and rng.random() < 0.8:
                committed[number] = max(committed[number], live[number].at)
            if not survived or rng.random() < 0.1:  # the partition goes to another consumer
                zombies.append(live[number])
                live[number] = _Consumer(writer, number, committed[number])
        counts = Counter(user for log in logs for user, _ in log)
        assert {user: stored(handle, user)[0] for user in counts} == dict(counts)


def mark(handle: Handle, view: ViewPlan) -> dict[str, int]:
    data: Any = handle.store.call("HGETALL", view.mark_key or b"", key=view.mark_key or b"")
    return {k.decode(): int(v) for k, v in zip(data[::2], data[1::2], strict=True)}


def test_the_mark_of_a_stream_is_that_of_its_group(handle: Handle, server: Server) -> None:
    view = view_of_stream()
    first, second = (open_source(view, server.url, name) for name in ("a", "b"))
    writer = StreamWriter(view, handle)
    worker = Worker(writer, first, PACE, lambda _report: None, handle.now_ms)

    def done_ms(source: EventSource) -> int:
        progress = source.progress(10**15)
        assert progress is not None
        assert progress.parts == {"group"}
        return progress.times["group"]

    assert first.read(10, 0) == []
    assert done_ms(first) == 10**15
    for number in range(1, 5):
        handle.store.call("XADD", "tx", f"{number}000-0", "user_id", "u", key="tx")
    assert done_ms(first) == 0  # nothing is delivered
    held = second.read(1, 0)
    assert done_ms(first) == 1000
    worker.process(first.read(2, 0))
    assert done_ms(first) == 1000  # the other consumer holds an older entry
    Worker(writer, second, PACE, lambda _report: None, handle.now_ms).process(held)
    assert done_ms(first) == 3000  # one is not delivered yet
    worker.process(first.read(10, 0))
    assert done_ms(second) == 10**15


def test_a_worker_writes_the_mark_of_its_view(handle: Handle, server: Server) -> None:
    view = view_of_stream()
    handle.store.call("HSET", view.mark_key or b"", "7", 5, key=view.mark_key or b"")
    handle.store.call("XADD", "tx", "*", "user_id", "u", key="tx")
    started_ms = handle.now_ms()
    source = open_source(view, server.url, "a")
    report = Worker(
        StreamWriter(view, handle), source, PACE, lambda _report: None, handle.now_ms
    ).run(threading.Event(), once=True)
    assert report.written == 1
    [(part, time_ms)] = mark(handle, view).items()
    assert part == "group"
    assert started_ms <= time_ms <= handle.now_ms()


def test_parts_without_a_report_have_the_time_0(handle: Handle) -> None:
    view = windowed_view()
    key = view.mark_key or b""
    write_mark(handle.store, key, Progress({"1": 50}, frozenset({"0", "1", "2"})))
    write_mark(handle.store, key, Progress({"2": 70}, frozenset({"0", "1", "2"})))
    assert mark(handle, view) == {"0": 0, "1": 50, "2": 70}
    write_mark(handle.store, key, Progress({"0": 90}, frozenset({"0", "1"})))
    assert mark(handle, view) == {"0": 90, "1": 50}
    write_mark(handle.store, key, Progress({}, frozenset({"0", "1"})))
    assert mark(handle, view) == {"0": 90, "1": 50}


def test_the_consumer_group_cannot_be_asked_on_a_cluster(valkey: Server) -> None:
    handle = Handle(valkey.url)
    handle.store = _ClusterLike(handle.store)
    with pytest.raises(RequestError, match="on different servers"):
        StreamWriter(view_of_stream(), handle).write("u", {})


class _ClusterLike:
    """A store that has no transactions, as on a cluster."""

    def __init__(self, store: Any) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    @property
    def capabilities(self) -> Any:
        return replace(self._store.capabilities, transactions=False)


def test_without_the_right_to_acknowledge_nothing_is_written(server: Server) -> None:
    admin, view = Handle(server.url), view_of_stream()
    admin.store.call("ACL", "SETUSER", "w", "reset", "on", "nopass", "~*", "+@all")
    handle = Handle(server.url.replace("unix://", "unix://w:x@"))
    entry: Any = admin.store.call("XADD", "tx", "*", "user_id", "u", key="tx")
    source = open_source(view, server.url, "a")
    [event] = source.read(1, 0)
    writer = StreamWriter(view, handle)
    writer.write("v", {})
    batch = [positioned("u", Sent(0, admin.now_ms(), {}), event.id)]
    for denied in ("xack", "xpending"):
        admin.store.call("ACL", "SETUSER", "w", "+@all", f"-{denied}")
        assert writer.write_read(batch, WriteAttempt()).refusal
        assert admin.store.call("EXISTS", "fs:user:u", key="fs:user:u") == 0
    admin.store.call("ACL", "SETUSER", "w", "+@all")
    assert writer.write_read(batch, WriteAttempt()).written == 1
    assert writer.write_read(batch, WriteAttempt()).repeated == 1
    assert event.id.encode() == entry
    handle.close()
    admin.close()


def test_a_group_that_is_gone_stops_no_worker(handle: Handle, server: Server) -> None:
    view = view_of_stream()
    handle.store.call("XADD", "tx", "*", "user_id", "u", key="tx")
    source = open_source(view, server.url, "a")
    events = source.read(1, 0)
    handle.store.call("DEL", "tx", key="tx")
    writer = StreamWriter(view, handle)
    Worker(writer, source, PACE, lambda _report: None, handle.now_ms).process(events)
    assert handle.store.call("EXISTS", "fs:user:u", key="fs:user:u") == 0
