"""`estimate` measures a sample, deletes it, and comes close to what a load needs."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import redis

from featurekit import FeatureStore
from featurekit.constraints import Constraints
from featurekit.errors import RequestError, StoreError, UnknownNameError
from featurekit.plan import FieldPlan
from featurekit.repo.estimate import listpack_bytes
from featurekit.repo.estimate_memory import SAMPLE_TTL_MS
from featurekit.repo.estimate_report import EntityEstimate, EstimateReport
from featurekit.repo.estimate_rows import invented_value
from featurekit.types import codec_of, parse_dtype
from tests.cli.running import run
from tests.data.repos import NOW, write_repo
from tests.servers import Server

PROFILE = """
  - name: profile
    entity: user
    batch:
      refresh: 12h
      expires: {expires}
      source: {{type: parquet, path: users.parquet, timestamp_field: at}}
    fields: {{age: int64, score: float64, country: string{more}}}
"""
ACTIVITY = """
  - name: activity
    entity: user
    stream: {refresh: 1m, ttl: 5m}
    fields: {tx_count_5m: int64, device: {type: string, max_length: 20}}
"""


def write_users(folder: Path, count: int) -> None:
    chance = random.Random(5)
    columns = {
        "user_id": [f"u{number:07}" for number in range(count)],
        "at": pa.array([NOW - timedelta(hours=1)] * count, pa.timestamp("us", "UTC")),
        "age": [chance.randrange(90) for _ in range(count)],
        "score": [chance.random() for _ in range(count)],
        "country": [chance.choice(["NO", "SE"]) for _ in range(count)],
        "bio": ["x" * chance.randrange(20, 120) for _ in range(count)],
    }
    pq.write_table(pa.table(columns), folder / "users.parquet")


def profile(expires: str = "key", more: str = "") -> str:
    return PROFILE.format(expires=expires, more=more)


def estimate(folder: Path, count: int = 1000, **options: Any) -> EntityEstimate:
    return reported(folder, count, **options).entities[0]


def reported(folder: Path, count: int = 1000, **options: Any) -> EstimateReport:
    with FeatureStore(folder) as store:
        return store.data.estimate({"user": count}, **options)


def test_the_sample_is_measured_and_deleted(server: Server, tmp_path: Path) -> None:
    write_users(write_repo(tmp_path, profile() + ACTIVITY, server.url), 300)
    with server.client() as client:
        client.set("other", "1")
        found = estimate(tmp_path, 1_000_000, sample=100)
        assert client.keys() == [b"other"]
    assert (found.sample, found.count) == (100, 1_000_000)
    assert found.total_bytes == round(found.bytes * 1_000_000)
    assert {each.name: each.origin for each in found.fields} == {
        **dict.fromkeys(["age", "score", "country"], "source"),
        **dict.fromkeys(["tx_count_5m", "device"], "invented"),
    }
    assert [read.entities for read in found.reads] == [1, 100]
    assert all(each.bytes > 0 for each in found.fields)
    assert sum(found.encodings.values()) == pytest.approx(1)


def test_field_ttls_make_hashes_of_valkey_wide(valkey: Server, tmp_path: Path) -> None:
    write_users(write_repo(tmp_path, profile() + ACTIVITY, valkey.url), 200)
    found = estimate(tmp_path, sample=50)
    assert found.encodings == {"hashtable": 1.0}
    assert found.wide_because == ("field TTLs, of activity",)
    choices = {each.name: each.bytes for each in found.choices}
    assert choices["one TTL for the key, no TTLs of fields"] < found.bytes / 2
    assert all(each.bytes < found.bytes for each in found.choices)


@pytest.mark.slow
def test_a_long_value_is_named_with_what_it_costs(server: Server, tmp_path: Path) -> None:
    write_users(write_repo(tmp_path, profile(more=", bio: string"), server.url), 300)
    found = estimate(tmp_path, sample=100)
    assert found.wide_because == ("values of more than 64 bytes: bio",)
    assert [each.name for each in found.fields if each.causes_wide] == ["bio"]
    assert {"hash-max-listpack-value 128 on the server"} <= {each.name for each in found.choices}


@pytest.mark.slow
def test_the_computed_size_of_a_setting_is_that_of_the_setting(
    valkey: Server, tmp_path: Path
) -> None:
    write_users(write_repo(tmp_path, profile(more=", bio: string"), valkey.url), 300)
    computed = next(each for each in estimate(tmp_path).choices if each.basis == "computed")
    with valkey.client() as client:
        before = client.config_get("hash-max-listpack-value")["hash-max-listpack-value"]
        client.config_set("hash-max-listpack-value", 128)
        try:
            real = estimate(tmp_path)
        finally:
            client.config_set("hash-max-listpack-value", before)
    assert real.encodings == {"listpack": 1.0}
    assert computed.bytes == pytest.approx(real.bytes, rel=0.03)


@pytest.mark.slow
def test_views_that_not_all_entities_have_cost_less(valkey: Server, tmp_path: Path) -> None:
    few = """
  - name: few
    entity: user
    batch: {refresh: 1h, expires: field, source: {type: sql, query: "SELECT * FROM 'users.parquet' LIMIT 30"}}
    fields: {bio: string}
