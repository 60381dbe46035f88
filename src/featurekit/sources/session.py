"""DuckDB sessions with bounded memory, and the rows read in them.

A session belongs to one scan, because an unread result blocks its connection. Data beyond its memory
limit spills to a temporary folder, which is deleted with the session.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, TypeVar

from typing_extensions import override

from featurekit.damaged_files import damaged_file_error
from featurekit.disk_space import check_free_space
from featurekit.errors import MissingExtraError, SourceError
from featurekit.plan import ViewPlan
from featurekit.ports import BatchSource
from featurekit.sources.interrupt import run_interruptibly

T = TypeVar("T")

MEMORY_BYTES = 160_000_000
"""DuckDB's usual memory limit. Measured: 5 million rows of 6 fields fit, half of them superseded."""

MEMORY_VARIABLE = "FEATUREKIT_MEMORY_LIMIT"
"""The environment variable with another limit, such as `500MB` or `2GiB`."""

_LEAST_MEMORY_BYTES = 50_000_000

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT])(i?)B", re.IGNORECASE)

BATCH_ROWS = 16_384
"""The most rows in a record batch, unless a source is given another number."""

THREADS = 2

_SETTINGS = {
    "TimeZone": "'UTC'",
    "python_enable_replacements": "false",  # a query sees no variables of its caller
    "enable_external_file_cache": "false",  # each file is read once or twice only
    "enable_progress_bar": "true",  # for `Session.progress`
    "enable_progress_bar_print": "false",  # it would write to the command's output
}

_GLOB_CHARACTERS = re.compile(r"[*?[]")

NO_PARAMETERS: Mapping[str, str] = MappingProxyType({})

Explain = Callable[[str], tuple[str, str] | None]
"""Turns a DuckDB message into (position, problem), where a source knows more."""


