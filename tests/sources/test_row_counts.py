"""Every row of a CSV or JSON Lines file is read, or the load fails."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from tests.sources.conftest import Repo

from featurekit.errors import SourceError
from featurekit.plan import CsvSourcePlan, FileSourcePlan, JsonlSourcePlan
from featurekit.sources.row_counts import count_records, count_records_by_line

CSV = CsvSourcePlan(paths=("rows.csv",))
T0 = 1_767_225_600_000  # 2026-01-01T00:00:00Z


def write(path: Path, content: bytes) -> None:
    if path.suffix == ".zst":
        with pa.output_stream(str(path), compression="zstd") as stream:
            stream.write(content)
    else:
        path.write_bytes(gzip.compress(content, 1) if path.suffix == ".gz" else content)


@pytest.mark.parametrize(
    ("suffix", "end", "size"),
    [
        ("", b"", 9_000_000),
        ("", b"\n", 9_000_000),
        ("", b"\r\n", 9_000_000),
        ("", b"", 17_000_000),
        (".gz", b"", 9_000_000),
        (".gz", b"\n", 9_000_000),
        (".zst", b"", 9_000_000),
    ],
)
def test_a_last_line_longer_than_the_buffer_is_an_error_of_that_line(
    repo: Repo, suffix: str, end: bytes, size: int
) -> None:
    newline = b"\r\n" if end == b"\r\n" else b"\n"
    text = newline.join([b"user_id,n", b"a,1", b"b,2", b"c," + b"x" * size])
    write(repo.root / f"rows.csv{suffix}", text + end)
    with pytest.raises(SourceError, match=rf"rows\.csv{suffix}:4: .*(longer than|Maximum line)"):
        repo.read(CsvSourcePlan(paths=(f"rows.csv{suffix}",)))
    lines = newline.join(
        [b'{"user_id":"a","n":"1"}', b'{"user_id":"b","n":"' + b"x" * size + b'"}']
    )
    write(repo.root / f"rows.jsonl{suffix}", lines + end)
    with pytest.raises(SourceError, match=rf"rows\.jsonl{suffix}:2: .*(longer than|Maximum line)"):
        repo.read(JsonlSourcePlan(paths=(f"rows.jsonl{suffix}",)))


def test_a_row_that_is_lost_is_an_error_although_other_files_are_complete(repo: Repo) -> None:
    repo.write("1.csv", "user_id,n\na,1\n\n")
    repo.write("2.csv", "user_id,n\nb,2\nc," + "x" * 9_000_000)
    with pytest.raises(SourceError, match=r"2\.csv:3: the line is longer than 2000000 bytes"):
        repo.read(CsvSourcePlan(paths=("*.csv",)))


def test_a_line_that_is_too_long_is_an_error_also_outside_of_the_time_range(repo: Repo) -> None:
    repo.fields = {"n": "string"}
    rows = ["user_id,ts,n", "a,2026-01-01,1", "b,2026-01-02,2"]
    repo.write("rows.csv", "\n".join([*rows, ""]))
    plan = CsvSourcePlan(paths=("rows.csv",), timestamp_field="ts")
    read = repo.read(plan, T0, T0 + 1)
    assert (read.column("n"), read.rows_read) == (["1"], 1)
    repo.write("rows.csv", "\n".join([*rows, "c,2026-01-03," + "x" * 9_000_000]))
    with pytest.raises(SourceError, match=r"rows\.csv:4: the line is longer than 2000000 bytes"):
        repo.read(plan, T0, T0 + 1)


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("count", [0, 1, 150_000])
def test_a_json_array_is_refused_by_name(repo: Repo, indent: int | None, count: int) -> None:
    rows = [{"user_id": f"k{i}", "n": "a" * 60} for i in range(count)]
    repo.write("rows.jsonl", " \n" + json.dumps(rows, indent=indent))
    with pytest.raises(SourceError, match=r"rows\.jsonl: a JSON array, not JSON Lines") as caught:
        repo.read(JsonlSourcePlan(paths=("rows.jsonl",)))
    assert "read_json" in caught.value.hint


def test_json_after_a_control_character_is_not_dropped(repo: Repo) -> None:
    (repo.root / "rows.jsonl").write_bytes(
        b'{"user_id":"a","n":1}\n{"user_id":"b"}\x01{"user_id":"c"}\n'
    )
    with pytest.raises(SourceError, match=r"rows\.jsonl:2: not JSON: control character"):
        repo.read(JsonlSourcePlan(paths=("rows.jsonl",)))


@pytest.mark.parametrize("damage", ["cut", "changed"])
@pytest.mark.parametrize("name", ["rows.csv.gz", "rows.jsonl.gz"])
def test_a_damaged_gzip_file_is_an_error(repo: Repo, damage: str, name: str) -> None:
    text = "user_id,n\na,1\n" if "csv" in name else '{"user_id":"a"}\n'
    data = bytearray(gzip.compress(text.encode()))
    if damage == "cut":
        del data[-9:]
    else:
        data[-8] ^= 1  # the checksum
    (repo.root / name).write_bytes(data)
    plan: type[FileSourcePlan] = CsvSourcePlan if "csv" in name else JsonlSourcePlan
    with pytest.raises(SourceError, match=r"gzip|GZIP"):
        repo.read(plan(paths=(name,)))


BLANK_AND_QUOTED = [
    ("user_id,n\n\na,1\n\n\nb,2\n\n", 2),
    ("user_id,n\r\n\r\na,1\r\n\r\nb,2", 2),
    ('user_id,n\na,"1\n\n2"\nb,"x""\n"""\n"c\r\n",2\n', 3),
    ('user_id,n\na,x"1\nb,2\n', 2),
    ('user_id,n\na,x"1\nb, "2\n"\n', 2),
    ('\ufeff"user_id","n\n"\na,1\n', 1),
    ("user_id,n\ra,1\rb,2\r", 2),
    ("user_id,n\n", 0),
    ("user_id,n", 0),
]


