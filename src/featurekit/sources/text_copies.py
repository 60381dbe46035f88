"""Copies of CSV and JSON Lines files that DuckDB can read.

DuckDB reads UTF-8, and fails at the first line that it cannot read. A copy is in UTF-8; on request,
it has two more columns, in which such a line is a text with a problem, in a row without values. So
each line of a file is still one row of the same number, and no line is lost.
"""

from __future__ import annotations

import gzip
import json
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TextIO, cast

from featurekit.errors import SourceError
from featurekit.sources.csv_records import csv_records, split_record
from featurekit.sources.row_counts import (
    MAX_LINE_BYTES,
    UnreadableLineError,
    column_count_problem,
    open_text,
)

PROBLEM_COLUMN = "featurekit problem"
"""The column of a copy that says why a line cannot be read; empty for all other lines."""

LINE_COLUMN = "featurekit line"
"""The column of a copy with the text of such a line."""

JSON_DELIMITER = "\x01"
"""Separates the columns of copied JSON, which cannot contain it."""

_NOT_UTF8 = "bytes that are not UTF-8"

_MAX_TEXT = 100_000
"""The most characters of a line that are kept."""

_BLOCK_CHARACTERS = 1 << 20

Texts = Iterable[tuple[str, bool]]
"""The text of a copy in parts, and whether each is a line with a problem."""


