"""How DuckDB reads each file format, and how a row or an error is located in a file.

Values stay as the file has them: Parquet columns keep their types, CSV cells stay text, and each
JSON line stays the same bytes.
"""

# ruff: noqa: S608 - all names and values in this SQL are quoted

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Sequence
from itertools import groupby, islice
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, NamedTuple, TypeVar

from typing_extensions import override

from featurekit.errors import SourceError
from featurekit.plan import CsvSourcePlan, FileSourcePlan, JsonlSourcePlan, ParquetSourcePlan
from featurekit.sources.csv_records import csv_records, split_record
from featurekit.sources.parquet_types import cast_columns, check_decimals, parquet_groups
from featurekit.sources.row_counts import (
    MAX_LINE_BYTES,
    count_filled_lines,
    count_lines,
    count_records,
    count_records_by_line,
    first_character,
    open_bytes,
    open_text,
)
from featurekit.sources.session import (
    THREADS,
    Session,
    quote_files,
    quote_identifier,
    quote_list,
    quote_text,
)
from featurekit.sources.text_copies import (
    JSON_DELIMITER,
    LINE_COLUMN,
    PROBLEM_COLUMN,
    TextCopies,
    copy_of_csv,
    copy_of_json,
    json_problem,
    plain_copy,
    with_replacements,
)

P = TypeVar("P", bound=FileSourcePlan)

FILE_COLUMN = "featurekit file"
"""The column with a row's file, where it is requested."""

_NOT_BLANK = "starts_with(json, '{') OR trim(json, E' \\t\\r') <> ''"
"""Skips blank lines; `trim` is slow, so a line that starts with a brace does without it."""

MIXED_LINE_ENDINGS = "mixed line endings (CR LF and LF), or a misplaced quote"

_UNKNOWN = -1
"""Stands for the number of rows where a fast count cannot give it."""

_BUFFERS = f"max_line_size = {MAX_LINE_BYTES}, buffer_size = 8000000"
"""The longest line and the read buffer, in bytes."""


class FileRead(NamedTuple):
    """What to read from some files.

    Attributes:
        session: The session that will read them.
        files: The files, in the order of their rows.
        columns: The columns that the view uses.
        where: The name of the source in error messages.
        with_file_name: Whether to add `FILE_COLUMN`.
    """

    session: Session
    files: Sequence[str]
    columns: Sequence[str]
    where: str
    with_file_name: bool


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
    def source(self, read: FileRead) -> str:
        """Return the SQL to put after FROM.

        Raises:
            SourceError: The files cannot be read as one table.
        """

    @abstractmethod
    def explain(self, message: str, files: Sequence[str]) -> tuple[str, str] | None:
        """Turn a DuckDB message about a file into (file:line, problem), if it is about one."""

    @abstractmethod
    def describe_row(self, file: str, number: int) -> str:
        """Return the position of row `number`, counted from 1."""

    def _shared_arguments(self, read: FileRead) -> list[str]:
        hive = f"hive_partitioning = {str(self.plan.hive_partitioning).lower()}"
        return [hive, f"filename = {quote_text(FILE_COLUMN)}"] if read.with_file_name else [hive]


class ParquetFormat(Format[ParquetSourcePlan]):
    """Parquet files."""

    form = "native"
    suffixes = (".parquet",)

    @override
    def source(self, read: FileRead) -> str:
        session, files, columns, where, _ = read
        check_decimals(session, files, columns, where)
        shared = self._shared_arguments(read)
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
        return None  # `Session` names damaged files

    @override
    def describe_row(self, file: str, number: int) -> str:
        return f"{Path(file).name}, row {number}"


class TextFormat(Format[P]):
    """A format without a number of rows in its files, so that all must be read to count them.

    Attributes:
        has_problems: Whether the files to read are copies with the columns of problems.
    """

    def __init__(self, plan: P) -> None:
        super().__init__(plan)
        self.has_problems = False

    @abstractmethod
    def copy_with_problems(self, file: str, columns: Sequence[str], copies: TextCopies) -> None:
        """Copy a file so that a line which cannot be read is a row with a problem.

        Args:
            file: A local file.
            columns: The columns that the view uses.
            copies: Gets the copy.
        """

    @abstractmethod
    def count_rows(self, file: str, *, exact: bool) -> int:
        """Return the number of rows, counted without DuckDB.

        Args:
            file: A local file.
            exact: Count line by line. Otherwise count fast, which is right if it equals the
                number of rows that DuckDB has read.

        Raises:
            UnreadableLineError: DuckDB would drop a part of a line.
        """


