"""Find the damaged one of several Parquet files: DuckDB and Arrow do not name it where a page is damaged."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from featurekit.errors import SourceError

_START = b"PAR1"

_OTHER_ERRORS = ("Binder", "Catalog", "Conversion", "INTERRUPT", "Out of Memory", "Parser")
"""The classes of DuckDB's errors that damage does not cause."""


def damaged_file_error(
    files: Iterable[object], error: Exception, where: str = ""
) -> SourceError | None:
    """Return the error that names the first damaged file; `None` if none is damaged.

    Each file is read as a whole, until one fails.

    Args:
        files: The paths of Parquet files. URLs are skipped.
        error: What reading them raised.
        where: What is read, for the message.
    """
    if str(error).startswith(tuple(f"{name} Error" for name in _OTHER_ERRORS)):
        return None
    for file in map(str, files):
        if "://" not in file and (problem := _problem_of(Path(file))):
            return SourceError(
                problem,
                where=f"{where}: {file}" if where else file,
                hint="restore the file, or move it away: its rows are then missing",
            )
    return None


def _problem_of(file: Path) -> str:
    """Return what is wrong with a Parquet file; empty if nothing is."""
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with file.open("rb") as data:
            start = data.read(len(_START))
        if start != _START:
            return "not a Parquet file" if start else "the file is empty"
        with parquet.ParquetFile(file, page_checksum_verification=True) as opened:
            for _ in opened.iter_batches(use_threads=False):
                pass
    except (pa.ArrowException, OSError, ValueError) as error:
        if "magic bytes not found in footer" in str(error):
            return "the end of the file is missing"
        [first, *_] = str(error).strip().splitlines() or [type(error).__name__]
        return f"the file is damaged: {first.rstrip(' :.')}"
    return ""
