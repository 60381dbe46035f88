"""Loads of several views, and the record of each load."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featurekit import FeatureStore
from featurekit.errors import BadRowError, DefinitionError, MaterializeError, SourceError
from tests.cli.running import run, table_cells
from tests.fault_proxy import FaultProxy
from tests.promise.repos import applied, write_repo
from tests.servers import Server

VIEWS = """
entities: [{name: user, join_keys: {user_id: string}}]
feature_views:
""" + "".join(
    f"""
  - name: {name}
    entity: user
    batch:
      refresh: 1h
      expires: field
      source: {{type: parquet, path: {name}.parquet, timestamp_field: t}}
    fields: {{{name}_n: {{type: int64, min: 0}}}}
"""
    for name in ("first", "second", "third")
)


USERS = [f"u{i}" for i in range(5000)]


def write_rows(folder: Path, view: str, numbers: list[int]) -> None:
    n = len(numbers)
    times = pa.array([1_000_000 * (i + 1) for i in range(n)], pa.timestamp("us", "UTC"))
    columns = {"user_id": [f"u{i}" for i in range(n)], f"{view}_n": numbers, "t": times}
    pq.write_table(pa.table(columns), folder / f"{view}.parquet")


@pytest.fixture
def store(tmp_path: Path, valkey: Server) -> Iterator[FeatureStore]:
    with applied(tmp_path, valkey.url, VIEWS) as store:
        for view in ("first", "third"):
            write_rows(tmp_path, view, [1, 2])
        yield store


@pytest.mark.parametrize("registry", [".featurekit/registry.json", "online"])
def test_a_load_takes_four_round_trips_beside_its_rows(
    tmp_path: Path, valkey: Server, registry: str
) -> None:
    write_rows(tmp_path, "first", [1, 2])
    with (
        FaultProxy(valkey.socket) as proxy,
        applied(tmp_path, proxy.url, VIEWS, registry=registry) as store,
    ):
        store.materialize(["first"])
        before = proxy.round_trips
        assert store.materialize(["first"])[0].rows_written == 2
        assert proxy.round_trips - before <= 4 + 1
        before = proxy.round_trips
        assert store.write_batch("first", {"u1": {"first_n": 1}}).rows_written == 1
        assert proxy.round_trips - before <= 4 + 1
        report = store.write_batch("first", pa.table({"user_id": USERS, "first_n": range(5000)}))
        assert len(store.load_history("first")) == 4
        assert store.load_history("first")[0].server_seconds == report.server_seconds > 0


@pytest.mark.parametrize("registry", [".featurekit/registry.json", "online"])
def test_an_empty_load_writes_no_rows_and_is_recorded(
    tmp_path: Path, valkey: Server, registry: str
) -> None:
    write_rows(tmp_path, "first", [])
    with (
        FaultProxy(valkey.socket) as proxy,
        applied(tmp_path, proxy.url, VIEWS, registry=registry) as store,
        valkey.client() as client,
    ):
        store.materialize(["first"])
        before, calls = proxy.round_trips, client.info("commandstats")
        store.materialize(["first"])
        assert proxy.round_trips - before <= 3
        after = client.info("commandstats")
        changed = {
            name for name in after if after[name]["calls"] != calls.get(name, {}).get("calls")
        }
        names = {name.removeprefix("cmdstat_") for name in changed}
        assert not names & {"multi", "exec", "hset", "hsetex", "hdel", "pexpire", "evalsha"}
        assert len(store.load_history("first")) == 2


def test_a_view_that_fails_does_not_stop_the_others(store: FeatureStore) -> None:
    with pytest.raises(MaterializeError, match="could not be loaded: second") as caught:
        store.materialize()
    first, second, third = caught.value.reports
    assert (first.rows_written, second.rows_written, third.rows_written) == (2, 0, 2)
    assert (first.error, third.error) == ("", "")
    assert "second.parquet" in second.error
    assert [type(error) for error in caught.value.errors] == [SourceError]
    assert [load.error != "" for load in store.load_history("second")] == [True]


def test_fail_fast_stops_at_the_first_view_that_fails(store: FeatureStore) -> None:
    with pytest.raises(MaterializeError) as caught:
        store.materialize(fail_fast=True)
    assert [report.view for report in caught.value.reports] == ["first", "second"]
    assert store.load_history("third") == []


def test_one_view_that_fails_raises_its_own_error_with_its_report(store: FeatureStore) -> None:
    write_rows(store.path, "second", [-1])
    with pytest.raises(BadRowError, match="below min") as caught:
        store.materialize(["second"])
    assert [report.view for report in caught.value.reports] == ["second"]


def test_the_command_prints_all_views_and_the_error_of_each_that_failed(
    store: FeatureStore,
) -> None:
    write_rows(store.path, "third", [-1])
    result = run("--repo", str(store.path), "materialize")
    assert result.exit_code == 1
    assert [cells[0] for cells in table_cells(result.stdout)] == [
        "view",
        "first",
        "second",
        "third",
    ]
    assert "error: feature view second: no file second.parquet" in result.stderr
    assert "error: third, third.parquet, row 1" in result.stderr
    assert "2 of 3 feature views could not be loaded: second, third" in result.stderr
    result = run("--repo", str(store.path), "materialize", "--fail-fast", "--json")
    assert result.exit_code == 1
    reports = json.loads(result.stdout)["reports"]
    assert [report["view"] for report in reports] == ["first", "second"]


def test_a_load_whose_history_cannot_be_written_is_done(
    store: FeatureStore, valkey: Server
) -> None:
    with valkey.client() as client:
        for view in ("first", "third"):
            client.set(f"featurekit:{{shop}}:runs:{view}", "not a list")
    [report] = store.materialize(["first"])
    assert (report.rows_written, report.error) == (2, "")
    assert "WRONGTYPE" in report.history_error
    result = run("--repo", str(store.path), "materialize", "first", "third")
    assert result.exit_code == 0
    assert "warning: first: the history was not written" in result.stderr
    assert "warning: third: the history was not written" in result.stderr


def test_a_load_records_its_window_and_the_newest_event_time(store: FeatureStore) -> None:
    [report] = store.materialize(["first"], start=500, end=1500)
    [record] = store.load_history("first")
    for each in (report, record):
        assert (each.window_start_ms, each.window_end_ms) == (500, 1500)
        assert (each.newest_event_ms, each.rows_read) == (1000, 1)
    [report] = store.materialize(["first"])
    assert (report.window_start_ms, report.window_end_ms) == (None, None)
    assert report.newest_event_ms == 2000
    assert store.write_batch("first", {"u1": {}}).newest_event_ms is None


def limited(folder: Path, url: str, limits: str) -> AbstractContextManager[FeatureStore]:
    """A store whose views have limits for their loads."""
    definitions = VIEWS.replace("expires: field", f"expires: field\n      {limits}")
    return applied(folder, url, definitions)


def test_a_source_with_too_few_rows_fails_before_the_first_write(
    tmp_path: Path, valkey: Server
) -> None:
    with limited(tmp_path, valkey.url, "min_rows: 3") as store:
        write_rows(tmp_path, "first", [1, 2])
        with pytest.raises(SourceError, match="has 2 rows, fewer than min_rows 3"):
            store.materialize(["first"])
        assert not store.get_online_features(["first"], [{"user_id": "u0"}]).to_rows()[0][
            "first_n"
        ]
        [status] = [each for each in store.status() if each.view == "first"]
        assert "min_rows" in status.error
        write_rows(tmp_path, "first", [1, 2, 3])
        [report] = store.materialize(["first"])
        assert report.rows_written == 3
        assert store.write_batch("first", {"u1": {}}).rows_written == 1


def test_a_source_whose_newest_row_is_too_old_fails_before_the_first_write(
    tmp_path: Path, valkey: Server
) -> None:
    with limited(tmp_path, valkey.url, "max_source_age: 36h") as store:
        write_rows(tmp_path, "first", [1, 2])
        with pytest.raises(SourceError, match=r"is \d+d\w* old, more than max_source_age 1d12h"):
            store.materialize(["first"])
        write_rows(tmp_path, "first", [])
        with pytest.raises(SourceError, match="no row with a time"):
            store.materialize(["first"])
        result = run("--repo", str(tmp_path), "status")
        assert "failed" in result.stdout
        assert "max_source_age" in result.stdout


def test_a_load_stops_when_it_rejects_more_than_its_share(tmp_path: Path, valkey: Server) -> None:
    with limited(tmp_path, valkey.url, "max_rejected: 0.25") as store:
        write_rows(tmp_path, "first", [1, 2, 3, -1])
        [report] = store.materialize(["first"], on_bad_row="skip")
        assert (report.rows_written, report.rows_rejected) == (3, 1)
        write_rows(tmp_path, "first", [1, 2, -3, -1])
        with pytest.raises(
            BadRowError, match=r"2 of 4 rows rejected, more than max_rejected 0\.25"
        ):
            store.materialize(["first"], on_bad_row="skip")
        write_rows(tmp_path, "first", [-1] * 5)
        with pytest.raises(BadRowError, match="5 of 5 rows"):
            store.materialize(["first"], on_bad_row="skip")
        with pytest.raises(BadRowError, match="1 of 1 rows"):
            store.write_batch("first", {"u1": {"first_n": -1}}, on_bad_row="skip")
        result = run("--repo", str(tmp_path), "materialize", "first", "--on-bad-row", "skip")
        assert result.exit_code == 1
        assert "max_rejected" in result.stderr


def test_a_load_that_rejects_all_rows_shows_as_failed(store: FeatureStore) -> None:
    write_rows(store.path, "first", [-1, -2])
    [report] = store.materialize(["first"], on_bad_row="skip")
    [status] = [each for each in store.status() if each.view == "first"]
    assert (report.rows_written, status.rejected) == (0, 2)
    assert status.error == "no row was written: 2 of 2 were rejected"
    assert status.state == "never"
    assert status.newest_event_ms == 2000


@pytest.mark.parametrize(
    ("limits", "source", "problem"),
    [
        ("min_rows: 0", "source:", "expected a whole number above 0"),
        ("max_rejected: 1.5", "source:", "expected a number from 0 to 1"),
        ("max_source_age: 2", "source:", "expected a duration"),
        ("max_source_age: 1h", "# source:", "max_source_age has no effect"),
        ("min_rows: 1", "# source:", "min_rows has no effect"),
    ],
)
def test_limits_that_cannot_be_obeyed_are_refused(
    tmp_path: Path, limits: str, source: str, problem: str
) -> None:
    definitions = VIEWS.replace("expires: field", f"expires: field\n      {limits}")
    write_repo(tmp_path, "memory://", definitions.replace("source:", source))
    with pytest.raises(DefinitionError, match=problem):
        FeatureStore(tmp_path)


def test_a_source_age_needs_a_timestamp_field(tmp_path: Path) -> None:
    definitions = VIEWS.replace("expires: field", "expires: field\n      max_source_age: 1h")
    write_repo(tmp_path, "memory://", definitions.replace(", timestamp_field: t", ""))
    with pytest.raises(DefinitionError, match="needs the times of the rows"):
        FeatureStore(tmp_path)


def test_changes_of_limits_show_in_a_plan_and_their_absence_keeps_the_fingerprint(
    tmp_path: Path, valkey: Server
) -> None:
    limits = "min_rows: 5\n      max_source_age: 36h\n      max_rejected: 0.01"
    with applied(tmp_path, valkey.url, VIEWS) as store:
        assert "min_rows" not in (tmp_path / "registry.json").read_text()
        definitions = VIEWS.replace("expires: field", f"expires: field\n      {limits}", 1)
        (tmp_path / "features.yaml").write_text(definitions)
        store.reload_definitions()
        assert [(c.kind, c.detail) for c in store.plan()] == [
            ("compatible", "min_rows none -> 5"),
            ("compatible", "max_source_age none -> 36h"),
            ("compatible", "max_rejected none -> 0.01"),
        ]
