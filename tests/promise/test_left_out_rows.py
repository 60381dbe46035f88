"""Rows that a load leaves out, or refuses to guess about."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featurekit import FeatureStore
from featurekit.errors import BadRowError, FeatureKitError, SourceError, ValueRefusedError
from tests.cli.running import run, run_json
from tests.servers import PATIENT_YAML, Server

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
            f"project: left\ndefinitions: [users.yaml]\nonline_store: {{url: '{valkey.url}', {PATIENT_YAML}}}\n"
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


def test_whole_floats_of_a_column_are_integers_and_others_are_bad_rows(declare: Declare) -> None:
    repo = declare("source: {type: parquet, path: rows.parquet}")
    values = [517.0, None, 1.5, 2.0**53, 2.0**53 + 2]
    pq.write_table(pa.table({"user_id": [*"abcde"], "n": values}), repo / "rows.parquet")
    with FeatureStore(repo) as store:
        (report,) = store.materialize(on_bad_row="skip")
        assert (report.rows_written, report.rows_rejected) == (3, 2)
        assert served(repo, *"abcde") == [517, None, None, 2**53, None]
        store.write_batch("profile", pd.DataFrame({"user_id": ["a", "b"], "n": [518, None]}))
        assert served(repo, "a", "b") == [518, None]
        with pytest.raises(BadRowError, match=r"n: 3\.5 is not an int64"):
            store.write_batch("profile", pd.DataFrame({"user_id": ["a", "b"], "n": [4, 3.5]}))
        with pytest.raises(FeatureKitError, match=r"3\.0 is not an int64"):
            store.write_batch("profile", {"a": {"n": 3.0}})


def test_the_arrow_type_of_decimals_does_not_depend_on_the_values(
    tmp_path: Path, declare: Declare
) -> None:
    repo = declare("expires: key")
    definitions = repo / "users.yaml"
    definitions.write_text(definitions.read_text().replace("n: int64", "n: decimal"))
    with FeatureStore(repo) as store:
        store.apply(allow_breaking=True)
        store.write_batch("profile", {"a": {"n": Decimal("19.99")}, "b": {"n": Decimal("1E-38")}})
        usual = store.get_online_features(["profile:n"], {"user_id": ["a", "x"]})
        assert usual.to_arrow().schema.field("n").type == pa.decimal128(38, 18)
        fine = store.get_online_features(["profile:n"], {"user_id": ["a", "b"]})
        with pytest.raises(ValueRefusedError, match="n: a value has more digits") as caught:
            fine.to_arrow()
        assert "to_dict()" in caught.value.hint
        assert fine.to_dict()["n"][1] == Decimal("1E-38")


@pytest.mark.parametrize(
    ("kind", "text"),
    [("csv", "user_id,amount\na,517.0\n"), ("jsonl", '{"user_id": "a", "amount": 517.0}\n')],
)
def test_text_with_a_point_is_refused_with_the_cast(
    declare: Declare, kind: str, text: str
) -> None:
    repo = declare(f"source: {{type: {kind}, path: rows, columns: {{n: amount}}}}")
    (repo / "rows").write_text(text)
    with FeatureStore(repo) as store, pytest.raises(BadRowError) as caught:
        store.materialize()
    assert caught.value.hint.startswith("column 'amount': write an integer without a point")
