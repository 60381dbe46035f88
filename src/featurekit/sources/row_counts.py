"""Count the rows of CSV and JSON Lines files without DuckDB, to prove that it has read all of them.

DuckDB drops a last line that is longer than its buffer, and some unterminated quotes, without an
error. So a load counts rows twice. The fast count looks only at line ends and quotes, and is right
for well-formed files. If it differs, blank lines or stray quotes may be the reason, and the exact
count decides, which reads line by line.

Reading a compressed file to its end also verifies its checksum, which DuckDB does not.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import BinaryIO, TextIO, cast

from featurekit.errors import SourceError
from featurekit.sources.csv_records import csv_records

MAX_LINE_BYTES = 2_000_000
"""The longest line that DuckDB is asked to read."""

_BLOCK_BYTES = 1 << 20
_BOM = b"\xef\xbb\xbf"


class UnreadableLineError(SourceError):
    """A line of a file cannot be read; with `--on-bad-row skip` it is rejected."""


@contextmanager
def open_bytes(file: str) -> Iterator[BinaryIO]:
    """Open a local file, decompressed if its name says so.

    Raises:
        SourceError: The compressed data is damaged or incomplete.
    """
    try:
        if file.endswith(".zst"):
            import pyarrow as pa

            with pa.input_stream(file, compression="zstd") as stream:
                yield stream
        else:
            with (gzip.open if file.endswith(".gz") else open)(file, "rb") as stream:
                yield cast(BinaryIO, stream)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise SourceError(
            f"not a complete gzip file: {error}",
            where=Path(file).name,
            hint="write the file again; it is cut off or damaged",
        ) from error


@contextmanager
def open_text(
    file: str, encoding: str = "utf-8", *, errors: str = "surrogateescape"
) -> Iterator[TextIO]:
    """Open a local file as text with its own line ends, without a byte order mark.

    Only UTF-8 knows `errors`: by default, a wrong byte becomes a lone surrogate.

    Raises:
        UnicodeError: The file has another encoding; raised when it is read.
    """
    is_utf8 = encoding == "utf-8"
    with open_bytes(file) as stream:
        yield TextIOWrapper(
            stream,
            encoding="utf-8-sig" if is_utf8 else encoding,
            errors=errors if is_utf8 else "strict",
            newline="",
        )


def first_character(file: str) -> bytes:
    """Return the first byte of a file that is not white space; empty if its first block has none."""
    with open_bytes(file) as stream:
        return stream.read(_BLOCK_BYTES).removeprefix(_BOM).lstrip()[:1]


def count_lines(file: str) -> int:
    """Return the number of lines, blank or not.

    Raises:
        UnreadableLineError: A line contains the byte that separates columns when DuckDB reads lines; JSON
            may not contain it, and DuckDB would drop the rest of the line.
    """
    lines, last = 0, b"\n"
    with open_bytes(file) as stream:
        while block := stream.read(_BLOCK_BYTES):
            if (at := block.find(b"\x01")) >= 0:
                number = lines + block.count(b"\n", 0, at) + 1
                raise UnreadableLineError(
                    "not JSON: control character U+0001", where=f"{Path(file).name}:{number}"
                )
            lines += block.count(b"\n")
            last = block
    return lines + (not last.endswith(b"\n"))


def count_filled_lines(file: str) -> int:
    """Return the number of lines that are not blank; a carriage return ends a line, too."""
    with open_text(file) as lines:
        return sum(1 for line in lines if line.strip(" \t\r\n"))


def count_records(file: str, delimiter: str) -> tuple[int, int]:
    """Return how many line ends and delimiters are outside quotes.

    In a well-formed file, these are the number of records, and that of cells less one in each.
    They are wrong for blank lines, for a quote within an unquoted cell, and for carriage returns
    alone.
    """
    mark = delimiter.encode()
    others = bytes(set(range(256)) - set(b'"\n' + mark))
    records, marks, is_quoted, last = 0, 0, False, b"\n"
    with open_bytes(file) as stream:
        while block := stream.read(_BLOCK_BYTES):
            parts = block.translate(None, others).replace(b'""', b"").split(b'"')
            unquoted = parts[is_quoted::2]
            records += sum(part.count(b"\n") for part in unquoted)
            marks += sum(part.count(mark) for part in unquoted)
            is_quoted ^= len(parts) % 2 == 0
            last = block
    return records + (not last.endswith(b"\n")), marks


def count_records_by_line(file: str, delimiter: str) -> int:
    """Return the number of CSV records; blank ones count only in a file of one column.

    Raises:
        UnreadableLineError: A record has more or fewer cells than the header. DuckDB drops empty
            cells at the end.
    """
    count, expected = 0, 0
    with open_text(file) as lines:
        for record in csv_records(lines, delimiter):
            expected = expected or record.cells
            if not record.text and expected > 1:
                continue
            count += 1
            if record.cells != expected and not record.problem:
                raise UnreadableLineError(
                    column_count_problem(record.cells, expected),
                    where=f"{Path(file).name}:{record.line}",
                    hint="if each row ends with a delimiter, so must the header",
                )
    return count


def column_count_problem(found: int, expected: int) -> str:
    """Return the problem of a record with too many or too few cells."""
    return f"columns: found {found}, expected {expected} as in the header"


def long_line(file: str) -> int | None:
    """Return the number of the first line that is longer than `MAX_LINE_BYTES`."""
    with open_text(file) as lines:
        sizes = (len(line.encode(errors="surrogateescape")) for line in lines)
        return next((n for n, size in enumerate(sizes, 1) if size > MAX_LINE_BYTES), None)
