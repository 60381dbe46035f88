"""Reads of windows of 25 tiles for 1 and 100 entities, read before or not, compared with plain fields."""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

from featurekit import FeatureStore
from featurekit.bench.timing import time_in_turns
from featurekit.plan import AggregatePlan
from tests.benchmarks.results import Measurement, measurements
from tests.servers import Server, running, valkey_binary

ENTITIES, FIELDS, TILES, UNSEEN = 100, 5, 25, 1500
FUNCTIONS = ("count", "count_distinct", "sum", "min", "mean", "stddev")
HEAD = """
entities:
  - {name: user, join_keys: {user_id: string}}
feature_views:
  - name: plain
    entity: user
    stream: {refresh: 1h}
    fields:
"""
VIEW = """
  - name: VIEW
    entity: user
    stream: {refresh: 24h, source: {type: kafka, topic: tx, bootstrap_servers: 'localhost:1'}}
    inputs: {amount: float64}
    fields:
"""


def measure(seconds: float) -> Iterator[Measurement]:
    """Measure reads of five fields of each kind."""
    with (
        running(valkey_binary()) as server,
        tempfile.TemporaryDirectory(prefix="fk") as folder,
    ):
        _write_definitions(Path(folder), server.url)
        with FeatureStore(folder) as store:
            store.apply()
            _fill(store, server)
            for size in (1, ENTITIES):
                yield from _reads(store, size, seconds)


def _write_definitions(root: Path, url: str) -> None:
    (root / "featurerepo.yaml").write_text(
        f"project: w\ndefinitions: [f.yaml]\nonline_store: {{url: '{url}?timeout=10s'}}\n"
    )
    text = HEAD + "".join(f"      p{i}: float64\n" for i in range(FIELDS))
    for function in FUNCTIONS:
        text += VIEW.replace("VIEW", f"w_{function}")
        dtype = "int64" if function.startswith("count") else "float64"
        for i in range(FIELDS):
            text += f"      {function}_{i}: {{type: {dtype}, aggregate: {function}, of: amount, window: 24h}}\n"
    (root / "f.yaml").write_text(text)


def _fill(store: FeatureStore, server: Server) -> None:
    """Write the bytes of full windows, and marks."""
    rng, now_ms = random.Random(1), int(time.time() * 1000)
    writer = store.stream_writer("plain")
    with server.client() as client:
        for entity in range(UNSEEN):
            plain = {f"p{i}": round(rng.uniform(1, 500), 2) for i in range(FIELDS)}
            writer.write(str(entity), plain)
            tiles: dict[str, str] = {}
            for view in store.compiled.views:
                for field in view.fields if view.windows else ():
                    assert field.aggregate is not None
                    tiles[field.name] = _tiles(field.aggregate, rng, now_ms)
            client.hset(f"fs:user:{entity}", mapping=tiles)
        for view in store.compiled.views:
            if view.mark_key:
                client.hset(view.mark_key.decode(), "p0", str(now_ms))


def _tiles(plan: AggregatePlan, rng: random.Random, now_ms: int) -> str:
    def state() -> str:
        amount = round(rng.uniform(1, 500), 2)
        forms = {
            "count": str(rng.randint(1, 40)),
            "count_distinct": f"{rng.getrandbits(48):012x}/{rng.getrandbits(48):012x}",
            "mean": f"3/{amount}",
            "stddev": f"3/{amount / 3!r}/{amount * 7.1!r}",
        }
        return forms.get(plan.function, str(amount))

    states = ",".join(state() for _ in range(TILES))
    return f"{plan.head}{now_ms // plan.tile_ms}:{states}"


def _reads(store: FeatureStore, size: int, seconds: float) -> Iterator[Measurement]:
    readers = {"plain": store.online_reader(["plain"])}
    readers |= {function: store.online_reader([f"w_{function}"]) for function in FUNCTIONS}
    for reader in readers.values():
        assert {*reader.read("0").statuses.values()} == {"present"}
    same = [[str(i) for i in range(size)]]
    others = [[str(i) for i in range(start, start + size)] for start in range(0, UNSEEN, ENTITIES)]
    for work, ids in (("the same", same), ("changing", others))[: 2 if size > 1 else 1]:
        acts = {name: _act(reader, ids) for name, reader in readers.items()}
        timings = time_in_turns(acts, seconds)
        what = f"read {size} ({work}), {FIELDS} windows of {TILES} tiles"
        yield from measurements(what, timings, "plain", "")


def _act(reader: Any, ids: list[list[str]]) -> Callable[[], object]:
    turn = cycle(ids)
    if len(ids[0]) > 1:
        return lambda: reader.read_many(next(turn))
    return lambda: reader.read(next(turn)[0])
