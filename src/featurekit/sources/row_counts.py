"""Count the rows of CSV and JSON Lines files without DuckDB, to prove that it has read all of them.

DuckDB drops a last line that is longer than its buffer, and some unterminated quotes, without an
error. So a load counts rows twice. The fast count looks only at line ends and quotes, and is right
for well-formed files. If it differs, blank lines or stray quotes may be the reason, and the exact
count decides, which reads line by line.

Reading a compressed file to its end also verifies its checksum, which DuckDB does not.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import BinaryIO, cast

from featurekit.errors import SourceError

MAX_LINE_BYTES = 2_000_000
"""The longest line that DuckDB is asked to read."""

_BLOCK_BYTES = 1 << 20
_BOM = b"\xef\xbb\xbf"
_NOT_QUOTE_OR_LINE_FEED = bytes(set(range(256)) - set(b'"\n'))
_REST_OF_QUOTED_CELL = re.compile(r'(?:[^"]|"")*+"')


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


def first_character(file: str) -> bytes:
    """Return the first byte of a file that is not white space; empty if its first block has none."""
    with open_bytes(file) as stream:
        return stream.read(_BLOCK_BYTES).removeprefix(_BOM).lstrip()[:1]


def count_lines(file: str) -> int:
    """Return the number of lines, blank or not.

    Raises:
        SourceError: A line contains the byte that separates columns when DuckDB reads lines; JSON
            may not contain it, and DuckDB would drop the rest of the line.
    """
    lines, last = 0, b"\n"
    with open_bytes(file) as stream:
        while block := stream.read(_BLOCK_BYTES):
            if (at := block.find(b"\x01")) >= 0:
                number = lines + block.count(b"\n", 0, at) + 1
                raise SourceError(
                    "not JSON: control character U+0001", where=f"{Path(file).name}:{number}"
                )
            lines += block.count(b"\n")
            last = block
    return lines + (not last.endswith(b"\n"))


def count_filled_lines(file: str) -> int:
    """Return the number of lines that are not blank; a carriage return ends a line, too."""
    with _open_lines(file) as lines:
        return sum(1 for line in lines if line.strip(" \t\n"))


def count_records(file: str) -> int:
    """Return the number of line ends outside quotes, which is the number of CSV records.

    It is wrong for blank lines, for a quote within an unquoted cell, and for carriage returns alone.
    """
    records, is_quoted, last = 0, False, b"\n"
    with open_bytes(file) as stream:
        while block := stream.read(_BLOCK_BYTES):
            marks = block.translate(None, _NOT_QUOTE_OR_LINE_FEED).replace(b'""', b"")
            parts = marks.split(b'"')
            records += sum(part.count(b"\n") for part in parts[is_quoted::2])
            is_quoted ^= len(parts) % 2 == 0
            last = block
    return records + (not last.endswith(b"\n"))


def count_records_by_line(file: str, delimiter: str, *, count_blank: bool) -> int:
    """Return the number of CSV records; a quote opens a cell only at its start.

    Args:
        file: The file.
        delimiter: The character between cells.
        count_blank: Count blank lines: in a file of one column each is a null.
    """
    start_of_quoted_cell = re.compile(rf'(?:^|{re.escape(delimiter)}) *"')
    records, is_quoted = 0, False
    with _open_lines(file) as lines:
        for line in lines:
            if line == "\n" and not is_quoted and not count_blank:
                continue
            at: int | None = 0
            while at is not None:
                pattern = _REST_OF_QUOTED_CELL.match if is_quoted else start_of_quoted_cell.search
                found = pattern(line, at)
                at = found.end() if found else None
                is_quoted ^= found is not None
            records += not is_quoted
    return records + is_quoted


def long_line(file: str) -> int | None:
    """Return the number of the first line that is longer than `MAX_LINE_BYTES`."""
    with _open_lines(file) as lines:
        sizes = (len(line.encode()) for line in lines)
        return next((n for n, size in enumerate(sizes, 1) if size > MAX_LINE_BYTES), None)


@contextmanager
def _open_lines(file: str) -> Iterator[TextIOWrapper]:
    with open_bytes(file) as stream:
        yield TextIOWrapper(stream, encoding="utf-8-sig", errors="replace")
