"""Verification finds planted faults, and takes nothing that is right for a fault."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import redis

from featurekit import FeatureStore
from featurekit.errors import RequestError, SourceError
from featurekit.keys import KeyPlan
from featurekit.plan import FieldPlan, ViewPlan
from featurekit.repo.expected_values import OnlineRows, _life, key_lives, loads_moments
from featurekit.repo.history import LoadRecord
from featurekit.repo.service_records import last_report
from featurekit.repo.verify import Verifier
from featurekit.runtime.lock import ViewLock
from featurekit.training.verify import (
    ABSENT,
    Kind,
    Served,
    VerifyReport,
    compare_value,
    count_kinds,
)
from featurekit.types import DType
from tests.cli.running import run
from tests.servers import Server
from tests.stores.test_rights import documented_rights
from tests.training.test_point_in_time import open_store

VIEWS = """
entities:
  - {name: user, join_keys: {user_id: string}}
  - {name: route, join_keys: {origin: string, number: int64}}
feature_views:
  - name: profile
    entity: user
    batch: {refresh: 1h, source: {type: parquet, path: users.parquet, timestamp_field: at, created_timestamp_field: created}}
    fields: {age: {type: int64, default: 7}, score: {type: float64, allow_nan: true}, tags: 'array<string>'}
  - name: delays
    entity: route
    batch: {refresh: 1h, source: {type: csv, path: routes.csv, timestamp_field: at}}
    fields: {delay: int64}
  - name: written
    entity: user
    batch: {refresh: 1h, expires: field}
    fields: {height: int64}
feature_services:
  - {name: model, features: [profile, delays]}
