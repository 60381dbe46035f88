"""The identity of a query's result tells whether the files that it reads have changed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from featurekit.sources.query_files import query_files
from featurekit.sources.session import Session

READ = {
    "SELECT * FROM 'a.csv'": ["a.csv"],
    "FROM './a.csv' -- a comment": ["a.csv"],
    "SELECT * FROM read_csv('a.csv', header = true, columns = {'x': 'INT'});": ["a.csv"],
    "SELECT * FROM read_csv(['a.csv', 'b.csv'])": ["a.csv", "b.csv"],
    "SELECT * FROM read_csv('*.csv') t JOIN range(3) r(i) ON t.x = r.i": ["a.csv", "b.csv"],
    "WITH t AS (FROM 'a.csv') SELECT * FROM t WHERE x IN (SELECT x FROM 'b.csv')": [
        "a.csv",
        "b.csv",
    ],
    "WITH RECURSIVE t AS (FROM 'a.csv' UNION FROM t) SELECT (SELECT count(*) FROM t)": ["a.csv"],
    "FROM read_csv($file)": ["b.csv"],
    "SELECT * FROM 'a.csv' UNION ALL FROM 'a.csv'": ["a.csv"],
    "FROM read_text('a.csv')": ["a.csv"],
}
NOT_KNOWN = [
    "SELECT 1",
    "SELECT * FROM 'none.csv'",
    "SELECT * FROM read_csv('a' || '.csv')",
    "SELECT * FROM read_csv(['a.csv', 'b' || '.csv'])",
    "SELECT * FROM read_csv('https://example.com/a.csv')",
    "SELECT * FROM 'a.csv', information_schema.tables",
    "SELECT * FROM query('FROM ''a.csv''')",
    "FROM glob('*.csv')",
    "FROM 'a.csv', glob('*.csv')",
    "WITH \"a.csv\" AS (SELECT 1) FROM 'a.csv'",
    "PIVOT 'a.csv' ON x USING count(*)",
    "not SQL",
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text("x\n1\n")
        os.utime(tmp_path / name, (1, 1))
    return tmp_path


def read_by(folder: Path, query: str) -> list[str]:
    files = query_files(Session(folder), query, {"file": "b.csv"}, folder)
    return sorted({os.path.relpath(file, folder) for file in files})


@pytest.mark.parametrize("query", READ)
def test_files_that_a_query_names_are_known(folder: Path, query: str) -> None:
    assert read_by(folder, query) == READ[query]


@pytest.mark.parametrize("query", NOT_KNOWN)
def test_no_file_is_known_if_not_all_are(folder: Path, query: str) -> None:
    assert read_by(folder, query) == []
