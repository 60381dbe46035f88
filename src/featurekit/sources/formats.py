"""How DuckDB reads each file format, and how a row or an error is located in a file.

Values stay as the file has them: Parquet columns keep their types, CSV cells stay text, and each
JSON line stays the same bytes.
"""

# ruff: noqa: S608 - all names and values in this SQL are quoted

from __future__ import annotations

import csv
import json
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from io import TextIOWrapper
from itertools import groupby, islice
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, TextIO, TypeVar

from typing_extensions import override

from featurekit.errors import SourceError
from featurekit.plan import CsvSourcePlan, FileSourcePlan, JsonlSourcePlan, ParquetSourcePlan
from featurekit.sources.parquet_types import cast_columns, check_decimals, parquet_groups
from featurekit.sources.row_counts import (
    MAX_LINE_BYTES,
    count_filled_lines,
    count_lines,
    count_records,
    count_records_by_line,
    first_character,
    open_bytes,
)
from featurekit.sources.session import THREADS, Session, quote_files, quote_list, quote_text

P = TypeVar("P", bound=FileSourcePlan)

FILE_COLUMN = "featurekit file"
"""The column with a row's file, where it is requested."""

_NOT_BLANK = "starts_with(json, '{') OR trim(json, E' \\t\\r') <> ''"
"""Skips blank lines; `trim` is slow, so a line that starts with a brace does without it."""

MIXED_LINE_ENDINGS = "mixed line endings (CR LF and LF), or a misplaced quote"

_BUFFERS = f"max_line_size = {MAX_LINE_BYTES}, buffer_size = 8000000"
"""The longest line and the read buffer, in bytes."""


class Format(ABC, Generic[P]):
    """A file format.

    Attributes:
        form: The form of its rows, see `ports.Scan`.
        suffixes: The endings of its file names.
    """

    form: ClassVar[Literal["native", "text", "json"]]
    suffixes: ClassVar[tuple[str, ...]]

    def __init__(self, plan: P) -> None:
        self.plan = plan

    @abstractmethod
    def source(
        self,
        session: Session,
        files: Sequence[str],
        columns: Sequence[str],
        where: str,
        *,
        with_file_name: bool,
    ) -> str:
        """Return the SQL to put after FROM.

        Args:
            session: The session that will read it.
            files: The files, in the order of their rows.
            columns: The columns that the view uses.
            where: The name of the source in error messages.
            with_file_name: Add `FILE_COLUMN`.

        Raises:
            SourceError: The files cannot be read as one table.
        """

    @abstractmethod
    def explain(self, message: str, files: Sequence[str]) -> tuple[str, str] | None:
        """Turn a DuckDB message about a file into (file:line, problem), if it is about one."""

    @abstractmethod
    def describe_row(self, file: str, number: int) -> str:
        """Return the position of row `number`, counted from 1."""

    def _shared_arguments(self, *, with_file_name: bool) -> list[str]:
        hive = f"hive_partitioning = {str(self.plan.hive_partitioning).lower()}"
        return [hive, f"filename = {quote_text(FILE_COLUMN)}"] if with_file_name else [hive]


class ParquetFormat(Format[ParquetSourcePlan]):
    """Parquet files."""

    form = "native"
    suffixes = (".parquet",)

    @override
    def source(
        self,
        session: Session,
        files: Sequence[str],
        columns: Sequence[str],
        where: str,
        *,
        with_file_name: bool,
    ) -> str:
        check_decimals(session, files, columns, where)
        shared = self._shared_arguments(with_file_name=with_file_name)
        shared.append("hive_types_autocast = false")
        if len(files) == 1:
            return f"read_parquet({', '.join([quote_files(files), *shared])})"
        shared.append("union_by_name = true")
        parts = [
            cast_columns(f"read_parquet({', '.join([quote_files(group), *shared])})", casts)
            for group, casts in parquet_groups(session, files, columns, where)
        ]
        return f"({' UNION ALL BY NAME '.join(parts)})"

    def row_group_bytes(
        self, session: Session, files: Sequence[str], columns: Sequence[str]
    ) -> int:
        """Return the size of the widest row group, compressed and uncompressed, per thread."""
        ((widest,),) = session.fetch_all(
            "SELECT max(size) FROM (SELECT sum(total_compressed_size + total_uncompressed_size) "
            f"AS size FROM parquet_metadata({quote_files(files)}) "
            f"WHERE split_part(path_in_schema, ', ', 1) IN {quote_list(columns)} "
            "GROUP BY file_name, row_group_id)"
        )
        return THREADS * int(widest or 0)

    @override
    def explain(self, message: str, files: Sequence[str]) -> tuple[str, str] | None:
        found = re.search(r"No magic bytes found at end of file '(.*)'", message)
        return (Path(found[1]).name, "not a Parquet file") if found else None

    @override
    def describe_row(self, file: str, number: int) -> str:
        return f"{Path(file).name}, row {number}"


