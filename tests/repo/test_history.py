"""The history of loads and applies, in the online store."""

from __future__ import annotations

import json
import threading
import zlib
from pathlib import Path
from typing import Any

import pytest

from featurekit import FeatureStore
from featurekit.changes import Change
from featurekit.errors import BadRowError, RequestError, UnknownNameError
from featurekit.history_ports import PastLoad
from featurekit.repo.history import (
    BLOCK_LOADS,
    MAX_APPLIES,
    NEWEST_LOADS,
    ApplyRecord,
    History,
    LoadRecord,
    LogBounds,
)
from tests.promise.repos import FRAUD, applied
from tests.servers import Server, patient

SHOP_YAML = """
entities:
  - {name: user, join_keys: {user_id: string}}
feature_views:
  - name: people
    entity: user
    batch:
      refresh: 24h
      source: {type: csv, path: rows.csv, timestamp_field: at}
    fields: {age: int64}
"""
START_MS = 1_795_336_200_000
BOUNDS = LogBounds(keep_ms=2**50)


def history_of(store: FeatureStore) -> History:
    return History(store.handle, store.project)


def test_loads_are_recorded_newest_first_with_their_counts(valkey: Server, tmp_path: Path) -> None:
    with applied(tmp_path, valkey.url) as store:
        store.write_batch("profile", {"u1": {}, "u2": {}})
        rows = {"u1": {"tx_count_7d": -5}, "u2": {}}
        report = store.write_batch("profile", rows, on_bad_row="skip")
        with pytest.raises(BadRowError):
            store.write_batch("profile", rows)
        failed, second, first = store.load_history("profile")
    assert "is below min" in failed.error
    assert failed.good_ms == second.ended_ms
    assert (second.rows_read, second.rows_written, second.rows_rejected) == (2, 1, 1)
    assert second.rejects_path == report.rejects_path != ""
    assert (first.rows_written, first.error, first.size_bytes > 0) == (2, "", True)
    assert 0 < first.started_ms <= first.ended_ms <= second.started_ms


def add_loads(store: FeatureStore, view: str, numbers: range, bounds: LogBounds = BOUNDS) -> None:
    """Record loads that end a minute apart, as a load does it."""
    history = History(store.handle, store.project, bounds)
    for number in numbers:
        ended_ms = START_MS + number * 60_000
        record = LoadRecord(
            view, ended_ms - 5, ended_ms, number, seconds=0.25, source_identity=f"1 file {number}"
        )
        history.seal(view, history.new_load(record).run(store.handle.store))


def test_the_log_keeps_all_loads_of_its_time_and_lists_the_newest(
    valkey: Server, tmp_path: Path
) -> None:
    with applied(tmp_path, valkey.url) as store:
        count = NEWEST_LOADS + 3 * BLOCK_LOADS + 5
        add_loads(store, "profile", range(count))
        add_loads(store, "shop", range(1))
        runs = store.load_history("profile")
        assert [run.rows_read for run in runs] == list(range(count - 1, count - 51, -1))
        assert len(store.load_history()) == NEWEST_LOADS + 1
        with pytest.raises(UnknownNameError):
            store.load_history("nope")
        log = list(history_of(store).load_log("profile"))
        assert [load.rows_read for load in log] == list(range(count))
        assert (log[300].ended_ms, log[300].seconds) == (START_MS + 300 * 60_000, 0.25)
        from_ms, to_ms = START_MS + 100 * 60_000, START_MS + 600 * 60_000
        part = history_of(store).load_log("profile", from_ms, to_ms)
        assert [load.rows_read for load in part] == list(range(100, 601))
        assert len(history_of(store).past_loads("profile")) == count
        ranged = store.load_history("profile", since=from_ms, until=to_ms)
        assert [load.rows_read for load in ranged] == list(range(600, 99, -1))
        assert len(store.load_history(until=START_MS)) == 2
        assert len(store.load_history(since="2020-01-01")) == count + 1
        assert store.load_history("shop", since=START_MS + 1) == []
        with pytest.raises(RequestError, match="since 2 is after until 1"):
            store.load_history(since=2, until=1)
        with pytest.raises(RequestError, match="since"):
            store.load_history(since="yesterday")
        with valkey.client() as client:
            assert client.llen("featurekit:{shop}:runs:profile") == NEWEST_LOADS + 5
            names = client.hkeys("featurekit:{shop}:load_blocks:profile")
            assert len(names) == 3
            assert all(int(name.split(b"-")[3]) < 20 * BLOCK_LOADS for name in names)


