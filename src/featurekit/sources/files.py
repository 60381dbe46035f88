"""Parquet, CSV and JSON Lines files as a batch source."""

# ruff: noqa: S608 - all names and values in this SQL are quoted

from __future__ import annotations

import glob
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from typing_extensions import override

from featurekit.errors import RequestError, SourceError, name_hint
from featurekit.file_globs import matching_paths
from featurekit.history_ports import HistoricalRows, HistoryQuery
from featurekit.plan import FileSourcePlan, ParquetSourcePlan, SourceColumns, ViewPlan
from featurekit.ports import ALL_TIMES, SOURCE_ROW, Scan, TimeRange
from featurekit.sources.batch_history import batch_key_ends
from featurekit.sources.formats import (
    FILE_COLUMN,
    MIXED_LINE_ENDINGS,
    CsvFormat,
    FileRead,
    ParquetFormat,
    TextFormat,
    format_of,
)
from featurekit.sources.history import rows_at
from featurekit.sources.history_range import files_in_range, files_to_load, history_range
from featurekit.sources.inspection import inspect_rows
from featurekit.sources.key_sample import sample_keys
from featurekit.sources.newest import expressions, newest_rows
from featurekit.sources.partitions import typed_partitions
from featurekit.sources.row_counts import UnreadableLineError, long_line
from featurekit.sources.selection import (
    Selection,
    check_members,
    copy_rows,
    select,
    source_columns,
)
from featurekit.sources.session import Rows, Session, SessionSource, quote_identifier, quote_text
from featurekit.sources.snapshot import Snapshot
from featurekit.sources.text_copies import TextCopies, check_utf8, too_long_problem

T = TypeVar("T")