class TextCopies:
    """Copies of files, in a temporary folder that is deleted with this object."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="featurekit-"))
        self._files: dict[str, str] = {}
        self.problems = 0
        self.close = weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)

    def path(self, file: str) -> str:
        """Return the copy of a file, or the file itself if there is none."""
        return self._files.get(file, file)

    def add(self, file: str, encoding: str, copied: Callable[[TextIO], Texts]) -> None:
        """Copy a file, under its own name.

        Args:
            file: A local file.
            encoding: Its encoding; the copy is in UTF-8.
            copied: Returns the text of the copy.

        Raises:
            SourceError: The file has another encoding, or the copy cannot be written.
        """
        copy = self._folder / str(len(self._files))
        for part in Path(file).parts[:-1]:
            copy /= part if "=" in part else ""  # the name of a partition is a column
        copy /= Path(file).name
        problems = 0
        try:
            with open_text(file, encoding) as source, self._create(copy) as target:
                for text, has_problem in copied(source):
                    target.write(text.encode())
                    problems += has_problem
        except UnicodeError as error:
            raise SourceError(
                f"the file is not {encoding}: {error}",
                where=copy.name,
                hint="see `encoding:` of the source",
            ) from error
        self._files[file] = str(copy)
        self.problems += problems

    @contextmanager
    def _create(self, copy: Path) -> Iterator[BinaryIO]:
        try:
            copy.parent.mkdir(parents=True)
            with _create_compressed(copy) as target:
                yield target
        except OSError as error:
            if isinstance(error, gzip.BadGzipFile):
                raise
            raise SourceError(
                f"a copy of {copy.name} cannot be written to {self._folder}: {error.strerror}",
                hint="free some space there, or set TMPDIR to another folder",
            ) from error


def plain_copy(file: TextIO) -> Texts:
    """Yield the text of a file as it is."""
    while block := file.read(_BLOCK_CHARACTERS):
        yield block, False


def copy_of_csv(file: TextIO, name: str, delimiter: str, used: Sequence[str]) -> Texts:
    """Yield a CSV file with `PROBLEM_COLUMN` and `LINE_COLUMN`.

    Args:
        file: The file, with bytes that are not UTF-8 as lone surrogates.
        name: Its name.
        delimiter: The character between cells.
        used: The columns that the view reads. Other cells may have bytes that are not UTF-8.
    """
    records = csv_records(file, delimiter)
    header = next(records)
    names = split_record(header.text, delimiter)
    unused = [index for index, name in enumerate(names) if name not in used]
    yield (
        delimiter.join([with_replacements(header.text), PROBLEM_COLUMN, f"{LINE_COLUMN}\n"]),
        False,
    )
    for record in records:
        if not record.text and header.cells > 1:
            continue
        problem, text = record.problem, record.text
        if not problem and record.cells != header.cells:
            problem = column_count_problem(record.cells, header.cells)
        if not problem and not text.isascii():
            text, problem = _text_without_bad_bytes(text, delimiter, unused)
        if not problem and len(text) * 4 > MAX_LINE_BYTES and _is_too_long(text):
            problem = too_long_problem()
        if problem:
            problem = f"{name}:{record.line}: {problem}"
            cells = [*[""] * header.cells, _quoted(problem), _quoted(_kept(record.text))]
            yield delimiter.join(cells) + "\n", True
        else:
            yield f"{text}{delimiter}{delimiter}\n", False


def copy_of_json(file: TextIO, name: str) -> Texts:
    """Yield a JSON Lines file as columns: the object, and the two of problems."""
    for number, line in enumerate(file, 1):
        text = line.rstrip("\r\n")
        if not text.strip(" \t"):
            continue
        problem = json_problem(text)
        if not problem and len(text) * 4 > MAX_LINE_BYTES and _is_too_long(text):
            problem = too_long_problem()
        if problem:
            kept = _kept(text).replace(JSON_DELIMITER, "\\u0001")
            yield JSON_DELIMITER.join(["", f"{name}:{number}: {problem}", f"{kept}\n"]), True
        else:
            yield f"{text}{JSON_DELIMITER}{JSON_DELIMITER}\n", False


def too_long_problem() -> str:
    """Return the problem of a line that is too long."""
    return f"the line is longer than {MAX_LINE_BYTES} bytes"


def json_problem(line: str) -> str:
    """Return why a line is not a JSON object; empty if it is one, or blank."""
    if not _is_utf8(line):
        return _NOT_UTF8
    try:
        value = json.loads(line) if line.strip() else {}
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return "half of a surrogate pair"
    except (ValueError, RecursionError) as error:
        return f"not JSON: {error}"
    return "" if isinstance(value, dict) else "not a JSON object"


def check_utf8(file: str) -> None:
    """Raise `UnreadableLineError` if a file is not UTF-8 throughout."""
    with open_text(file, "utf-8", errors="strict") as stream:
        try:
            while stream.read(1 << 20):
                pass
        except UnicodeDecodeError as error:
            raise UnreadableLineError(_NOT_UTF8, where=Path(file).name) from error


def _text_without_bad_bytes(text: str, delimiter: str, unused: Sequence[int]) -> tuple[str, str]:
    """Return a record without bytes that are not UTF-8 in unused cells, and its problem, if any."""
    if _is_utf8(text):
        return text, ""
    cells = split_record(text, delimiter)
    for index in unused:
        cells[index] = with_replacements(cells[index])
    problem = "" if all(map(_is_utf8, cells)) else _NOT_UTF8
    return with_replacements(text), problem


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def with_replacements(text: str) -> str:
    """Return a text with a replacement character for each byte that is not UTF-8."""
    return text.encode(errors="surrogateescape").decode(errors="replace")


def _kept(text: str) -> str:
    """Return the text of a line as it is kept; bytes that are not UTF-8 are escaped."""
    return text[:_MAX_TEXT].encode(errors="surrogateescape").decode(errors="backslashreplace")


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def _is_too_long(text: str) -> bool:
    return len(text.encode()) > MAX_LINE_BYTES


@contextmanager
def _create_compressed(file: Path) -> Iterator[BinaryIO]:
    """Create a file, compressed if its name says so."""
    if file.suffix == ".zst":
        import pyarrow as pa

        with pa.output_stream(str(file), compression="zstd") as stream:
            yield stream
    elif file.suffix == ".gz":
        with gzip.open(file, "wb", compresslevel=1) as stream:
            yield cast(BinaryIO, stream)
    else:
        with file.open("wb") as stream:
            yield stream