"""
TIME = pa.timestamp("us", "UTC")
USERS = 40


def users(shift: int = 0, count: int = USERS, seconds_ago: int = 100) -> Any:
    at = datetime.now(UTC) - timedelta(seconds=seconds_ago)
    ages = [None if i % 5 == 4 else i + shift for i in range(count)]
    return pa.table(
        {
            "user_id": [f"u{i}" for i in range(count)],
            "at": pa.array([at] * count, TIME),
            "created": pa.array([at] * count, TIME),
            "age": pa.array(ages, pa.int64()),
            "score": [float("nan") if i == 1 else i / 3 for i in range(count)],
            "tags": [[str(i)] if i % 2 else None for i in range(count)],
        }
    )


@pytest.fixture
def store(tmp_path: Path, valkey: Server) -> Iterator[FeatureStore]:
    pq.write_table(users(), tmp_path / "users.parquet")
    rows = "".join(f"O:{i},{i},2026-06-01T00:00:00Z,{i}\n" for i in range(10))
    (tmp_path / "routes.csv").write_text(f"origin,number,at,delay\n{rows}")
    with open_store(tmp_path, VIEWS, valkey.url) as store:
        store.materialize()
        yield store


@pytest.fixture
def client(valkey: Server) -> Iterator[redis.Redis]:
    with valkey.client() as client:
        yield client


def counts(report: VerifyReport, feature: str) -> dict[str, int]:
    [found] = [each for each in report.features if each.name == feature]
    names = ("mismatch", "missing", "extra", "undecided")
    return {name: getattr(found, name) for name in names if getattr(found, name)}


def test_planted_faults_are_found_and_nothing_else(
    store: FeatureStore, client: redis.Redis
) -> None:
    report = store.verify("model")
    assert report.differences == 0
    assert report.values == 3 * (USERS + 50) + 10 + 50
    assert report.keys["user"]["unknown"] == report.keys["route"]["unknown"] == 50
    assert {view.as_of for view in report.views} == {"loads"}
    assert not report.examples
    client.hset("fs:user:u3", "score", "9.5")
    client.delete("fs:user:u6")
    client.hdel("fs:user:u7", "tags")
    client.hset("fs:user:new", mapping={"age": 5})
    client.hset("fs:user:u8", "age", "eight")
    report = store.verify("model")
    assert counts(report, "profile:score") == {"mismatch": 1, "missing": 1}
    assert counts(report, "profile:age") == {"mismatch": 1, "missing": 1, "extra": 1}
    assert counts(report, "profile:tags") == {"missing": 1}
    assert counts(report, "delays:delay") == {}
    assert report.differences == 6
    found = {(each.key, each.feature): each for each in report.examples}
    changed = found["fs:user:u3", "profile:score"]
    assert (changed.online, changed.recomputed, changed.kind) == ("9.5", "1", "mismatch")
    assert "another program wrote it" in changed.reason
    assert "deleted or evicted" in found["fs:user:u6", "profile:age"].reason
    assert found["fs:user:u8", "profile:age"].online == "invalid"
    assert found["fs:user:new", "profile:age"].origin == "store"
    assert json.loads(json.dumps(report.to_dict()))["differences"] == 6
    assert last_report(store.path, "model") == json.loads(json.dumps(report.to_dict()))
    assert last_report(store.path, "other") is last_report(store.path, "../verify/model") is None


@pytest.mark.slow
def test_rows_that_no_load_took_yet_are_not_expected(store: FeatureStore) -> None:
    later = users(shift=100, count=USERS + 5, seconds_ago=-3600)
    pq.write_table(pa.concat_tables([users(), later]), store.path / "users.parquet")
    assert store.verify("model").differences == 0


@pytest.mark.slow
def test_a_row_that_was_loaded_and_then_changed_is_found(store: FeatureStore) -> None:
    pq.write_table(users(shift=1), store.path / "users.parquet")
    assert counts(store.verify("model"), "profile:age") == {"mismatch": USERS * 4 // 5}


@pytest.mark.slow
def test_values_expire_with_their_load(tmp_path: Path, valkey: Server) -> None:
    pq.write_table(users(), tmp_path / "users.parquet")
    (tmp_path / "routes.csv").write_text("origin,number,at,delay\nO,1,2026-06-01T00:00:00Z,1\n")
    views = VIEWS.replace("refresh: 1h", "refresh: 1h, ttl: 50ms")
    with open_store(tmp_path, views, valkey.url) as store, valkey.client() as client:
        store.materialize()
        while client.keys("fs:user:*"):
            pass
        assert store.verify("model").differences == 0
        client.hset("fs:user:u5", "age", "5")
        report = store.verify("model")
    assert counts(report, "profile:age") == {"extra": 1}
    assert "it should have expired" in report.examples[0].reason


@pytest.mark.slow
def test_a_load_between_the_two_moments_is_not_a_fault(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    pq.write_table(users(shift=1), store.path / "users.parquet")
    looks = []
    server_ms = Verifier._server_ms

    def load_before_the_second_look(verifier: Verifier) -> tuple[int, int]:
        looks.append(1)
        if len(looks) == 3:  # before everything, before the first read, after it
            store.materialize("profile")
        return server_ms(verifier)

    monkeypatch.setattr(Verifier, "_server_ms", load_before_the_second_look)
    report = store.verify(["profile"])
    assert len(looks) == 4
    # The source as it is now has the values of the second load; what was read are those of the first.
    assert counts(report, "profile:age") == {"mismatch": USERS * 4 // 5}
    looks.clear()
    newer = users(shift=2, seconds_ago=0)
    pq.write_table(pa.concat_tables([users(shift=1), newer]), store.path / "users.parquet")
    assert store.verify(["profile"]).differences == 0


@pytest.mark.slow
def test_differences_during_a_load_are_undecided(store: FeatureStore, client: redis.Redis) -> None:
    client.hset("fs:user:u3", "score", "9.5")
    with ViewLock(store.handle.store, "fs", "profile", store.handle.now_ms):
        report = store.verify("model")
    assert counts(report, "profile:score") == {"undecided": 1}
    assert report.differences == 0
    assert report.examples[0].reason == "a load of the view was running"


@pytest.mark.slow
def test_rows_of_a_program_leave_it_undecided(store: FeatureStore) -> None:
    store.write_batch("profile", {"u3": {"age": 99}})
    report = store.verify(["profile:age"])
    assert counts(report, "profile:age") == {"undecided": 1}
    assert "not from the source were loaded" in report.examples[0].reason


@pytest.mark.slow
def test_a_source_that_did_not_change_is_not_suspected(
    store: FeatureStore, client: redis.Redis
) -> None:
    client.hset("fs:user:u3", "score", "9.5")
    [example] = store.verify(["profile:score"]).examples
    assert "another program wrote it: the source has not changed since" in example.reason
    pq.write_table(users(seconds_ago=99), store.path / "users.parquet")
    [example] = store.verify(["profile:score"]).examples
    assert "or the row was changed in the source after" in example.reason


def load(started_ms: int, ended_ms: int, **options: Any) -> LoadRecord:
    return LoadRecord("profile", started_ms, ended_ms, **options)


def test_partial_loads_leave_values_of_earlier_ones() -> None:
    rows = OnlineRows([], {}, before_ms=100, after_ms=110)
    whole = [load(60, 70), load(10, 20)]
    cases: list[tuple[list[LoadRecord], list[int]]] = [
        (whole, [60]),
        ([load(105, 120), *whole], [105, 60]),  # it runs during the read
        ([load(111, 120), *whole], [60]),  # it starts after the read
        ([load(80, 90, error="killed"), *whole], [80, 60]),
        ([load(80, 90, window_start_ms=70), *whole], [80, 60]),
        ([load(80, 90, rows_rejected=1), *whole], [80, 60]),
        ([load(80, 90, corrects_ms=60), *whole], [80, 60]),
        ([load(80, 90, fingerprint="f", rows_written=1), *whole], [60]),  # of a program
        ([load(60, 70, scanned_ms=65), load(10, 20)], [60, 65]),
        ([], []),
    ]
    for loads, moments in cases:
        found = [moment.at_us for moment in loads_moments(loads, rows)]
        assert found == [at * 1000 + 999 for at in moments]
    [moment] = loads_moments([load(60, 70, window_end_ms=50)], rows)
    assert moment.at_us == 49_999


@pytest.mark.slow
def test_labels_are_sampled_too(store: FeatureStore, tmp_path: Path) -> None:
    now = pa.array([datetime.now(UTC)] * 2, TIME)
    labels = {"user_id": ["u1", "u99"], "origin": ["O:1", "x"], "number": [1, 2]}
    report = store.verify("model", labels=pa.table({**labels, "event_timestamp": now}), sample=4)
    assert report.differences == 0
    assert report.keys["user"]["labels"] == 2
    assert sum(report.keys["user"].values()) == 4 + 1


EVENTS = """
entities: [{name: user, join_keys: {user_id: string}}]
feature_views:
  - name: profile
    entity: user
    batch: {refresh: 1h, source: {type: parquet, path: users.parquet, timestamp_field: at}}
    fields: {age: int64}
  - name: recent
    entity: user
    batch: {refresh: 1h, expires: field, lookback: 1h, schedule: {every: 1h}, source: {type: parquet, path: users.parquet, timestamp_field: at}}
    fields: {score: {type: float64, allow_nan: true}}
  - name: clicks
    entity: user
    stream:
      refresh: 1m
      ordering: event_time
      batch_source: {type: jsonl, path: "events/*.jsonl", timestamp_field: event_timestamp}
    fields: {clicks: int64, page: {type: string, ttl: 1h}}
