"""Parquet, CSV and JSON Lines files as sources."""

from __future__ import annotations

import gzip
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.flights import table

from featurekit.errors import SourceError
from featurekit.plan import CsvSourcePlan, JsonlSourcePlan, ParquetSourcePlan

CSV = CsvSourcePlan(paths=("rows.csv",))
JSONL = JsonlSourcePlan(paths=("rows.jsonl",))
PARQUET = ParquetSourcePlan(paths=("rows.parquet",))


def put(repo: Any, name: str, **columns: Any) -> None:
    (repo.root / name).parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), repo.root / name)


def test_parquet_columns_keep_their_own_types(repo: Any) -> None:
    columns = {
        "whole": pa.array([2**64 - 1], pa.uint64()),
        "small": pa.array([1], pa.int8()),
        "money": pa.array([Decimal("1.50")], pa.decimal128(10, 2)),
        "local": pa.array([1_700_000_000_123_456_789], pa.timestamp("ns")),
        "zoned": pa.array([1], pa.timestamp("us", "UTC")),
        "raw": pa.array([b"\x00\xff"]),
        "flag": pa.array([True]),
        "day": pa.array([1], pa.date32()),
        "tags": pa.array([["x", None]]),
        "f": pa.array([1.5], pa.float32()),
    }
    repo.fields = dict.fromkeys(columns, "string")
    put(repo, "rows.parquet", user_id=["a"], **columns)
    schema = repo.read(PARQUET).schema
    assert {n: schema.field(n).type for n in columns if n != "tags"} == {
        n: column.type for n, column in columns.items() if n != "tags"
    }
    assert schema.field("tags").type.value_type == pa.string()


def test_folders_globs_and_lists_are_read_once_each(repo: Any) -> None:
    put(repo, "a/1.parquet", user_id=["a"], n=[1])
    put(repo, "a/deep/2.parquet", user_id=["b"], n=[2])
    put(repo, "a/_temporary/9.parquet", user_id=["z"], n=[9])
    put(repo, "b.parquet", user_id=["c"], n=[3])
    assert repo.read(ParquetSourcePlan(paths=("a",))).column("n") == [1, 2]
    assert repo.read(ParquetSourcePlan(paths=("**/[0-8].parquet",))).column("n") == [1, 2]
    assert repo.read(ParquetSourcePlan(paths=("a", "b.parquet", "a/1.parquet"))).rows_read == 3


def test_partition_folders_are_columns_only_with_hive_partitioning(repo: Any) -> None:
    put(repo, "d/n=5/1.parquet", user_id=["a"])
    on = ParquetSourcePlan(paths=("d",), hive_partitioning=True)
    assert repo.read(on).rows == [{"user_id": "a", "n": 5}]
    with pytest.raises(SourceError, match="no column 'n'"):
        repo.read(ParquetSourcePlan(paths=("d",)))


def test_a_column_that_older_files_lack_is_null_in_their_rows(repo: Any) -> None:
    put(repo, "1.parquet", user_id=["a"])
    put(repo, "2.parquet", n=[2], user_id=["b"])
    assert repo.read(ParquetSourcePlan(paths=("*.parquet",))).rows == [
        {"user_id": "a", "n": None},
        {"user_id": "b", "n": 2},
    ]
    repo.write("1.csv", "user_id\na\n")
    repo.write("2.csv", "n,user_id\n2,b\n")
    assert repo.read(CsvSourcePlan(paths=("*.csv",))).rows == [
        {"user_id": "a", "n": None},
        {"user_id": "b", "n": "2"},
    ]


def test_an_error_names_all_missing_columns_and_case_matters(repo: Any) -> None:
    put(repo, "rows.parquet", USER_ID=["a"], nn=[1])
    with pytest.raises(SourceError) as caught:
        repo.read(PARQUET)
    assert caught.value.message == "no column 'user_id' (join key user_id), 'n' (field n)"
    assert caught.value.where == "feature view profile"
    assert "columns:" in caught.value.hint


def test_columns_are_renamed(repo: Any) -> None:
    put(repo, "rows.parquet", uid=["a"], **{'odd "name': [1]})
    plan = ParquetSourcePlan(
        paths=("rows.parquet",), columns=(("user_id", "uid"), ("n", 'odd "name'))
    )
    assert repo.read(plan).rows == [{"user_id": "a", "n": 1}]


