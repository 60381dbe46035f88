"""Lines of CSV and JSON Lines files that cannot be read, where they are to be skipped."""

from __future__ import annotations

import gzip
import os
import random
import resource
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from tests.sources.conftest import Repo

from featurekit.errors import SourceError
from featurekit.plan import CsvSourcePlan, FileSourcePlan, JsonlSourcePlan
from featurekit.ports import LINE, PROBLEM, SOURCE_ROW
from featurekit.sources import open_source

CSV = CsvSourcePlan(paths=("rows.csv",))
JSONL = JsonlSourcePlan(paths=("rows.jsonl",))


def scan(repo: Repo, plan: FileSourcePlan) -> list[dict[str, Any]]:
    """Return all rows of a scan in their order in the source."""
    source = open_source(plan, repo.root, batch_rows=1000, skip_unreadable=True)
    batches = source.scan(repo.view(plan)).batches
    rows = [row for batch in batches for row in batch.to_pylist()]
    return sorted(rows, key=lambda row: row[SOURCE_ROW])


def lines(rows: list[dict[str, Any]]) -> list[tuple[int, str, str]]:
    return [(row[SOURCE_ROW], row[LINE], row[PROBLEM]) for row in rows if row.get(PROBLEM)]


def good(rows: list[dict[str, Any]], name: str) -> list[Any]:
    return [row[name] for row in rows if not row.get(PROBLEM)]


@pytest.mark.parametrize(
    ("bad", "text", "problem"),
    [
        (b"b", "b", "columns: found 1, expected 2 as in the header"),
        (b"b,2,3", "b,2,3", "columns: found 3, expected 2 as in the header"),
        (b"b,2,", "b,2,", "columns: found 3, expected 2 as in the header"),
        (b"b,caf\xe9", r"b,caf\xe9", "bytes that are not UTF-8"),
        (b'b,"2"x', 'b,"2"x', "a character after a closing quote"),
        (b'b,"2\n3",4', 'b,"2\n3",4', "columns: found 3, expected 2 as in the header"),
    ],
)
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_a_line_of_csv_is_a_row_with_its_problem(
    repo: Repo, bad: bytes, text: str, problem: str, end: bytes
) -> None:
    parts = [b"user_id,n", b'a,"1\n"', bad, b"c,3", b""]
    (repo.root / "rows.csv").write_bytes(end.join(parts))
    rows = scan(repo, CSV)
    assert good(rows, "user_id") == ["a", "c"]
    assert good(rows, "n") == ["1\n", "3"]
    assert lines(rows) == [(2, text, f"rows.csv:4: {problem}")]


@pytest.mark.parametrize(
    ("bad", "text", "problem"),
    [
        (b'{"user_id": "b", "n":', '{"user_id": "b", "n":', "not JSON: Expecting value"),
        (b'{"user_id": "caf\xe9"}', r'{"user_id": "caf\xe9"}', "bytes that are not UTF-8"),
        (b'{"user_id": "\\ud800"}', r'{"user_id": "\ud800"}', "half of a surrogate pair"),
        (b'{"a": 1}\x01{}', '{"a": 1}\\u0001{}', "not JSON: Extra data"),
        (b'{"a": ' + b"[" * 9999, '{"a": ' + "[" * 9999, "not JSON: "),
    ],
)
def test_a_line_of_json_is_a_row_with_its_problem(
    repo: Repo, bad: bytes, text: str, problem: str
) -> None:
    parts = [b'{"user_id": "a"}', b"", bad, b'{"user_id": "c"}', b""]
    (repo.root / "rows.jsonl").write_bytes(b"\n".join(parts))
    repo.fields = {}
    rows = scan(repo, JSONL)
    assert good(rows, "json") == ['{"user_id": "a"}', '{"user_id": "c"}']
    [(number, line, found)] = lines(rows)
    assert (number, line) == (2, text)
    assert found.startswith(f"rows.jsonl:3: {problem}")


def test_lines_after_a_quote_that_is_not_closed_are_rows_with_that_problem(repo: Repo) -> None:
    repo.write("rows.csv", 'user_id,n\na,1\nb,"2\nc,3\nd,4\n')
    rows = scan(repo, CSV)
    assert good(rows, "user_id") == ["a"]
    problem = "unterminated quote in line 3"
    assert lines(rows) == [
        (2, 'b,"2', f"rows.csv:3: {problem}"),
        (3, "c,3", f"rows.csv:4: {problem}"),
        (4, "d,4", f"rows.csv:5: {problem}"),
    ]


