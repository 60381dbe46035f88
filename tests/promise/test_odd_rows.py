"""Rows that are not objects or hold values outside Python's range: one error that names the row."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from featurekit import FeatureStore, MaterializeReport
from featurekit.errors import BadRowError, SourceError
from featurekit.repo.materialization import OnBadRow
from tests.servers import PATIENT_YAML, Server

DEFINITIONS = """
entities:
  - name: user
    join_keys: {{user_id: string}}
feature_views:
  - name: profile
    entity: user
    batch: {{refresh: 1h, source: {source}}}
    fields: {{seen: timestamp, day: date, more: json}}
"""


def load(
    folder: Path, server: Server, source: str, on_bad_row: OnBadRow = "fail"
) -> MaterializeReport:
    (folder / "featurerepo.yaml").write_text(
        f"project: odd\ndefinitions: [users.yaml]\nonline_store: {{url: '{server.url}', {PATIENT_YAML}}}\n"
    )
    (folder / "users.yaml").write_text(DEFINITIONS.format(source=source))
    with FeatureStore(folder) as store:
        store.apply()
        [report] = store.materialize(on_bad_row=on_bad_row)
    return report


@pytest.mark.parametrize(
    "line",
    ["[1]", "null", '{"user_id": "a", "more": ' + "[" * 100_000 + "]" * 100_000 + "}"],
    ids=["list", "null", "deep"],
)
def test_a_line_without_a_join_key_is_named_by_its_number(
    tmp_path: Path, valkey: Server, line: str
) -> None:
    (tmp_path / "rows.jsonl").write_text('{"user_id": "a"}\n\n' + line + "\n")
    with pytest.raises(BadRowError, match=r"^profile, rows\.jsonl, line 3: .*JSON"):
        load(tmp_path, valkey, "{type: jsonl, path: rows.jsonl, absent: null}")


@pytest.mark.parametrize(
    "column", ["'infinity'::TIMESTAMPTZ AS seen", "'0044-03-15 (BC)'::DATE AS day"]
)
def test_times_outside_pythons_range_are_refused(
    tmp_path: Path, valkey: Server, column: str
) -> None:
    query = f"SELECT * FROM (SELECT 'a' AS user_id, {column}) LEFT JOIN (SELECT 'a' AS user_id, "
    others = {"seen": "NULL::TIMESTAMPTZ", "day": "NULL::DATE", "more": "NULL::VARCHAR"}
    others.pop(column.rpartition(" ")[2])
    query += ", ".join(f"{value} AS {name}" for name, value in others.items())
    with pytest.raises(
        BadRowError, match=r"user_id='a', (seen|day): .* is not a (timestamp|date)"
    ):
        load(tmp_path, valkey, f'{{type: sql, query: "{query}) USING (user_id)"}}')


@pytest.mark.parametrize("column", ["INTERVAL 1 DAY", "[INTERVAL 1 DAY]", "union_value(num := 2)"])
@pytest.mark.parametrize("on_bad_row", ["fail", "skip"])
def test_a_column_that_no_field_can_hold_is_refused_by_name(
    tmp_path: Path, valkey: Server, column: str, on_bad_row: OnBadRow
) -> None:
    query = f"SELECT 'a' AS user_id, {column} AS seen, NULL::DATE AS day, NULL AS more"
    source = f'{{type: sql, query: "{query}"}}'
    with pytest.raises(
        SourceError, match=r"column 'seen' is (INTERVAL|UNION).*, which is not a"
    ) as caught:
        load(tmp_path, valkey, source, on_bad_row)
    assert "cast the column" in caught.value.hint


def test_a_rejected_row_with_an_interval_is_kept_as_text(tmp_path: Path, valkey: Server) -> None:
    query = "SELECT 'a' AS user_id, 7 AS seen, NULL::DATE AS day, [INTERVAL 1 DAY] AS more"
    report = load(tmp_path, valkey, f'{{type: sql, query: "{query}"}}', "skip")
    [row] = pq.read_table(report.rejects_path).to_pylist()
    assert row["more"] == "[[0, 1, 0]]"  # months, days, nanoseconds