feature_services: [{name: model, features: [profile, recent, clicks]}]
"""


def delivery(log: Path, text: str) -> SimpleNamespace:
    """Return a `time` whose `sleep` writes a log."""
    return SimpleNamespace(sleep=lambda seconds: seconds and log.write_text(text))


@pytest.mark.slow
def test_values_of_streams_are_compared_with_their_events(
    tmp_path: Path, valkey: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = users(count=5, seconds_ago=7200).set_column(
        0, "user_id", pa.array([f"old{i}" for i in range(5)])
    )
    pq.write_table(pa.concat_tables([users(), old]), tmp_path / "users.parquet")
    now = datetime.now(UTC)
    events = [
        {
            "user_id": f"u{i % 9}",
            "event_timestamp": (now - timedelta(seconds=400 - i * 10)).isoformat(),
            "clicks": i,
            **({"page": None if i % 5 else "home"} if i % 2 else {}),
        }
        for i in range(40)
    ]
    (tmp_path / "events").mkdir()
    (tmp_path / "events" / "a.jsonl").write_text("".join(json.dumps(e) + "\n" for e in events))
    with open_store(tmp_path, EVENTS, valkey.url) as store, valkey.client() as client:
        assert store.verify(["profile", "recent"]).differences == 0  # nothing is loaded yet
        store.materialize()
        writer = store.stream_writer("clicks")
        for event in events:
            fields = {n: v for n, v in event.items() if n in ("clicks", "page")}
            at = datetime.fromisoformat(str(event["event_timestamp"]))
            writer.write(event["user_id"], fields, event_timestamp=at)
        report = store.verify("model")
        assert report.differences == 0, report.examples
        assert {view.name: view.as_of for view in report.views} == {
            "profile": "loads",
            "recent": "loads",
            "clicks": "event_time",
        }
        writer.write("u2", {"clicks": 50}, event_timestamp=now)
        late = {"user_id": "u2", "event_timestamp": now.isoformat(), "clicks": 50}
        assert counts(store.verify("model"), "clicks:clicks") == {"mismatch": 1}
        with monkeypatch.context() as patch:
            # Only the wait of the verification delivers the event, not every pause of the process.
            waits = delivery(tmp_path / "events" / "b.jsonl", json.dumps(late))
            patch.setattr("featurekit.repo.verify.time", waits)
            assert store.verify("model", wait="5m").differences == 0
        client.hset("fs:user:u3", "clicks", "77")
        client.hset("fs:user:old1", "score", "1")
        client.hdel("fs:user:u5", "clicks")
        report = store.verify("model")
    assert counts(report, "clicks:clicks") == {"mismatch": 1, "missing": 1}
    assert sum(counts(report, "recent:score").values()) == 1
    assert "the history does not have its last events yet" in report.examples[-1].reason


@pytest.mark.slow
def test_views_without_an_entity_and_rows_that_do_not_fit_are_verified(
    tmp_path: Path, valkey: Server
) -> None:
    views = """