@pytest.mark.parametrize(("text", "rows"), BLANK_AND_QUOTED)
def test_blank_lines_and_quoted_line_ends_are_counted_as_they_are_read(
    repo: Repo, text: str, rows: int
) -> None:
    repo.fields = {}
    (repo.root / "rows.csv").write_bytes(text.encode())
    assert repo.read(CSV).rows_read == rows


def test_blank_lines_are_rows_only_if_there_is_one_column(repo: Repo) -> None:
    repo.fields = {}
    repo.write("rows.csv", "user_id\na\n\nb\n\n\n")
    assert repo.read(CSV).rows_read == 5
    repo.write("rows.jsonl", '\n{"user_id":"a"}\n \t \n\r\n{"user_id":"b"}\n\n')
    assert repo.read(JsonlSourcePlan(paths=("rows.jsonl",))).rows_read == 2


def _any_cell(pick: random.Random) -> str:
    return pick.choice(
        ["", "x", '"a""b"', '"\n"', '"\r\n\n"', '","', '""', 'y"z', ' "q"', "é" * 9]
    )


@pytest.mark.parametrize("seed", range(20))
def test_random_files_are_counted_as_they_are_read(repo: Repo, seed: int) -> None:
    pick = random.Random(seed)
    newline = pick.choice(["\n", "\r\n"])
    lines = [f"{i},{_any_cell(pick)},{_any_cell(pick)}" for i in range(pick.randrange(2000))]
    text = newline.join(["user_id,n,m", *lines]) + pick.choice(["", newline])
    (repo.root / "rows.csv").write_bytes(text.encode())
    assert repo.read(CSV).rows_read == len(lines)


@pytest.mark.parametrize(
    "count", [lambda f: count_records(f, ",")[0], lambda f: count_records_by_line(f, ",")]
)
def test_quotes_are_followed_over_the_blocks_of_a_file(
    tmp_path: Path, count: Callable[[str], int]
) -> None:
    pick = random.Random(1)
    cells = ['"' + "x\n" * pick.randrange(100_000) + '""y"' for _ in range(30)]
    (tmp_path / "rows.csv").write_text("".join(f"{i},{cell}\n" for i, cell in enumerate(cells)))
    assert count(str(tmp_path / "rows.csv")) == 30