class Session:
    """A DuckDB connection in UTC that sees only the data registered with it.

    Args:
        root: The folder that paths are relative to.
        explain: Explains errors.

    Attributes:
        parquet_files: Files that may be damaged if a query fails.
    """

    def __init__(self, root: Path | None = None, explain: Explain = lambda _: None) -> None:
        self.duckdb, self.arrow = _import_libraries()
        self.root = root
        self.explain = explain
        self.parquet_files: Sequence[str] = ()
        self._memory_bytes = _memory_bytes(os.environ.get(MEMORY_VARIABLE))
        self._reserved_bytes = 0
        self._is_interrupted = False
        folder = tempfile.mkdtemp(prefix="featurekit-")
        config = {"threads": THREADS, "temp_directory": folder}
        self.connection = self.duckdb.connect(config=config)
        self.close = weakref.finalize(self, _close, self.connection, folder)
        self._folder = Path(folder)
        self.limit_memory()
        search_path = {} if root is None else {"file_search_path": quote_text(str(root))}
        for setting, value in (_SETTINGS | search_path).items():
            self.connection.execute(f"SET {setting} = {value}")

    @contextmanager
    def errors(self, where: str) -> Iterator[None]:
        """Turn errors of DuckDB, and of Arrow data read through it, into `SourceError`."""
        try:
            yield
        except (self.duckdb.Error, self.arrow.ArrowException, OSError) as error:
            if damaged := damaged_file_error(self.parquet_files, error, where):
                damaged.where = damaged.where.replace(f"{self.root}/", "")
                raise damaged from error
            position, problem = self.explain(str(error)) or ("", self._short_message(error))
            at = f"{where}: {position}" if position else where
            raise SourceError(problem, where=at, hint=_memory_hint(str(error))) from error
        except RuntimeError as error:
            if "Query interrupted" in str(error):  # how DuckDB reports Ctrl-C
                raise KeyboardInterrupt from error
            raise

    def interrupt(self) -> None:
        """Make a query that runs in another thread raise, or else the next `check`."""
        self._is_interrupted = True
        with suppress(self.duckdb.Error):  # the connection may be closed already
            self.connection.interrupt()

    def check(self) -> None:
        """Raise `SourceError` if the session was interrupted."""
        if self._is_interrupted:
            raise SourceError("the read was interrupted")

    def progress(self) -> float | None:
        """Return the share of the running query that is done, from 0 to 1; `None` if none runs."""
        try:
            percent = self.connection.query_progress()
        except self.duckdb.Error:  # the connection may be closed already
            return None
        return percent / 100 if percent >= 0 else None

    def call(self, action: Callable[[], T]) -> T:
        """Return the result of a function that runs queries, and let Ctrl-C interrupt it."""
        return run_interruptibly(action, self.interrupt)

    def limit_memory(self, extra_bytes: int = 0) -> None:
        """Set DuckDB's memory limit, to `extra_bytes` more than the usual one if it is not higher."""
        limit = self._memory_bytes or MEMORY_BYTES
        total = max(limit, min(limit, MEMORY_BYTES) + extra_bytes) - self._reserved_bytes
        self.connection.execute(f"SET memory_limit = '{total // 1024} KiB'")

    def check_space(self, needed_bytes: int) -> None:
        """Raise `RequestError` if the disk has no space for what exceeds the memory limit."""
        spilled = needed_bytes - (self._memory_bytes or MEMORY_BYTES)
        if spilled > 0:
            check_free_space(self._folder, spilled)

    def reserve_memory(self, size: int) -> None:
        """Leave a part of the limit to others, at most half of it."""
        self._reserved_bytes = min(size, (self._memory_bytes or MEMORY_BYTES) // 2)
        self.limit_memory()

    def execute(self, sql: str, parameters: Mapping[str, str] = NO_PARAMETERS) -> None:
        """Run a statement that has no result, with the texts of its `$name` parameters."""
        arguments = (sql, dict(parameters)) if parameters else (sql,)
        self.call(lambda: self.connection.execute(*arguments))

    def run(self, action: Callable[[], object]) -> None:
        """Call a function; call it again without a memory limit if the usual one was too low."""
        try:
            action()
        except self.duckdb.OutOfMemoryException:
            if self._memory_bytes is not None:
                raise
            self.connection.execute("RESET memory_limit")
            action()
            self.limit_memory()

    def fetch_all(self, sql: str) -> list[tuple[Any, ...]]:
        """Return all rows of a small result."""
        rows: list[tuple[Any, ...]] = self.call(lambda: self.connection.execute(sql).fetchall())
        return rows

    def columns(self, source: str) -> dict[str, str]:
        """Return the columns of a FROM clause, with the names of their DuckDB types."""
        relation = self.call(lambda: self.connection.sql(f"FROM {source}"))
        return dict(zip(relation.columns, map(str, relation.types), strict=True))

    def _short_message(self, error: Exception) -> str:
        """Return DuckDB's message without its class, its advice, and the repository's path."""
        message = str(error).strip()
        for end in (
            "\nPossible fixes",
            "\nPossible Solution",
            "\n\nPossible",
            "\nLINE ",
            "\n\n",
        ):
            message = message.partition(end)[0]
        head, colon, rest = message.partition(" Error: ")
        message = rest if colon and len(head) < 40 else message  # noqa: PLR2004 - the name of a class
        if self.root is not None:
            message = message.replace(f"{self.root}/", "")
        return " ".join(message.split())


class SessionSource(BatchSource):
    """A source whose scans run queries in sessions, which another thread can interrupt.

    Args:
        batch_rows: The most rows in a record batch.
    """

    def __init__(self, batch_rows: int = BATCH_ROWS) -> None:
        self.batch_rows = batch_rows
        self._sessions: list[weakref.ref[Session]] = []

    def add_session(self, session: Session) -> Session:
        """Return a session, after remembering it as long as it exists."""
        self._sessions = [ref for ref in self._sessions if ref() is not None]
        self._sessions.append(weakref.ref(session))
        return session

    def close_sessions(self) -> None:
        """Close the sessions, and delete their folders."""
        for ref in self._sessions:
            if (session := ref()) is not None:
                session.close()

    @override
    def locate(self, view: ViewPlan, row: dict[str, object]) -> str | None:
        return None

    def position(self, view: ViewPlan, row: dict[str, object]) -> str | None:
        """Return where a row of `inspect` is; `None` if not known. See `ports.InspectedSource`."""
        return self.locate(view, row)

    @override
    def interrupt(self) -> None:
        for ref in self._sessions:
            if (session := ref()) is not None:
                session.interrupt()

    def progress(self) -> float | None:
        """Return the share of the running query that is done, from 0 to 1; `None` if none runs."""
        shares = [s.progress() for ref in self._sessions if (s := ref()) is not None]
        return next((share for share in shares if share is not None), None)


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows that can be read repeatedly, always in the same order.

    Attributes:
        session: The session that reads them.
        source: The SQL to put after FROM.
        form: The form of the rows, see `ports.Scan`.
        where: Their name in error messages.
        columns: Their columns, with the names of their DuckDB types; empty for JSON.
        has_problems: Whether they have `PROBLEM_COLUMN` and `LINE_COLUMN`.
        extra_memory_bytes: The memory that reading whole rows needs beyond the usual limit, such
            as the row groups of Parquet files.
        check_unchanged: Raises `SourceError` if the source changed since it was opened.
        check_count: Takes the number of rows that were read; raises `SourceError` if it is not
            the number of rows that the source has.
        identity: What identifies the contents.
    """

    session: Session
    source: str
    form: Literal["native", "text", "json"]
    where: str
    columns: dict[str, str] = field(default_factory=dict)
    has_problems: bool = False
    extra_memory_bytes: int = 0
    check_unchanged: Callable[[], None] = lambda: None
    check_count: Callable[[int], None] = lambda _: None
    identity: str = ""

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turn errors of reading these rows into `SourceError`; a change of them comes first."""
        try:
            with self.session.errors(self.where):
                yield
        except SourceError:
            self.check_unchanged()
            raise


def quote_identifier(name: str) -> str:
    """Return a name as a quoted SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def quote_text(text: str) -> str:
    """Return a SQL string literal."""
    return "'" + text.replace("'", "''") + "'"


def quote_list(texts: Sequence[str]) -> str:
    """Return a list of SQL string literals."""
    return f"[{', '.join(map(quote_text, texts))}]"


def quote_files(files: Sequence[str]) -> str:
    """Return a list of SQL string literals that name exactly these files.

    DuckDB expands each name as a glob, so the special characters of local names are escaped. It
    has no other way to pass a name. A URL may be a glob that only DuckDB can expand.
    """
    return quote_list([f if "://" in f else _GLOB_CHARACTERS.sub(r"[\g<0>]", f) for f in files])


def _import_libraries() -> tuple[Any, Any]:
    try:
        import duckdb
        import pyarrow
    except ImportError as error:
        raise MissingExtraError.of("batch", "reading a batch source") from error
    return duckdb, pyarrow


def _close(connection: Any, folder: str) -> None:
    connection.close()
    shutil.rmtree(folder, ignore_errors=True)


def _memory_bytes(text: str | None) -> int | None:
    """Return the bytes of a memory limit; `None` for the usual one."""
    if not text:
        return None
    found = _SIZE.fullmatch(text.strip())
    exponent = "KMGT".index(found[2].upper()) + 1 if found else 0
    size = int(float(found[1]) * (1024 if found[3] else 1000) ** exponent) if found else 0
    if size < _LEAST_MEMORY_BYTES:
        raise SourceError(
            f"{MEMORY_VARIABLE} is {text!r}, expected a size of at least 50MB",
            hint="set it to a number with a unit, such as 500MB or 2GiB",
        )
    return size


def _memory_hint(message: str) -> str:
    if message.startswith("Out of Memory"):
        return (
            "rows are too wide to be sorted in memory: select fewer columns, split the files, "
            f"or raise {MEMORY_VARIABLE} if it is set"
        )
    return ""
