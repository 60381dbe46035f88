from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import time_machine

from featurekit import FeatureStore
from featurekit.errors import BadRowError, SourceError, StoreError, StoreUnavailableError
from featurekit.repo.diagnostics import ViewStatus
from tests.promise.repos import FRAUD, applied
from tests.servers import Server, running, valkey_binary

PLACES = ["registry.json", "online"]
ROWS = {"u1": {"country": "NO"}, "u2": {"country": "SE"}}


def status_of(store: FeatureStore, view: str) -> ViewStatus:
    return next(status for status in store.status() if status.view == view)


@pytest.mark.parametrize("place", PLACES)
def test_a_view_is_never_written_then_on_time_and_late_once_its_refresh_has_passed(
    valkey: Server, tmp_path: Path, place: str
) -> None:
    with applied(tmp_path, valkey.url, registry=place) as store:
        never = status_of(store, "profile")
        assert (never.state, never.last_run_ms, never.age_ms) == ("never", None, None)
        store.write_batch("profile", ROWS)
        done = status_of(store, "profile")
        assert (done.state, done.reason, done.rows, done.error) == ("on time", "", 2, "")
        assert done.age_ms is not None
        assert done.age_ms < 60_000
        assert (done.live_share, done.sampled) == (1.0, 2)
        assert status_of(store, "shop").state == "never"
        assert status_of(store, "activity").state == "never"
    with applied(
        tmp_path, valkey.url, FRAUD.replace("12h, ttl: 24h", "1ms, ttl: 24h"), registry=place
    ) as store:
        assert status_of(store, "profile").state == "late"


def test_a_batch_view_of_which_nothing_is_stored_any_more_is_expired(
    valkey: Server, tmp_path: Path
) -> None:
    with applied(tmp_path, valkey.url) as store:
        store.write_batch("profile", ROWS)
        assert status_of(store, "profile").state == "on time"
        store.reset("user")
        gone = status_of(store, "profile")
        assert gone.state == "expired"
        assert "no value is stored, although the last load was at" in gone.reason


def test_a_batch_view_whose_values_have_passed_their_ttl_is_expired_even_after_a_failed_load(
    valkey: Server, tmp_path: Path
) -> None:
    with applied(tmp_path, valkey.url) as store, time_machine.travel(0) as clock:
        clock.move_to(1_800_000_000)
        store.write_batch("scores", {"u1": {"risk": 0.5}})
        clock.shift(3600 + 1)  # the field `model` expires after an hour, `risk` after two
        assert status_of(store, "scores").state == "late"
        clock.shift(3600 + 1)
        with pytest.raises(BadRowError):
            store.write_batch("scores", {"u1": {"risk": "high"}})
        gone = status_of(store, "scores")
        assert gone.state == "expired"
        assert "the last load failed" in gone.reason


def test_a_load_without_rows_leaves_a_view_never_written(valkey: Server, tmp_path: Path) -> None:
    with applied(tmp_path, valkey.url) as store:
        store.write_batch("profile", [])
        status = status_of(store, "profile")
        assert (status.state, status.reason) == ("never", "no load has written a row yet")


def test_a_stream_view_is_late_after_its_refresh_and_silent_after_twice_that(
    valkey: Server, tmp_path: Path
) -> None:
    with applied(tmp_path, valkey.url) as store, valkey.client() as client:
        store.stream_writer("activity").write("u1", {"device": "ios"})
        assert status_of(store, "activity").state == "on time"
        client.hpexpire("fs:user:u1", 230_000, "device")
        late = status_of(store, "activity")
        assert (late.state, late.reason[:27]) == ("late", "the newest event is of 1m10")
        client.hpexpire("fs:user:u1", 170_000, "device")
        silent = status_of(store, "activity")
        assert silent.state == "silent"
        assert "expected every 1m" in silent.reason


