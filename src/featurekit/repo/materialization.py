"""Loads of batch views, from their sources or from rows of the caller.

Every load proves that the store keeps expiry, holds the view's lock, sends its rows, and records
itself in the history.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from featurekit.errors import (
    BadRowError,
    FeatureKitError,
    RegistryError,
    RequestError,
    StoreError,
)
from featurekit.lower.scripts import Script
from featurekit.lower.write_group import load_guard
from featurekit.plan import RepoPlan, ViewPlan
from featurekit.ports import (
    BatchSource,
    KeyedCommand,
    OnlineStore,
    RowForm,
    Scan,
    TimeRange,
)
from featurekit.repo.deletion import LoadTimes, prune_view, server_times_ms
from featurekit.repo.history import NEVER_ENDED, History, LoadRecord
from featurekit.repo.load_engines import (
    LoadEngine,
    ScanOnEngine,
    first_error,
    merge_rejects,
)
from featurekit.repo.load_sources import (
    apply_lookback,
    cpu_seconds,
    future_keys,
    import_sources,
    source_of,
)
from featurekit.repo.older_rows import refuse_older
from featurekit.repo.source_access import SourceAccess
from featurekit.repo.store_handle import LazyStoreHandle
from featurekit.runtime.counters import Counters
from featurekit.runtime.load import (
    LoadCallbacks,
    LoadTarget,
    MaterializeReport,
    OnProgress,
    RejectedKeys,
    progress_callback,
    send_batches,
)
from featurekit.runtime.load_limits import check_rejected, check_source
from featurekit.runtime.load_rows import (
    InputRow,
    RejectedRows,
    WrittenRows,
    encode_rows,
    rows_by_id,
    rows_of_dicts,
    rows_of_jsonl,
)
from featurekit.runtime.lock import ViewLock
from featurekit.runtime.partition import LoadTicket, write_partition
from featurekit.runtime.tracing import STORE, span
from featurekit.wire import Reply

OnBadRow = Literal["fail", "skip"]
"""What a load does with a row that does not fit its view."""

_ASK_CPU: KeyedCommand = ("", ("INFO", "cpu"))


@dataclass(slots=True)
class _Load:
    """A running load.

    Attributes:
        lock: The lock of its view.
        has_one_server: Whether the store is not a cluster.
        cpu_before: The CPU time of the servers when it began.
        cpu_after: The CPU time of the server after the rows, if there is one server.
        before: The load before; `None` if there was none, or if it is not known.
        knows_before: Whether the history could be read.
        scanned_ms: When it began to read its source.
        source_identity: What identifies the contents of the declared source; empty for other rows.
    """

    lock: ViewLock
    has_one_server: bool
    cpu_before: float | None
    cpu_after: float | None = 0.0
    before: LoadRecord | None = None
    knows_before: bool = False
    scanned_ms: int = 0
    source_identity: str = ""

    @property
    def on_cpu(self) -> Callable[[Reply], None] | None:
        """What takes the reply to `INFO cpu`; `None` if the servers are asked one by one."""
        return self._set_cpu if self.has_one_server else None

    @property
    def newest_written_ms(self) -> int | None:
        """The newest event time that loads of the view wrote before; `None` if it is not known."""
        return self.before.newest_written_ms if self.before else None

    def _set_cpu(self, reply: Reply) -> None:
        self.cpu_after = cpu_seconds([reply])


PruneMode = Literal["no", "yes", "all"]
"""Whether a load deletes the values of entities that the source no longer has; `all` even if it has none."""


@dataclass(frozen=True, slots=True)
class Materializer:
    """Loads batch views.

    Attributes:
        plan: The applied registry, compiled.
        handle: Access to the online store.
        sources: The sources that may be opened.
        history: Records the loads.
        keep_registry: Adds the applied registry to the history.
        counters: Counts the loads of this process.
        root: The repository's folder.
        skip_bad_rows: Put rows that do not fit into the file of rejects; otherwise they stop the load.
        rejects: The file of rejects; by default one named after the view and the time.
        on_progress: Called after each record batch.
        allow_older: Load rows even if they are older than what is stored.
        missing_only: Write only entities without any value of the view.
        ttl_ms: A TTL to use instead of the declared ones.
        prune: Whether to delete the values of entities that the source no longer has.
        engine: What reads declared sources and writes their rows; `None` for this process.
    """

    plan: RepoPlan
    handle: LazyStoreHandle
    sources: SourceAccess
    history: History
    keep_registry: Callable[[], None]
    counters: Counters
    root: Path
    skip_bad_rows: bool = False
    rejects: Path | None = None
    on_progress: OnProgress | None = None
    allow_older: bool = False
    missing_only: bool = False
    ttl_ms: int | None = None
    prune: PruneMode = "no"
    engine: LoadEngine | None = None

    @property
    def store(self) -> OnlineStore:
        """The online store."""
        return self.handle.store

    def materialize(self, view: ViewPlan, report: MaterializeReport) -> None:
        """Load a view from its source, within the window of the report."""
        if self.prune != "no":
            report.rejected_keys = RejectedKeys(limit=None)
        view = self._with_ttl(view)
        with self._load(view, report) as load:
            start_ms = min(server_times_ms(self.store)) if self.prune != "no" else 0
            located = self.sources.locate(view, source_of(view))
            with located.hidden_values():
                sources = import_sources()
                if self.engine is not None:
                    spark = self.engine.source(
                        located.plan, self.root, skip_unreadable=self.skip_bad_rows
                    )
                    self._load_table(view, spark, load, report, is_declared=True)
                    return
                source: BatchSource = sources.open_source(
                    located.plan, self.root, skip_unreadable=self.skip_bad_rows
                )
                self._load_table(view, source, load, report, is_declared=True)
                if self.prune != "no":
                    times = LoadTimes(start_ms, max(server_times_ms(self.store)))
                    self._prune(view, source, times, load.lock, report)

    def _with_ttl(self, view: ViewPlan) -> ViewPlan:
        return view if self.ttl_ms is None else view.with_ttl(self.ttl_ms)

    def _prune(
        self,
        view: ViewPlan,
        source: BatchSource,
        times: LoadTimes,
        lock: ViewLock,
        report: MaterializeReport,
    ) -> None:
        """Delete the values of entities that the source no longer has."""
        if not report.rows_written and self.prune != "all":
            raise RequestError(
                f"no row was written, so that pruning would delete all values of '{view.name}'; "
                "nothing was deleted",
                hint="if the source is empty on purpose, add --yes (prune_all=True)",
            )
        kept = report.rejected_keys
        if kept.keyless:
            raise BadRowError(
                f"{kept.keyless} rejected rows have no readable key: pruning could delete their entities; "
                "the other rows are written, and nothing was pruned",
                where=view.name,
                hint="correct the source, or load without --prune",
            )
        if report.rows_future:
            kept.add(future_keys(view, source, report.started_ms))
        pages = prune_view(self.store, view, times, kept.__contains__, lock.confirm)
        for count in pages:
            report.entities_pruned += count

    def load_file(self, view: ViewPlan, path: Path, report: MaterializeReport) -> None:
        """Load a view from a corrected file of rejected rows."""
        source: BatchSource = import_sources().CorrectedRowsSource(path, self.root)
        view = self._with_ttl(view)
        with self._load(view, report) as load:
            self._load_table(view, source, load, report)

    def write_batch(self, view: ViewPlan, rows: Any) -> MaterializeReport:
        """Load a view from tables, from `{id: {field: value}}` or from a list of dicts."""
        view = self._with_ttl(view)
        if isinstance(rows, Mapping):
            return self._load_rows(view, rows_by_id(view, rows))
        if isinstance(rows, list | tuple) and rows and isinstance(rows[0], Mapping):
            return self._load_rows(view, rows_of_dicts(view, rows))
        source: BatchSource = import_sources().ArrowSource(rows)
        report = MaterializeReport(view.name)
        with self._load(view, report) as load:
            self._load_table(view, source, load, report)
        return report

    def write_jsonl(self, view: ViewPlan, lines: Iterable[str]) -> MaterializeReport:
        """Load a view from JSON Lines."""
        view = self._with_ttl(view)
        return self._load_rows(view, rows_of_jsonl(view, lines))

    def _load_rows(self, view: ViewPlan, rows: Iterable[InputRow]) -> MaterializeReport:
        """Load rows of Python values; the last row of an entity wins."""
        rejects = RejectedRows() if self.skip_bad_rows else None
        written = WrittenRows()
        report = MaterializeReport(view.name)
        with self._load(view, report) as load:
            target = LoadTarget(view, self.store.capabilities, self._guard(view))
            on_batch = progress_callback(view.name, 0, self.on_progress, load.lock.check)
            prepared = encode_rows(target, rows, rejects, written, self.handle.now_ms)
            try:
                send_batches(
                    self.store,
                    prepared,
                    report,
                    skip=self.skip_bad_rows,
                    callbacks=LoadCallbacks(on_batch, load.lock.confirm, on_cpu=load.on_cpu),
                )
            finally:
                self._write_rejects(view, rejects, report)
            report.newest_event_ms = written.newest_event_ms
            report.rows_read = report.rows_written + report.rows_rejected + report.rows_kept
            report.rows_superseded = max(0, report.rows_written - len(written.keys))
            report.rows_written -= report.rows_superseded
            check_rejected(view, report, report.rows_read)
        return report

    def _load_table(
        self,
        view: ViewPlan,
        source: BatchSource | ScanOnEngine,
        load: _Load,
        report: MaterializeReport,
        *,
        is_declared: bool = False,
    ) -> None:
        """Load the record batches of a source; `is_declared` if it is the source of the view."""
        load.scanned_ms = self.handle.now_ms()
        if is_declared:
            apply_lookback(view, report)
        latest_ms = report.started_ms if view.future_rows == "skip" else None
        scan = source.scan(
            view, TimeRange(report.window_start_ms, report.window_end_ms, latest_ms)
        )
        report.rows_read, report.rows_future = scan.rows_read, scan.rows_future
        report.newest_event_ms = scan.newest_event_ms
        report.corrects_ms = scan.correction.load_ms if scan.correction else None
        # With `ordering: event_time` the server decides row by row instead.
        if self._guard(view) is None and not self.allow_older:
            refuse_older(report, scan.correction, load.newest_written_ms, self.history)
        if is_declared:
            load.source_identity = scan.source_identity
            check_source(view, report)

        if isinstance(source, ScanOnEngine):
            self._write_on_engine(view, source, scan, load, report)
        else:
            self._write_here(view, source, scan, load, report)
        done = report.rows_written + report.rows_rejected + report.rows_future
        done += report.rows_kept
        report.rows_superseded = report.rows_read - done

    def _write_here(
        self,
        view: ViewPlan,
        source: BatchSource,
        scan: Scan,
        load: _Load,
        report: MaterializeReport,
    ) -> None:
        """Write the rows of a scan in this process."""
        from featurekit.runtime.rejects import Rejects

        def check() -> None:
            load.lock.check()
            check_rejected(view, report, scan.rows_read)

        ticket = self._ticket(view, scan.form, report)
        rejects = Rejects(view, self._rejects_path(view), report, ticket.load_ms)
        try:
            on_batch = progress_callback(view.name, scan.rows_read, self.on_progress, check)
            write_partition(
                ticket,
                scan.batches,
                report,
                rejects=rejects,
                callbacks=LoadCallbacks(
                    on_batch, load.lock.confirm, source.interrupt, load.on_cpu
                ),
                locate=lambda row: source.locate(view, row),
            )
        finally:
            rejects.close()

    def _write_on_engine(
        self,
        view: ViewPlan,
        source: ScanOnEngine,
        scan: Scan,
        load: _Load,
        report: MaterializeReport,
    ) -> None:
        """Write the rows of a scan in tasks of an engine, which stop if this process loses the lock."""
        on_batch = progress_callback(view.name, scan.rows_read, self.on_progress, load.lock.check)
        with self._task_ticket(view, scan.form, load, report) as ticket:
            results = source.write(ticket, lambda share: on_batch(int(share * scan.rows_read)))
        for result in results:
            report.add_partition(result.report)
        report.rejects_path = merge_rejects(
            [result.rejects for result in results if result.rejects], self._rejects_path(view)
        )
        if (error := first_error(results)) is not None:
            raise error
        load.lock.check()
        load.cpu_before = None
        check_rejected(view, report, scan.rows_read)

    @contextmanager
    def open_load(self, view: ViewPlan, report: MaterializeReport) -> Iterator[LoadTicket]:
        """Yield the ticket of a load whose rows the caller's tasks write and add to the report."""
        with self._load(view, report) as load:
            with self._task_ticket(view, "native", load, report) as ticket:
                yield ticket
            load.lock.check()
            load.cpu_before = None
            check_rejected(view, report, report.rows_read)

    @contextmanager
    def _task_ticket(
        self, view: ViewPlan, form: RowForm, load: _Load, report: MaterializeReport
    ) -> Iterator[LoadTicket]:
        """Yield a ticket for tasks; on an error, return when none of them can write any more."""
        ticket = self._ticket(view, form, report)
        try:
            yield replace(ticket, store=self.handle.for_tasks(), lock=load.lock.token)
        except BaseException:
            load.lock.fence_off_tasks()
            raise

    def _guard(self, view: ViewPlan) -> Script | None:
        return load_guard(view, allow_older=self.allow_older, missing_only=self.missing_only)

    def _ticket(self, view: ViewPlan, form: RowForm, report: MaterializeReport) -> LoadTicket:
        # After a backfill of missing entities, others may have newer values.
        load_ms = None if self.missing_only else report.started_ms
        return LoadTicket(
            view, self.handle, form, self.skip_bad_rows, self._guard(view), load_ms=load_ms
        )

    @contextmanager
    def _load(self, view: ViewPlan, report: MaterializeReport) -> Iterator[_Load]:
        """Run a load in the block: check the store, hold the lock, count, trace and record."""
        if view.kind != "batch":
            raise RequestError(
                f"feature view '{view.name}' is a stream view",
                hint="a batch write would leave its fields without expiry; push events instead",
            )
        with (
            self._counted(report),
            span("featurekit.load", {"featurekit.view": view.name}) as set_attributes,
        ):
            self.handle.check_store()
            self.store.check_writable(self.plan.prefix)
            with self._recorded(report) as load:
                yield load
            set_attributes(
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
        except FeatureKitError as error:
            report.error = _one_line(error, report.view)
            self.counters.loads(report.view).add_load(report, failed=True)
            raise
        self.counters.loads(report.view).add_load(report, failed=False)

    @contextmanager
    def _recorded(self, report: MaterializeReport) -> Iterator[_Load]:
        """Hold the view's lock while the block runs, and record the load in the history."""
        report.started_ms = self.handle.now_ms()
        start, last = time.monotonic(), self.history.last_load(report.view)
        registry = self.history.has_registry(self.plan.fingerprint)
        beside = [_ASK_CPU, *registry.commands, *last.commands]
        with ViewLock(
            self.store, self.plan.prefix, report.view, self.handle.now_ms, beside
        ) as lock:
            cpu, has_registry, *replies = lock.replies
            has_one_server = self.store.capabilities.transactions
            load = _Load(lock, has_one_server, cpu_seconds(cpu))
            with suppress(StoreError, RegistryError):  # an unreadable history stops no load
                load.before, load.knows_before = last.result(replies), True
                if not registry.result([has_registry]):  # applied by an older version
                    self.keep_registry()
                self.history.begin_load(self._load_record(load, report, NEVER_ENDED))
            try:
                yield load
            except FeatureKitError as error:
                if isinstance(error, BadRowError):
                    report.rejected_keys.add(error.keys)
                report.seconds = time.monotonic() - start
                load.knows_before = False  # another load may have taken the lock
                self._record(load, report, _one_line(error, report.view))
                raise
            report.entities = report.rows_written
            report.seconds = time.monotonic() - start
            before, after = load.cpu_before, self._cpu_after(load)
            if before is not None and after is not None:
                report.server_seconds = max(0.0, after - before)
            self._record(load, report)

    def _cpu_after(self, load: _Load) -> float | None:
        """Return the CPU time of the servers after the rows of a load; `None` if it is not known."""
        if load.has_one_server:
            return load.cpu_after
        with suppress(StoreError):
            return cpu_seconds(self.store.call_many([_ASK_CPU])[0])
        return None

    def _record(self, load: _Load, report: MaterializeReport, error: str = "") -> None:
        """Record the load in the history, and release its lock in the same round trip.

        The next load compares its rows with the record. The load is what it is, even if that fails.
        """
        try:
            if not load.knows_before:
                load.before = self.history.last_loads([report.view]).get(report.view)
            has_rejected = report.rows_rejected or len(report.rejected_keys)
            rejected = report.rejected_keys if has_rejected else None
            query = self.history.new_load(self._load_record(load, report, error), rejected)
            end = [] if load.lock.is_lost else [self.history.end_load(report.view)]
            replies = load.lock.release([*query.commands, *end])
            listed = query.result(replies[: len(query.commands)])
            self.history.seal(report.view, listed)
        except (StoreError, RegistryError) as history_error:
            report.history_error = _one_line(history_error, report.view)

    def _load_record(self, load: _Load, report: MaterializeReport, error: str) -> LoadRecord:
        before = load.before or LoadRecord(report.view)
        ended_ms = good_ms = self.handle.now_ms()
        left_out = report.rows_rejected or report.rows_kept
        if error or (left_out and not report.rows_written):
            good_ms = before.good_ms
        return LoadRecord(
            view=report.view,
            started_ms=report.started_ms,
            ended_ms=ended_ms,
            rows_read=report.rows_read,
            rows_written=report.rows_written,
            rows_rejected=report.rows_rejected,
            rows_superseded=report.rows_superseded,
            rows_future=report.rows_future,
            rows_kept=report.rows_kept,
            entities_pruned=report.entities_pruned,
            size_bytes=report.size_bytes,
            seconds=report.seconds,
            server_seconds=report.server_seconds,
            error=error,
            rejects_path=report.rejects_path,
            good_ms=good_ms,
            window_start_ms=report.window_start_ms,
            window_end_ms=report.window_end_ms,
            newest_event_ms=report.newest_event_ms,
            corrects_ms=report.corrects_ms,
            newest_written_ms=self._newest_after(report, before),
            expires_ms=self._expires_ms(report, before, ended_ms, failed=good_ms != ended_ms),
            scanned_ms=load.scanned_ms,
            source_identity=load.source_identity,
            fingerprint=self.plan.fingerprint,
            ttl_ms=self.ttl_ms,
            missing_only=self.missing_only,
        )

    def _expires_ms(
        self, report: MaterializeReport, before: LoadRecord, ended_ms: int, *, failed: bool
    ) -> int | None:
        """Return when the last of the view's values expires, after a load that ended at `ended_ms`."""
        before_ms = before.expires_ms if before.good_ms else 0
        if failed or not report.rows_written:
            return before_ms
        own_ms = ended_ms + (self.ttl_ms or self.plan.view(report.view).longest_ttl_ms)
        return max(own_ms, before_ms or 0)

    def _newest_after(self, report: MaterializeReport, before: LoadRecord) -> int | None:
        """Return the newest event time that loads of the view wrote, after this load.

        A full load with `allow_older` replaces all values, so that its rows are the newest.
        """
        own_ms = report.newest_event_ms if report.rows_written else None
        is_full = report.window_start_ms is None and report.window_end_ms is None
        if own_ms is not None and self.allow_older and is_full and not self.missing_only:
            return own_ms
        times_ms = (own_ms, before.newest_written_ms)
        return max((ms for ms in times_ms if ms is not None), default=None)

    def _rejects_path(self, view: ViewPlan) -> Path:
        if self.rejects is not None:
            return self.rejects
        name = f"{view.name}-{self.handle.now_ms()}.parquet"
        return self.root / ".featurekit" / "rejects" / name

    def _write_rejects(
        self, view: ViewPlan, rejected: RejectedRows | None, report: MaterializeReport
    ) -> None:
        if rejected is None or not rejected.rows:
            return
        import_sources()
        import pyarrow as pa

        from featurekit.runtime.rejects import Rejects

        rejects = Rejects(view, self._rejects_path(view), report)
        numbers = pa.array([row.number for row in rejected.rows], pa.int64())
        rejects.add_rows([row.original for row in rejected.rows], numbers, rejected.reasons)
        rejects.close()


def _one_line(error: FeatureKitError, view: str) -> str:
    """Return the error as one line, without the view's name, which is shown beside it."""
    where = error.where.removeprefix(view).removeprefix(", ")
    return f"{where}: {error.message}" if where else error.message