def test_blocks_that_are_too_old_or_too_large_are_dropped(valkey: Server, tmp_path: Path) -> None:
    with applied(tmp_path, valkey.url) as store:
        count = NEWEST_LOADS + 2 * BLOCK_LOADS
        one_block = LogBounds(BOUNDS.keep_ms, max_bytes=2200)
        add_loads(store, "profile", range(count), one_block)
        log = list(history_of(store).load_log("profile"))
        assert [load.rows_read for load in log] == list(range(BLOCK_LOADS, count))
        add_loads(store, "shop", range(count))
        assert len(list(history_of(store).load_log("shop"))) == count
        since_ms = START_MS + (count + 1) * 60_000
        of_today = LogBounds(store.handle.now_ms() - since_ms)
        add_loads(store, "shop", range(count, count + BLOCK_LOADS), of_today)
        left = [load.rows_read for load in history_of(store).load_log("shop")]
        assert left == list(range(2 * BLOCK_LOADS, count + BLOCK_LOADS))


@pytest.mark.parametrize(
    ("declared", "kept"),
    [("{max_bytes: 2200, keep: 600d}", 1), ("{keep: 1h}", 0), ("{keep: 600d}", 2)],
)
@pytest.mark.parametrize("registry", [".featurekit/registry.json", "online", "from_registry"])
def test_the_declared_bounds_of_the_log_are_obeyed(
    valkey: Server, tmp_path: Path, declared: str, kept: int, registry: str
) -> None:
    has_file = registry != "from_registry"
    with applied(tmp_path, valkey.url, registry=registry if has_file else "online") as store:
        project = store.project
    with (tmp_path / "featurerepo.yaml").open("a") as file:
        file.write(f"load_log: {declared}\n")
    if not has_file:
        with FeatureStore(tmp_path) as store:
            assert not store.apply().changes
    with (
        FeatureStore(tmp_path)
        if has_file
        else FeatureStore.from_registry(patient(valkey.url), project)
    ) as store:
        history = store._registry_store.history
        first_ms = store.handle.now_ms() - 500 * 86_400_000
        for number in range(NEWEST_LOADS + 2 * BLOCK_LOADS):
            ended_ms = first_ms + number * 60_000
            record = LoadRecord(
                "profile", ended_ms - 5, ended_ms, number, source_identity=f"1 file {number}"
            )
            history.seal("profile", history.new_load(record).run(store.handle.store))
        log = list(store.load_history("profile", since=0))
        assert len(log) == NEWEST_LOADS + kept * BLOCK_LOADS