class CsvFormat(TextFormat[CsvSourcePlan]):
    """CSV files with a header line."""

    form = "text"
    suffixes = (".csv", ".csv.gz")

    def __init__(self, plan: CsvSourcePlan) -> None:
        super().__init__(plan)
        self._mixed: set[str] = set()

    @override
    def source(self, read: FileRead) -> str:
        session, files, columns, _, _ = read
        arguments = [
            "header = true",
            f"delim = {quote_text(self.plan.delimiter)}",
            "quote = '\"'",
            "escape = '\"'",
            f"nullstr = {quote_list(self.plan.null)}",
            "allow_quoted_nulls = false",
            _BUFFERS,
            "hive_types_autocast = false",
            *self._shared_arguments(read),
        ]
        added = (PROBLEM_COLUMN, LINE_COLUMN) if self.has_problems else ()
        names = [*columns, *added]
        parts = [
            f"FROM read_csv({', '.join([quote_files(list(group)), each, *arguments])})"
            for each, group in groupby(files, lambda file: self._own_arguments(file, names))
        ]
        union = f"({' UNION ALL BY NAME '.join(parts)})"
        return self._without_empty_values(session, union, columns) if added else union

    def _without_empty_values(self, session: Session, source: str, columns: Sequence[str]) -> str:
        """Return a FROM clause with null in the rows of lines with a problem, as `null:` may differ."""
        present = session.columns(source)
        problem = quote_identifier(PROBLEM_COLUMN)
        values = [
            f"CASE WHEN coalesce({problem}, '') = '' THEN {name} END AS {name}"
            for name in map(quote_identifier, dict.fromkeys(columns))
            if name in map(quote_identifier, present)
        ]
        return f"(SELECT * REPLACE ({', '.join(values)}) FROM {source})" if values else source

    @property
    def is_encoded(self) -> bool:
        """Whether the files have another encoding than DuckDB reads, so that they are copied."""
        return self.plan.encoding != "utf-8"

    def copy_plain(self, file: str, copies: TextCopies) -> None:
        """Copy a file of another encoding."""
        if "://" in file:
            raise SourceError(
                f"a file at a URL cannot have the encoding {self.plan.encoding}",
                where=file,
                hint="download it, or convert it to UTF-8",
            )
        copies.add(file, self.plan.encoding, plain_copy)

    @override
    def copy_with_problems(self, file: str, columns: Sequence[str], copies: TextCopies) -> None:
        delimiter, name = self.plan.delimiter, Path(file).name
        copies.add(
            file, self.plan.encoding, lambda text: copy_of_csv(text, name, delimiter, columns)
        )

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
        delimiter = self.plan.delimiter
        if exact:
            return count_records_by_line(file, delimiter) - 1  # the header
        records, delimiters = count_records(file, delimiter)
        cells = len(_csv_header(file, delimiter, ()))
        return records - 1 if delimiters == records * (cells - 1) else _UNKNOWN

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
        with open_text(file) as lines:
            records = (r for r in csv_records(lines, self.plan.delimiter) if r.text)
            record = next(islice(records, number, None), None)
            return f"{Path(file).name}, line {record.line if record else number + 1}"