entities: [{name: user, join_keys: {user_id: string}}]
feature_views:
  - name: profile
    entity: user
    batch: {refresh: 1h, source: {type: parquet, path: users.parquet, timestamp_field: at}}
    fields: {age: {type: int64, max: 35}}
  - name: market
    batch: {refresh: 1h, source: {type: parquet, path: market.parquet, timestamp_field: at}}
    fields: {rate: float64}
"""
    pq.write_table(users(), tmp_path / "users.parquet")
    at = pa.array([datetime.now(UTC) - timedelta(hours=1)], TIME)
    pq.write_table(pa.table({"at": at, "rate": [1.25]}), tmp_path / "market.parquet")
    with open_store(tmp_path, views, valkey.url) as store, valkey.client() as client:
        store.materialize(on_bad_row="skip")
        report = store.verify(["profile", "market"])
        assert (report.differences, report.features[1].equal) == (0, 1)
        client.hset("fs:_global:market", "rate", "2")
        report = store.verify(["profile", "market"])
    assert counts(report, "market:rate") == {"mismatch": 1}


RACING = """
entities: [{name: user, join_keys: {user_id: string}}]
feature_views:
  - name: profile
    entity: user
    batch: {refresh: 1s, ttl: 900ms, source: {type: parquet, path: users, timestamp_field: at, created_timestamp_field: created}}
    fields: {age: {type: int64, default: 7}}
  - name: scores
    entity: user
    batch: {refresh: 1s, ttl: 700ms, expires: field, source: {type: parquet, path: users, timestamp_field: at, created_timestamp_field: created}}
    fields: {score: {type: float64, allow_nan: true}}