@pytest.mark.parametrize(
    ("path", "message", "hint"),
    [
        ("rowz.parquet", "no file rowz.parquet", "did you mean 'rows.parquet'"),
        ("*.pq", r"no file matches \*\.pq", ""),
        ("empty", r"folder empty contains no \*\.parquet file", ""),
        ("nowhere/x.parquet", "no file nowhere/x.parquet", "no folder nowhere"),
        ("rows.txt", "rows.txt: not a Parquet file", ""),
    ],
)
def test_an_error_names_files_that_are_missing_or_not_parquet(
    repo: Any, path: str, message: str, hint: str
) -> None:
    put(repo, "rows.parquet", user_id=["a"], n=[1])
    repo.write("rows.txt", "this is text, and quite a lot of it")
    (repo.root / "empty").mkdir()
    with pytest.raises(SourceError, match=message) as caught:
        repo.read(ParquetSourcePlan(paths=(path,)))
    assert hint in caught.value.hint


def test_csv_is_text_and_an_empty_cell_is_null_but_an_empty_string_is_not(repo: Any) -> None:
    repo.fields = {"n": "string"}
    repo.write("rows.csv", 'user_id,n,more\na,,1\nb,"",2\nc,"x, ""y""\nz",3\nd,007,4\ne,NA,5\n')
    read = repo.read(CSV)
    assert read.form == "text"
    assert [row["n"] for row in read.rows] == [None, "", 'x, "y"\nz', "007", "NA"]


def test_csv_uses_the_declared_delimiter_and_null_text(repo: Any) -> None:
    repo.write("rows.csv", "\ufeffuser_id;n\r\na;NA\r\n\r\nb;1,5\r\n")
    plan = CsvSourcePlan(paths=("rows.csv",), delimiter=";", null=("NA",))
    assert [row["n"] for row in repo.read(plan).rows] == [
        None,
        "1,5",
    ]


def test_several_texts_may_be_null_and_a_quoted_empty_cell_is_null_for_other_types(
    repo: Any,
) -> None:
    repo.fields = {"n": "int64", "s": "string"}
    repo.write("rows.csv", 'user_id,n,s\na,NA,NA\nb,"",""\nc,,\nd,"NA",-\n')
    rows = repo.read(replace(CSV, null=("NA", ""))).rows
    assert [(row["n"], row["s"]) for row in rows] == [
        (None, None),
        (None, ""),
        (None, None),
        ("NA", "-"),
    ]
    assert repo.read(replace(CSV, null=("NA",))).rows[1]["n"] == ""


@pytest.mark.parametrize(
    "text",
    [
        ",user_id,n\n0,a,1\n",  # pandas and R: an index without a name
        '"","user_id","n"\n"1","a","1"\n',
        "user_id,n,\na,1,\n",  # a trailing comma
        "x,user_id,X,n,x,N\n9,a,9,1,9,9\n",
        "user_id,n,,\na,1,9,9\n",
    ],
)
def test_columns_that_are_not_used_may_have_any_name(repo: Any, text: str) -> None:
    repo.write("rows.csv", text)
    assert repo.read(CSV).rows == [{"user_id": "a", "n": "1"}]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("plan", [CSV, JSONL], ids=["csv", "jsonl"])
def test_utf_16_is_named(repo: Any, plan: Any, encoding: str) -> None:
    (repo.root / plan.paths[0]).write_bytes('{"user_id": "a"}\n'.encode(encoding))
    with pytest.raises(SourceError, match="UTF-16, expected UTF-8") as caught:
        repo.read(plan)
    assert ("encoding: utf-16" if plan is CSV else "iconv") in caught.value.hint


@pytest.mark.parametrize(("one", "two"), [("\r\n", "\n"), ("\n", "\r\n")])
def test_line_endings_may_be_mixed(repo: Any, one: str, two: str) -> None:
    text = f'user_id,n{one}a,1{two}b,"2{one}3"{one}c,{two}{two}d,4'
    (repo.root / "rows.csv").write_bytes(text.encode())
    repo.fields = {"n": "string"}
    assert [row["n"] for row in repo.read(CSV).rows] == ["1", f"2{one}3", None, "4"]


def test_csv_and_json_files_may_be_compressed(repo: Any) -> None:
    with gzip.open(repo.root / "rows.csv.gz", "wt") as file:
        file.write("user_id,n\na,1\n")
    with gzip.open(repo.root / "rows.jsonl.gz", "wt") as file:
        file.write('{"user_id":"a","n":1}\n')
    assert repo.read(CsvSourcePlan(paths=(".",))).rows == [{"user_id": "a", "n": "1"}]
    assert repo.read(JsonlSourcePlan(paths=(".",))).rows == [{"json": '{"user_id":"a","n":1}'}]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("user_id,n\na,1\nb\n", "rows.csv:3: columns: found 1, expected 2"),
        ("user_id,n\na,1\nb,2,3\n", "rows.csv:3: columns: found 3, expected 2"),
        ('user_id,n\na,"x\n', "rows.csv:2: "),
        ("", "rows.csv: no header line"),
        ("n,n\n", "rows.csv: two columns are named 'n'"),
    ],
)
def test_broken_csv_names_file_and_line(repo: Any, text: str, message: str) -> None:
    repo.write("rows.csv", text)
    with pytest.raises(SourceError, match=message):
        repo.read(CSV)