class TextFormat(Format[P]):
    """A format without a number of rows in its files, so that all must be read to count them."""

    @abstractmethod
    def count_rows(self, file: str, *, exact: bool) -> int:
        """Return the number of rows, counted without DuckDB.

        Args:
            file: A local file.
            exact: Count line by line. Otherwise count fast, which is right if it equals the
                number of rows that DuckDB has read.
        """


class CsvFormat(TextFormat[CsvSourcePlan]):
    """CSV files with a header line."""

    form = "text"
    suffixes = (".csv", ".csv.gz")

    def __init__(self, plan: CsvSourcePlan) -> None:
        super().__init__(plan)
        self._mixed: set[str] = set()

    @override
    def source(
        self,
        session: Session,
        files: Sequence[str],
        columns: Sequence[str],
        where: str,
        *,
        with_file_name: bool,
    ) -> str:
        arguments = [
            "header = true",
            f"delim = {quote_text(self.plan.delimiter)}",
            "quote = '\"'",
            "escape = '\"'",
            f"nullstr = {quote_list(self.plan.null)}",
            "allow_quoted_nulls = false",
            _BUFFERS,
            "hive_types_autocast = false",
            *self._shared_arguments(with_file_name=with_file_name),
        ]
        parts = [
            f"FROM read_csv({', '.join([quote_files(list(group)), each, *arguments])})"
            for each, group in groupby(files, lambda file: self._own_arguments(file, columns))
        ]
        return f"({' UNION ALL BY NAME '.join(parts)})"

    def _own_arguments(self, file: str, columns: Sequence[str]) -> str:
        """Return the arguments that depend on the file."""
        names = _csv_columns(_csv_header(file, self.plan.delimiter, columns))
        return f"{names}, strict_mode = {str(file not in self._mixed).lower()}"

    def accept_mixed_line_endings(self, files: Sequence[str]) -> bool:
        """Read files with CR LF and LF that have no other fault; return whether there are any.

        Only DuckDB's lenient mode reads them. It would also drop what follows a quoted cell, so
        that the quotes are checked here.
        """
        new = [
            file
            for file in files
            if file not in self._mixed
            and _has_mixed_line_endings(file)
            and _has_valid_quotes(file, self.plan.delimiter)
        ]
        self._mixed.update(new)
        return bool(new)

    @override
    def count_rows(self, file: str, *, exact: bool) -> int:
        if exact:
            delimiter = self.plan.delimiter
            has_one_column = len(_csv_header(file, delimiter, ())) == 1
            records = count_records_by_line(file, delimiter, count_blank=has_one_column)
        else:
            records = count_records(file)
        return records - 1  # the header

    @override
    def explain(self, message: str, files: Sequence[str]) -> tuple[str, str] | None:
        if "invalid state" in message:
            file = next((Path(f).name for f in files if _has_mixed_line_endings(f)), "")
            return file, MIXED_LINE_ENDINGS
        position = _csv_error_position(message, files)
        width = re.search(r"Expected Number of Columns: (\d+) Found: (\d+)", message)
        if not position or not width:
            return (position, _csv_problem(message)) if position else None
        return position, f"columns: found {width[2]}, expected {width[1]} as in the header"

    @override
    def describe_row(self, file: str, number: int) -> str:
        with _open_text(file) as lines:
            reader = csv.reader(lines, delimiter=self.plan.delimiter)
            records = (record for record in reader if record)
            record = next(islice(records, number, None), [])
            first_line = reader.line_num - sum(cell.count("\n") for cell in record)
            return f"{Path(file).name}, line {first_line}"


class JsonlFormat(TextFormat[JsonlSourcePlan]):
    """Files with one JSON object per line."""

    form = "json"
    suffixes = (".jsonl", ".jsonl.gz", ".ndjson", ".ndjson.gz")

    @override
    def source(
        self,
        session: Session,
        files: Sequence[str],
        columns: Sequence[str],
        where: str,
        *,
        with_file_name: bool,
    ) -> str:
        if self.plan.hive_partitioning:
            raise SourceError(
                "JSON Lines sources do not support `hive_partitioning:`",
                hint="remove `hive_partitioning:`, or use Parquet or CSV",
            )
        for file in files:
            _check_encoding(file)
            if "://" not in file and first_character(file) == b"[":
                raise SourceError(
                    "a JSON array, not JSON Lines",
                    where=f"{where}: {Path(file).name}",
                    hint="write one object per line, for example with `jq -c '.[]'`, or read it "
                    f"in a `type: sql` source: FROM read_json('{Path(file).name}')",
                )
        # Each line is read as one text column: the delimiter is a byte that JSON cannot contain,
        # and quoting is off. DuckDB's JSON reader would take several 32 MB buffers per thread.
        arguments = [
            quote_files(files),
            "auto_detect = false, header = false, columns = {'json': 'VARCHAR'}",
            "delim = '\x01', quote = '', escape = '', nullstr = '', strict_mode = false",
            _BUFFERS,
            *self._shared_arguments(with_file_name=with_file_name),
        ]
        return f"(FROM read_csv({', '.join(arguments)}) WHERE {_NOT_BLANK})"

    @override
    def count_rows(self, file: str, *, exact: bool) -> int:
        return count_filled_lines(file) if exact else count_lines(file)

    @override
    def explain(self, message: str, files: Sequence[str]) -> tuple[str, str] | None:
        if position := _csv_error_position(message, files):
            return position, _csv_problem(message)
        if "JSON" not in message:
            return None
        for file in files:
            with _open_text(file) as lines:
                for number, line in enumerate(lines, 1):
                    if problem := _json_problem(line):
                        return f"{Path(file).name}:{number}", problem
        return None

    @override
    def describe_row(self, file: str, number: int) -> str:
        with _open_text(file) as lines:
            filled = (at for at, line in enumerate(lines, 1) if line.strip())
            return f"{Path(file).name}, line {next(islice(filled, number - 1, None), number)}"


