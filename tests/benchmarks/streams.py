"""Stream writes of five fields, compared with prepared bytes and redis-py; and a worker's rate."""

from __future__ import annotations

from collections.abc import Iterator
from time import perf_counter
from typing import Any

from featurekit import StreamOptions
from featurekit.bench.reference_clients import PreparedClient, redis_py_options
from featurekit.bench.timing import time_in_turns
from featurekit.lower.events import arrival_write_group
from featurekit.lower.keys import key_function
from featurekit.lower.write_group import Dialect
from featurekit.runtime.worker import WorkerOptions
from featurekit.stores.url import StoreUrl
from featurekit.wire import EXEC, MULTI, command
from tests.benchmarks.environment import BenchRepo, bench_repo
from tests.benchmarks.results import Measurement, measurements

TTL_S = 300
EVENTS = 1000
STREAMED = 50_000


def measure(seconds: float) -> Iterator[Measurement]:
    """Measure one write, a thousand at once, and a worker that reads a Redis stream."""
    for transport in ("unix", "tcp"):
        with bench_repo(transport) as repo:
            yield from _writes(repo, transport, seconds)
    with bench_repo("unix") as repo:
        yield from _worker(repo)


def event(number: int) -> dict[str, object]:
    """Return the five fields of an event."""
    return {
        "last_login_ts": 1_716_998_413_541 + number,
        "last_device_id": f"ios-{number % 5000:04x}",
        "tx_count_5m": number % 12,
        "amount_5m": number % 977 / 4,
        "session_country": ("NO", "SE", "DK")[number % 3],
    }


def _writes(repo: BenchRepo, transport: str, seconds: float) -> Iterator[Measurement]:
    import redis

    url = StoreUrl.parse(repo.url)
    writer = repo.store.stream_writer("live")
    events = [(f"u{n:07d}", event(n)) for n in range(EVENTS)]
    unit, key = (
        arrival_write_group(writer.plan, Dialect(hsetex=True)),
        key_function(writer.plan.key),
    )
    built = [unit(key(entity), values, 0)[0] for entity, values in events]
    prepared, everything = PreparedClient(url), b"".join(built)
    with redis.Redis(**redis_py_options(url)) as plain:
        keys = [key(entity) for entity, _ in events]

        def pipeline(count: int) -> Any:
            commands = plain.pipeline()
            for name, (_, values) in zip(keys[:count], events, strict=False):
                commands.hset(name, mapping=values)
                commands.hexpire(name, TTL_S, *values)
            return commands.execute()

        one = time_in_turns(
            {
                "prepared bytes": lambda: prepared.exchange(built[0], 1),
                "write": lambda: writer.write(*events[0]),
                "HSET + HEXPIRE": lambda: pipeline(1),
            },
            seconds,
        )
        many = time_in_turns(
            {
                "prepared bytes": lambda: prepared.exchange(everything, EVENTS),
                "write_many": lambda: writer.write_many(events),
                "HSET + HEXPIRE": lambda: pipeline(EVENTS),
            },
            seconds,
        )
    prepared.close()
    yield from measurements(f"write 1 event, {transport}", one, "prepared bytes", "HSET + HEXPIRE")
    yield from measurements(
        f"write {EVENTS}, {transport}", many, "prepared bytes", "HSET + HEXPIRE"
    )


def _worker(repo: BenchRepo) -> Iterator[Measurement]:
    """Measure the rates of a worker and of the writer that it uses, on the same events."""
    client = PreparedClient(StoreUrl.parse(repo.url))
    entries = []
    for number in range(STREAMED):
        fields = {"user_id": f"u{number % 5000:07d}", **event(number)}
        flat = [str(part).encode() for pair in fields.items() for part in pair]
        entries.append(command(b"XADD", b"events", b"*", *flat))
    for at in range(0, STREAMED, EVENTS):
        some = entries[at : at + EVENTS]
        client.exchange(MULTI + b"".join(some) + EXEC, len(some) + 2)
    client.close()
    writer = repo.store.stream_writer("live")
    events = [(f"u{n % 5000:07d}", event(n)) for n in range(STREAMED)]
    start = perf_counter()
    for at in range(0, STREAMED, EVENTS):
        writer.write_many(events[at : at + EVENTS])
    alone = STREAMED / (perf_counter() - start)
    start = perf_counter()
    [report] = repo.store.streams.run(
        ["live"], StreamOptions(once=True, worker=WorkerOptions(wait_s=0.05))
    )
    fed = report.written / (perf_counter() - start)
    assert report.written == STREAMED
    yield Measurement("write_many", "50,000 events", alone, unit="events/s")
    yield Measurement(
        "stream run", "50,000 events", fed, unit="events/s", of_lower_bound=fed / alone
    )