def test_two_spellings_of_an_integer_are_one_key(repo: Any) -> None:
    repo.keys = {"user_id": "int64"}
    repo.write("rows.csv", "user_id,n\n7,1\n007,2\n-0,3\n0,4\n7.5,5\n")
    assert repo.read(CSV).column("n") == ["2", "4", "5"]


def test_json_lines_are_returned_unchanged(repo: Any) -> None:
    lines = [
        '{"n": 12345678901234567890.123, "user_id": "a\\u00e9", "tiny": 1e-320}',
        '  {"user_id": "b", "n": [1, {"x": null}]}  ',
        '{"user_id": "c"}',
    ]
    repo.write("rows.jsonl", f"{lines[0]}\n\n{lines[1]}\r\n   \n{lines[2]}")
    read = repo.read(JSONL)
    assert read.form == "json"
    assert [row["json"] for row in read.rows] == lines


def test_the_newest_json_line_of_each_entity_is_kept(repo: Any) -> None:
    repo.write(
        "rows.jsonl",
        '{"u/id": "a", "t": "2026-01-02T00:00:00Z", "n": 2}\n'
        '{"u/id": "a", "t": "2026-01-01T00:00:00Z", "n": 1}\n'
        '{"u/id": "b", "t": "soon"}\n{"u/id": "b", "t": 17}\n',
    )
    plan = JsonlSourcePlan(
        paths=("rows.jsonl",), timestamp_field="t", columns=(("user_id", "u/id"),)
    )
    times = [row["event_timestamp"] for row in repo.read(plan).rows]
    assert times == [datetime(2026, 1, 2, tzinfo=UTC), None, None]


def test_broken_json_names_file_and_line(repo: Any) -> None:
    repo.write("rows.jsonl", '{"user_id": "a"}\n\n{"user_id": }\n')
    with pytest.raises(SourceError, match=r"rows\.jsonl:3: not JSON"):
        repo.read(JSONL)


def test_a_row_is_located_in_its_file(repo: Any) -> None:
    day = [datetime(2026, 1, d, tzinfo=UTC) for d in (1, 2, 3)]
    put(repo, "p/1.parquet", user_id=["a", "b"], n=[1, 2], ts=day[:2])
    put(repo, "p/2.parquet", user_id=["c", "b", None], n=[1, 2, 3], ts=day)
    plan = ParquetSourcePlan(paths=("p",), timestamp_field="ts")
    source, view = repo.open(plan), repo.view(plan)
    assert source.locate(view, {"user_id": "b", "event_timestamp": day[1]}) == "2.parquet, row 2"
    assert source.locate(view, {"user_id": "a", "event_timestamp": day[0]}) == "1.parquet, row 1"
    assert source.locate(view, {"user_id": None}) == "2.parquet, row 3"
    assert source.locate(view, {"user_id": "z"}) is None


def test_a_line_is_located_after_quoted_line_breaks_and_blank_lines(repo: Any) -> None:
    repo.write("rows.csv", 'user_id,n\na,"x\ny"\n\nb,1\n')
    repo.write("rows.jsonl", '{"user_id":"a"}\n\n{"user_id":"b"}\n')
    for plan, place in ((CSV, "rows.csv, line 5"), (JSONL, "rows.jsonl, line 3")):
        assert repo.open(plan).locate(repo.view(plan), {"user_id": "b"}) == place


