"""Cells of pandas mean the same as the same Python values in dicts, and as polars and Arrow."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tests.promise.repos import applied, hashes
from tests.servers import Server

from featurekit import FeatureStore
from featurekit.errors import BadRowError, FeatureKitError, SourceError

FIELDS = {
    "j": "json",
    "f": "float64",
    "g": "{type: float32, allow_nan: true}",
    "t": "timestamp",
    "ts": "array<timestamp>",
    "s": "string",
}
REPO = "entities: [{name: user, join_keys: {id: string}}]\nfeature_views:\n" + "\n".join(
    f"  - {{name: {name}, entity: user, batch: {{refresh: 1h, expires: field}}, "
    f"fields: {{{name}: {dtype}}}}}"
    for name, dtype in FIELDS.items()
)
AWARE, NAIVE = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1)  # noqa: DTZ001
NAN = float("nan")


@pytest.fixture
def store(tmp_path: Path, valkey: Server) -> Iterator[FeatureStore]:
    with applied(tmp_path / "repo", valkey.url, REPO) as store:
        yield store


def frame(name: str, *cells: object, dtype: Any = object) -> pd.DataFrame:
    ids = [f"u{index}" for index in range(len(cells))]
    return pd.DataFrame({"id": ids, name: pd.Series(cells, dtype=dtype)})


def stored(valkey: Server, name: str) -> list[bytes | None]:
    found = hashes(valkey)
    return [found.get(f"fs:user:u{index}".encode(), {}).get(name.encode()) for index in range(3)]


def test_a_dict_of_json_keeps_its_own_keys_only(store: FeatureStore, valkey: Server) -> None:
    cells = ({"x": 1}, {"y": [{"a": 1}, {"b": None}]}, {"n": np.int64(3), "v": np.arange(2)})
    store.write_batch("j", frame("j", *cells))
    assert stored(valkey, "j") == [b'{"x":1}', b'{"y":[{"a":1},{"b":null}]}', b'{"n":3,"v":[0,1]}']
    store.write_batch("j", frame("j", '{"x": 2}', None, 1.5))
    assert stored(valkey, "j") == [b'{"x":2}', None, b"1.5"]


@pytest.mark.parametrize("cell", [{"a": NAN}, [1, NAN], {1: 2}, {"a": {2}}, [AWARE]])
def test_what_json_has_not_is_refused_as_in_a_dict(store: FeatureStore, cell: object) -> None:
    for rows in ({"u0": {"j": cell}}, frame("j", cell), frame("j", {"x": 1}, cell)):
        with pytest.raises(BadRowError, match=r"j: .*( JSON|not a string)"):
            store.write_batch("j", rows)


@pytest.mark.parametrize("dtype", ["float64", "float32", object])
def test_nan_is_a_value_of_a_float_field(
    store: FeatureStore, valkey: Server, dtype: object
) -> None:
    store.write_batch("g", frame("g", 1.5, NAN, float("inf"), dtype=dtype))
    assert stored(valkey, "g") == [b"1.5", b"nan", b"inf"]
    with pytest.raises(BadRowError, match="f: nan is not finite"):
        store.write_batch("f", frame("f", 1.5, NAN, dtype=dtype))


def test_nulls_of_pandas_are_null(store: FeatureStore, valkey: Server) -> None:
    store.write_batch("g", frame("g", 1.5, None, pd.NA, NAN).convert_dtypes())
    assert stored(valkey, "g") == [b"1.5", None, None]
    store.write_batch("g", frame("g", 1.5, None, pd.NA, NAN))
    assert stored(valkey, "g") == [b"1.5", None, None]
    store.write_batch("s", frame("s", "a", NAN, None))
    assert stored(valkey, "s") == [b"a", None, None]
    store.write_batch("t", frame("t", AWARE, pd.NaT, None))
    assert stored(valkey, "t") == [b"2026-01-01T00:00:00Z", None, None]


@pytest.mark.parametrize(
    ("name", "cells"),
    [
        ("t", (AWARE, NAIVE)),
        ("t", (NAIVE, None, AWARE)),
        ("ts", ([AWARE], [NAIVE])),
        ("ts", ([NAIVE, AWARE],)),
    ],
)
def test_times_with_and_without_a_zone_are_refused(
    store: FeatureStore, name: str, cells: tuple[object, ...]
) -> None:
    with pytest.raises(SourceError, match=f"row [0-9], {name}: .*having a time zone"):
        store.write_batch(name, frame(name, *cells))
    with pytest.raises(FeatureKitError, match="no time zone"):
        store.write_batch(name, {"u0": {name: NAIVE if name == "t" else [NAIVE]}})
