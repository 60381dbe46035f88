"""`validate --data` finds what a load would refuse, and agrees with the load."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from featurekit import FeatureStore
from featurekit.errors import RequestError, UnknownNameError
from featurekit.repo import data_checks
from tests.cli.running import run
from tests.data.repos import NOW, by_check, profile, row, write_repo, write_users

WRONG = [
    row(1, age=-5),
    row(2, age=-6),
    row(3, segment="mid"),
    row(4, score=float("nan")),
    row(5, user_id=None),
    row(6, at=None),
]


def check(folder: Path, *arguments: str, code: int = 0) -> dict[str, Any]:
    result = run("--repo", str(folder), "validate", "--data", *arguments, "--json")
    assert result.exit_code == code, result.output
    view: dict[str, Any] = json.loads(result.stdout)["data"]["views"][0]
    return view


def test_right_rows_have_no_finding(tmp_path: Path) -> None:
    write_users(write_repo(tmp_path, profile()), [row(number) for number in range(50)])
    view = check(tmp_path, "--strict")
    assert (view["state"], view["rows_read"], view["entities"]) == ("ok", 50, 50)
    assert view["findings"] == []
    assert view["nulls"] == {"age": 0, "segment": 0, "score": 0}


def test_each_kind_of_wrong_value_is_counted_with_its_first_rows(tmp_path: Path) -> None:
    write_users(write_repo(tmp_path, profile()), [row(0), *WRONG])
    view = check(tmp_path, code=1)
    found = {each["message"]: each for each in view["findings"] if each["check"] == "values"}
    assert view["rows_rejected"] == 6
    assert found["age: -5 is below min 0"]["rows"] == 2
    assert [each["key"] for each in found["age: -5 is below min 0"]["first"]] == [
        "user_id='u001'",
        "user_id='u002'",
    ]
    assert found["age: -5 is below min 0"]["first"][0]["where"] == "users.parquet, row 2"
    assert {each["field"] for each in found.values()} == {
        *("age", "segment", "score", "user_id", "event_timestamp")
    }


def test_a_load_rejects_exactly_the_rows_that_were_found(tmp_path: Path) -> None:
    older = row(9, age=-1, at=NOW - timedelta(hours=9))
    rows = [*WRONG, older, row(9), *(row(number) for number in range(20, 40))]
    write_users(write_repo(tmp_path, profile()), rows)
    view = check(tmp_path, code=1)
    with FeatureStore(tmp_path) as store:
        store.apply()
        (report,) = store.materialize("profile", on_bad_row="skip")
    assert view["rows_read"] == report.rows_read
    assert view["rows_rejected"] == report.rows_rejected == 6
    assert view["rows_superseded"] == report.rows_superseded == 1
    assert (
        view["entities"] == report.rows_written + 4
    )  # two of the rejected rows have no entity or time


def test_definitions_and_sources_are_checked_without_a_server(tmp_path: Path) -> None:
    write_users(write_repo(tmp_path, profile(), "redis://localhost:1"), [row(1)])
    assert run("--repo", str(tmp_path), "validate").exit_code == 0
    assert check(tmp_path)["state"] == "ok"
    assert run("--repo", str(tmp_path), "profile", "profile").exit_code == 0


def test_values_of_superseded_rows_are_checked_on_request(tmp_path: Path) -> None:
    rows = [row(1, age=-1, at=NOW - timedelta(hours=9)), row(1)]
    write_users(write_repo(tmp_path, profile()), rows)
    assert check(tmp_path)["rows_rejected"] == 0
    view = check(tmp_path, "--every-row", code=1)
    assert (view["rows_rejected"], view["rows_superseded"]) == (1, 1)


@pytest.mark.slow
def test_rows_of_the_future_late_tied_and_old_rows_are_warnings(tmp_path: Path) -> None:
    rows = [
        row(1),
        row(1),
        row(2, at=NOW + timedelta(hours=2)),
        row(3, made=NOW + timedelta(days=2)),
        row(4, at=NOW - timedelta(days=9)),
    ]
    write_users(write_repo(tmp_path, profile("lookback: 7d")), rows)
    view = check(tmp_path)
    names = ("rows_tied", "rows_future", "rows_late", "rows_outside")
    assert [view[name] for name in names] == [2, 1, 1, 1]
    found = by_check(view["findings"])
    assert set(found) == {"duplicates", "future", "late"}
    assert found["duplicates"]["first"][0]["key"] == "user_id u001"
    assert {each["level"] for each in view["findings"]} == {"warn"}
    check(tmp_path, "--strict", code=1)


def test_a_source_that_stopped_is_compared_with_refresh(tmp_path: Path) -> None:
    write_users(write_repo(tmp_path, profile()), [row(1, at=NOW - timedelta(hours=30))])
    (finding,) = check(tmp_path)["findings"]
    assert finding["check"] == "freshness"
    assert finding["message"] == "the newest row is 1d6h old, refresh is 12h"


@pytest.mark.parametrize("limit", ["min_rows: 9", "max_source_age: 5m"])
def test_limits_of_a_load_are_failures(tmp_path: Path, limit: str) -> None:
    write_users(write_repo(tmp_path, profile(limit)), [row(1)])
    assert by_check(check(tmp_path, code=1)["findings"])["limits"]["level"] == "fail"


def test_a_field_without_any_value_is_a_warning(tmp_path: Path) -> None:
    write_users(write_repo(tmp_path, profile()), [row(n, score=None) for n in range(5)])
    (finding,) = check(tmp_path)["findings"]
    assert (finding["check"], finding["field"]) == ("nulls", "score")


CSV = """
  - name: sales
    entity: user
    batch: {refresh: 1h, source: {type: csv, path: sales.csv}}
    fields: {amount: float64, paid: bool}
