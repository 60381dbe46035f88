"""File formats: how DuckDB reads each, and where in a file a row is.

A format keeps what the file says: Parquet its own types, CSV its text, JSON lines their very bytes.
"""

# ruff: noqa: S608 - all names and values in this SQL are quoted

from __future__ import annotations

import csv
import gzip
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby, islice
from pathlib import Path
from typing import Protocol, TextIO

from typing_extensions import override

from featurekit.errors import SourceError
from featurekit.sources.session import THREADS, Session, text, texts

_FILLED = "starts_with(json, '{') OR trim(json, E' \\t\\r') <> ''"
"""Blank lines are passed over; `trim` is slow, and not asked of lines that are plainly filled."""

_LINES = "max_line_size = 2000000, buffer_size = 8000000"
"""The longest line, and how much is read at once, in bytes."""

FILE_COLUMN = "featurekit file"
"""The column with a row's file, where it is asked for."""


class Format(Protocol):
    """A file format.

    Attributes:
        form: As in `ports.Scan`.
        suffixes: What the names of its files in a folder end with.
    """

    form: str
    suffixes: tuple[str, ...]

    def source(self, files: Sequence[str], options: Mapping[str, str], *, named: bool) -> str:
        """What stands after FROM; `named` adds `FILE_COLUMN`."""

    def wide_bytes(self, session: Session, files: Sequence[str], columns: Sequence[str]) -> int:
        """What reading these columns takes beyond a buffer or two."""

    def explain(self, message: str, files: Sequence[str]) -> tuple[str, str] | None:
        """DuckDB's message about a file as (file:line, fact), if it is about one."""

    def place(self, file: str, number: int, options: Mapping[str, str]) -> str:
        """Where row `number` of a file, counted from 1, is."""


class _Parquet(Format):
    form = "native"
    suffixes = (".parquet",)

    @override
    def source(self, files: Sequence[str], options: Mapping[str, str], *, named: bool) -> str:
        arguments = [texts(files), _hive(options), *_named(named=named)]
        if len(files) > 1:
            arguments.append("union_by_name = true")
        return f"read_parquet({', '.join(arguments)})"

    @override
    def wide_bytes(self, session: Session, files: Sequence[str], columns: Sequence[str]) -> int:
        """Each thread holds the widest row group, packed and unpacked."""
        ((widest,),) = session.rows(
            "SELECT max(size) FROM (SELECT sum(total_compressed_size + total_uncompressed_size) "
            f"AS size FROM parquet_metadata({texts(files)}) "
            f"WHERE split_part(path_in_schema, ', ', 1) IN {texts(columns)} "
            "GROUP BY file_name, row_group_id)"
        )
        return THREADS * int(widest or 0)

    @override
    def explain(self, message: str, files: Sequence[str]) -> tuple[str, str] | None:
        found = re.search(r"No magic bytes found at end of file '(.*)'", message)
        return (Path(found[1]).name, "not a Parquet file") if found else None

    @override
    def place(self, file: str, number: int, options: Mapping[str, str]) -> str:
        return f"{Path(file).name}, row {number}"


class _Csv(Format):
    form = "text"
    suffixes = (".csv", ".csv.gz")

    @override
    def source(self, files: Sequence[str], options: Mapping[str, str], *, named: bool) -> str:
        delimiter = options.get("delimiter", ",")
        arguments = [
            "header = true",
            f"delim = {text(delimiter)}",
            "quote = '\"'",
            "escape = '\"'",
            f"nullstr = {text(options.get('null', ''))}",
            "allow_quoted_nulls = false",
            _LINES,
            _hive(options),
            "hive_types_autocast = false",
            *_named(named=named),
        ]
        parts = [
            f"FROM read_csv({', '.join([texts(list(same)), _columns(header), *arguments])})"
            for header, same in groupby(files, lambda file: _header(file, delimiter))
        ]
        return f"({' UNION ALL BY NAME '.join(parts)})"

    @override
    def wide_bytes(self, session: Session, files: Sequence[str], columns: Sequence[str]) -> int:
        return 0

    @override
    def explain(self, message: str, files: Sequence[str]) -> tuple[str, str] | None:
        if "invalid state" in message:
            place = next((Path(f).name for f in files if _has_two_line_ends(f)), "")
            return place, "lines end in two ways, in CR LF and in LF, or a quote is out of place"
        place = _line_of(message, files)
        width = re.search(r"Expected Number of Columns: (\d+) Found: (\d+)", message)
        if not place or not width:
            return (place, _fact_of(message)) if place else None
        return place, f"{width[2]} columns, not {width[1]} as in the header"

    @override
    def place(self, file: str, number: int, options: Mapping[str, str]) -> str:
        with _opened(file) as lines:
            reader = csv.reader(lines, delimiter=options.get("delimiter", ","))
            filled = (record for record in reader if record)
            record = next(islice(filled, number, None), [])
            first = reader.line_num - sum(cell.count("\n") for cell in record)
            return f"{Path(file).name}, line {first}"


