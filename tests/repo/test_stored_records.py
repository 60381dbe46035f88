"""Records of the history and of workers that are not as featurekit writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from featurekit.repo.heartbeats import heartbeats_key
from tests.cli.running import run
from tests.promise.repos import applied
from tests.servers import Server

VIEW = """
entities: [{name: user, join_keys: {user_id: string}}]
feature_views:
  - name: profile
    entity: user
    batch: {refresh: 1h}
    fields: {age: int64}
"""
WORKER: dict[str, Any] = {
    "name": "w1", "host": "h", "pid": 1, "view": "profile", "started_ms": 1, "at_ms": 1, "read": 1,
    "written": 1, "ignored": 0, "dropped_older": 0, "dropped_expired": 0, "rejected": 0,
    "events_per_second": 1.5, "lag": None, "newest_age_ms": None, "trouble": "", "error": "",
}  # fmt: skip
WRONG: list[tuple[str, object]] = [
    ("pid", "x"), ("at_ms", None), ("at_ms", 10**400), ("read", [1]), ("view", 7), ("name", "\ud800"),
    ("events_per_second", float("nan")), ("events_per_second", 10**400), ("lag", "7"), ("error", {}),
    ("written", True),
]  # fmt: skip
TEXTS = [b"", b"\xff", b"[" * 100_000, b"[1]", b"7", b"{}", b'{"name": "w"}']


def test_heartbeats_with_wrong_values_are_ignored(tmp_path: Path, valkey: Server) -> None:
    key = heartbeats_key("p")
    with applied(tmp_path, valkey.url, VIEW) as store, valkey.client() as client:
        key = heartbeats_key(store.project)
        client.hset(key, "good", json.dumps(WORKER))
        for number, (name, value) in enumerate(WRONG):
            client.hset(key, f"w{number}", json.dumps(WORKER | {name: value}))
        for number, text in enumerate(TEXTS):
            client.hset(key, f"t{number}", text)
        assert [worker.name for worker in store.streams.workers()] == ["w1"]
        for arguments in (["status"], ["status", "--json"], ["doctor"]):
            result = run("--repo", str(tmp_path), *arguments)
            assert result.exception is None or isinstance(result.exception, SystemExit)


@pytest.mark.parametrize("text", [*TEXTS, b'{"profile": 7}', b'{"profile": [7, {}, {"view": 1}]}'])
def test_a_damaged_history_stops_nothing(tmp_path: Path, valkey: Server, text: bytes) -> None:
    with applied(tmp_path, valkey.url, VIEW) as store:
        with valkey.client() as client:
            for name in ("runs:profile", "applies"):
                client.lpush(f"featurekit:{{shop}}:{name}", text)
        assert store.write_batch("profile", {"a": {"age": 1}}).history_error == ""
        for arguments in (["status"], ["plan"]):
            assert run("--repo", str(tmp_path), *arguments).exit_code == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [("ended_ms", 10**400), ("seconds", float("inf")), ("error", "\ud800"), ("rows_read", "1")],
)
def test_a_load_with_a_wrong_value_is_left_out_of_the_history(
    tmp_path: Path, valkey: Server, name: str, value: object
) -> None:
    with applied(tmp_path, valkey.url, VIEW) as store:
        store.write_batch("profile", {"a": {"age": 1}})
        key = "featurekit:{shop}:runs:profile"
        with valkey.client() as client:
            document = json.loads(client.lindex(key, 0) or "")
            client.lpush(key, json.dumps(document | {name: value}))
        result = run("--repo", str(tmp_path), "status", "--json")
        assert result.exit_code == 0