"""


def test_lines_that_cannot_be_read_are_rows_with_a_problem(tmp_path: Path) -> None:
    write_repo(tmp_path, CSV)
    lines = ["user_id,amount,paid", "a,1.5,true", "b,x,true", "c,1", "a,2,false"]
    (tmp_path / "sales.csv").write_text("\n".join(lines) + "\n")
    view = check(tmp_path, code=1)
    assert (view["rows_read"], view["rows_rejected"], view["rows_superseded"]) == (4, 2, 1)
    firsts = {each["first"][0]["where"] for each in view["findings"] if each["check"] == "values"}
    assert firsts == {"sales.csv, line 3", "sales.csv, line 4"}
    assert by_check(view["findings"])["duplicates"]["rows"] == 1


def test_sources_that_cannot_be_read_are_findings_and_the_others_are_checked(
    tmp_path: Path,
) -> None:
    write_repo(tmp_path, CSV + profile("expires: field"))
    write_users(tmp_path, [row(1)])
    result = run("--repo", str(tmp_path), "validate", "--data")
    assert result.exit_code == 1
    assert "no file sales.csv" in result.stdout
    assert "a load would not take all of: sales" in result.stderr
    assert check(tmp_path, "profile")["state"] == "ok"


@pytest.mark.slow
def test_json_and_sql_sources_and_functions_are_checked(tmp_path: Path) -> None:
    (tmp_path / "lines.jsonl").write_text('{"user_id": "a", "n": 1}\n{"user_id": "b", "n": "1"}\n')
    (tmp_path / "own_rows.py").write_text(
        "import pyarrow as pa\n"
        "def rows(): return pa.table({'user_id': ['a', 'b'], 'k': [1.5, 2.0]})\n"
    )
    sources = {
        "lines": ("{type: jsonl, path: lines.jsonl}", "n"),
        "query": ("{type: sql, query: \"SELECT 'a' AS user_id, 'x' AS m\"}", "m"),
        "function": ("{type: python, callable: 'own_rows:rows'}", "k"),
    }
    views = "".join(
        f"  - {{name: {name}, entity: user, batch: {{refresh: 1h, expires: field, source: {source}}}, "
        f"fields: {{{field}: int64}}}}\n"
        for name, (source, field) in sources.items()
    )
    with FeatureStore(write_repo(tmp_path, views)) as store:
        report = store.data.check()
    rejected = {view.view: view.rows_rejected for view in report.views}
    assert rejected == {"lines": 1, "query": 1, "function": 1}


def test_a_source_for_spark_is_skipped(tmp_path: Path) -> None:
    view = "{type: table, table: shop.users}"
    write_repo(
        tmp_path,
        f"  - {{name: big, entity: user, batch: {{refresh: 1h, source: {view}}}, fields: {{n: int64}}}}\n",
    )
    assert check(tmp_path)["state"] == "skipped"


def test_rejected_rows_beyond_a_bound_are_counted_without_reasons(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data_checks, "MAX_EXPLAINED", 5)
    write_users(write_repo(tmp_path, profile()), [row(n, age=-n) for n in range(1, 31)])
    view = check(tmp_path, code=1)
    assert view["rows_rejected"] == 30
    assert [each["rows"] for each in view["findings"]] == [5, 30]


def test_wrong_usage_is_refused(tmp_path: Path) -> None:
    write_users(write_repo(tmp_path, profile()), [row(1)])
    assert run("--repo", str(tmp_path), "validate", "profile").exit_code == 2
    assert run("--repo", str(tmp_path), "validate", "--data", "profiles").exit_code == 1
    with FeatureStore(tmp_path) as store, pytest.raises(UnknownNameError):
        store.data.check("profiles")
    write_repo(
        tmp_path, "  - {name: own, entity: user, batch: {refresh: 1h}, fields: {n: int64}}\n"
    )
    with FeatureStore(tmp_path) as store, pytest.raises(RequestError, match="no batch source"):
        store.data.check("own")
