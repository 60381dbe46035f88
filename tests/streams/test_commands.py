"""`featurekit stream` and `featurekit status`, as a user would run them."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from featurekit import FeatureStore
from featurekit.errors import BadEventError, RequestError, StoreUnavailableError
from tests.cli.running import run, run_json, table_cells
from tests.servers import Server
from tests.streams.repositories import repository, stored, ttl_ms
from tests.streams.worker_processes import until


@pytest.fixture
def store(
    valkey: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[FeatureStore]:
    monkeypatch.chdir(tmp_path)
    with repository(tmp_path, valkey.url) as store:
        yield store


def lines(*events: object) -> str:
    return "".join(json.dumps(event) + "\n" for event in events)


def test_pushed_lines_become_fields(store: FeatureStore, valkey: Server) -> None:
    events = lines({"user_id": "u1", "count": 3, "device": None}, {"user_id": "u2", "count": 1})
    result = run("stream", "push", "activity", "--ttl", "10m", stdin=events + "\n")
    assert (result.exit_code, result.stdout) == (0, "2 events written\n")
    assert stored(valkey, "fs:user:u1") == {b"count": b"3"}
    assert ttl_ms(valkey, "fs:user:u1", "count") > 590_000


def test_pushed_lines_may_have_an_event_time(store: FeatureStore, valkey: Server) -> None:
    now_ms = time.time_ns() // 1_000_000
    events = lines(
        {"user_id": "u1", "step": 2, "event_timestamp": now_ms},
        {"user_id": "u1", "step": 1, "event_timestamp": now_ms - 1},
        {"user_id": "u1", "step": 0, "event_timestamp": "2026-01-01T00:00:00Z"},
    )
    report = run_json("stream", "push", "session", stdin=events)
    assert (report["written"], report["dropped_older"], report["dropped_expired"]) == (1, 1, 1)
    assert stored(valkey, "fs:user:u1")[b"step"] == b"2"


@pytest.mark.parametrize(
    ("age_s", "note"),
    [
        (0, ""),
        (3595, "note: the values expire within 4s"),
        (4000, "note: the values have expired already"),
    ],
)
def test_a_push_says_that_its_values_expire_soon(
    store: FeatureStore, age_s: int, note: str
) -> None:
    time_ms = time.time_ns() // 1_000_000 - age_s * 1000
    event = lines({"user_id": "u1", "count": 2, "event_timestamp": time_ms})
    result = run("stream", "push", "activity", "--ttl", "1h", stdin=event)
    assert note in result.stderr
    assert ("note:" in result.stderr) is bool(note)


PUSH_ALL = ("stream", "push", "activity", "--on-bad-event", "skip")

BAD = (
    {"user_id": "u1", "count": 1},
    {"user_id": "u1", "count": "x"},
    {"user_id": "u1", "cuont": 1},
    {"count": 1},
    [1],
    {"user_id": "u9", "count": 9},
)


def test_skipped_lines_are_reported_by_number(store: FeatureStore, valkey: Server) -> None:
    result = run(*PUSH_ALL, stdin=lines(*BAD))
    assert (result.exit_code, result.stdout) == (1, "2 events written\n")
    assert "rejected: line 2, count: 'x' is not an int64" in result.stderr
    assert "rejected: line 3, cuont: no such field in activity" in result.stderr
    assert "did you mean 'count'?" in result.stderr
    assert result.stderr.endswith("error: 4 events rejected\n")
    assert stored(valkey, "fs:user:u9") == {b"count": b"9"}


@pytest.mark.parametrize("event", BAD[1:5])
def test_a_bad_line_ends_the_push(store: FeatureStore, valkey: Server, event: Any) -> None:
    with pytest.raises(BadEventError) as caught:
        store.streams.push("activity", [[json.dumps(BAD[0]), "", json.dumps(event)]])
    assert caught.value.where.startswith("line 3")
    assert stored(valkey, "fs:user:u1") == {}


def test_a_value_that_breaks_a_constraint_is_reported_by_its_line(store: FeatureStore) -> None:
    batches = [['{"user_id": "u1", "count": 1}'], ["", '{"user_id": "u1", "count": -1}']]
    with pytest.raises(BadEventError) as caught:
        store.streams.push("activity", batches)
    assert caught.value.where == "line 3, count"
    report = store.streams.push("activity", batches, on_bad_event="skip")
    assert report.rejected == [(3, "line 3: count: -1 is below min 0")]


@pytest.mark.slow
def test_bytes_that_are_not_text_are_rejected(store: FeatureStore) -> None:
    process = subprocess.run(
        [sys.executable, "-m", "featurekit", "stream", "push", "activity"],
        cwd=store.path,
        input=b'{"user_id": "\xff", "count": 1}\n',
        capture_output=True,
        check=False,
    )
    assert process.returncode == 1
    assert process.stderr.startswith(b"error: line 1: not JSON: 'utf-8' codec can't decode")


def test_a_name_with_a_lone_surrogate_is_reported_as_json_too(store: FeatureStore) -> None:
    result = run(*PUSH_ALL, "--json", stdin='{"user_id": "u1", "\\ud800": 1}\n')
    [rejected] = json.loads(result.stdout)["rejected"]
    assert rejected["reason"].startswith("line 1, \\ud800: no such field in activity")


@pytest.mark.slow
def test_a_line_without_end_is_refused_before_it_fills_the_memory(store: FeatureStore) -> None:
    with Path("/dev/zero").open("rb") as endless:
        process = subprocess.run(
            [sys.executable, "-m", "featurekit", "stream", "push", "activity"],
            cwd=store.path,
            stdin=endless,
            capture_output=True,
            check=False,
            timeout=60,
        )
    assert process.returncode == 1
    assert process.stderr.startswith(b"error: a line is longer than 128 MB")


@pytest.mark.slow
def test_a_closed_standard_input_is_reported(store: FeatureStore) -> None:
    process = subprocess.run(
        f"{sys.executable} -m featurekit stream push activity <&-",
        shell=True,
        cwd=store.path,
        capture_output=True,
        check=False,
    )
    assert process.returncode == 1
    assert process.stderr.startswith(b"error: standard input is closed")


def test_lines_are_written_as_they_arrive(store: FeatureStore, valkey: Server) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "featurekit", "stream", "push", "activity"],
        cwd=store.path,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    )
    assert process.stdin is not None
    for count in (1, 2):
        process.stdin.write(lines({"user_id": "u1", "count": count}).encode())
        process.stdin.flush()
        expected = b"%d" % count
        until(lambda expected=expected: stored(valkey, "fs:user:u1").get(b"count") == expected)  # type: ignore[misc]
    process.stdin.close()
    assert process.wait() == 0


def test_bad_lines_are_reported_as_they_arrive(store: FeatureStore) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "featurekit", *PUSH_ALL],
        cwd=store.path,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        for number in (1, 2, 3, 4, 5):
            process.stdin.write(b"[]\n")
            process.stdin.flush()
            line = process.stderr.readline()
            assert line.startswith(b"rejected: line %d: expected a JSON object" % number)
        process.stdin.close()
        assert process.stderr.read() == b"error: 5 events rejected\n"
    assert process.returncode == 1


def test_events_for_a_batch_view_are_refused(store: FeatureStore) -> None:
    with pytest.raises(RequestError, match="batch view"):
        store.streams.push("profile", [])
    with pytest.raises(RequestError, match="on_bad_event"):
        store.streams.push("activity", [], on_bad_event="ignore")  # type: ignore[arg-type]


def test_a_wrong_duration_is_a_usage_error(store: FeatureStore) -> None:
    result = run("stream", "push", "activity", "--ttl", "ten")
    assert result.exit_code == 2
    assert "invalid value for '--ttl': found 'ten'" in result.stderr


def test_a_worker_prints_one_json_document_per_line(store: FeatureStore, valkey: Server) -> None:
    with valkey.client() as client:
        client.xadd("activity-events", {"user_id": "u1", "count": 1})
    result = run("stream", "run", "activity", "--once", "--json")
    [document] = map(json.loads, result.stdout.splitlines())
    assert (document["view"], document["written"], document["lag"]) == ("activity", 1, 0)


def test_status_shows_how_fresh_streams_are(store: FeatureStore, valkey: Server) -> None:
    states = {state["view"]: state["stream"] for state in run_json("status")}
    assert states["profile"] is None
    assert states["activity"] == {
        "newest_ttl_ms": None,
        "oldest_ttl_ms": None,
        "newest_age_ms": None,
        "lag": None,
        "dead_letters": 0,
        "workers": 0,
        "mark_age_ms": None,
        "mark_ahead_ms": None,
        "emptied_ms": None,
        "warming_until_ms": None,
    }
    store.write_batch("profile", {f"u{i}": {"country": "NO"} for i in range(10)})
    writer = store.stream_writer("activity")
    writer.write("u1", {"count": 1})
    writer.write("u2", {"count": 1, "failed": 1}, ttl=60)
    with valkey.client() as client:
        client.xadd("activity-events", {"user_id": "u1", "count": 1})
        client.xgroup_create("activity-events", "shop-activity", "0")
    activity = {state["view"]: state for state in run_json("status")}["activity"]
    stream = activity["stream"]
    assert (activity["sampled"], activity["live_share"], stream["lag"]) == (10, 0.2, 1)
    assert (activity["state"], activity["reason"]) == (
        "silent",
        "1 unread events and no running worker",
    )
    assert 290_000 < stream["newest_ttl_ms"] <= 300_000
    assert 50_000 < stream["oldest_ttl_ms"] <= 60_000
    shown = table_cells(run("status").stdout)
    assert [row[:3] for row in shown if row[0] == "activity"][-1] == ["activity", "20%", "10"]


def test_status_without_a_reachable_store_is_an_error(store: FeatureStore, tmp_path: Path) -> None:
    with FeatureStore(tmp_path, url="unix:///nowhere/s") as away:
        with pytest.raises(StoreUnavailableError):
            away.status()
        assert away.metrics().views == {}