def test_a_line_that_is_too_long_is_a_row_with_the_beginning_of_its_text(repo: Repo) -> None:
    long = "x" * 9_000_000
    repo.write("rows.csv", f"user_id,n\na,1\nb,{long}")
    repo.write("rows.jsonl", f'{{"user_id": "a", "n": 1}}\n{{"user_id": "b", "n": "{long}"}}')
    for plan in (CSV, JSONL):
        [(number, line, problem)] = lines(scan(repo, plan))
        assert (number, len(line)) == (2, 100_000)
        assert problem.endswith(":3: " * (plan is CSV) + "the line is longer than 2000000 bytes")


def test_bytes_in_a_column_that_is_not_used_do_not_matter(repo: Repo) -> None:
    (repo.root / "rows.csv").write_bytes(b"user_id,n,x\na,1,caf\xe9\nb,\xff,\nc\n")
    rows = scan(repo, CSV)
    assert good(rows, "user_id") == ["a"]
    assert [line for _, line, _ in lines(rows)] == [r"b,\xff,", "c"]


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_files_of_a_folder_are_numbered_together_and_named(repo: Repo, suffix: str) -> None:
    for name, text in {"1": "a,1\nb\n", "2": "c,3\nd,4,5\n"}.items():
        folder = repo.root / f"day={name}"
        folder.mkdir()
        (folder / f"x.csv{suffix}").write_bytes(
            gzip.compress(f"user_id,n\n{text}".encode())
            if suffix
            else f"user_id,n\n{text}".encode()
        )
    repo.fields = {"n": "string", "day": "string"}
    plan = CsvSourcePlan(paths=(f"**/*.csv{suffix}",), hive_partitioning=True)
    rows = scan(repo, plan)
    assert [(row["user_id"], row["day"]) for row in rows if not row[PROBLEM]] == [
        ("a", "1"),
        ("c", "2"),
    ]
    assert [(number, line) for number, line, _ in lines(rows)] == [(2, "b"), (4, "d,4,5")]
    assert lines(rows)[1][2].startswith(f"x.csv{suffix}:3: ")


def test_the_newest_row_is_chosen_among_the_lines_that_can_be_read(repo: Repo) -> None:
    repo.write("rows.csv", "user_id,n,t\na,1,2026-01-01\na,2,2026-01-03\na\na,3,2026-01-02\n\nb\n")
    for null in (("",), ("NA",)):
        plan = replace(CSV, timestamp_field="t", created_timestamp_field="n", null=null)
        rows = scan(repo, plan)
        assert good(rows, "n") == ["2"]
        assert [line for _, line, _ in lines(rows)] == ["a", "b"]


def test_mixed_line_endings_do_not_hide_a_cell_too_many(repo: Repo) -> None:
    (repo.root / "rows.csv").write_bytes(b"user_id,n\r\na,1\nb,2,3\r\nc,4\n")
    with pytest.raises(SourceError, match=r"rows\.csv:3: columns: found 3, expected 2"):
        repo.read(CSV)
    rows = scan(repo, CSV)
    assert good(rows, "user_id") == ["a", "c"]
    assert [line for _, line, _ in lines(rows)] == ["b,2,3"]


@pytest.mark.parametrize("seed", range(12))
def test_each_line_is_either_read_as_without_the_others_or_has_a_problem(
    repo: Repo, seed: int
) -> None:
    pick = random.Random(seed)
    cells = ["", "x", '"a""b"', '"\n"', '"\r\n\n"', '","', '""', 'y"z', ' "q"', '"r" ', "é"]
    ends = ["\n", "\r\n"][: pick.choice([1, 2])]
    bad_lines = ["z", "z,1,2,3", 'z,"1"x,2', "z,1,2,"]
    repo.fields = {"n": "string", "m": "string"}
    text, expected, bad = f"user_id,n,m{ends[0]}", [], 0
    for i in range(300):
        line = f"u{i:03},{pick.choice(cells)},{pick.choice(cells)}"
        if pick.random() < 0.1:
            line, bad = pick.choice(bad_lines), bad + 1
        else:
            expected.append(line)
        text += line + pick.choice(ends)
    (repo.root / "rows.csv").write_bytes(text.encode())
    (repo.root / "good.csv").write_bytes("\n".join(["user_id,n,m", *expected]).encode())
    wanted = repo.read(replace(CSV, paths=("good.csv",))).rows
    rows = scan(repo, CSV)
    read = [row for row in rows if not row.get(PROBLEM)]
    assert [{k: row[k] for k in ("user_id", "n", "m")} for row in read] == wanted
    assert len(rows) - len(read) == bad


