"""Rows that a load leaves out, or refuses to guess about."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from featurekit import FeatureStore
from featurekit.errors import SourceError
from tests.cli.running import run, run_json
from tests.servers import Server

DEFINITIONS = """
entities:
  - name: user
    join_keys: {{user_id: string}}
feature_views:
  - name: profile
    entity: user
    batch: {{refresh: 1h, {batch}}}
    fields: {{n: int64}}
"""
CSV = "source: {type: csv, path: rows.csv, timestamp_field: at}"

Declare = Callable[[str], Path]


@pytest.fixture
def declare(tmp_path: Path, valkey: Server) -> Declare:
    """Write and apply a repository whose batch view has these settings."""

    def write(batch: str) -> Path:
        (tmp_path / "featurerepo.yaml").write_text(
            f"project: left\ndefinitions: [users.yaml]\nonline_store: {{url: '{valkey.url}'}}\n"
        )
        (tmp_path / "users.yaml").write_text(DEFINITIONS.format(batch=batch))
        with FeatureStore(tmp_path) as store:
            store.apply()
        return tmp_path

    return write


def served(repo: Path, *users: str) -> list[object]:
    with FeatureStore(repo) as store:
        response = store.get_online_features(["profile:n"], {"user_id": [*users]})
    values: list[object] = response.to_dict()["n"]
    return values


def test_a_row_of_the_future_does_not_beat_todays(declare: Declare) -> None:
    repo = declare(CSV)
    (repo / "rows.csv").write_text(
        "user_id,n,at\na,1,2026-01-01\na,2,2099-01-01\nb,3,2099-01-01\n"
    )
    with FeatureStore(repo) as store:
        (report,) = store.materialize()
        (record,) = store.load_history()
    assert served(repo, "a", "b") == [1, None]
    counts = (report.rows_read, report.rows_written, report.rows_superseded, report.rows_future)
    assert counts == (3, 1, 0, 2)
    assert (report.rows_rejected, record.rows_future) == (0, 2)
    result = run("--repo", str(repo), "materialize")
    assert result.exit_code == 0
    assert "profile: 2 rows of the future left out" in result.stderr
    assert run_json("--repo", str(repo), "materialize")[0]["rows_future"] == 2


def test_rows_of_the_future_are_loaded_where_the_view_says_so(declare: Declare) -> None:
    repo = declare(f"future_rows: load, {CSV}")
    (repo / "rows.csv").write_text("user_id,n,at\na,1,2026-01-01\na,2,2099-01-01\n")
    with FeatureStore(repo) as store:
        (report,) = store.materialize()
    assert (served(repo, "a"), report.rows_future) == ([2], 0)


def test_a_mistyped_member_deletes_nothing(declare: Declare) -> None:
    jsonl = "source: {type: jsonl, path: rows.jsonl, "
    repo = declare(jsonl + "columns: {n: amount}}")
    (repo / "rows.jsonl").write_text('{"user_id": "a", "amount": 7}\n')
    with FeatureStore(repo) as store:
        store.materialize()
    declare(jsonl + "columns: {n: amuont}}")
    with FeatureStore(repo) as store, pytest.raises(SourceError, match="'amuont'"):
        store.materialize()
    assert served(repo, "a") == [7]
    declare(jsonl + "columns: {n: amuont}, absent: null}")
    with FeatureStore(repo) as store:
        store.materialize()
    assert served(repo, "a") == [None]
