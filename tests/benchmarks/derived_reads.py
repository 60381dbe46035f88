"""Reads with derived features, compared with a plain read and with a lambda over its rows."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from featurekit import FeatureStore
from featurekit.bench.timing import time_in_turns
from tests.benchmarks.results import Measurement, measurements
from tests.servers import running, valkey_binary

SIZES = (1, 100)

DEFINITIONS = """
entities: [{name: user, join_keys: {user_id: string}}]
requests: [{name: transaction, fields: {amount: float64}}]
feature_views:
  - name: ten
    entity: user
    batch: {refresh: 12h}
    fields: {a: float64, b: float64, c: float64, d: float64, e: int64, f: int64, g: string, h: string, i: bool, j: bool}
  - {name: ratio, derived: {from: [ten]}, fields: {share: {type: float64, expr: "a / nullif(b, 0)"}}}
  - name: risk
    derived: {from: [ten, transaction]}
    fields: {times: {type: float64, expr: "amount / nullif(b, 0)"}}
feature_services:
  - {name: plain, features: [ten]}
  - {name: with_ratio, features: [ten, ratio]}
  - {name: with_request, features: [ten, risk]}
"""


def measure(seconds: float) -> Iterator[Measurement]:
    """Measure reads of one entity and of many."""
    with running(valkey_binary()) as server, tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        url = f"{server.url}?timeout=10s"
        (root / "featurerepo.yaml").write_text(
            f"project: derived\ndefinitions: [views.yaml]\nonline_store: {{url: '{url}'}}\n"
        )
        (root / "views.yaml").write_text(DEFINITIONS)
        with FeatureStore(root) as store:
            store.apply()
            row = {"a": 2.5, "b": 1.25, "c": 3.5, "d": 0.5, "e": 1, "f": 2, "g": "NO", "h": "x"}
            ids = [f"u{i}" for i in range(max(SIZES))]
            store.write_batch("ten", {each: row | {"i": True, "j": False} for each in ids})
            for size in SIZES:
                timings = time_in_turns(_reads(store, ids[:size]), seconds)
                yield from measurements(f"read {size}, derived", timings, "plain", "lambda")


def _reads(store: FeatureStore, ids: list[str]) -> dict[str, Callable[[], Any]]:
    plain, ratio = store.online_reader("plain"), store.online_reader("with_ratio")
    request = store.online_reader("with_request")

    def by_hand() -> list[float | None]:
        return [
            row.a / row.b if row.a is not None and row.b else None for row in plain.read_many(ids)
        ]

    assert by_hand() == [row.share for row in ratio.read_many(ids)]
    return {
        "plain": lambda: plain.read_many(ids),
        "lambda": by_hand,
        "ratio": lambda: ratio.read_many(ids),
        "request data": lambda: request.read_many(ids, request={"amount": 9.5}),
        "statuses": lambda: ratio.get({"user_id": ids}).statuses,
    }
