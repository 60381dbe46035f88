"""Loads of several views, and the record of each load."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featurekit import FeatureStore
from featurekit.errors import BadRowError, MaterializeError, SourceError
from tests.cli.running import run, table_cells
from tests.promise.repos import applied
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
    reports = json.loads(result.stdout)["error"]["reports"]
    assert [report["view"] for report in reports] == ["first", "second"]


def test_a_load_whose_history_cannot_be_written_is_done(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "fsync", refuse)
    [report] = store.materialize(["first"])
    assert (report.rows_written, report.error) == (2, "")
    assert "No space left on device" in report.history_error
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
