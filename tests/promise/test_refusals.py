from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import redis

from featurekit import FeatureStore
from featurekit.errors import StoreError, StoreUnfitError
from tests.promise.repos import applied, immortal
from tests.servers import Server, running, valkey_binary

ROWS = {f"u{i}": {"country": "NO", "tx_count_7d": i} for i in range(100)}
COLUMNS = {"user_id": list(ROWS), "country": ["NO"] * 100, "tx_count_7d": list(range(100))}


def table() -> Any:
    return pa.table(COLUMNS | {"tags": pa.nulls(100, pa.list_(pa.string()))})


@pytest.mark.parametrize("rows", [ROWS, table()], ids=["dict", "arrow"])
@pytest.mark.parametrize("view", ["profile", "scores"])
def test_a_key_of_another_type_fails_one_row_only(
    store: FeatureStore, client: redis.Redis, rows: Any, view: str
) -> None:
    client.set("fs:user:u7", "mine")
    if view == "scores":
        rows = {user: {"risk": 0.5, "model": "m"} for user in ROWS}
    with pytest.raises(StoreError, match="fs:user:u7: WRONGTYPE") as caught:
        store.write_batch(view, rows)
    assert "99 rows are written" in str(caught.value)
    assert len(list(client.scan_iter("fs:user:*", _type="hash"))) == 99
    assert client.get("fs:user:u7") == b"mine"
    assert set(immortal(client)) <= {b"fs:user:u7"}


@pytest.mark.parametrize("rows", [ROWS, table()], ids=["dict", "arrow"])
def test_skipped_rows_are_counted_and_named(
    store: FeatureStore, client: redis.Redis, rows: Any
) -> None:
    client.rpush("fs:user:u7", "mine")
    client.set("fs:user:u50", "mine")
    report = store.write_batch("profile", rows, on_bad_row="skip")
    assert (report.rows_written, report.rows_rejected) == (98, 2)
    first, second = report.reasons
    assert "fs:user:u7: WRONGTYPE" in first
    assert "fs:user:u50: WRONGTYPE" in second


@contextmanager
def full_server(arguments: tuple[str, ...] = ()) -> Iterator[Server]:
    with running(valkey_binary(), "--maxmemory-policy", "noeviction", *arguments) as server:
        yield server


@pytest.mark.parametrize("view", [pytest.param("profile", marks=pytest.mark.slow), "scores"])
def test_a_full_server_stops_the_load_and_every_key_expires(tmp_path: Path, view: str) -> None:
    rows = {
        "profile": {f"u{i}": {"country": "x" * 500} for i in range(20_000)},
        "scores": {f"u{i}": {"model": "x" * 500} for i in range(20_000)},
    }[view]
    with (
        full_server() as server,
        server.client() as client,
        applied(tmp_path, server.url) as store,
    ):
        client.config_set("maxmemory", client.info("memory")["used_memory"] + 3_000_000)
        with pytest.raises(StoreError, match="OOM"):
            store.write_batch(view, rows)
        assert client.dbsize() > 100
        assert not immortal(client)
        with pytest.raises(StoreError, match=r"OOM|memory is full"):
            store.write_batch(view, rows)
        client.config_set("maxmemory", 0)
        assert store.write_batch(view, rows).rows_written == 20_000


ACL = "on nopass ~fs:* ~featurekit:* +@all"


@pytest.mark.parametrize("lacking", ["multi", "exec", "pexpire", "hdel", "hset", "hpexpire"])
def test_a_user_who_lacks_a_permission_is_refused_before_any_write(
    valkey: Server, tmp_path: Path, lacking: str
) -> None:
    url = valkey.url.replace("unix://", "unix://writer:x@")
    with applied(tmp_path, valkey.url):
        pass
    with valkey.client() as client, FeatureStore(tmp_path, url=url) as store:
        client.execute_command("ACL", "SETUSER", "writer", "reset", *ACL.split(), f"-{lacking}")
        with pytest.raises(StoreUnfitError, match=lacking.upper()) as caught:
            store.write_batch("profile", ROWS)
        assert "user 'writer'" in str(caught.value)
        assert client.keys("fs:*") == []


@pytest.mark.parametrize("renamed", ["HPEXPIRE", "PEXPIRE", "HDEL", "MULTI", "HSET"])
def test_a_server_that_lacks_a_command_is_refused_before_any_write(
    tmp_path: Path, renamed: str
) -> None:
    with (
        running(valkey_binary(), "--rename-command", renamed, "") as server,
        server.client() as client,
        applied(tmp_path, server.url) as store,
    ):
        reported = "HEXPIRE" if renamed == "HPEXPIRE" else renamed
        with pytest.raises(StoreUnfitError, match=reported):
            store.write_batch("profile", ROWS)
        assert client.keys("fs:*") == []


def test_a_read_only_user_can_read(valkey: Server, tmp_path: Path) -> None:
    keys = ["~fs:*", "%R~featurekit:*"]
    rights = ["on", "nopass", *keys, "+hmget", "+hpttl", "+pttl", "+get", "+ping"]
    with valkey.client() as client, applied(tmp_path / "w", valkey.url) as writer:
        writer.write_batch("profile", ROWS)
        client.execute_command("ACL", "SETUSER", "reader", "reset", *rights)
        url = valkey.url.replace("unix://", "unix://reader:x@")
        with FeatureStore(tmp_path / "w", url=url) as store:
            row = store.online_reader("fraud_v1", freshness=True).read("u7")
            assert (row.country, row.tx_count_7d, row.found) == ("NO", 7, True)
            with pytest.raises(StoreUnfitError):
                store.write_batch("profile", ROWS)
