"""A matrix of 1000 x 10 numbers, compared with an array made by hand of `read_many`."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator
from operator import attrgetter
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa

from featurekit import FeatureStore
from featurekit.bench.timing import time_in_turns
from tests.benchmarks.results import Measurement, measurements
from tests.servers import running, valkey_binary

ROWS = 1000
INTS, FLOATS = "abcd", "efghij"


def measure(seconds: float) -> Iterator[Measurement]:
    """Measure both with all values present, and with one of 30 floats missing."""
    for missing in (0.0, 1 / 30):
        with running(valkey_binary()) as server, tempfile.TemporaryDirectory() as folder:
            with _store(Path(folder), f"{server.url}?timeout=10s") as store:
                store.write_batch("ten", _table(missing))
                timings = _timings(store, seconds)
            work = f"matrix {ROWS} x 10" + (", some missing" if missing else "")
            yield from measurements(work, timings, "", "read_many, array")


def _timings(store: FeatureStore, seconds: float) -> Any:
    reader, ids = store.online_reader("all"), [f"u{i}" for i in range(ROWS)]
    values = attrgetter(*INTS, *FLOATS)

    def by_hand() -> Any:
        rows = [
            [math.nan if value is None else value for value in values(row)]
            for row in reader.read_many(ids)
        ]
        return np.array(rows, np.float32)

    assert np.array_equal(by_hand(), reader.read_matrix(ids), equal_nan=True)
    acts = {
        "read_matrix": lambda: reader.read_matrix(ids),
        "read_matrix, statuses": lambda: reader.read_matrix(ids, statuses=True),
        "read_many, array": by_hand,
    }
    return time_in_turns(acts, seconds)


def _store(root: Path, url: str) -> FeatureStore:
    fields = {**dict.fromkeys(INTS, "int64"), **dict.fromkeys(FLOATS, "float64")}
    listed = ", ".join(f"{name}: {dtype}" for name, dtype in fields.items())
    (root / "featurerepo.yaml").write_text(
        f"project: matrix\ndefinitions: [views.yaml]\nonline_store: {{url: '{url}'}}\n"
    )
    (root / "views.yaml").write_text(
        "entities: [{name: user, join_keys: {user_id: string}}]\n"
        f"feature_views: [{{name: ten, entity: user, batch: {{refresh: 1h}}, fields: {{{listed}}}}}]\n"
        "feature_services: [{name: all, features: [ten]}]\n"
    )
    store = FeatureStore(root)
    store.apply()
    return store


def _table(missing: float) -> pa.Table:
    rng = Random(0)
    floats = {
        name: [None if rng.random() < missing else rng.random() * 1000 for _ in range(ROWS)]
        for name in FLOATS
    }
    ints = {name: [rng.randrange(100_000) for _ in range(ROWS)] for name in INTS}
    return pa.table({"user_id": [f"u{i}" for i in range(ROWS)], **ints, **floats})