@pytest.mark.parametrize("place", PLACES)
def test_a_failed_load_shows_even_if_older_values_are_still_fresh(
    valkey: Server, tmp_path: Path, place: str
) -> None:
    with applied(tmp_path, valkey.url, registry=place) as store:
        store.write_batch("profile", ROWS)
        with pytest.raises(BadRowError):
            store.write_batch("profile", {"u1": {"tx_count_7d": -5}})
        failed = status_of(store, "profile")
        assert failed.state == "failed"
        assert "is below min" in failed.error
        assert failed.error in failed.reason
        assert failed.age_ms is not None


def test_a_first_load_that_fails_leaves_a_view_never_written(
    valkey: Server, tmp_path: Path
) -> None:
    with applied(tmp_path, valkey.url) as store:
        with pytest.raises(BadRowError):
            store.write_batch("profile", {"u1": {"tx_count_7d": -5}})
        never = status_of(store, "profile")
        assert never.state == "never"
        assert "the last load failed" in never.reason


@pytest.mark.parametrize("place", PLACES)
def test_a_load_whose_server_dies_raises_store_unavailable_only(
    tmp_path: Path, place: str
) -> None:
    with running(valkey_binary()) as server:
        url = f"{server.url}?load_timeout=300ms"
        with applied(tmp_path, url, registry=place) as store:

            def lines() -> Iterator[str]:
                for i in range(10_000):
                    if i == 5000:
                        server.stop()
                    yield f'{{"user_id": "u{i}"}}'

            with pytest.raises(StoreUnavailableError) as caught:
                store.write_jsonl("profile", lines())
            assert caught.value.__context__ is not None
            assert not isinstance(caught.value.__context__, StoreError)


def test_the_error_of_an_unreadable_source_names_it(shop_path: Path, valkey: Server) -> None:
    with applied(shop_path, valkey.url) as store:
        with pytest.raises(SourceError, match=r"users\.parquet"):
            store.materialize()
        pq.write_table(pa.table({"user_id": ["u1"]}), shop_path / "users.parquet")
        with pytest.raises(SourceError, match="no column"):
            store.materialize()


@pytest.fixture
def shop_path(tmp_path: Path) -> Path:
    return tmp_path / "shop"


def test_an_unreadable_history_counts_as_empty(shop_path: Path, valkey: Server) -> None:
    with applied(shop_path, valkey.url) as store:
        store.write_batch("profile", {"u1": {}})
        for text in ("", "[]", "{", '{"profile": 5}', '{"ended_ms": 1}'):
            with valkey.client() as client:
                client.delete("featurekit:{shop}:runs:profile")
                client.lpush("featurekit:{shop}:runs:profile", text)
            assert status_of(store, "profile").state == "never"
            store.write_batch("profile", ROWS)
            assert status_of(store, "profile").state == "on time"


def test_skipped_rows_are_written_to_the_rejects_file_with_reasons(
    shop_path: Path, valkey: Server
) -> None:
    with applied(shop_path, valkey.url) as store:
        table = pa.table(
            {
                "user_id": ["u1", None, "", "u4"],
                "country": ["NO"] * 4,
                "tx_count_7d": [1, 2, 3, -4],
                "tags": pa.nulls(4, pa.list_(pa.string())),
                "t": pa.array([1] * 4, pa.timestamp("us")),
            }
        )
        pq.write_table(table, shop_path / "users.parquet")
        [report] = store.materialize(on_bad_row="skip")
        assert (report.rows_read, report.rows_written, report.rows_rejected) == (4, 1, 3)
        assert report.rows_superseded == 0
        rejects = pq.read_table(report.rejects_path).to_pylist()
        assert sorted(row["_reasons"][0] for row in rejects) == [
            "join key user_id: must not be empty",
            "join key user_id: null is not allowed",
            "tx_count_7d: -4 is below min 0",
        ]
        with pytest.raises(BadRowError, match=r"users\.parquet, row \d"):
            store.materialize()
        shutil.rmtree(shop_path / ".featurekit")