"""


def add_rows(folder: Path, number: int) -> None:
    """Add rows that are created when other processes can see them, or none on a slow machine."""
    created = datetime.now(UTC) + timedelta(milliseconds=50)
    rows = users(shift=number, count=number % USERS + 1, seconds_ago=0)
    rows = rows.set_column(2, "created", pa.array([created] * rows.num_rows, TIME))
    new = folder / f"{number}.parquet"
    pq.write_table(rows, new)
    while datetime.now(UTC) < created - timedelta(milliseconds=2):
        pass
    if datetime.now(UTC) < created:
        new.rename(folder / "users" / f"{number:04}.parquet")


@pytest.mark.slow
def test_loads_and_expiry_during_verifications_are_not_faults(
    tmp_path: Path, valkey: Server
) -> None:
    (tmp_path / "users").mkdir()

    pq.write_table(users(), tmp_path / "users" / "first.parquet")
    open_store(tmp_path, RACING, valkey.url).close()
    done = threading.Event()

    def load_again() -> None:
        with FeatureStore(tmp_path) as store:
            for number in count():
                if done.is_set():
                    return
                add_rows(tmp_path, number)
                with suppress(SourceError):  # a file was added during the read
                    store.materialize(["profile"] if number % 3 else None)
                done.wait(number % 4 * 0.3)

    loading = threading.Thread(target=load_again)
    loading.start()
    try:
        with FeatureStore(tmp_path) as store:
            for _ in range(10):
                with suppress(SourceError):
                    report = store.verify(["profile", "scores"], sample=60)
                    assert report.differences == 0, report.examples
    finally:
        done.set()
        loading.join()


def test_the_end_of_a_key_takes_other_values_along() -> None:
    rows = OnlineRows([], {}, before_ms=100, after_ms=110)
    view = ViewPlan("scores", "batch", KeyPlan("fs", "user", ()), (), "field", 1000, 1)
    field = FieldPlan("score", DType("float64"))
    owner = replace(view, expires="key", ttl_ms=20)
    [moment] = loads_moments([load(60, 70)], rows)
    cases: list[tuple[list[LoadRecord], bool]] = [
        ([load(90, 93), load(75, 79), load(62, 65)], False),
        ([load(80, 85), load(62, 65)], True),  # it ends at 100
        ([load(95, 98), load(62, 65)], True),  # it ended at 82, and began again
        ([load(90, 93), load(75, 79), load(62, 65), load(10, 20)], False),  # it ended before
        ([], False),
    ]
    for loads, can_end in cases:
        assert _life(view, field, rows, moment, key_lives(owner, loads)) == (True, can_end)


@pytest.mark.slow
def test_a_view_under_two_aliases_is_verified_once(store: FeatureStore) -> None:
    roles = [
        {"view": "profile", "as": role, "join_keys": {"user_id": role}, "fields": ["age"]}
        for role in ("sender", "receiver")
    ]
    now = pa.array([datetime.now(UTC)], TIME)
    labels = pa.table({"sender": ["u1"], "receiver": ["u2"], "event_timestamp": now})
    report = store.verify(roles, labels=labels, sample=4)
    assert [feature.name for feature in report.features] == ["profile:age"]
    assert report.keys["user"]["labels"] == 2
    assert report.differences == 0


@pytest.mark.slow
def test_the_same_seed_reads_the_same_keys_of_a_source(store: FeatureStore) -> None:
    reports = [store.verify(["profile"], sample=8, seed=seed) for seed in (1, 1, 2)]
    assert all(report.differences == 0 for report in reports)
    assert reports[0].keys == reports[1].keys


def test_views_without_a_history_are_refused(store: FeatureStore) -> None:
    with pytest.raises(RequestError, match="written"):
        store.verify(["profile", "written"])
    with pytest.raises(RequestError, match="at least 1"):
        store.verify("model", sample=0)


@pytest.mark.slow
def test_continuous_loads_can_be_compared_with(store: FeatureStore) -> None:
    assert store.verify(["profile"], as_of="created").differences == 0
    pq.write_table(users(shift=1, seconds_ago=0), store.path / "users.parquet")
    report = store.verify(["profile"], as_of="created")
    assert counts(report, "profile:age") == {"mismatch": USERS * 4 // 5}  # not loaded yet
    assert report.views[0].as_of == "created"


def test_the_command_says_what_differs(store: FeatureStore, client: redis.Redis) -> None:
    repo = str(store.path)
    result = run("verify", "model", "--repo", repo, "--sample", "20", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["differences"] == 0
    client.hset("fs:user:u3", "score", "9.5")
    result = run("verify", "model", "--repo", repo)
    assert result.exit_code == 1
    assert "fs:user:u3" in result.stdout
    assert "differ: 1 value" in result.stderr


def test_a_verification_of_nothing_is_not_ok(tmp_path: Path) -> None:
    pq.write_table(users(count=0), tmp_path / "users.parquet")
    (tmp_path / "routes.csv").write_text("origin,number,at,delay\n")
    open_store(tmp_path, VIEWS).close()
    result = run("verify", "model", "--repo", str(tmp_path))
    assert result.exit_code == 1
    assert "ok" not in result.stderr
    names = "profile:age, profile:score, profile:tags, delays:delay"
    assert f"not compared: 4 features: {names}\n" in result.stderr
    result = run("verify", "model", "--repo", str(tmp_path), "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["not_compared"] == names.split(", ")


def test_a_feature_with_undecided_values_alone_is_not_compared() -> None:
    both: list[tuple[Kind, bool]] = [("undecided", False), ("equal", True)]
    assert not count_kinds("v:f", both).is_compared
    assert not count_kinds("v:f", [("undecided", True)]).is_compared
    assert count_kinds("v:f", [("equal", False)]).is_compared
    assert count_kinds("v:f", [("extra", True)]).is_compared
    check = count_kinds("v:f", both)
    assert (check.equal, check.undecided, check.invented) == (1, 1, 1)


@pytest.mark.slow
def test_the_rights_listed_suffice(store: FeatureStore, valkey: Server) -> None:
    listed = documented_rights()
    rights = listed["reading"] | listed["`verify`"] | {"+mget"}
    rights -= {"+info", "+hkeys"}
    with valkey.client() as client:
        client.execute_command("ACL", "LOG", "RESET")
        client.execute_command(
            "ACL", "SETUSER", "u", "reset", "on", ">p", "~fs:*", "~featurekit:*", *rights
        )
        with FeatureStore(store.path, url=f"unix://u:p@{valkey.socket}") as other:
            assert other.verify("model").differences == 0
        denied = {entry[b"object"].decode() for entry in client.execute_command("ACL", "LOG")}
        client.execute_command("ACL", "DELUSER", "u")
    assert denied <= {"ping", "info", "command", "command|info"}


def test_a_value_must_equal_one_of_the_possible_ones() -> None:
    one, two = Served(1, "present"), Served(2, "present")
    assert compare_value(one, [two, one]) == "equal"
    assert compare_value(one, [two]) == "mismatch"
    assert compare_value(ABSENT, [two]) == "missing"
    assert compare_value(one, [ABSENT]) == "extra"
    assert compare_value(Served.of(None, "invalid"), [ABSENT]) == "mismatch"
    assert compare_value(Served.of(7, "default"), [ABSENT]) == "equal"