def test_flights_of_new_york_keep_their_nulls(repo: Any) -> None:
    flown = table("flights").head(20_000)
    repo.keys, repo.fields = {"tailnum": "string"}, {"dep_delay": "float64", "flight": "int64"}
    rows = pa.Table.from_pandas(flown, preserve_index=False)
    pq.write_table(rows, repo.root / "rows.parquet")
    plan = ParquetSourcePlan(paths=("rows.parquet",), timestamp_field="time_hour")
    read = repo.read(plan)
    named = flown[flown.tailnum.notna()].sort_values("time_hour", kind="stable")
    newest = named.groupby("tailnum").tail(1)
    assert len(read.rows) == len(newest) + int(flown.tailnum.isna().sum())
    assert sum(row["dep_delay"] is None for row in read.rows if row["tailnum"]) == int(
        newest.dep_delay.isna().sum()
    )


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (pa.array([2**53 + 1]), pa.array([0.5])),
        (pa.array([1]), pa.array(["x"])),
        (pa.array([1], pa.timestamp("us")), pa.array([1], pa.timestamp("us", "UTC"))),
        (pa.array([{"n": 1}]), pa.array([{"n": "x"}])),
    ],
)
def test_files_that_differ_in_a_type_are_refused_instead_of_cast(
    repo: Any, one: Any, two: Any
) -> None:
    put(repo, "1.parquet", user_id=["a"], n=one)
    put(repo, "2.parquet", n=two, user_id=["b"])
    with pytest.raises(SourceError, match=r"column 'n' is .* in 2.parquet and .* in 1.parquet"):
        repo.read(ParquetSourcePlan(paths=("*.parquet",)))


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (pa.array([1], pa.int32()), pa.array([2])),
        (pa.array([1], pa.uint64()), pa.array([2])),
        (pa.nulls(1), pa.array([2])),
    ],
)
def test_files_that_differ_in_the_width_of_a_type_are_read(repo: Any, one: Any, two: Any) -> None:
    put(repo, "1.parquet", user_id=["a"], n=one, s=[{"n": "a member is not a column"}])
    put(repo, "2.parquet", user_id=["b"], n=two)
    read = repo.read(ParquetSourcePlan(paths=("*.parquet",)))
    assert [row["n"] for row in read.rows] == [one[0].as_py(), 2]


@pytest.mark.parametrize(
    ("one", "two", "kept"),
    [
        (("7", 38, 0), ("19.99", 12, 2), "DECIMAL(38,2)"),
        (("7.25", 38, 2), ("1.2345", 10, 4), "DECIMAL(38,4)"),
        (("0.000000000000000001", 38, 18), ("19.99", 38, 2), "DECIMAL(38,18)"),
        (("1.5", 4, 1), ("19.99", 12, 2), "DECIMAL(12,2)"),
        (("123456.5", 7, 1), ("0.999", 4, 3), "DECIMAL(9,3)"),
    ],
)
def test_decimals_of_different_precision_keep_their_values(
    repo: Any, one: Any, two: Any, kept: str
) -> None:
    for name, (text, precision, scale) in (("1", one), ("2", two), ("3", one)):
        column = pa.array([Decimal(text)], pa.decimal128(precision, scale))
        put(repo, f"{name}.parquet", user_id=[name], n=column)
    put(repo, "4.parquet", user_id=["4"])
    read = repo.read(ParquetSourcePlan(paths=("*.parquet",)))
    assert [row["n"] for row in read.rows] == [*(Decimal(t[0]) for t in (one, two, one)), None]
    assert str(read.schema.field("n").type) == f"decimal128{kept[7:].replace(',', ', ')}"


def test_a_decimal_that_does_not_fit_the_common_type_is_refused(repo: Any) -> None:
    put(repo, "1.parquet", user_id=["a"], n=pa.array([Decimal("9" * 38)], pa.decimal128(38, 0)))
    put(repo, "2.parquet", user_id=["b"], n=pa.array([Decimal("19.99")], pa.decimal128(12, 2)))
    with pytest.raises(SourceError, match=r"9{38}.*DECIMAL\(38,2\).* column n"):
        repo.read(ParquetSourcePlan(paths=("*.parquet",)))


def test_a_member_of_a_struct_does_not_hide_the_type_of_a_column(repo: Any) -> None:
    put(repo, "1.parquet", user_id=["a"], n=[1])
    put(repo, "2.parquet", user_id=["b"], n=[2], s=[{"n": "text"}])
    put(repo, "3.parquet", user_id=["c"], n=["3"])
    with pytest.raises(SourceError, match=r"'n' is VARCHAR in 3\.parquet and BIGINT in 1"):
        repo.read(ParquetSourcePlan(paths=("*.parquet",)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('user_id,n\r\na,1\nb,"2"x\r\n', r"rows\.csv: mixed line endings.* misplaced quote"),
        ('user_id,n\na,1\nb,"2\nc,3\n', r"rows\.csv:3: Value with unterminated quote"),
    ],
)
def test_an_error_names_the_problem_of_a_malformed_csv(repo: Any, text: str, message: str) -> None:
    (repo.root / "rows.csv").write_bytes(text.encode())
    with pytest.raises(SourceError, match=message):
        repo.read(CsvSourcePlan(paths=("rows.csv",)))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"user_id": "\\ud800"}', "half of a surrogate pair"),
        (b'{"user_id": "caf\xe9"}', "Invalid unicode"),
    ],
)
def test_an_error_names_the_line_of_invalid_unicode(repo: Any, line: bytes, message: str) -> None:
    (repo.root / "rows.jsonl").write_bytes(b'{"user_id": "a"}\n' + line + b"\n")
    with pytest.raises(SourceError, match=rf"rows\.jsonl:2: {message}"):
        repo.read(JsonlSourcePlan(paths=("rows.jsonl",)))
