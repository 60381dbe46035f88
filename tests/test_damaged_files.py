"""Errors about damaged Parquet files name the file, wherever it is read."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featurekit import FeatureStore, SourceError

YAML = """
entities: [{name: user, join_keys: {user_id: string}}]
feature_views:
  - name: act
    entity: user
    stream: {refresh: 1h, log: {path: log}}
    fields: {n: int64, s: string}
  - name: profile
    entity: user
    batch: {refresh: 1h, source: {type: parquet, path: rows/, timestamp_field: at}}
    fields: {a: int64}
  - name: query
    entity: user
    batch: {refresh: 1h, expires: field, source: {type: sql, query: FROM 'rows/*.parquet', timestamp_field: at}}
    fields: {b: int64}
feature_services: [{name: svc, features: [act], logging: {path: served}}]
"""
AT = datetime(2026, 11, 20, tzinfo=UTC)


def _write_rows(folder: Path) -> None:
    (folder / "rows").mkdir()
    for number in range(3):
        ids = [f"u{number}_{i}" for i in range(500)]
        table = pa.table({"user_id": ids, "at": [AT] * 500, "a": range(500), "b": range(500)})
        pq.write_table(table, folder / f"rows/{number}.parquet")
    labels = pa.table({"user_id": ["u1"] * 5000, "event_timestamp": [AT + timedelta(1)] * 5000})
    (folder / "labels").mkdir()
    pq.write_table(labels, folder / "labels/1.parquet")


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "the file is empty": lambda _: b"",
    "the end of the file is missing": lambda data: data[:-30],
    "not a Parquet file": lambda data: bytes(len(data)),
    "the file is damaged": lambda data: data[:4] + b"\xff" * 20 + data[24:],
}


def test_errors_about_a_damaged_file_name_it(tmp_path: Path) -> None:
    (tmp_path / "featurerepo.yaml").write_text(
        "project: p\ndefinitions: [f.yaml]\nonline_store: {url: 'memory://', key_prefix: q}\n"
    )
    (tmp_path / "f.yaml").write_text(YAML)
    _write_rows(tmp_path)
    with FeatureStore(tmp_path) as store:
        store.apply()
        store.stream_writer("act").write("u1", {"n": 1, "s": None})
        store.get_online_features("svc", [{"user_id": "u1"}])
    with FeatureStore(tmp_path) as store:
        store.apply()
        labels = pa.table({"user_id": ["u1"], "event_timestamp": [datetime.now(UTC)]})

        def train(view: str, data: object = labels) -> object:
            return store.get_historical_features(data, [view]).to_arrow()

        readers: dict[str, list[Callable[[], object]]] = {
            "log": [lambda: train("act")],
            "served": [
                lambda: store.served_log("svc").read_all(),
                lambda: store.compare(tmp_path / "served", "svc"),
            ],
            "rows": [
                lambda: train("profile"),
                lambda: train("query"),
                lambda: store.materialize(["profile"]),
                lambda: store.materialize(["query"]),
            ],
            "labels": [lambda: train("profile", tmp_path / "labels")],
        }
        for folder, reads in readers.items():
            file = max((tmp_path / folder).rglob("*.parquet"))
            good = file.read_bytes()
            for problem, damage in DAMAGES.items():
                file.write_bytes(damage(good))
                for number, read in enumerate(reads):
                    case = f"{folder} {number}: {problem}"
                    with pytest.raises(SourceError) as caught:
                        read()
                    text = str(caught.value)
                    assert str(file.relative_to(tmp_path)) in text, case
                    assert folder == "labels" or problem in text, case
            file.write_bytes(good)
            for read in reads:
                read()