"""
    write_users(write_repo(tmp_path, profile() + few, valkey.url), 300)
    found = estimate(tmp_path, sample=300)
    (bio,) = [each for each in found.fields if each.name == "bio"]
    assert bio.share == pytest.approx(0.1)
    assert found.encodings["hashtable"] == pytest.approx(0.1)


def test_examples_replace_values_and_give_keys(valkey: Server, tmp_path: Path) -> None:
    write_repo(tmp_path, ACTIVITY, valkey.url)
    examples = tmp_path / "examples.jsonl"
    lines = [{"user_id": f"user-{n}", "device": "d" * 50, "tx_count_5m": n} for n in range(9)]
    examples.write_text("\n".join(map(json.dumps, lines)))
    found = estimate(tmp_path, examples=examples)
    assert found.sample == 9
    assert {each.name: each.max_value_bytes for each in found.fields}["device"] == 50
    assert {each.origin for each in found.fields} == {"example"}
    examples.write_text('{"user_id": "u1", "devise": "x", "event_timestamp": "2026-01-01"}\n')
    note = "no view has these names of the examples: devise"
    assert note in reported(tmp_path, examples=examples).notes
    examples.write_text("\n")
    assert f"{examples} has no examples" in reported(tmp_path, examples=examples).notes
    examples.write_text('{"tx_count_5m": "many"}\n')
    with pytest.raises(RequestError, match=r"examples\.jsonl:1, tx_count_5m"):
        estimate(tmp_path, examples=examples)
    examples.write_text("[1]\n")
    with pytest.raises(RequestError, match="not an object"):
        estimate(tmp_path, examples=examples)


@pytest.mark.slow
def test_events_of_a_history_give_the_values_of_a_stream(valkey: Server, tmp_path: Path) -> None:
    source = "batch_source: {type: jsonl, path: events.jsonl, timestamp_field: at}"
    write_repo(tmp_path, ACTIVITY.replace("ttl: 5m", f"ttl: 5m, {source}"), valkey.url)
    events = [
        {"user_id": f"u{n}", "at": f"2026-01-01T00:00:0{n}Z", "tx_count_5m": n, "device": "dev"}
        for n in range(9)
    ]
    (tmp_path / "events.jsonl").write_text("\n".join(map(json.dumps, events)))
    found = estimate(tmp_path)
    assert {each.origin for each in found.fields} == {"history"}
    assert {each.name: each.max_value_bytes for each in found.fields}["device"] == 3


def wait_for(condition: Callable[[], Any]) -> None:
    late = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < late
        time.sleep(0.001)


def expires(client: redis.Redis, key: bytes) -> bool:
    """Return whether a hash expires as a whole, or with its fields."""
    ttls = [client.pttl(key)]
    if ttls == [-1]:
        ttls = client.hpttl(key, *client.hkeys(key))
    return all(0 < ttl <= SAMPLE_TTL_MS for ttl in ttls)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupt_deletes_the_sample_and_a_killed_run_leaves_keys_that_expire(
    valkey: Server, tmp_path: Path, number: signal.Signals
) -> None:
    write_users(write_repo(tmp_path, profile() + ACTIVITY, valkey.url), 20_000)
    options = ["estimate", "--entities", "user=1M", "--sample", "20000"]
    process = subprocess.Popen(
        [sys.executable, "-m", "featurekit", "--repo", str(tmp_path), *options],
        stderr=subprocess.PIPE,
    )
    with valkey.client() as client:
        wait_for(lambda: client.dbsize() > 3000)
        process.send_signal(number)
        _, message = process.communicate(timeout=60)
        if number == signal.SIGINT:
            assert process.returncode == 130
            assert b"Traceback" not in message
            assert client.dbsize() == 0
        else:
            keys = client.keys()
            assert keys
            assert all(expires(client, key) for key in keys)


@pytest.mark.slow
@pytest.mark.parametrize(
    "views",
    [
        profile(),
        profile("field"),
        profile(more=", bio: string"),
        profile() + ACTIVITY,
    ],
    ids=["compact", "field TTLs", "long values", "batch and stream"],
)
def test_an_estimate_is_close_to_a_load(server: Server, tmp_path: Path, views: str) -> None:
    count = 60_000
    write_users(write_repo(tmp_path, views, server.url), count)
    with FeatureStore(tmp_path) as store, server.client() as client:
        found = store.data.estimate({"user": count}).entities[0]
        store.apply()
        before = client.info("memory")["used_memory"]
        store.materialize()
        if ACTIVITY in views:
            writer = store.stream_writer("activity")
            for start in range(0, count, 5000):
                writer.write_many(
                    (f"u{n:07}", {"tx_count_5m": n % 10_000, "device": "abcdefghijkl"})
                    for n in range(start, start + 5000)
                )
        used = client.info("memory")["used_memory"] - before
    assert found.total_bytes == pytest.approx(used, rel=0.1)


WINDOWS = """
  - name: payments
    entity: user
    stream:
      refresh: 1m
      {more}
      batch_source: {{type: parquet, path: payments.parquet, timestamp_field: at}}
    inputs: {{amount: float64, shop: string}}
    fields:
      paid_10m: {{type: int64, aggregate: count, window: 10m, tile: 1m}}
      spent_1h: {{type: float64, aggregate: sum, of: amount, window: 1h, tile: 5m}}
      mean_1h: {{type: float64, aggregate: mean, of: amount, window: 1h, tile: 5m}}
      spread_1h: {{type: float64, aggregate: stddev, of: amount, window: 1h, tile: 5m}}
      largest_1h: {{type: float64, aggregate: max, of: amount, window: 1h, tile: 5m}}
      shops_10m: {{type: int64, aggregate: count_distinct, of: shop, window: 10m, tile: 1m}}
  - name: risk
    derived: {{from: [payments]}}
    fields: {{is_large: {{type: bool, expr: "largest_1h > 2 * mean_1h"}}}}