class FileSource(SessionSource):
    """Files of one format, in the given order; those of a folder or glob are sorted by name."""

    def __init__(
        self,
        plan: FileSourcePlan,
        root: Path,
        batch_rows: int,
        *,
        skip_unreadable: bool = False,
    ) -> None:
        super().__init__(batch_rows)
        self.plan = plan
        self.root = root.absolute()
        self.skip_unreadable = skip_unreadable
        self._copies: TextCopies | None = None
        self._times = ALL_TIMES  # of the last scan
        self.format = format_of(plan)

    @override
    def scan(self, view: ViewPlan, times: TimeRange = ALL_TIMES) -> Scan:
        self._times = times
        return self._attempt(view, lambda files: self._scan(view, files, times))

    def inspect(self, view: ViewPlan, times: TimeRange, *, every_row: bool) -> Scan:
        """Return a scan with `facts`. See `ports.InspectedSource`."""
        read = partial(inspect_rows, view=view, source=self.plan, times=times, every_row=every_row)
        return self._attempt(view, lambda files: self._scan_with(view, files, read))

    def rows_at(self, view: ViewPlan, query: HistoryQuery) -> HistoricalRows:
        """Return the row of each moment. See `ports.HistorySource`."""
        return self._read_history(view, query, rows_at)

    def with_rows(self, view: ViewPlan, read: Callable[[Rows], T]) -> T:
        """Return what a function returns for the rows, from SQL that can be run elsewhere."""
        if any("://" in file for file in self.files(view)):
            raise RequestError(
                "to_sql() does not read files at URLs as a load reads them",
                where=f"feature view {view.name}",
                hint="use to_arrow(), or a `type: sql` source",
            )

        def read_files(files: list[str]) -> T:
            with self._opened(view, files) as rows, rows.errors():
                return read(rows)

        try:
            return self._attempt(view, read_files)
        finally:
            self.close_sessions()

    def key_ends(self, view: ViewPlan, query: HistoryQuery) -> Any:
        """Return when keys expired. See `ports.HistorySource`."""
        return self._read_history(view, query, batch_key_ends)

    def _read_history(
        self,
        view: ViewPlan,
        query: HistoryQuery,
        read: Callable[[Rows, ViewPlan, SourceColumns, HistoryQuery], T],
    ) -> T:
        in_range = history_range(view, self.plan, query)

        def read_files(files: list[str]) -> T:
            with self._opened(view, files_in_range(files, self.plan, in_range)) as rows:
                return read(rows, view, self.plan, query)

        try:
            return self._attempt(view, read_files)
        finally:
            self._delete_copies()

    def sample_keys(self, view: ViewPlan, count: int, seed: int) -> list[bytes]:
        """Return the keys of some entities. See `ports.SampledSource`."""

        def read(files: list[str]) -> list[bytes]:
            with self._opened(view, files) as rows:
                return sample_keys(rows, view, self.plan, count, seed)

        try:
            return self._attempt(view, read)
        finally:
            self._delete_copies()

    def identity(self, view: ViewPlan) -> str:
        """Return what identifies the files as they are now. See `ports.SampledSource`."""
        files = self.files(view)
        if any("://" in file for file in files):  # these are known by their names only
            return ""
        return Snapshot.of(files, f"feature view {view.name}").identity(files, self.root)

    def all_rows(self, view: ViewPlan, columns: Callable[[Rows], list[str]]) -> Iterator[Any]:
        """Yield the columns of all rows of text files, as record batches.

        Args:
            view: The view.
            columns: Returns the SQL of the columns.
        """

        def check(files: list[str]) -> None:
            with self._opened(view, files) as rows, rows.errors():
                named = {f"c{i}": column for i, column in enumerate(columns(rows))}
                # DuckDB finds some problems only in columns that it reads.
                read = f"bit_xor(hash({', '.join(named)}))" if self.skip_unreadable else "0"
                ((count, _),) = rows.session.fetch_all(
                    f"SELECT count(*), {read} FROM (SELECT {expressions(named)} FROM {rows.source})"
                )
                rows.check_count(count)

        try:
            self._attempt(view, check)
            with self._opened(view, self.files(view)) as rows, rows.errors():
                sql = f"SELECT {', '.join(columns(rows))} FROM {rows.source}"
                yield from rows.session.connection.sql(sql).to_arrow_reader(self.batch_rows)
        finally:
            self.close_sessions()
            self._delete_copies()

    def check_members(self, view: ViewPlan) -> None:
        """Raise `SourceError` if no row of JSON has a member that the view needs."""

        def check(files: list[str]) -> None:
            with self._opened(view, files) as rows, rows.errors():
                if rows.form == "json":
                    check_members(view, self.plan, rows)

        try:
            self._attempt(view, check)
        finally:
            self.close_sessions()
            self._delete_copies()

    def _attempt(self, view: ViewPlan, read: Callable[[list[str]], T]) -> T:
        """Return what `read` returns for the files; call it again where they can be prepared."""
        files = self.files(view)
        while True:
            try:
                return read(files)
            except SourceError as error:
                self.close_sessions()
                if not self._accept(error, view, files):
                    self._delete_copies()
                    raise

    def _accept(self, error: SourceError, view: ViewPlan, files: list[str]) -> bool:
        """Prepare for the files that made a scan fail; return whether another one can succeed."""
        form = self.format
        if (
            isinstance(form, CsvFormat)
            and error.message == MIXED_LINE_ENDINGS
            and form.accept_mixed_line_endings(self._readable(files))
        ):
            return True
        is_unreadable = isinstance(error, UnreadableLineError) or error.__cause__ is not None
        if not (self.skip_unreadable and is_unreadable and isinstance(form, TextFormat)):
            return False
        if form.has_problems or any("://" in file for file in files):
            return False
        columns = [column for _, column in source_columns(view, self.plan)]
        copies = TextCopies()
        with Snapshot.of(files, f"feature view {view.name}").guard():
            for file in files:
                form.copy_with_problems(file, columns, copies)
        self._copies = copies
        form.has_problems = copies.problems > 0
        return form.has_problems

    def _readable(self, files: Sequence[str]) -> list[str]:
        """Return the files, or their copies in another encoding or with problems."""
        form = self.format
        if self._copies is None and isinstance(form, CsvFormat) and form.is_encoded:
            copies = TextCopies()
            for file in files:
                form.copy_plain(file, copies)
            self._copies = copies
        return [self._copies.path(file) for file in files] if self._copies else list(files)

    def _scan(self, view: ViewPlan, files: list[str], times: TimeRange) -> Scan:
        def read(rows: Rows) -> Scan:
            return newest_rows(rows, view, self.plan, times, self.batch_rows)

        return self._scan_with(view, files, read, times)

    def _scan_with(
        self,
        view: ViewPlan,
        files: list[str],
        read: Callable[[Rows], Scan],
        times: TimeRange = ALL_TIMES,
    ) -> Scan:
        with self._opened(view, files, times) as rows:
            scan = read(rows)
        return replace(scan, batches=self._before_deletion(scan.batches)) if self._copies else scan

    @contextmanager
    def _opened(
        self, view: ViewPlan, files: list[str], times: TimeRange = ALL_TIMES
    ) -> Iterator[Rows]:
        """Open the rows of the files; raise at the end of the block if the files changed.

        Files without rows in a range of times are not opened, but are part of the identity.
        """
        snapshot = Snapshot.of(files, f"feature view {view.name}")
        with snapshot.guard():
            identity = snapshot.identity(files, self.root)
            files = self._readable(files_to_load(files, self.plan, times))
            rows = replace(self._open(view, files, snapshot), identity=identity)
            if any("://" in file for file in files):
                # Changes cannot be noticed there without asking the server for each batch.
                with rows.errors():
                    rows = copy_rows(rows, view, self.plan)
            else:
                rows = replace(rows, check_count=partial(self._check_count, view, files, snapshot))
            yield rows

    def _before_deletion(self, batches: Iterator[Any]) -> Iterator[Any]:
        """Yield the batches of a scan, then delete the copies that it reads."""
        try:
            yield from batches
        finally:
            self._delete_copies()

    def _delete_copies(self) -> None:
        if self._copies is not None:
            self._copies.close()
            self._copies = None

    @override
    def locate(self, view: ViewPlan, row: dict[str, object]) -> str | None:
        if "json" not in row and any(k.name not in row for k in view.key.join_keys):
            return None
        files = files_to_load(self.files(view), self.plan, self._times)
        snapshot = Snapshot.of(files, f"feature view {view.name}")
        files = self._readable(files)
        found = self._find(view, files, snapshot, row)
        if found is not None and len(files) > 1:  # row numbers count over all files
            found = self._find(view, [found[0]], snapshot, row)
        return self.format.describe_row(*found) if found else None

    @override
    def position(self, view: ViewPlan, row: dict[str, object]) -> str | None:
        """Return where a row of `inspect` is; `None` if not known. See `ports.InspectedSource`."""
        files, form = self.files(view), self.format
        if not isinstance(form, TextFormat):
            return self.locate(view, row)
        is_plain = not (isinstance(form, CsvFormat) and form.is_encoded)
        if len(files) == 1 and "://" not in files[0] and is_plain:
            return form.describe_row(files[0], int(str(row[SOURCE_ROW])))
        return None if form.has_problems else self.locate(view, row)

    def _open(
        self,
        view: ViewPlan,
        files: Sequence[str],
        snapshot: Snapshot,
        *,
        with_file_name: bool = False,
    ) -> Rows:
        where = f"feature view {view.name}"
        session = self.add_session(
            Session(self.root, lambda message: self.format.explain(message, files))
        )
        if isinstance(self.format, ParquetFormat):
            session.parquet_files = files
        with session.errors(where):
            used = [column for _, column in source_columns(view, self.plan)]
            source = self.format.source(FileRead(session, files, used, where, with_file_name))
            if isinstance(self.plan, ParquetSourcePlan) and self.plan.hive_partitioning:
                source = typed_partitions(source, files, view, self.plan)
            columns = session.columns(source)
            extra_bytes = 0
            if isinstance(self.format, ParquetFormat):
                extra_bytes = self.format.row_group_bytes(session, files, used)
        form = self.format
        return Rows(
            session,
            source,
            form.form,
            where,
            columns,
            has_problems=isinstance(form, TextFormat) and form.has_problems,
            extra_memory_bytes=extra_bytes,
            check_unchanged=snapshot.check,
        )

    def _check_count(
        self, view: ViewPlan, files: Sequence[str], snapshot: Snapshot, count: int
    ) -> None:
        """Raise `SourceError` if DuckDB has not read every row of text files."""
        form = self.format
        if not isinstance(form, TextFormat):
            return
        if self.skip_unreadable:  # DuckDB checks only columns that it reads, some of them later
            for file in files:
                check_utf8(file)
        for exact in (False, True):
            if count == sum(form.count_rows(file, exact=exact) for file in files):
                return
        for file in files:
            rows = self._open(view, [file], snapshot)
            with rows.errors():
                ((read,),) = rows.session.fetch_all(f"SELECT count(*) FROM {rows.source}")
            rows.session.close()
            expected = form.count_rows(file, exact=True)
            if read != expected:
                raise _missing_rows_error(file, rows.where, read, expected)
        raise SourceError(f"{count} rows were read, which is not the number in the files")

    def _find(
        self, view: ViewPlan, files: Sequence[str], snapshot: Snapshot, row: dict[str, object]
    ) -> tuple[str, int] | None:
        """Return the file and the number, from 1, of the newest row that equals `row`."""
        rows = self._open(view, files, snapshot, with_file_name=True)
        selection = select(view, self.plan, rows)
        order = [f"o{i} DESC NULLS LAST" for i in range(len(selection.order))]
        columns = [
            f"({_row_condition(view, selection, row)}) AS hit",
            *(f"{part} AS o{i}" for i, part in enumerate(selection.order)),
            f"{quote_identifier(FILE_COLUMN)} AS file",
            "row_number() OVER () AS rn",
        ]
        with rows.session.errors(rows.where):
            found = rows.session.fetch_all(
                f"SELECT file, rn FROM (SELECT {', '.join(columns)} FROM {rows.source}) "
                f"WHERE hit ORDER BY {', '.join([*order, 'rn DESC'])} LIMIT 1"
            )
        rows.session.close()
        return (str(found[0][0]), int(found[0][1])) if found else None

    def files(self, view: ViewPlan) -> list[str]:
        """Return the files, in the order of their rows.

        Raises:
            SourceError: There are none.
        """
        where = f"feature view {view.name}"
        files = [file for path in self.plan.paths for file in self._files_of_path(path, where)]
        return list(dict.fromkeys(files))

    def _files_of_path(self, path: str, where: str) -> Iterator[str]:
        if "://" in path:
            yield path
            return
        full = self.root / path
        try:
            full.stat()
            exists = True
        except (FileNotFoundError, NotADirectoryError):
            exists = False
        except OSError as error:
            raise SourceError(f"cannot open {path}: {error.strerror}", where=where) from error
        found = matching_paths(self.root, path)
        matches = [str(full)] if exists else sorted(str(self.root / name) for name in found)
        files = [file for match in matches for file in self._files_in(Path(match))]
        if files:
            yield from files
            return
        if exists:
            message = f"folder {path} contains no *{' or *'.join(self.format.suffixes)} file"
        else:
            message = f"no file matches {path}" if glob.has_magic(path) else f"no file {path}"
        hint = "" if exists else _similar_path(full, path)
        raise SourceError(message, where=where, hint=hint)

    def _files_in(self, path: Path) -> list[str]:
        """Return a file itself, or the files of this format below a folder, without hidden ones."""
        if not path.is_dir():
            return [str(path)]
        return [
            str(file)
            for file in sorted(path.rglob("*"))
            if file.name.endswith(self.format.suffixes)
            and not any(part[0] in "._" for part in file.relative_to(path).parts)
        ]


