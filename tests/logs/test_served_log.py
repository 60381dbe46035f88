"""The log of served features: `feature_services[].logging`."""

from __future__ import annotations

import asyncio
import json
import os
import pickle
import signal
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from featurekit import FeatureStore, request_id
from featurekit.server.app import create_app
from featurekit.server.context import ServerContext
from tests.cli.running import run, run_json
from tests.promise.repos import FRAUD, applied
from tests.servers import Server
from tests.testclient import TestClient

LOGGED = FRAUD.replace(
    "features: [profile, activity]}",
    "features: [profile, activity], logging: {path: served}}",
).replace("'shop:country']}", "'shop:country'], logging: {path: served_both, sample_rate: 0.5}}")
FEATURES = ["country", "tx_count_7d", "tags", "tx_count_5m", "device"]


def served(folder: Path) -> pa.Table:
    """Return the rows of complete files, by time."""
    files = sorted(folder.glob("*/*.parquet"))
    return pa.concat_tables([pq.read_table(file) for file in files]).sort_by("served_at")


def fill(store: FeatureStore) -> None:
    rows = {"u1": {"country": "NO", "tx_count_7d": 3, "tags": ["a"]}, "u2": {"country": "SE"}}
    store.write_batch("profile", rows)
    store.stream_writer("activity").write("u1", {"tx_count_5m": 5})


def test_all_reads_of_a_service_are_logged_with_statuses(valkey: Server, tmp_path: Path) -> None:
    with applied(tmp_path, valkey.url, LOGGED) as store:
        fill(store)
        before = datetime.now(UTC).replace(microsecond=0)
        reader = store.online_reader("fraud_v1")
        with request_id("r-1"):
            row = reader.read("u1")
        row.country = "changed later"
        reader.read_many(["u2", "u3"])
        store.get_online_features("fraud_v1", {"user_id": ["u1"]}, full_feature_names=True)
        asyncio.run(reader.read_async("u1"))
        asyncio.run(store.get_online_features_async("fraud_v1", [{"user_id": "u2"}]))
        store.get_online_features(["profile:country"], {"user_id": ["u1"]})  # of no service
        reader.read_many([])
        pickle.loads(pickle.dumps(reader)).read("u9")
        store.close()
        counts = store.metrics(views=False).logs["fraud_v1"]
        assert (counts.written, counts.dropped) == (6, 0)
    table = served(tmp_path / "served")
    statuses = [f"{name}__status" for name in FEATURES]
    assert table.column_names == ["user_id", *FEATURES, *statuses, "served_at", "request_id"]
    rows = table.to_pylist()
    assert sorted(row["user_id"] for row in rows) == ["u1", "u1", "u1", "u2", "u2", "u3"]
    [first] = [row for row in rows if row["request_id"] == "r-1"]
    assert [first[name] for name in FEATURES] == ["NO", 3, ["a"], 5, None]
    assert [first[name] for name in statuses] == ["present"] * 4 + ["missing"]
    [absent] = [row for row in rows if row["user_id"] == "u3"]
    assert [absent[name] for name in FEATURES] == [None, 0, [], 0, None]
    expected = ["missing", "default", "default", "default", "missing"]
    assert [absent[name] for name in statuses] == expected
    assert all(before <= row["served_at"] <= datetime.now(UTC) for row in rows)


def test_what_does_not_decode_or_is_stale_has_its_status(valkey: Server, tmp_path: Path) -> None:
    with applied(tmp_path, valkey.url, LOGGED) as store, valkey.client() as client:
        fill(store)
        client.hset("fs:user:u2", "tx_count_7d", "many")
        reader = store.online_reader("fraud_v1")
        reader.read_many(["u1", "u2"])
        store.online_reader("fraud_v1", freshness=True).read("u1")
        client.pexpire("fs:user:u1", 10_000_000)
        store.online_reader("fraud_v1", max_age={"profile": "1m"}).read("u1")
    rows = served(tmp_path / "served").to_pylist()
    found = [(r["user_id"], r["tx_count_7d"], r["tx_count_7d__status"]) for r in rows]
    expected = [
        ("u1", 0, "stale"),
        ("u1", 3, "present"),
        ("u1", 3, "present"),
        ("u2", 0, "invalid"),
    ]
    assert sorted(found) == expected


def test_a_sample_has_all_rows_of_an_entity_or_none(valkey: Server, tmp_path: Path) -> None:
    ids = [f"u{number:04}" for number in range(400)]
    keys: dict[str, list[Any]] = {
        "user_id": ids,
        "merchant_id": [number % 7 for number in range(400)],
    }
    with applied(tmp_path, valkey.url, LOGGED) as store:
        fill(store)
        for _ in range(2):
            store.get_online_features("both", keys)
        store.online_reader("both").read({"user_id": ids[0], "merchant_id": 3})
    table = served(tmp_path / "served_both")
    assert table.column_names[:2] == ["user_id", "merchant_id"]
    counts: dict[str, int] = {}
    for row in table.to_pylist():
        counts[row["user_id"]] = counts.get(row["user_id"], 0) + 1
        if row["user_id"] != ids[0]:
            assert row["merchant_id"] == int(row["user_id"][1:]) % 7
    assert {count for name, count in counts.items() if name != ids[0]} == {2}
    assert 120 < len(counts) < 280