"""


def test_windows_are_measured_full_and_derived_features_take_nothing(
    valkey: Server, tmp_path: Path
) -> None:
    write_repo(tmp_path, WINDOWS.format(more="once: {event_id: id}"), valkey.url)
    with FeatureStore(tmp_path) as store, valkey.client() as client:
        report = store.data.estimate({"user": 30}, sample=30)
        [found] = report.entities
        assert client.keys() == []
        store.apply()
        others = set(client.keys())
        chance, now_ms, minute_ms = random.Random(3), int(time.time() * 1000), 60_000
        events = [
            (
                f"u{user:015}",
                {"id": f"{user}-{number}", "amount": amount, "shop": f"s{number % 40}"},
                now_ms - (72 - number // 3) * minute_ms,
            )
            for user in range(30)
            for number in range(73 * 3)
            for amount in [chance.randint(1, 9999) / 100]
        ]
        assert store.stream_writer("payments").write_many(events).written > 0
        keys = set(client.keys()) - others
        used = [client.memory_usage(key, samples=0) for key in keys]
    fields = {each.name: each for each in found.fields}
    assert fields["@payments"].max_value_bytes == 64 * 8
    assert not {"is_large", "id", "amount"} & fields.keys()
    assert "windows of payments are taken to be full" in " ".join(report.notes)
    assert not any("no TTLs of fields" in each.name for each in found.choices)
    assert len(used) == 30
    assert found.bytes == pytest.approx(sum(used) / 30, rel=0.1)


def test_a_guard_by_offsets_is_in_the_estimate(valkey: Server, tmp_path: Path) -> None:
    source = "source: {type: kafka, topic: t, bootstrap_servers: 'k:9092'}"
    write_repo(tmp_path, WINDOWS.format(more=source), valkey.url)
    fields = {each.name: each for each in estimate(tmp_path, sample=10).fields}
    assert 16 < fields["@payments"].max_value_bytes < 24


def test_an_invented_value_has_its_type() -> None:
    chance = random.Random(1)
    kinds = [
        "string",
        "int64",
        "int32",
        "float64",
        "float32",
        "bool",
        "timestamp",
        "date",
        "decimal",
    ]
    kinds += [
        "bytes",
        "json",
        "array<string>",
        "array<int64>",
        "array<date>",
        "vector<float32, 4>",
    ]
    for kind in kinds:
        dtype = parse_dtype(kind)
        assert codec_of(dtype).decode(invented_value(FieldPlan("f", dtype), chance)) is not None
    short = FieldPlan("f", parse_dtype("string"), Constraints(max_length=3))
    assert len(invented_value(short, chance)) == 3
    low = FieldPlan("f", parse_dtype("int64"), Constraints(min=5, max=6))
    assert invented_value(low, chance) in (b"5", b"6")
    one = FieldPlan("f", parse_dtype("string"), Constraints(one_of=(b"only",)))
    assert invented_value(one, chance) == b"only"


@pytest.mark.parametrize(
    ("data", "size"),
    [
        (b"0", 2),
        (b"127", 2),
        (b"128", 3),
        (b"-1", 3),
        (b"4096", 4),
        (b"40000", 5),
        (b"9000000", 6),
        (b"9000000000", 10),
        (b"007", 5),
        (b"abc", 5),
        (b"x" * 63, 65),
        (b"x" * 64, 67),
        (b"x" * 5000, 5007),
    ],
)
def test_the_size_of_an_entry_of_a_listpack(data: bytes, size: int) -> None:
    assert listpack_bytes(data) == size


def test_wrong_usage_is_refused(valkey: Server, tmp_path: Path) -> None:
    write_users(write_repo(tmp_path, profile(), valkey.url), 10)
    with FeatureStore(tmp_path) as store:
        with pytest.raises(UnknownNameError):
            store.data.estimate({"usr": 1})
        for counts in ({}, {"user": 0}, {"user": "10M"}, {"user": 1.5}):
            with pytest.raises(RequestError):
                store.data.estimate(counts)  # type: ignore[arg-type]
    command = ("--repo", str(tmp_path), "estimate", "--entities")
    assert run(*command, "user").exit_code == 2
    assert "'user' has two counts" in run(*command, "user=1", "--entities", "user=2").stderr
    assert run(*command, "user=1.5k", "--json").exit_code == 0
    assert "2,500,000 x" in run(*command, "user=2.5M").stdout
    write_repo(tmp_path, profile())
    with FeatureStore(tmp_path) as store, pytest.raises(StoreError, match="MEMORY USAGE"):
        store.data.estimate({"user": 1})