def format_of(plan: FileSourcePlan) -> Format[Any]:
    """Return the format of a file source."""
    if isinstance(plan, ParquetSourcePlan):
        return ParquetFormat(plan)
    return CsvFormat(plan) if isinstance(plan, CsvSourcePlan) else JsonlFormat(plan)


@contextmanager
def _open_text(file: str) -> Iterator[TextIO]:
    with open_bytes(file) as stream:
        yield TextIOWrapper(stream, encoding="utf-8-sig", errors="replace", newline="")


def _csv_error_position(message: str, files: Sequence[str]) -> str:
    """Return the file:line in an error of DuckDB's CSV reader; empty if it names none."""
    line = re.search(r"CSV Error on Line: (\d+)", message)
    file = re.search(r"^\s*file\s*=\s*(.+)$", message, re.MULTILINE)
    name = Path(file[1].strip() if file else files[0]).name
    return f"{name}:{line[1]}" if line else ""


def _csv_problem(message: str) -> str:
    known = re.search(
        r"^(Value with|Invalid unicode|Maximum line size)[^.]*", message, re.MULTILINE
    )
    return known[0] if known else "the line does not match the lines before it"


def _has_mixed_line_endings(file: str) -> bool:
    if "://" in file:
        return False
    with _open_text(file) as lines:
        return len({line.endswith("\r\n") for line in lines if line.endswith("\n")}) > 1


def _has_valid_quotes(file: str, delimiter: str) -> bool:
    with _open_text(file) as lines:
        try:
            for _ in csv.reader(lines, delimiter=delimiter, strict=True):
                pass
        except csv.Error:
            return False
    return True


def _json_problem(line: str) -> str:
    """Return why a line is not a JSON object; empty if it is one, or blank."""
    try:
        value = json.loads(line) if line.strip() else {}
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return "half of a surrogate pair"
    except (ValueError, RecursionError) as error:
        return f"not JSON: {error}"
    return "" if isinstance(value, dict) else "not a JSON object"


def _csv_header(file: str, delimiter: str, used: Collection[str]) -> tuple[str, ...]:
    """Return the column names of a CSV file; empty for a URL.

    DuckDB needs names that differ by more than case. A column that the view does not use may have
    any name, or none, as pandas and R write it; it gets another name here.
    """
    if "://" in file:
        return ()
    _check_encoding(file)
    with _open_text(file) as lines:
        header = tuple(next(csv.reader(lines, delimiter=delimiter), ()))
    if not header:
        raise SourceError("no header line", where=Path(file).name)
    if same := [column for column in header if column in used and header.count(column) > 1]:
        raise SourceError(f"two columns are named '{same[0]}'", where=Path(file).name)
    folded = Counter(column.lower() for column in header)
    used_folded = Counter(column.lower() for column in header if column in used)
    if differ := [c for c in header if c in used and used_folded[c.lower()] > 1]:
        raise SourceError(
            f"the columns '{differ[0]}' and '{differ[1]}' differ only in case",
            where=Path(file).name,
        )
    return tuple(
        column
        if column in used or (column and folded[column.lower()] == 1)
        else f"{column} (column {number})"
        for number, column in enumerate(header, 1)
    )


def _check_encoding(file: str) -> None:
    """Raise `SourceError` for a file in UTF-16, as Excel writes "Unicode text"."""
    if "://" in file:
        return
    with open_bytes(file) as data:
        start = data.read(4)
    if start[:2] in (b"\xff\xfe", b"\xfe\xff") or start[1::2] == b"\0\0" or start[::2] == b"\0\0":
        raise SourceError(
            "the file is UTF-16, expected UTF-8",
            where=Path(file).name,
            hint=f"convert it: iconv -f UTF-16 -t UTF-8 {Path(file).name}",
        )


def _csv_columns(header: tuple[str, ...]) -> str:
    """Return the arguments that name the columns; detection fails on small or unusual files."""
    if not header:
        return "all_varchar = true"
    columns = ", ".join(f"{quote_text(column)}: 'VARCHAR'" for column in header)
    return f"auto_detect = false, columns = {{{columns}}}"
