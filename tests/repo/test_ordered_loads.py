"""Batch views with `ordering: event_time`: the row with the newest time wins, entity by entity."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featurekit import FeatureStore
from featurekit.errors import (
    BadRowError,
    DefinitionError,
    FeatureKitError,
    SourceError,
    StoreError,
)
from featurekit.repo.diagnostics.view_status import view_statuses
from featurekit.repo.history import LoadRecord
from featurekit.runtime.load import MaterializeReport
from featurekit.runtime.metrics import LoadMetrics
from tests.cli.running import run, run_json
from tests.conftest import KINDS, flushed
from tests.fault_proxy import FaultProxy
from tests.servers import PATIENT_YAML, Server
from tests.stores.test_rights import documented_rights

REPO = "project: shop\ndefinitions: [f.yaml]\nonline_store: {{url: '{url}', key_prefix: fs, {options}}}\n"
DEFINITIONS = """
entities: [{name: user, join_keys: {user_id: string}}]
feature_views:
  - name: profile
    entity: user
    batch:
      refresh: 1h
      expires: EXPIRES
      ordering: event_time
      source: {type: jsonl, path: rows.jsonl, timestamp_field: at}
    fields: {age: int64, country: string}
  - name: clicks
    entity: user
    stream: {refresh: 1h, ttl: 24h, ordering: event_time}
    fields: {clicks: int64}
