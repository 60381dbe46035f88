"""Bench: what reads and loads cost on a user's own store, beside the same work by other hands.

Only ratios travel from one machine to another, so the contestants take turns in one run.
Everything is under a key prefix of its own, expires by itself, and is deleted at the end.
"""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from statistics import median, quantiles
from time import perf_counter
from typing import Any

from featurekit.dtypes import DType
from featurekit.errors import MissingExtraError, RequestError
from featurekit.keys import JoinKey, KeyPlan
from featurekit.lower.read import requests_function
from featurekit.plan import FieldPlan, ReadColumn, ReadGroup, ReadPlan, ViewPlan
from featurekit.ports import OnlineStore, Scan
from featurekit.repo.store_handle import LazyStoreHandle
from featurekit.runtime.load import send
from featurekit.runtime.reader import OnlineReader
from featurekit.runtime.report import MaterializeReport
from featurekit.wire import command

SIZES = (1, 100, 1000)
FIELDS = {
    "country": "string",
    "segment": "string",
    "account_age_days": "int64",
    "tx_count_7d": "int64",
    "tx_count_30d": "int64",
    "chargebacks_180d": "int64",
    "devices": "int64",
    "avg_amount_30d": "float64",
    "max_amount_30d": "float64",
    "risk": "float64",
}
"""Ten features of a cardholder: the row that is read and loaded."""

_TOPS = {"account_age_days": 4000, "tx_count_7d": 60, "tx_count_30d": 250}
_TTL_MS = 600_000
_BATCH_ROWS = 2048
_PLAIN_ROWS = 500
TURN_S = 0.02

Contestants = Mapping[str, Callable[[], object]]


@dataclass(frozen=True, slots=True)
class ReadBench:
    """Reads of so many entities of ten features, by one thread.

    Attributes:
        entities: Entities in each read.
        p50_ms: Half of the reads took at most this.
        p99_ms: All but one of a hundred did.
        of_prepared: The median time as a multiple of what prepared bytes take.
        over_pipeline: How many times as fast as a redis-py pipeline.
    """

    entities: int
    p50_ms: float
    p99_ms: float
    of_prepared: float
    over_pipeline: float


@dataclass(frozen=True, slots=True)
class LoadBench:
    """Loads of so many rows of ten fields from Arrow data, each row with its key's TTL.

    Attributes:
        rows: Rows in each load.
        rows_per_s: At the median time.
        of_prepared: As a share of the rate at which the server takes the same bytes, built before.
        over_pipeline: How many times as fast as a redis-py pipeline.
    """

    rows: int
    rows_per_s: float
    of_prepared: float
    over_pipeline: float


@dataclass(frozen=True, slots=True)
class BenchReport:
    """What was measured, on which server."""

    server: str
    reads: tuple[ReadBench, ...]
    load: LoadBench

    def to_dict(self) -> dict[str, object]:
        """The report as plain data."""
        return asdict(self)


def bench(door: LazyStoreHandle, prefix: str, *, entities: int, seconds: float) -> BenchReport:
    """Measure reads and loads on the store behind `door`.

    Args:
        door: The store; it must be a server.
        prefix: The repository's key prefix; the keys written start with `{prefix}:@bench-`.
        entities: How many are written and read.
        seconds: About how long to measure.
    """
    if entities < max(SIZES) or seconds <= 0:
        raise RequestError(f"bench takes at least {max(SIZES)} entities and some time")
    view = bench_view(f"{prefix}:@bench-{secrets.token_hex(4)}")
    table = _table(entities)
    store = door.store
    store.check_writable(prefix)
    with _cleaned(store, view, entities), _others(store) as (prepared, plain):
        load = _load_bench(store, view, table, plain, seconds * 0.4)
        reads = [_read_bench(door, view, n, (prepared, plain), seconds * 0.2) for n in SIZES]
        return BenchReport(store.capabilities.server, tuple(reads), load)


@dataclass(frozen=True, slots=True)
class Race:
    """The times in seconds of each contestant: a list for each of its turns."""

    turns: dict[str, list[list[float]]]

    def times(self, name: str) -> list[float]:
        """All times of a contestant."""
        return [each for turn in self.turns[name] for each in turn]

    def median(self, name: str) -> float:
        """Its median time."""
        return median(self.times(name))

    def ratio(self, name: str, other: str) -> float:
        """How long `name` takes for what takes `other` 1.

        Turns that follow each other are compared, since a machine's speed drifts; of these
        ratios it is the median.
        """
        pairs = zip(self.turns[name], self.turns[other], strict=True)
        return median(median(mine) / median(theirs) for mine, theirs in pairs)


def race(contestants: Contestants, seconds: float) -> Race:
    """Let contestants take short turns, one after the other, until the time is up."""
    turns: dict[str, list[list[float]]] = {name: [] for name in contestants}
    for act in contestants.values():
        act()
    end = perf_counter() + seconds
    while not all(turns.values()) or perf_counter() < end:
        for name, act in contestants.items():
            turns[name].append(_turn(act))
    return Race(turns)


def _turn(act: Callable[[], object]) -> list[float]:
    times = []
    end = perf_counter() + TURN_S
    while (start := perf_counter()) < end:
        act()
        times.append(perf_counter() - start)
    return times