def test_two_loads_seal_the_same_records_once(valkey: Server, tmp_path: Path) -> None:
    with applied(tmp_path, valkey.url) as store:
        count = NEWEST_LOADS + BLOCK_LOADS - 1
        add_loads(store, "profile", range(count))
        history, at_once = history_of(store), threading.Barrier(4)
        history.new_load(LoadRecord("profile", ended_ms=START_MS * 2)).run(store.handle.store)

        def seal() -> None:
            at_once.wait()
            history.seal("profile", count + 1)

        threads = [threading.Thread(target=seal) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(list(history.load_log("profile"))) == count + 1


def test_a_list_that_cannot_be_sealed_is_bounded(valkey: Server, tmp_path: Path) -> None:
    with applied(tmp_path, valkey.url) as store, valkey.client() as client:
        client.set("featurekit:{shop}:load_blocks:profile", "not a hash")
        client.lpush("featurekit:{shop}:runs:profile", *["{}"] * 1100)
        report = store.write_batch("profile", {"u1": {}})
        assert "WRONGTYPE" in report.history_error
        assert client.llen("featurekit:{shop}:runs:profile") == NEWEST_LOADS + 4 * BLOCK_LOADS
        client.delete("featurekit:{shop}:load_blocks:profile")


def test_damaged_blocks_are_skipped(valkey: Server, tmp_path: Path) -> None:
    texts = [
        b"",
        b"x",
        b"[]",
        b"{}",
        b"{",
        b'{"started_ms":[1]}',
        b'{"started_ms":["x"],"view":[1]}',
    ]
    texts += [
        b'{"started_ms":[1],"view":["profile","shop"]}',
        b'{"view":["profile"]}',
        b"[" * 9999,
    ]
    with applied(tmp_path, valkey.url) as store:
        with valkey.client() as client:
            for number, text in enumerate(texts):
                name, data = f"1-{number + 1}-1-9", zlib.compress(text)
                client.hset("featurekit:{shop}:load_blocks:profile", name, data)
            client.hset("featurekit:{shop}:load_blocks:profile", "1-99-1-9", "not compressed")
            client.hset("featurekit:{shop}:load_blocks:profile", "other", "not a block")
        assert list(history_of(store).load_log("profile")) == []


def test_a_load_from_the_source_records_what_it_read(valkey: Server, tmp_path: Path) -> None:
    yaml = SHOP_YAML
    rows = tmp_path / "rows.csv"
    rows.write_text("user_id,at,age\nu1,2026-01-01T00:00:00Z,7\n")
    with applied(tmp_path, valkey.url, yaml) as store:
        history = history_of(store)
        [report] = store.materialize(["people"])
        store.write_batch("people", {"u2": {"age": 8}})
        store.materialize(["people"])
        rows.write_text("user_id,at,age\nu1,2026-01-01T00:00:00Z,70\n")
        store.materialize(["people"], missing_only=True)
        first, written, second, third = history.load_log("people")
        assert first.source_identity == second.source_identity != third.source_identity
        assert first.source_identity.startswith("1 file ")
        assert written.source_identity == ""
        assert report.started_ms <= first.scanned_ms <= first.ended_ms
        assert {load.fingerprint for load in (first, written)} == {_fingerprint(store)}
        loads = history.past_loads("people")
        assert loads == [
            PastLoad(load.scanned_ms, load.ended_ms, None, load.started_ms + 1)
            for load in (first, second)
        ]


def test_a_load_from_a_query_records_the_files_that_it_read(
    valkey: Server, tmp_path: Path
) -> None:
    query = "SELECT * FROM read_csv('*.csv') WHERE age > $least"
    source = f'{{type: sql, query: "{query}", parameters: {{least: 0}}, timestamp_field: at}}'
    rows = tmp_path / "rows.csv"
    rows.write_text("user_id,at,age\nu1,2026-01-01T00:00:00Z,7\n")
    yaml = SHOP_YAML.replace("{type: csv, path: rows.csv, timestamp_field: at}", source)
    with applied(tmp_path, valkey.url, yaml) as store:
        store.materialize(["people"])
        store.materialize(["people"])
        rows.write_text("user_id,at,age\nu1,2026-01-01T00:00:00Z,70\n")
        store.materialize(["people"])
        identities = [load.source_identity for load in history_of(store).load_log("people")]
    digest = identities[0].split(",")[0]
    assert identities[0] == identities[1] != identities[2]
    assert all(each.startswith(f"{digest}, 1 file ") for each in identities)


def test_applied_registries_are_kept_by_fingerprint(valkey: Server, tmp_path: Path) -> None:
    with applied(tmp_path, valkey.url) as store:
        first = store.applied
        assert history_of(store).registry(first.fingerprint) == first
        assert history_of(store).registry("other") is None
        with valkey.client() as client:  # as applied by an older version
            client.delete("featurekit:{shop}:registries")
        store.write_batch("profile", {"u1": {}})
        assert history_of(store).registry(first.fingerprint) == first
    with applied(tmp_path, valkey.url, FRAUD.replace("12h, ttl: 24h", "12h, ttl: 48h")) as store:
        second, history = store.applied, history_of(store)
        assert [history.registry(each.fingerprint) for each in (first, second)] == [first, second]
    with applied(tmp_path, valkey.url, FRAUD.replace("12h, ttl: 24h", "12h, ttl: 72h")) as store:
        third = store.applied
        keep_nothing = History(store.handle, store.project, LogBounds(keep_ms=-1000))
        keep_nothing.record_apply(store.apply_history()[0])
        kept = [history.registry(each.fingerprint) for each in (first, second, third)]
        assert kept == [None, second, third]


def test_concurrent_loads_are_all_recorded(valkey: Server, tmp_path: Path) -> None:
    with applied(tmp_path, valkey.url) as store:
        history = history_of(store)

        def record(view: str) -> None:
            for number in range(10):
                history.new_load(LoadRecord(view, ended_ms=number)).run(store.handle.store)

        threads = [threading.Thread(target=record, args=(v,)) for v in ("profile", "shop") * 2]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(store.load_history()) == 40


def test_applies_are_recorded_with_user_and_changes(valkey: Server, tmp_path: Path) -> None:
    with applied(tmp_path, valkey.url) as store:
        [first] = store.apply_history()
        assert (first.before, first.after) == ("", _fingerprint(store))
        assert Change("add", "entity user") in first.changes
        assert "@" in first.who
        store.apply()
        assert len(store.apply_history()) == 1
    again = FRAUD.replace("12h, ttl: 24h", "12h, ttl: 48h")
    with applied(tmp_path, valkey.url, again) as store:
        second, first = store.apply_history()
        assert (second.before, second.after) == (first.after, _fingerprint(store))
        assert [change.kind for change in second.changes] == ["ttl"]


def test_the_history_keeps_the_newest_applies(valkey: Server, tmp_path: Path) -> None:
    with applied(tmp_path, valkey.url) as store:
        with valkey.client() as client:
            texts = [json.dumps({"at_ms": number}) for number in range(MAX_APPLIES)]
            client.lpush("featurekit:{shop}:applies", *texts)
        history_of(store).record_apply(ApplyRecord(MAX_APPLIES))
        with valkey.client() as client:
            assert client.llen("featurekit:{shop}:applies") == MAX_APPLIES
        assert [each.at_ms for each in store.apply_history()] == list(
            range(MAX_APPLIES, MAX_APPLIES - 100, -1)
        )


VALID: dict[str, Any] = {"view": "profile", "ended_ms": 5}
DAMAGED: list[Any] = [
    None, 5, "x", [], {}, {"ended_ms": 5}, VALID | {"ended_ms": "5"}, VALID | {"error": None},
    VALID | {"seconds": [1]},
]  # fmt: skip


def test_damaged_records_are_skipped(valkey: Server, tmp_path: Path) -> None:
    with applied(tmp_path, valkey.url) as store:
        with valkey.client() as client:
            texts = [json.dumps(document) for document in [*DAMAGED, VALID]]
            client.lpush("featurekit:{shop}:runs:profile", "{", b"\xff", *texts)
        assert store.load_history() == [LoadRecord("profile", ended_ms=5)]
        store.write_batch("profile", {"u1": {}})
        assert len(store.load_history("profile")) == 2


def _fingerprint(store: FeatureStore) -> str:
    assert store.registry is not None
    return store.registry.fingerprint