class JsonlFormat(TextFormat[JsonlSourcePlan]):
    """Files with one JSON object per line."""

    form = "json"
    suffixes = (".jsonl", ".jsonl.gz", ".ndjson", ".ndjson.gz")

    @override
    def source(self, read: FileRead) -> str:
        if self.plan.hive_partitioning:
            raise SourceError(
                "JSON Lines sources do not support `hive_partitioning:`",
                hint="remove `hive_partitioning:`, or use Parquet or CSV",
            )
        for file in read.files:
            _check_encoding(file, f"convert it: iconv -f UTF-16 -t UTF-8 {Path(file).name}")
            if "://" not in file and first_character(file) == b"[":
                raise SourceError(
                    "a JSON array, not JSON Lines",
                    where=f"{read.where}: {Path(file).name}",
                    hint="write one object per line, for example with `jq -c '.[]'`, or read it "
                    f"in a `type: sql` source: FROM read_json('{Path(file).name}')",
                )
        # Each line is read as one text column: the delimiter is a byte that JSON cannot contain,
        # and quoting is off. DuckDB's JSON reader would take several 32 MB buffers per thread.
        names = ["json", *((PROBLEM_COLUMN, LINE_COLUMN) if self.has_problems else ())]
        columns_by_name = ", ".join(f"{quote_text(name)}: 'VARCHAR'" for name in names)
        arguments = [
            quote_files(read.files),
            f"auto_detect = false, header = false, columns = {{{columns_by_name}}}",
            f"delim = '{JSON_DELIMITER}', quote = '', escape = '', nullstr = ''",
            "strict_mode = false",
            _BUFFERS,
            *self._shared_arguments(read),
        ]
        lines = f"read_csv({', '.join(arguments)})"
        if self.has_problems:
            return f"(SELECT * REPLACE (nullif(json, '') AS json) FROM {lines})"
        return f"(FROM {lines} WHERE {_NOT_BLANK})"

    @override
    def copy_with_problems(self, file: str, columns: Sequence[str], copies: TextCopies) -> None:
        name = Path(file).name
        copies.add(file, "utf-8", lambda text: copy_of_json(text, name))

    @override
    def count_rows(self, file: str, *, exact: bool) -> int:
        if exact or self.has_problems:
            return count_filled_lines(file)
        return count_lines(file)

    @override
    def explain(self, message: str, files: Sequence[str]) -> tuple[str, str] | None:
        if position := _csv_error_position(message, files):
            return position, _csv_problem(message)
        if "JSON" not in message:
            return None
        for file in files:
            with open_text(file) as lines:
                for number, line in enumerate(lines, 1):
                    if problem := json_problem(line):
                        return f"{Path(file).name}:{number}", problem
        return None

    @override
    def describe_row(self, file: str, number: int) -> str:
        with open_text(file) as lines:
            filled = (at for at, line in enumerate(lines, 1) if line.strip())
            return f"{Path(file).name}, line {next(islice(filled, number - 1, None), number)}"


def format_of(plan: FileSourcePlan) -> Format[Any]:
    """Return the format of a file source."""
    if isinstance(plan, ParquetSourcePlan):
        return ParquetFormat(plan)
    return CsvFormat(plan) if isinstance(plan, CsvSourcePlan) else JsonlFormat(plan)


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
    with open_text(file) as lines:
        return len({line.endswith("\r\n") for line in lines if line.endswith("\n")}) > 1


def _has_valid_quotes(file: str, delimiter: str) -> bool:
    with open_text(file) as lines:
        return not any(record.problem for record in csv_records(lines, delimiter))


def _csv_header(file: str, delimiter: str, used: Collection[str]) -> tuple[str, ...]:
    """Return the column names of a CSV file; empty for a URL.

    DuckDB needs names that differ by more than case. A column that the view does not use may have
    any name, or none, as pandas and R write it; it gets another name here.
    """
    if "://" in file:
        return ()
    _check_encoding(file, "set `encoding: utf-16` in the source")
    with open_text(file) as lines:
        first = next(csv_records(lines, delimiter), None)
    text = with_replacements(first.text) if first else ""
    header = tuple(split_record(text, delimiter)) if text else ()
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


def _check_encoding(file: str, hint: str) -> None:
    """Raise `SourceError` for a file in UTF-16, as Excel writes "Unicode text"."""
    if "://" in file:
        return
    with open_bytes(file) as data:
        start = data.read(4)
    if start[:2] in (b"\xff\xfe", b"\xfe\xff") or start[1::2] == b"\0\0" or start[::2] == b"\0\0":
        raise SourceError(
            "the file is UTF-16, expected UTF-8",
            where=Path(file).name,
            hint=hint,
        )


def _csv_columns(header: tuple[str, ...]) -> str:
    """Return the arguments that name the columns; detection fails on small or unusual files."""
    if not header:
        return "all_varchar = true"
    columns = ", ".join(f"{quote_text(column)}: 'VARCHAR'" for column in header)
    return f"auto_detect = false, columns = {{{columns}}}"
