"""The server's CPU time of events in windows, compared with plain HSETEX; and a worker's rate."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import perf_counter

from featurekit import FeatureStore, StreamOptions
from featurekit.lower.keys import key_function
from featurekit.lower.window_events import arguments_function, call_function
from featurekit.lower.window_scripts import window_script
from featurekit.plan import ViewPlan
from featurekit.ports import OnlineStore
from featurekit.runtime.worker import WorkerOptions
from featurekit.wire import command
from tests.benchmarks.results import Measurement
from tests.servers import Server, running, valkey_binary
from tests.windows.simulation import FEATURES, Handle, windowed_view

KEYS, CALLS = 200, 2000
STREAMED = 20_000
MOST_OF_ONE, MOST_OF_TWENTY = 8, 2
"""What an event may cost as a multiple of an HSETEX, alone and among twenty of its entity."""

DEFINITIONS = """
entities: [{name: user, join_keys: {user_id: string}}]
feature_views:
  - name: plain
    entity: user
    stream: {refresh: 1m, source: {type: redis_stream, stream: events, group: plain}}
    fields: {amount: float64, points: int64, shop: string}
  - name: windowed
    entity: user
    stream: {refresh: 1m, source: {type: redis_stream, stream: events, group: windowed}}
    inputs: {amount: float64, points: int64, shop: string}
    fields:
      n_5m: {type: int64, aggregate: count, window: 5m}
      amount_1h: {type: float64, aggregate: sum, of: amount, window: 1h}
      points_24h: {type: int64, aggregate: sum, of: points, window: 24h}
"""


def measure(_seconds: float) -> Iterator[Measurement]:
    """Measure one call for one event and for twenty, and a worker on plain and on windowed views."""
    with running(valkey_binary()) as server:
        handle = Handle(server.url)
        for names in (["count_5m"], ["count_1h", "sum_1h"], list(FEATURES)[:5]):
            yield from _calls(server, handle, names)
        handle.close()
    with running(valkey_binary()) as server:
        yield from _workers(server)


def _cpu_s(server: Server) -> float:
    """Return the CPU time of the server's main thread."""
    return int(Path(f"/proc/{server.process.pid}/schedstat").read_text().split()[0]) / 1e9


def _least_us(server: Server, store: OnlineStore, rounds: Sequence[list[bytes]]) -> float:
    """Return the least CPU time of the server for one of some rounds of commands, per command."""
    times = []
    for commands in rounds:
        before = _cpu_s(server)
        for at in range(0, len(commands), 100):
            part = commands[at : at + 100]
            store.run([b"k"] * len(part), part)
        times.append((_cpu_s(server) - before) / len(commands))
    return min(times) * 1e6


def _calls(server: Server, handle: Handle, names: list[str]) -> Iterator[Measurement]:
    view = windowed_view("offset", {name: FEATURES[name] for name in names})
    assert view.windows is not None
    script = window_script(view, view.windows, hsetex=True)
    call = call_function(view, view.windows, script)
    arguments = arguments_function(view, view.windows)({"amount": 2.5, "points": 3, "shop": "a"})
    key, now_ms, offset = key_function(view.key), handle.now_ms(), 0
    handle.store.run([b"k"], [script.load])

    def calls(count: int, events: int, age_ms: int = 0) -> list[bytes]:
        nonlocal offset
        made = []
        for number in range(count):
            parts: list[bytes] = []
            for _ in range(events):
                offset += 1
                parts += (b"0:%d" % offset, b"%d" % (now_ms - age_ms), *arguments)
            made.append(call(key(f"u{number % KEYS}"), now_ms, parts))
        return made

    for tile in range(12, 0, -1):  # windows that are full
        _least_us(server, handle.store, [calls(KEYS, 1, tile * 300_000)])
    one = _least_us(server, handle.store, [calls(CALLS, 1) for _ in range(5)])
    twenty = _least_us(server, handle.store, [calls(CALLS // 10, 20) for _ in range(5)]) / 20
    plain = _least_us(server, handle.store, [_hsetex(view, now_ms) for _ in range(5)])
    what = f"{len(names)} windows"
    yield Measurement("HSETEX", f"{what}, server CPU", plain, unit="us")
    for name, cost, most in (
        ("1 event", one, MOST_OF_ONE),
        ("1 of 20 events", twenty, MOST_OF_TWENTY),
    ):
        yield Measurement(
            name, f"{what}, server CPU", cost, unit="us", of_lower_bound=cost / plain
        )
        if cost > most * plain:
            print(f"slower than the limit of {most} x HSETEX: {cost / plain:.1f}")


def _hsetex(view: ViewPlan, now_ms: int) -> list[bytes]:
    pairs = [part for field in view.fields for part in (field.name.encode(), b"12345")]
    head = (b"PXAT", b"%d" % (now_ms + 3_600_000), b"FIELDS", b"%d" % len(view.fields))
    return [command(b"HSETEX", b"p%d" % (n % KEYS), *head, *pairs) for n in range(CALLS)]


def _workers(server: Server) -> Iterator[Measurement]:
    """Measure how many events a second a worker writes into a plain and into a windowed view."""
    with tempfile.TemporaryDirectory(prefix="fk") as folder:
        root = Path(folder)
        (root / "featurerepo.yaml").write_text(
            f"project: w\ndefinitions: [f.yaml]\nonline_store: {{url: '{server.url}?timeout=10s'}}\n"
        )
        (root / "f.yaml").write_text(DEFINITIONS)
        with FeatureStore(root) as store, server.client() as client:
            store.apply()
            pipeline = client.pipeline(transaction=False)
            for number in range(STREAMED):
                event = {"user_id": f"u{number % 2000}", "amount": number / 4, "points": number}
                pipeline.xadd("events", {**event, "shop": f"shop{number % 50}"})
            pipeline.execute()
            rates = {}
            for view in ("plain", "windowed"):
                start = perf_counter()
                options = StreamOptions(once=True, worker=WorkerOptions(wait_s=0.05))
                [report] = store.streams.run([view], options)
                rates[view] = report.written / (perf_counter() - start)
                assert report.written == STREAMED
                share = rates[view] / rates["plain"]
                yield Measurement(
                    "stream run", f"{STREAMED} events, {view}", rates[view], unit="events/s",
                    of_lower_bound=share,
                )  # fmt: skip
