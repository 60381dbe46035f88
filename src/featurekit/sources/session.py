"""Sessions: DuckDB in bounded memory, whose errors are ours.

A session belongs to one scan, since an unread result blocks its connection. What does not fit
into `MEMORY` spills to a folder of the session's own, gone with the session.
"""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from featurekit.errors import MissingExtraError, SourceError

MEMORY_BYTES = 160_000_000
"""What DuckDB may hold; measured: 5 million rows of 6 fields pass, half of them superseded."""

THREADS = 2

_SETTINGS = {
    "TimeZone": "'UTC'",
    "python_enable_replacements": "false",  # a query sees no variables of its caller
    "enable_external_file_cache": "false",  # files are read once or twice, and not kept
    "enable_progress_bar": "false",  # it would be drawn into our own output
}

Explain = Callable[[str], tuple[str, str] | None]
"""From DuckDB's message to (place, fact), where a source knows better."""


class Session:
    """A DuckDB connection, in UTC, that sees nothing of the process but what it is given."""

    def __init__(self, root: Path | None = None, explain: Explain = lambda _: None) -> None:
        self.duckdb, self.arrow = _libraries()
        self.root = root
        self.explain = explain
        folder = tempfile.mkdtemp(prefix="featurekit-")
        config = {"threads": THREADS, "temp_directory": folder}
        self.connection = self.duckdb.connect(config=config)
        self.close = weakref.finalize(self, _release, self.connection, folder)
        self.limit()
        folders = {} if root is None else {"file_search_path": text(str(root))}
        for setting, value in (_SETTINGS | folders).items():
            self.connection.execute(f"SET {setting} = {value}")

    @contextmanager
    def errors(self, where: str) -> Iterator[None]:
        """Turn the errors of DuckDB, and of reading Arrow through it, into `SourceError`."""
        try:
            yield
        except (self.duckdb.Error, self.arrow.ArrowException, OSError) as error:
            place, fact = self.explain(str(error)) or ("", self._worded(error))
            at = f"{where}: {place}" if place else where
            raise SourceError(fact, where=at, hint=_hint(str(error))) from error
        except RuntimeError as error:
            if "Query interrupted" in str(error):  # what DuckDB makes of Ctrl-C
                raise KeyboardInterrupt from error
            raise

    def limit(self, extra_bytes: int = 0) -> None:
        """Let DuckDB hold so much more than usual."""
        total = MEMORY_BYTES + extra_bytes
        self.connection.execute(f"SET memory_limit = '{total // 1024} KiB'")

    def run(self, action: Callable[[], object]) -> None:
        """Do what may need any amount of memory: within the limit, or if need be beyond it."""
        try:
            action()
        except self.duckdb.OutOfMemoryException:
            self.connection.execute("RESET memory_limit")
            action()
            self.limit()

    def _worded(self, error: Exception) -> str:
        """DuckDB's message without its class, its advice, and the path of the repository."""
        message = str(error).strip()
        for noise in (
            "\nPossible fixes",
            "\nPossible Solution",
            "\n\nPossible",
            "\nLINE ",
            "\n\n",
        ):
            message = message.partition(noise)[0]
        head, colon, rest = message.partition(" Error: ")
        message = rest if colon and len(head) < 40 else message  # noqa: PLR2004 - a class's name
        if self.root is not None:
            message = message.replace(f"{self.root}/", "")
        return " ".join(message.split())

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """All rows of a small result."""
        found: list[tuple[Any, ...]] = self.connection.execute(sql).fetchall()
        return found

    def columns(self, source: str) -> dict[str, str]:
        """The columns of what may stand after FROM, with DuckDB's names of their types."""
        relation = self.connection.sql(f"FROM {source}")
        return dict(zip(relation.columns, map(str, relation.types), strict=True))


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows that can be read as often as asked, always in the same order.

    Attributes:
        session: Where they are read.
        source: What stands after FROM.
        columns: Their columns, with DuckDB's names of their types; empty for JSON.
        form: As in `ports.Scan`.
        where: What they are called in an error.
        wide_bytes: What reading whole rows takes besides, as a Parquet file's row groups do.
    """

    session: Session
    source: str
    form: str
    where: str
    columns: dict[str, str] = field(default_factory=dict)
    wide_bytes: int = 0


def _libraries() -> tuple[Any, Any]:
    try:
        import duckdb
        import pyarrow
    except ImportError as error:
        raise MissingExtraError.of("batch", "reading a batch source") from error
    return duckdb, pyarrow


def _release(connection: Any, folder: str) -> None:
    connection.close()
    shutil.rmtree(folder, ignore_errors=True)


def _hint(message: str) -> str:
    if message.startswith("Out of Memory"):
        return "rows are too wide to be sorted in memory: select fewer columns, or split the files"
    return ""


def name(identifier: str) -> str:
    """An identifier, quoted."""
    return '"' + identifier.replace('"', '""') + '"'


def text(value: str) -> str:
    """A string literal."""
    return "'" + value.replace("'", "''") + "'"


def texts(values: Sequence[str]) -> str:
    """A list of string literals."""
    return f"[{', '.join(map(text, values))}]"