"""
DAY = timedelta(days=1)
NOW = datetime.now(UTC).replace(microsecond=0)
NEW, OLD, OLDEST = NOW - DAY, NOW - 2 * DAY, NOW - 3 * DAY
KEY = "fs:user:u1"
TTL_MS = 7_200_000


def ms(time: datetime) -> int:
    return int(time.timestamp() * 1000)


def open_store(
    folder: Path, url: str, expires: str = "key", definitions: str = ""
) -> FeatureStore:
    (folder / "featurerepo.yaml").write_text(REPO.format(url=url, options=PATIENT_YAML))
    text = (definitions or DEFINITIONS).replace("EXPIRES", expires)
    (folder / "f.yaml").write_text(text)
    store = FeatureStore(folder)
    store.apply(allow_breaking=True)
    return store


WAYS = [
    (kind, expires)
    for kind, expires in (
        ("valkey", "key"),
        ("valkey-nohsetex", "field"),
        ("redis8", "key"),
        ("redis8", "field"),
    )
    if kind in KINDS
]


@pytest.fixture(params=WAYS, ids=["-".join(way) for way in WAYS])
def way(request: pytest.FixtureRequest) -> tuple[str, str]:
    """A kind of server, and how the view expires."""
    kind, expires = request.param
    return str(kind), str(expires)


@pytest.fixture
def server(way: tuple[str, str], started: dict[str, Server]) -> Server:
    return flushed(way[0], started)


@pytest.fixture
def store(way: tuple[str, str], tmp_path: Path, server: Server) -> Iterator[FeatureStore]:
    with open_store(tmp_path, server.url, way[1]) as store:
        yield store


@pytest.fixture
def shop(tmp_path: Path, valkey: Server) -> Iterator[FeatureStore]:
    """The repository on Valkey."""
    with open_store(tmp_path, valkey.url) as store:
        yield store


Line = tuple[str, int | None, datetime]


def load(store: FeatureStore, *rows: Line, **options: Any) -> MaterializeReport:
    lines = [
        json.dumps({"user_id": user, "age": age, "country": "NO", "at": at.isoformat()})
        for user, age, at in rows
    ]
    (store.path / "rows.jsonl").write_text("\n".join(lines) + "\n")
    [report] = store.materialize(["profile"], **options)
    return report


def ages(store: FeatureStore, *users: str) -> list[Any]:
    rows = [{"user_id": user} for user in users]
    return store.get_online_features(["profile:age"], rows).to_dict()["age"]


def stored(server: Server, key: str = KEY) -> dict[bytes, bytes]:
    with server.client() as client:
        values: dict[bytes, bytes] = client.hgetall(key)
        return values


def ttl_ms(server: Server, field: str = "country") -> int:
    with server.client() as client:
        left: Any = client.pttl(KEY)
        if left == -1:
            [left] = client.hpttl(KEY, field)
    return int(left)


def test_an_older_row_is_left_out_and_one_of_an_equal_time_wins(
    store: FeatureStore, server: Server
) -> None:
    load(store, ("u1", 2, NEW))
    report = load(store, ("u1", 1, OLD), ("u2", 1, OLD))
    assert (report.rows_read, report.rows_written, report.rows_kept) == (2, 1, 1)
    assert (report.rows_superseded, report.entities, report.rows_rejected) == (0, 1, 0)
    assert ages(store, "u1", "u2") == [2, 1]
    assert load(store, ("u1", 3, NEW)).rows_kept == 0
    assert stored(server) == {b"age": b"3", b"country": b"NO", b"@profile": b"%d" % ms(NEW)}


def test_the_event_time_lives_as_long_as_the_values(store: FeatureStore, server: Server) -> None:
    load(store, ("u1", 2, NEW), ("u2", None, NEW))
    for field in ("country", "@profile"):
        assert TTL_MS - 60_000 < ttl_ms(server, field) <= TTL_MS
    with server.client() as client:
        own_ttl = client.hpttl(KEY, "@profile")
        assert (client.pttl(KEY) == -1) == (own_ttl != [-1])


@pytest.mark.parametrize("way", [way for way in WAYS if way[1] == "field"], indirect=True)
def test_the_event_time_outlives_fields_of_different_ttls(
    way: tuple[str, str], tmp_path: Path, server: Server
) -> None:
    fields = "age: {type: int64, ttl: 1h}, country: {type: string, ttl: 5h}"
    definitions = DEFINITIONS.replace("age: int64, country: string", fields)
    with open_store(tmp_path, server.url, way[1], definitions) as store:
        load(store, ("u1", 1, NEW))
        load(store, ("u1", 2, NEW), ("u1", 3, OLD))
    hour = 3_600_000
    with server.client() as client:
        ttls = client.hpttl(KEY, "age", "country", "@profile")
    assert [round(ttl / hour) for ttl in ttls] == [1, 5, 5]
    assert ttls[1] <= ttls[2]


def test_an_older_row_leaves_everything_as_it_is_also_the_ttl(
    store: FeatureStore, server: Server
) -> None:
    load(store, ("u1", 2, NEW))
    with server.client() as client:
        if client.pttl(KEY) == -1:
            client.hpexpire(KEY, 90_000, "age", "country", "@profile")
        else:
            client.pexpire(KEY, 90_000)
    load(store, ("u1", None, OLD))
    assert stored(server)[b"age"] == b"2"
    assert ttl_ms(server) <= 90_000
    load(store, ("u1", None, NEW))
    assert b"age" not in stored(server)
    assert ttl_ms(server) > 90_000


def test_events_of_the_same_hash_have_a_time_of_their_own(
    store: FeatureStore, server: Server
) -> None:
    load(store, ("u1", 2, NEW))
    writer = store.stream_writer("clicks")
    assert writer.write("u1", {"clicks": 1}, event_timestamp=NOW)
    load(store, ("u1", 3, NEW + timedelta(seconds=1)))
    assert not writer.write("u1", {"clicks": 0}, event_timestamp=NOW - timedelta(seconds=1))
    assert stored(server) == {
        b"age": b"3",
        b"country": b"NO",
        b"@profile": b"%d" % ms(NEW + timedelta(seconds=1)),
        b"clicks": b"1",
        b"@clicks": b"%d" % ms(NOW),
    }


def test_allow_older_overwrites_and_is_the_newest_from_then_on(
    store: FeatureStore, server: Server
) -> None:
    load(store, ("u1", 2, NEW))
    assert load(store, ("u1", 1, OLDEST), allow_older=True).rows_written == 1
    assert stored(server)[b"@profile"] == b"%d" % ms(OLDEST)
    assert load(store, ("u1", 5, OLD)).rows_kept == 0
    assert ages(store, "u1") == [5]


def test_missing_only_keeps_values_and_newer_rows_without_values(
    store: FeatureStore, server: Server
) -> None:
    with server.client() as client:
        client.hset("fs:user:u3", mapping={"@profile": ms(NEW), "clicks": 1})
        client.hset("fs:user:u4", mapping={"@profile": ms(OLDEST), "clicks": 1})
        client.hset(KEY, "country", "SE")
    rows = [(user, 7, OLD) for user in ("u1", "u2", "u3", "u4")]
    report = load(store, *rows, missing_only=True)
    assert (report.rows_written, report.rows_kept) == (2, 2)
    assert ages(store, "u1", "u2", "u3", "u4") == [None, 7, None, 7]


def test_a_load_survives_a_server_that_lost_its_scripts(
    store: FeatureStore, server: Server
) -> None:
    rows = [(f"u{i}", i, NEW) for i in range(3000)]
    load(store, *rows)
    with server.client() as client:
        client.script_flush()
    report = load(store, *rows[:2000], ("u2999", 0, OLD))
    assert (report.rows_written, report.rows_kept) == (2000, 1)


@pytest.mark.slow
@pytest.mark.parametrize("direction", ["to_server", "to_client"])
def test_a_load_whose_connection_is_cut_is_complete(
    tmp_path: Path, valkey: Server, direction: str
) -> None:
    count, rng = 20_000, random.Random(direction)
    columns: dict[str, Any] = {"user_id": [f"u{i}" for i in range(count)], "age": range(count)}
    columns["country"] = ["NO"] * count
    times = [OLD + timedelta(milliseconds=i) for i in range(count)]
    table = pa.table({**columns, "at": times})
    pq.write_table(table, tmp_path / "rows.parquet")
    newer = table.slice(0, 100).set_column(3, "at", pa.array([NEW] * 100))
    with FaultProxy(valkey.socket) as proxy, open_store(tmp_path, proxy.url) as store:
        for missing_only in (False, True):
            store.reset()
            store.write_batch("profile", newer)
            size = 200 * count if direction == "to_server" else 4 * count
            getattr(proxy, direction).cut_after(rng.randrange(size // 10, size))
            options: dict[str, Any] = {
                "from_file": tmp_path / "rows.parquet",
                "missing_only": missing_only,
            }
            [report] = store.materialize(["profile"], **options)
            assert report.rows_written + report.rows_kept == count
            assert report.rows_kept == 100 or missing_only  # what was sent twice is present
            with valkey.client() as client:
                assert len(list(client.scan_iter("fs:user:*", count=10_000))) == count
            assert stored(valkey, "fs:user:u99")[b"@profile"] == b"%d" % ms(NEW)
            assert stored(valkey, "fs:user:u19999")[b"age"] == b"19999"


def test_rows_of_a_program_have_a_time(store: FeatureStore, server: Server) -> None:
    rows: list[dict[str, Any]] = [
        {"user_id": "u1", "age": 1, "event_timestamp": ms(OLD)},
        {"user_id": "u1", "age": 2, "event_timestamp": NEW},
        {"user_id": "u1", "age": 3, "event_timestamp": OLD.isoformat()},
    ]
    report = store.write_batch("profile", rows)
    counts = (report.rows_read, report.rows_written, report.rows_superseded, report.rows_kept)
    assert counts == (3, 1, 1, 1)
    assert stored(server) == {b"age": b"2", b"@profile": b"%d" % ms(NEW)}
    by_id = {"u1": {"age": 1, "event_timestamp": OLD}, "u2": {"age": 1, "event_timestamp": OLD}}
    report = store.write_batch("profile", by_id)
    assert (report.rows_written, report.rows_superseded, report.rows_kept) == (1, 0, 1)
    store.write_batch("profile", {"u1": {"age": 1, "event_timestamp": OLD}}, allow_older=True)
    assert stored(server) == {b"age": b"1", b"@profile": b"%d" % ms(OLD)}


def test_each_form_of_rows_is_ordered(shop: FeatureStore, valkey: Server) -> None:
    load(shop, ("u1", 0, NEW))
    older = {"user_id": ["u1"], "age": [1], "country": ["SE"]}
    for name in ("at", "event_timestamp"):
        table = pa.table({**older, name: [OLD]})
        assert shop.write_batch("profile", table).rows_kept == 1
    line = {"user_id": "u1", "age": 1, "event_timestamp": OLD.isoformat()}
    assert shop.write_jsonl("profile", [json.dumps(line)]).rows_kept == 1
    for kind, text in (
        ("csv", f"user_id,age,country,at\nu1,1,SE,{OLD.isoformat()}\n"),
        ("jsonl", json.dumps({**line, "country": "SE", "at": OLD.isoformat()})),
    ):
        (shop.path / f"rows.{kind}").write_text(text)
        definitions = DEFINITIONS.replace("jsonl", kind)
        with open_store(shop.path, valkey.url, definitions=definitions) as store:
            assert store.materialize(["profile"])[0].rows_kept == 1
    assert ages(shop, "u1") == [0]


def test_rows_without_a_time_are_refused_before_a_write(
    shop: FeatureStore, valkey: Server
) -> None:
    rows: Any
    for rows in ([{"user_id": "u1", "age": 1}], {"u1": {"age": 1}}):
        with pytest.raises(BadRowError, match="must have a time"):
            shop.write_batch("profile", rows)
    with pytest.raises(SourceError, match="ordering: event_time") as caught:
        shop.write_batch("profile", pa.table({"user_id": ["u1"], "age": [1], "country": ["NO"]}))
    assert "'at'" in caught.value.hint
    pq.write_table(pa.table({"user_id": ["u1"], "age": [1], "country": ["NO"]}), shop.path / "r")
    with pytest.raises(SourceError, match="ordering: event_time"):
        shop.materialize(["profile"], from_file=shop.path / "r")
    assert stored(valkey) == {}


@pytest.mark.parametrize(
    "time", [None, "soon", -1, "1960-01-01T00:00:00Z", NOW.replace(tzinfo=None), NOW + DAY, 1.5]
)
def test_a_row_with_an_unusable_time_is_bad(shop: FeatureStore, time: Any) -> None:
    rows = [
        {"user_id": "u1", "age": 1, "event_timestamp": time},
        {"user_id": "u2", "age": 2, "event_timestamp": NEW},
    ]
    with pytest.raises(BadRowError):
        shop.write_batch("profile", rows)
    report = shop.write_batch("profile", rows, on_bad_row="skip")
    assert (report.rows_written, report.rows_rejected) == (1, 1)


def test_a_row_of_a_source_with_an_unusable_time_is_bad(
    shop: FeatureStore, valkey: Server
) -> None:
    times = [datetime(1960, 1, 1, tzinfo=UTC), None, NEW]
    table = pa.table(
        {"user_id": ["u1", "u2", "u3"], "age": [1] * 3, "country": ["NO"] * 3, "at": times}
    )
    report = shop.write_batch("profile", table, on_bad_row="skip")
    assert (report.rows_written, report.rows_rejected) == (1, 2)
    assert any("before 1970" in reason for reason in report.reasons)
    with pytest.raises(BadRowError, match="before 1970"):
        load(shop, ("u1", 1, times[0] or NEW), ("u4", 1, NEW))
    assert stored(valkey) == stored(valkey, "fs:user:u4") == {}


def test_corrected_rows_keep_their_times(shop: FeatureStore, valkey: Server) -> None:
    rows = [
        {"user_id": "u1", "age": "x", "event_timestamp": ms(OLD)},
        {"user_id": "u2", "age": "x", "event_timestamp": NEW},
    ]
    report = shop.write_batch("profile", rows, on_bad_row="skip")
    file = shop.path / report.rejects_path
    table = pq.read_table(file)
    table = table.set_column(table.schema.names.index("age"), "age", pa.array(["7", "8"]))
    pq.write_table(table, file)
    load(shop, ("u1", 2, NEW), ("u2", 2, OLD))
    [report] = shop.materialize(["profile"], from_file=file)
    assert (report.rows_written, report.rows_kept) == (1, 1)
    assert ages(shop, "u1", "u2") == [2, 8]
    assert stored(valkey, "fs:user:u2")[b"@profile"] == b"%d" % ms(NEW)


def test_a_retired_field_is_deleted_from_the_rows_that_are_written(
    shop: FeatureStore, valkey: Server
) -> None:
    load(shop, ("u1", 1, NEW), ("u2", 1, OLD))
    definitions = DEFINITIONS.replace("age: int64, country: string", "age: int64")
    with open_store(shop.path, valkey.url, definitions=definitions) as store:
        load(store, ("u1", 2, OLD), ("u2", 2, OLD))
    assert stored(valkey)[b"country"] == b"NO"
    assert b"country" not in stored(valkey, "fs:user:u2")


def test_a_view_that_is_not_ordered_any_more_deletes_the_event_time(
    shop: FeatureStore, valkey: Server
) -> None:
    load(shop, ("u1", 1, NEW))
    definitions = DEFINITIONS.replace("      ordering: event_time\n", "", 1)
    with open_store(shop.path, valkey.url, definitions=definitions) as store:
        load(store, ("u1", 2, NEW))
    assert stored(valkey) == {b"age": b"2", b"country": b"NO"}


def test_a_damaged_event_time_concerns_its_entity_alone(
    shop: FeatureStore, valkey: Server
) -> None:
    with valkey.client() as client:
        client.hset(KEY, "@profile", "yesterday")
    with pytest.raises(StoreError, match="BADTIME field @profile"):
        load(shop, ("u1", 1, NEW), ("u2", 2, NEW))
    report = load(shop, ("u1", 1, NEW), ("u2", 2, NEW), on_bad_row="skip")
    assert (report.rows_written, report.rows_rejected) == (1, 1)
    assert stored(valkey) == {b"@profile": b"yesterday"}


@pytest.mark.parametrize("right", ["hget", "evalsha", "script|load", "hset", "hdel", "pexpire"])
def test_without_a_right_nothing_is_written(
    shop: FeatureStore, valkey: Server, right: str
) -> None:
    load(shop, ("u1", 1, OLD))
    before = stored(valkey)
    url = valkey.url.replace("unix://", "unix://loader:pw@")
    with valkey.client() as client:
        client.script_flush()
        rights = ["~*", "&*", "+@all", f"-{right}"]
        client.execute_command("ACL", "SETUSER", "loader", "reset", "on", ">pw", *rights)
    try:
        with (
            open_store(shop.path, url) as store,
            pytest.raises(FeatureKitError, match=r"may not run|NOPERM|ACL"),
        ):
            load(store, ("u1", None, NEW))
    finally:
        with valkey.client() as client:
            client.execute_command("ACL", "DELUSER", "loader")
    assert stored(valkey) == before


def test_the_documented_rights_suffice(tmp_path: Path, valkey: Server) -> None:
    documented = documented_rights()
    rights = documented["writing a batch view"]
    rights |= documented["writing a batch view with `ordering: event_time`"]
    rights |= {"+mget"}  # to read the registry
    with valkey.client() as client:
        client.execute_command(
            "ACL",
            "SETUSER",
            "loader",
            "reset",
            "on",
            ">pw",
            "~fs:*",
            "~featurekit:*",
            *sorted(rights),
        )
    try:
        url = valkey.url.replace("unix://", "unix://loader:pw@")
        with open_store(tmp_path, url) as store:
            load(store, ("u1", 1, NEW))
            assert load(store, ("u1", 2, OLD), ("u2", None, NEW)).rows_kept == 1
    finally:
        with valkey.client() as client:
            client.execute_command("ACL", "DELUSER", "loader")


def test_ages_count_from_the_time_of_the_row(store: FeatureStore, server: Server) -> None:
    load(store, ("u1", 1, OLD))
    user = [{"user_id": "u1"}]
    response = store.get_online_features(["profile:age"], user, freshness=True)
    [age_s] = response.ages["age"]
    assert age_s is not None
    assert abs(age_s - 2 * 86_400) < 7200  # OLD is counted from the start of all tests
    for limit, status in (("1d", "stale"), ("3d", "present")):
        limited = store.get_online_features(["profile:age"], user, max_age={"profile": limit})
        assert limited.statuses["age"] == [status]
    reader = store.online_reader(["profile:age", "clicks"], max_age={"profile": "1d"})
    assert reader.read("u1").statuses == {"age": "stale", "clicks": "missing"}
    with (
        server.client() as client
    ):  # as before the view was ordered: the age counts from the write
        client.hdel(KEY, "@profile")
    limited = store.get_online_features(["profile:age"], user, max_age={"profile": "1d"})
    assert limited.statuses["age"] == ["present"]


def test_the_counter_is_in_the_report_the_history_the_metrics_and_the_command(
    shop: FeatureStore,
) -> None:
    load(shop, ("u1", 1, NEW), ("u2", 1, NEW))
    load(shop, ("u1", 1, OLD), ("u2", 1, NEW))
    assert [record.rows_kept for record in shop.load_history()] == [1, 0]
    assert shop.metrics().loads["profile"].rows_kept == 1
    command = ["--repo", str(shop.path), "materialize", "profile"]
    assert run_json(*command)[0]["rows_kept"] == 1
    result = run(*command)
    assert result.exit_code == 0
    assert "kept" in result.stdout


def test_each_counter_of_a_report_is_in_the_history_and_the_metrics() -> None:
    report = MaterializeReport("v")
    counters = {f.name for f in fields(report) if type(getattr(report, f.name)) in (int, float)}
    counters -= {"started_ms", "entities"}  # entities: as many as rows written
    assert counters <= {field.name for field in fields(LoadRecord)}
    assert counters <= {field.name for field in fields(LoadMetrics)}


def test_a_load_that_kept_all_rows_does_not_count_as_the_last_good_one(
    shop: FeatureStore,
) -> None:
    load(shop, ("u1", 1, NEW))
    [first] = shop.load_history()
    load(shop, ("u1", 1, OLD))
    assert shop.load_history()[0].good_ms == first.good_ms
    loads = {"profile": shop.load_history()[0]}
    status = view_statuses(shop.compiled, loads, None, first.good_ms + TTL_MS * 3 // 4)[1]
    assert status.state == "late"
    assert "the last load left out all 1 rows" in status.reason


def test_an_order_by_time_needs_a_timestamp_field(tmp_path: Path, valkey: Server) -> None:
    definitions = DEFINITIONS.replace(", timestamp_field: at", "")
    with pytest.raises(DefinitionError) as caught:
        open_store(tmp_path, valkey.url, definitions=definitions)
    assert "ordering: event_time needs the times of the rows" in str(caught.value)
    definitions = definitions.replace("source: {type: jsonl, path: rows.jsonl}", "ttl: 2h")
    with open_store(tmp_path, valkey.url, definitions=definitions) as store:
        store.write_batch(
            "profile",
            pa.table({"user_id": ["u1"], "age": [1], "country": ["NO"], "event_timestamp": [NEW]}),
        )
        assert ages(store, "u1") == [1]


def test_describe_says_how_a_batch_view_is_ordered(shop: FeatureStore) -> None:
    result = run("--repo", str(shop.path), "describe", "profile")
    assert "event_time" in result.stdout