def bench_view(prefix: str) -> ViewPlan:
    """The view that is loaded and read."""
    key = KeyPlan(prefix, "user", (JoinKey("user_id", DType("string")),))
    fields = tuple(FieldPlan(name, DType(kind)) for name, kind in FIELDS.items())
    return ViewPlan("bench", "batch", key, fields, "key", _TTL_MS, _TTL_MS // 2)


def bench_read(view: ViewPlan) -> ReadPlan:
    """All fields of the view."""
    columns = tuple(
        ReadColumn(field.name, view.name, field, 0, slot) for slot, field in enumerate(view.fields)
    )
    return ReadPlan("bench", (ReadGroup(view.key, tuple(FIELDS)),), columns)


def bench_ids(entities: int) -> list[str]:
    """The ids of the entities."""
    return [f"u{number:07d}" for number in range(entities)]


def bench_columns(entities: int) -> dict[str, list[Any]]:
    """Values as a real repository has them: short texts, small counts, amounts, a fraction."""
    draw = random.Random(entities)  # noqa: S311 - the same values in each run, no secret

    def value(name: str, kind: str) -> Any:
        if kind == "string":
            return draw.choice(
                ["NO", "SE", "DK"] if name == "country" else ["low", "medium", "high"]
            )
        if kind == "int64":
            return draw.randrange(_TOPS.get(name, 10))
        return draw.random() if name == "risk" else draw.randrange(100_000) / 100

    columns: dict[str, list[Any]] = {"user_id": bench_ids(entities)}
    return columns | {n: [value(n, kind) for _ in range(entities)] for n, kind in FIELDS.items()}


def by_hand(rows: Sequence[Sequence[bytes]]) -> list[tuple[Any, ...]]:
    """The values of some rows, decoded as one would by hand who knows that all are there."""
    return [
        (a.decode(), b.decode(), int(c), int(d), int(e), int(f), int(g), float(h), float(i), float(j))
        for a, b, c, d, e, f, g, h, i, j in rows
    ]  # fmt: skip


def _read_bench(
    door: LazyStoreHandle, view: ViewPlan, size: int, others: tuple[Any, Any], seconds: float
) -> ReadBench:
    prepared, plain = others
    ids = bench_ids(size)
    keys = [view.key.key([each]) for each in ids]
    ask = prepared.asking(keys, requests_function(list(FIELDS))[0](keys))
    reader, names = OnlineReader(bench_read(view), door), list(FIELDS)
    result = race(
        {
            "featurekit": (lambda: reader.read_many(ids))
            if size > 1
            else lambda: reader.read(ids[0]),
            "prepared": lambda: by_hand(ask()),
            "pipeline": lambda: by_hand(plain.read(keys, names)),
        },
        seconds,
    )
    return ReadBench(
        size,
        result.median("featurekit") * 1000,
        _p99(result.times("featurekit")) * 1000,
        result.ratio("featurekit", "prepared"),
        result.ratio("pipeline", "featurekit"),
    )


def _load_bench(
    store: OnlineStore, view: ViewPlan, table: Any, plain: Any, seconds: float
) -> LoadBench:
    from featurekit.runtime.tables import prepare_tables

    def prepare() -> Iterator[Any]:
        batches = iter(table.to_batches(_BATCH_ROWS))
        scan = Scan("native", batches, len(table))
        return prepare_tables(view, scan, None, lambda _: "", store.capabilities)

    chunks = [each.chunk for each in prepare()]
    rows = table.to_pylist()
    items = [(view.key.key([row.pop("user_id")]), row) for row in rows]
    result = race(
        {
            "featurekit": lambda: send(
                store, prepare(), MaterializeReport("bench"), skip=False, watch=lambda _: None
            ),
            "prepared": lambda: list(store.load(chunks)),
            "pipeline": lambda: [
                plain.write(items[at : at + _PLAIN_ROWS], _TTL_MS)
                for at in range(0, len(items), _PLAIN_ROWS)
            ],
        },
        seconds,
    )
    return LoadBench(
        len(table),
        len(table) / result.median("featurekit"),
        result.ratio("prepared", "featurekit"),
        result.ratio("pipeline", "featurekit"),
    )


def _p99(times: list[float]) -> float:
    return quantiles(times, n=100)[-1] if len(times) > 1 else times[0]


def _table(entities: int) -> Any:
    try:
        import pyarrow as pa
    except ImportError as error:
        raise MissingExtraError.of("batch", "measuring a load") from error
    return pa.table(bench_columns(entities))


@contextmanager
def _others(store: OnlineStore) -> Iterator[tuple[Any, Any]]:
    """The other clients of the store's servers: prepared bytes, and plain redis-py."""
    prepared, plain = _references(store)
    try:
        yield prepared, plain
    finally:
        prepared.close()
        plain.close()


def _references(store: OnlineStore) -> tuple[Any, Any]:
    from featurekit.stores.cluster.reference import PlainCluster, PreparedCluster
    from featurekit.stores.cluster.store import ClusterStore
    from featurekit.stores.reference import PlainClient, PreparedBytes, server_url

    if isinstance(store, ClusterStore):
        return PreparedCluster(store), PlainCluster(store.url)
    url = server_url(store)
    return PreparedBytes(url), PlainClient(url)


@contextmanager
def _cleaned(store: OnlineStore, view: ViewPlan, entities: int) -> Iterator[None]:
    """Delete what the block wrote, however it ends."""
    keys = [view.key.key([each]) for each in bench_ids(entities)]
    try:
        yield
    finally:
        for at in range(0, len(keys), 1000):
            some = keys[at : at + 1000]
            store.run(some, [command(b"UNLINK", key) for key in some])