def test_a_log_is_read_as_arrow_whatever_columns_its_files_had(
    valkey: Server, tmp_path: Path
) -> None:
    more = LOGGED.replace(
        "country: string\n      tx", "country: string\n      city: string\n      tx"
    )
    for text in (LOGGED, more):
        with applied(tmp_path, valkey.url, text) as store:
            fill(store)
            store.online_reader("fraud_v1").read("u1")
    with FeatureStore(tmp_path) as store:
        reader: Any = store.served_log("fraud_v1")
        table = reader.read_all()
    assert table.num_rows == 2
    assert table["city"].to_pylist() == [None, None]
    assert table["city__status"].to_pylist() == [None, "missing"]
    assert table["country"].to_pylist() == ["NO", "NO"]


def test_a_log_becomes_a_training_set_as_it_is(valkey: Server, tmp_path: Path) -> None:
    with applied(tmp_path, valkey.url, LOGGED) as store:
        fill(store)
        store.online_reader("fraud_v1").read_many(["u1", "u2", "u3"])
    arguments = ["--repo", str(tmp_path), "training-set", "fraud_v1", "--from-log"]
    manifest = run_json(*arguments, "--output", str(tmp_path / "train"))
    assert json.loads((tmp_path / "train/manifest.json").read_text()) == manifest
    assert manifest["labels"] == {"rows": 3, "timestamp_field": "served_at"}
    assert {view["as_of"] for view in manifest["views"]} == {"served"}
    [country] = [f for f in manifest["features"] if f["name"] == "country"]
    assert country["statuses"] == {"present": 2, "missing": 1}
    table = pq.read_table(tmp_path / "train/data.parquet")
    assert table.sort_by("user_id")["country"].to_pylist() == ["NO", "SE", None]
    assert "request_id" in table.column_names
    refused = run(*arguments, "--output", str(tmp_path / "other"), "--statuses")
    assert "--from-log writes the log as it is, without --statuses" in refused.stderr
    assert not (tmp_path / "other").exists()


GLOBAL = LOGGED.replace(
    "feature_views:",
    """feature_views:
  - name: rates
    batch: {refresh: 12h}
    fields: {nok: float64}""",
).replace("[profile, activity], logging", "[rates, profile, 'shop:sales'], logging")


def test_a_view_without_an_entity_is_in_every_row(valkey: Server, tmp_path: Path) -> None:
    with applied(tmp_path, valkey.url, GLOBAL) as store:
        fill(store)
        store.write_batch("rates", [{"nok": 11.5}])
        reader = store.online_reader("fraud_v1")
        reader.read_many([{"user_id": f"u{n}", "merchant_id": n} for n in (1, 2)])
        reader.read({"user_id": "u3", "merchant_id": 3})
    rows = served(tmp_path / "served").to_pylist()
    found = [(row["user_id"], row["merchant_id"], row["nok"], row["country"]) for row in rows]
    assert found == [("u1", 1, 11.5, "NO"), ("u2", 2, 11.5, "SE"), ("u3", 3, 11.5, None)]


def test_a_request_over_http_is_logged_with_its_id(valkey: Server, tmp_path: Path) -> None:
    with applied(tmp_path, valkey.url, LOGGED) as store:
        fill(store)
        with TestClient(create_app(ServerContext(store))) as client:
            for headers in ({"X-Request-ID": "a" * 200}, {}):
                body = {"entities": [{"user_id": "u1"}]}
                assert (
                    client.post(
                        "/v1/services/fraud_v1/read", json=body, headers=headers
                    ).status_code
                    == 200
                )
    rows = served(tmp_path / "served").to_pylist()
    assert [row["request_id"] for row in rows] == ["a" * 128, None]


def test_a_child_opens_logs_while_a_thread_of_its_parent_did(
    valkey: Server, tmp_path: Path
) -> None:
    with applied(tmp_path, valkey.url, LOGGED) as store:
        fill(store)
        with store._logs._lock:  # as if another thread were opening a log
            child = os.fork()
            if not child:
                store.online_reader("fraud_v1").read("u1")
                store.close()
                os._exit(0)
            ended = wait_for_child(child)
    assert ended == 0


def wait_for_child(child: int) -> int | None:
    """Return the exit code of a child; kill it if it has not ended after a minute."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


DERIVED = LOGGED.replace(
    "feature_services:",
    """\
  - name: risk
    derived: {from: [profile, transaction]}
    fields:
      share: {type: float64, expr: "amount / nullif(tx_count_7d, 0)", default: 1}
      late: {type: bool, expr: "now > timestamp '2026-01-01T00:00:00Z'"}
requests: [{name: transaction, fields: {amount: float64}}]
feature_services:
  - {name: derived, features: ['profile:country', risk], logging: {path: derived}}""",
)


def test_derived_features_are_logged_with_the_request(valkey: Server, tmp_path: Path) -> None:
    with applied(tmp_path, valkey.url, DERIVED) as store:
        fill(store)
        reader = store.online_reader("derived")
        reader.read("u1", request={"amount": 6})
        reader.get({"user_id": ["u2"], "amount": [1.0]})
        with valkey.client() as client:
            client.hset("fs:user:u1", "tx_count_7d", "?")
        reader.read_many(["u1"], request={"amount": 2})
    rows = served(tmp_path / "derived").to_pylist()
    names = ["user_id", "amount", "country", "share", "late", "share__status", "late__status"]
    assert [[row[name] for name in names] for row in rows] == [
        ["u1", 6.0, "NO", 2.0, True, "present", "present"],
        ["u2", 1.0, "SE", 1.0, True, "default", "present"],
        ["u1", 2.0, "NO", 1.0, True, "invalid", "present"],
    ]