def test_a_header_that_is_not_utf_8_is_named(repo: Repo) -> None:
    (repo.root / "rows.csv").write_bytes(b"user_id,n,m,pr\xe9nom\na,1,2,x\n")
    with pytest.raises(SourceError, match=r"rows\.csv.*: bytes that are not UTF-8"):
        scan(repo, CSV)


def test_an_error_that_no_line_explains_stays_that_error(repo: Repo) -> None:
    repo.write("rows.csv", "user_id,m\na,1\n")
    with pytest.raises(SourceError, match="no column 'n'"):
        scan(repo, CSV)


@pytest.fixture
def small_files() -> Iterator[Callable[[int], None]]:
    """Limit the size of files that this process writes, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_copy_that_cannot_be_written_is_one_error(
    repo: Repo, small_files: Callable[[int], None]
) -> None:
    repo.write("rows.csv", "user_id,n\nb\n" + "a,1\n" * 100_000)
    small_files(100_000)
    with pytest.raises(SourceError, match=r"a copy of rows\.csv cannot be written") as caught:
        scan(repo, CSV)
    assert "TMPDIR" in caught.value.hint


def test_copies_are_deleted_with_their_source(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    temporary = repo.root / "tmp"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    repo.write("rows.csv", "user_id,n\na,1\nb\n")
    assert len(scan(repo, CSV)) == 2
    assert os.listdir(temporary) == []  # noqa: PTH208 - a list is compared


@pytest.mark.parametrize("plan", [CSV, replace(CSV, paths=("rows.csv.gz",))])
def test_a_cell_more_than_the_header_is_refused_even_if_it_is_empty(
    repo: Repo, plan: CsvSourcePlan
) -> None:
    path = repo.root / plan.paths[0]
    for text, found in {
        "user_id,n\na,1\n\nb,2,\n": "4: columns: found 3",
        'user_id,n\na,"1,\n"\nb,2,\n': "4: columns: found 3",
        "user_id,n\na,1,,\nb,2": "2: columns: found 4",
    }.items():
        path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
        with pytest.raises(SourceError, match=rf"{path.name}:{found}, expected 2 as") as caught:
            repo.read(plan)
        assert "so must the header" in caught.value.hint


def test_a_header_may_be_longer_than_128_kb(repo: Repo) -> None:
    names = [f"c{i}_{'x' * 90}" for i in range(3000)]
    repo.write("rows.csv", ",".join(["user_id", *names, "n"]) + "\na" + "," * 3001 + "1\n")
    assert repo.read(CSV).rows == [{"user_id": "a", "n": "1"}]
    repo.write("rows.csv", f'user_id,n,"{"x" * 200_000}"\na,1,\n')
    assert repo.read(CSV).rows == [{"user_id": "a", "n": "1"}]


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1", "windows-1252"])
@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
def test_a_csv_file_may_have_another_encoding(repo: Repo, encoding: str, suffix: str) -> None:
    repo.fields = {"n": "string"}
    text = 'user_id,n\r\nå,"é\r\nü"\r\nø,½\r\n'
    path = repo.root / f"rows.csv{suffix}"
    if suffix == ".zst":
        with pa.output_stream(str(path), compression="zstd") as stream:
            stream.write(text.encode(encoding))
    else:
        data = text.encode(encoding)
        path.write_bytes(gzip.compress(data) if suffix else data)
    plan = CsvSourcePlan(paths=(path.name,), encoding=encoding)
    assert repo.read(plan).rows == [
        {"user_id": "å", "n": "é\r\nü"},
        {"user_id": "ø", "n": "½"},
    ]
    source = repo.open(plan)
    assert source.locate(repo.view(plan), {"user_id": "ø"}) == f"{path.name}, line 4"


def test_a_file_of_another_encoding_than_declared_is_one_error(repo: Repo) -> None:
    path = Path(repo.root / "rows.csv")
    path.write_bytes(b"user_id,n\na,1")
    with pytest.raises(SourceError, match=r"rows\.csv: the file is not utf-16"):
        repo.read(replace(CSV, encoding="utf-16"))
    path.write_bytes("user_id,n\na,1".encode("utf-16"))
    with pytest.raises(SourceError, match="UTF-16, expected UTF-8") as caught:
        repo.read(CSV)
    assert "encoding: utf-16" in caught.value.hint