def _missing_rows_error(file: str, where: str, read: int, expected: int) -> SourceError:
    where = f"{where}: {Path(file).name}"
    if line := long_line(file):
        return UnreadableLineError(
            too_long_problem(), where=f"{where}:{line}", hint="convert the file to Parquet"
        )
    return UnreadableLineError(
        f"the file has {expected} rows, but {read} were read",
        where=where,
        hint="look for an unterminated quote, or convert the file to Parquet",
    )


def _similar_path(path: Path, declared: str) -> str:
    """Return a hint that names a similar file in the folder where `path` was expected."""
    parent = path.parent
    if glob.has_magic(str(Path(declared).parent)) or not parent.is_dir():
        return f"paths are relative to the repository's folder; there is no folder {parent.name}"
    names = [p.name for p in parent.iterdir() if not p.name.startswith(".")]
    return name_hint(path.name, names) if names else f"folder {parent.name} is empty"


def _row_condition(view: ViewPlan, selection: Selection, row: dict[str, object]) -> str:
    if "json" in row:
        return f"json = {quote_text(str(row['json']))}"
    # A view without an entity has no join keys, and a constant as the only key.
    pairs = zip(view.key.join_keys, selection.keys, strict=bool(view.key.join_keys))
    parts = [_equals(key, row[k.name]) for k, key in pairs]
    if selection.time and "event_timestamp" in row:
        parts.append(_equals_time(selection.time, row["event_timestamp"]))
    return " AND ".join(parts) or "true"


def _equals(key: str, value: object) -> str:
    if value is None:
        return f"{key} IS NULL"
    return f"CAST({key} AS VARCHAR) = {quote_text(str(value))}"


def _equals_time(time: str, value: object) -> str:
    if value is None:
        return f"{time} IS NULL"
    if isinstance(value, datetime):
        value = value.replace(tzinfo=value.tzinfo or UTC).isoformat()
    return f"CAST({time} AS TIMESTAMPTZ) = TRY_CAST({quote_text(str(value))} AS TIMESTAMPTZ)"
