"""Loading: one view's rows, from a source or from the caller, under the view's lock."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featurekit.errors import (
    FeatureKitError,
    MissingExtraError,
    RegistryError,
    RequestError,
    StoreError,
    ValueRefusedError,
)
from featurekit.lower.keys import join_key_values
from featurekit.lower.rows import json_row_decoder
from featurekit.plan import RepoPlan, ViewPlan
from featurekit.ports import BatchSource, OnlineStore, Scan
from featurekit.repo.history import History, Run
from featurekit.repo.store_handle import now_ms
from featurekit.runtime.counters import Counters
from featurekit.runtime.load import MaterializeReport, OnProgress, progress_callback, send_batches
from featurekit.runtime.load_rows import InputRow, RejectedRows, encode_rows
from featurekit.runtime.lock import ViewLock
from featurekit.runtime.tracing import STORE, span

ON_BAD_ROW = ("fail", "skip")


@dataclass(frozen=True, slots=True)
class Load:
    """What all loads of one repository share, and what the caller chose.

    Attributes:
        plan: The applied repository.
        store: Where rows go.
        history: Where loads are remembered.
        tally: Where they are counted.
        root: The repository's folder.
        skip: Whether rows that do not fit are put aside instead of ending the load.
        rejects: The file that those go to; `None` for one named after the view and the time.
        on_progress: Told after each batch.
    """

    plan: RepoPlan
    store: OnlineStore
    history: History
    tally: Counters
    root: Path
    skip: bool = False
    rejects: Path | None = None
    on_progress: OnProgress | None = None

    def materialize(
        self, view: ViewPlan, start_ms: int | None, end_ms: int | None
    ) -> MaterializeReport:
        """Load a view from its source."""
        if view.source is None:
            raise RequestError(
                f"feature view '{view.name}' has no batch source to materialize from",
                hint="give it a `source:`, or write it with write_batch()"
                if view.kind == "batch"
                else "a stream view is fed by its stream",
            )
        open_source = _sources().open_source
        source: BatchSource = open_source(view.source, self.root)
        with self._run(view) as (lock, report):
            self._tables(view, source, source.scan(view, start_ms, end_ms), lock, report)
        return report

    def write_batch(self, view: ViewPlan, rows: Any) -> MaterializeReport:
        """Load a view from Arrow, pandas or polars data, or from `{id: {field: value}}`."""
        if isinstance(rows, Mapping):
            return self.write_rows(view, _given(view, rows))
        source: BatchSource = _sources().ArrowSource(rows)
        with self._run(view) as (lock, report):
            self._tables(view, source, source.scan(view, None, None), lock, report)
        return report

    def write_lines(self, view: ViewPlan, lines: Iterable[str]) -> MaterializeReport:
        """Load a view from lines of JSON, an object each."""
        return self.write_rows(view, _read(view, lines))

    def write_rows(self, view: ViewPlan, rows: Iterable[InputRow]) -> MaterializeReport:
        """Load a view from rows in Python; of several rows of one entity the last one stays."""
        refused = RejectedRows() if self.skip else None
        seen: set[bytes] = set()
        with self._run(view) as (lock, report):
            watch = progress_callback(view.name, 0, self.on_progress, lock.check)
            prepared = encode_rows(view, rows, refused, seen, self.store.capabilities)
            send_batches(self.store, prepared, report, skip=self.skip, watch=watch)
            report.rows_read = report.rows_written + report.rows_rejected
            report.rows_superseded = max(0, report.rows_written - len(seen))
            report.rows_written -= report.rows_superseded
            if refused is not None and refused.rows:
                report.reasons += refused.reasons[:20]
                report.rejects_path = str(self._keep(view, refused))
        return report

    def _tables(
        self,
        view: ViewPlan,
        source: BatchSource,
        scan: Scan,
        lock: ViewLock,
        report: MaterializeReport,
    ) -> None:
        from featurekit.runtime.load_tables import RejectedRowsFile, encode_tables

        report.rows_read = scan.rows_read
        refused = RejectedRowsFile(self._rejects_path(view))
        try:
            prepared = encode_tables(
                view,
                scan,
                refused if self.skip else None,
                lambda row: source.locate(view, row),
                self.store.capabilities,
            )
            watch = progress_callback(view.name, scan.rows_read, self.on_progress, lock.check)
            send_batches(self.store, prepared, report, skip=self.skip, watch=watch)
        finally:
            refused.close()
            report.rejects_path = str(refused.path) if refused.written else ""
        report.rows_superseded = report.rows_read - report.rows_written - report.rows_rejected

    @contextmanager
    def _run(self, view: ViewPlan) -> Iterator[tuple[ViewLock, MaterializeReport]]:
        """One load: capabilities proved, the lock held, time taken, history kept."""
        if view.kind != "batch":
            raise RequestError(
                f"feature view '{view.name}' is a stream view",
                hint="a batch write into it would leave its fields without their expiry",
            )
        report, started_ms = MaterializeReport(view.name), now_ms()
        with (
            self._counted(report),
            span("featurekit.load", {"featurekit.view": view.name}) as tell,
        ):
            self.store.check_writable(self.plan.prefix)
            yield from self._locked(view, report, started_ms)
            tell(
                {
                    STORE: "ok",
                    "featurekit.rows_written": report.rows_written,
                    "featurekit.rows_rejected": report.rows_rejected,
                }
            )

    @contextmanager
    def _counted(self, report: MaterializeReport) -> Iterator[None]:
        try:
            yield
        except FeatureKitError:
            self.tally.loads(report.view).add_load(report, failed=True)
            raise
        self.tally.loads(report.view).add_load(report, failed=False)

    def _locked(
        self, view: ViewPlan, report: MaterializeReport, started_ms: int
    ) -> Iterator[tuple[ViewLock, MaterializeReport]]:
        before = self.history.last([view.name]).get(view.name)
        start, cpu = time.monotonic(), _server_seconds(self.store)
        with ViewLock(self.store, self.plan.prefix, view.name, started_ms) as lock:
            try:
                yield lock, report
            except FeatureKitError as error:
                report.seconds = time.monotonic() - start
                good_ms = before.good_ms if before else 0
                with suppress(StoreError, RegistryError):  # what ended the load matters more
                    self._record(report, started_ms, _told(error, view.name), good_ms)
                raise
        report.entities = report.rows_written
        report.seconds = time.monotonic() - start
        report.server_seconds = max(0.0, _server_seconds(self.store) - cpu)
        self._record(report, started_ms)

    def _record(
        self, report: MaterializeReport, started_ms: int, error: str = "", good_ms: int = 0
    ) -> None:
        ended_ms = now_ms()
        run = Run(
            view=report.view,
            started_ms=started_ms,
            ended_ms=ended_ms,
            rows_read=report.rows_read,
            rows_written=report.rows_written,
            rows_rejected=report.rows_rejected,
            rows_superseded=report.rows_superseded,
            size_bytes=report.size_bytes,
            seconds=report.seconds,
            server_seconds=report.server_seconds,
            error=error,
            rejects_path=report.rejects_path,
            good_ms=good_ms if error else ended_ms,
        )
        self.history.record(run)

    def _rejects_path(self, view: ViewPlan) -> Path:
        if self.rejects is not None:
            return self.rejects
        return self.root / ".featurekit" / "rejects" / f"{view.name}-{now_ms()}.parquet"

    def _keep(self, view: ViewPlan, refused: RejectedRows) -> Path:
        """Write refused rows to the file of rejects."""
        _sources()
        import pyarrow as pa

        from featurekit.runtime.load_tables import RejectedRowsFile

        file = RejectedRowsFile(self._rejects_path(view))
        rows = pa.record_batch({"row": pa.array(map(str, refused.rows), pa.string())})
        file.add(rows, refused.reasons)
        file.close()
        return file.path


def _told(error: FeatureKitError, view: str) -> str:
    """The error in one line, without the view, beside which it is shown."""
    where = error.where.removeprefix(view).removeprefix(", ")
    return f"{where}: {error.message}" if where else error.message


def _sources() -> Any:
    """The module of batch sources, which needs the extra `batch`."""
    try:
        import duckdb  # noqa: F401 - to say what is missing before any work starts
        import pyarrow  # noqa: F401 - the same

        from featurekit import sources
    except ImportError as error:
        if isinstance(error, MissingExtraError):
            raise
        raise MissingExtraError.of("batch", "loading tables") from error
    return sources


def _given(view: ViewPlan, rows: Mapping[object, object]) -> Iterator[InputRow]:
    """Rows by their entity: `{id: {field: value}}`, with a tuple of several join keys."""
    names = [k.name for k in view.key.join_keys]
    for entity, fields in rows.items():
        if not isinstance(fields, Mapping):
            raise RequestError(
                f"a dict of fields is expected, not {fields!r}", where=f"{view.name}, {entity!r}"
            )
        if odd := [name for name in names if name in fields]:
            raise RequestError(
                f"the join key {odd[0]} is the row's key and none of its fields",
                where=f"{view.name}, {entity!r}",
            )
        keys = dict(zip(names, join_key_values(view.key, entity), strict=True))
        yield InputRow(repr(entity), keys | dict(fields), keys | dict(fields))


def _read(view: ViewPlan, lines: Iterable[str]) -> Iterator[InputRow]:
    read = json_row_decoder(view, strict=True)
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            yield InputRow(f"line {number}", read(line), line.rstrip("\n"))
        except ValueRefusedError as error:
            yield InputRow(f"line {number}", error, line.rstrip("\n"))


def _server_seconds(store: OnlineStore) -> float:
    """CPU seconds that the servers have used so far; 0 if they do not tell."""
    try:
        servers = store.info("cpu")
    except StoreError:
        return 0.0
    names = ("used_cpu_user", "used_cpu_sys")
    return sum(float(told.get(name, 0)) for told in servers for name in names)