class _Jsonl(Format):
    form = "json"
    suffixes = (".jsonl", ".jsonl.gz", ".ndjson", ".ndjson.gz")

    @override
    def source(self, files: Sequence[str], options: Mapping[str, str], *, named: bool) -> str:
        if _is_on(options):
            raise SourceError(
                "JSON lines take nothing from the names of folders",
                hint="leave out `hive_partitioning:`, or use Parquet or CSV",
            )
        # Lines are taken whole, as text: a delimiter that no JSON can hold, and no quotes. DuckDB's
        # own reader of JSON lines takes buffers of 32 MB for each thread, several at a time.
        arguments = [
            texts(files),
            "auto_detect = false, header = false, columns = {'json': 'VARCHAR'}",
            "delim = '\x01', quote = '', escape = '', nullstr = '', strict_mode = false",
            _LINES,
            *_named(named=named),
        ]
        return f"(FROM read_csv({', '.join(arguments)}) WHERE {_FILLED})"

    @override
    def wide_bytes(self, session: Session, files: Sequence[str], columns: Sequence[str]) -> int:
        return 0

    @override
    def explain(self, message: str, files: Sequence[str]) -> tuple[str, str] | None:
        if place := _line_of(message, files):
            return place, _fact_of(message)
        if "JSON" not in message:
            return None
        for file in files:
            with _opened(file) as lines:
                for number, line in enumerate(lines, 1):
                    if fault := _fault_in_json(line):
                        return f"{Path(file).name}:{number}", fault
        return None

    @override
    def place(self, file: str, number: int, options: Mapping[str, str]) -> str:
        with _opened(file) as lines:
            filled = (at for at, line in enumerate(lines, 1) if line.strip())
            return f"{Path(file).name}, line {next(islice(filled, number - 1, None), number)}"


PARQUET, CSV, JSONL = _Parquet(), _Csv(), _Jsonl()


def _is_on(options: Mapping[str, str]) -> bool:
    return options.get("hive_partitioning", "").lower() == "true"


def _hive(options: Mapping[str, str]) -> str:
    return f"hive_partitioning = {str(_is_on(options)).lower()}"


def _named(*, named: bool) -> list[str]:
    return [f"filename = {text(FILE_COLUMN)}"] if named else []


@contextmanager
def _opened(file: str) -> Iterator[TextIO]:
    opened = gzip.open if file.endswith(".gz") else open
    with opened(file, "rt", encoding="utf-8-sig", errors="replace", newline="") as lines:
        yield lines


def _line_of(message: str, files: Sequence[str]) -> str:
    """The file and line that DuckDB's reader of CSV stumbled over."""
    line = re.search(r"CSV Error on Line: (\d+)", message)
    file = re.search(r"^\s*file\s*=\s*(.+)$", message, re.MULTILINE)
    name = Path(file[1].strip() if file else files[0]).name
    return f"{name}:{line[1]}" if line else ""


def _fact_of(message: str) -> str:
    known = re.search(
        r"^(Value with|Invalid unicode|Maximum line size)[^.]*", message, re.MULTILINE
    )
    return known[0] if known else "not as the lines before it"


def _has_two_line_ends(file: str) -> bool:
    if "://" in file:
        return False
    with _opened(file) as lines:
        return len({line.endswith("\r\n") for line in lines if line.endswith("\n")}) > 1


def _fault_in_json(line: str) -> str:
    """Why a line is no JSON object; empty if it is one, or blank."""
    try:
        found = json.loads(line) if line.strip() else {}
        json.dumps(found, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return "half of a surrogate pair"
    except (ValueError, RecursionError) as error:
        return f"not JSON: {error}"
    return "" if isinstance(found, dict) else "not a JSON object"


def _header(file: str, delimiter: str) -> tuple[str, ...]:
    """The columns of a CSV file; none of a file that only DuckDB can open."""
    if "://" in file or file.endswith(".zst"):
        return ()
    with _opened(file) as lines:
        header = tuple(next(csv.reader(lines, delimiter=delimiter), ()))
    if not header:
        raise SourceError("no header line", where=Path(file).name)
    folded = [column.lower() for column in header]
    twice = [c for c, same in zip(header, folded, strict=True) if folded.count(same) > 1]
    if twice:
        raise SourceError(
            f"two columns are named '{twice[0]}'"
            if header.count(twice[0]) > 1
            else f"the columns '{twice[0]}' and '{twice[1]}' differ by case alone",
            where=Path(file).name,
        )
    return header


def _columns(header: tuple[str, ...]) -> str:
    """Told rather than sniffed: guesses about a dialect are wrong in small or odd files."""
    if not header:
        return "all_varchar = true"
    columns = ", ".join(f"{text(column)}: 'VARCHAR'" for column in header)
    return f"auto_detect = false, columns = {{{columns}}}"
