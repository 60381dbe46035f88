"""Send the encoded rows of one batch view to the store.

`load_tables` (Arrow tables) and `load_rows` (dicts) encode rows into `LoadBatch`es. `send_batches`
encodes in a thread of its own, at most two batches ahead, while the server works, and finds out
which rows the server refused.
"""

from __future__ import annotations

import hashlib
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, fields

from typing_extensions import override

from featurekit.errors import StoreError
from featurekit.lower.scripts import BAD_EVENT_TIME, Script
from featurekit.lower.write_group import Dialect, command_errors
from featurekit.plan import ViewPlan
from featurekit.ports import BeforeSend, Chunk, OnlineStore, RowSpans
from featurekit.wire import ErrorReply, Reply, text_command

_BATCHES_AHEAD = 2
_STOP_TIMEOUT_S = 5.0
_INTERRUPT_INTERVAL_S = 0.05
_MIN_ROWS_FOR_CPU = 1000
"""Rows from which the CPU time of the server is asked for. Fewer take less time than to ask."""

_CPU = Chunk(text_command("INFO", "cpu"), replies=1, reply_lines=None, rows=0)
_ENTITY_CODES = ("WRONGTYPE", BAD_EVENT_TIME)


MAX_REJECTED_KEYS = 10_000
"""Keys of rejected rows that a load records."""

MAX_REASONS, MAX_REASON_COUNTS = 20, 10
"""How many reasons of rejected rows a report has, and of how many it has the counts."""

_HASH_BYTES = 8


class RejectedKeys:
    """Hashes of the keys of rejected rows, from which no key can be read back.

    Args:
        hashes: The hashes, one after another, as `to_bytes` returned them.
        limit: How many are kept; `None` for all.

    Attributes:
        keyless: Rejected rows of which no key is known.
    """

    MAX_BYTES = MAX_REJECTED_KEYS * _HASH_BYTES
    """The size of as many hashes as are recorded."""

    __slots__ = ("_hashes", "_limit", "keyless")

    def __init__(self, hashes: bytes = b"", limit: int | None = MAX_REJECTED_KEYS) -> None:
        parts = range(0, len(hashes), _HASH_BYTES)
        self._hashes = {hashes[start : start + _HASH_BYTES] for start in parts}
        self._limit = limit
        self.keyless = 0

    def add(self, keys: Iterable[bytes]) -> None:
        """Add keys, up to the limit."""
        for key in keys:
            if self._limit is not None and len(self._hashes) >= self._limit:
                return
            self._hashes.add(_hash(key))

    def update(self, other: RejectedKeys) -> None:
        """Add the keys of another partition, up to the limit."""
        self.keyless += other.keyless
        room = None if self._limit is None else max(0, self._limit - len(self._hashes))
        self._hashes.update(sorted(other._hashes)[:room])

    def add_rows(self, rows: int, keys: Sequence[bytes]) -> None:
        """Add the keys of some rows, as far as they have one."""
        self.keyless += rows - len(keys)
        self.add(keys)

    @property
    def is_full(self) -> bool:
        """Whether there may have been more keys than the limit."""
        return self._limit is not None and len(self._hashes) >= self._limit

    def __contains__(self, key: bytes) -> bool:
        return _hash(key) in self._hashes

    def __len__(self) -> int:
        return len(self._hashes)

    def to_bytes(self) -> bytes:
        """Return the hashes, sorted, one after another."""
        return b"".join(sorted(self._hashes))


def _hash(key: bytes) -> bytes:
    return hashlib.blake2b(key, digest_size=_HASH_BYTES).digest()


@dataclass(slots=True)
class MaterializeReport:
    """The result of one load of one view.

    Attributes:
        view: The view.
        started_ms: When the load started, in milliseconds since the epoch.
        rows_read: Rows read from the source, within `start` and `end`.
        rows_written: Rows that the store accepted: one for each entity.
        rows_superseded: Rows that a newer row of the same entity replaced.
        rows_rejected: Rows that did not fit the view, or that the store refused.
        rows_future: Rows left out because their time is after the start of the load.
        rows_kept: Rows left out because their entities have newer rows (`ordering: event_time`), or
            any values (`missing_only`).
        entities: Entities written.
        entities_pruned: Entities that lost the view's values because the source no longer has them;
            only with `prune`.
        size_bytes: Bytes sent to the store.
        seconds: Wall time.
        server_seconds: CPU time that the server used during the load; 0 if it is not known, as for
            fewer than 1,000 rows.
        rejects_path: The Parquet file of rejected rows; empty without any.
        reasons: Why the first rejected rows were rejected.
        reason_counts: The most frequent reasons, each as its first row had it, with the number of
            rows whose reasons differ from it in nothing but values.
        window_start_ms: The earliest time of the rows to load: `start`, or by the view's `lookback`;
            `None` for any.
        window_end_ms: The `end` of the load; `None` for none.
        newest_event_ms: The newest event time of the rows read; `None` if they have none.
        corrects_ms: The start of the load whose rejected rows this one loads; `None` for any other.
        error: Why the load failed; empty if it succeeded.
        history_error: Why the load is not in the history; empty if it is.
        rejected_keys: Hashes of the keys of up to 10,000 rejected rows; not in `to_dict`.
    """

    view: str
    started_ms: int = 0
    rows_read: int = 0
    rows_written: int = 0
    rows_superseded: int = 0
    rows_rejected: int = 0
    rows_future: int = 0
    rows_kept: int = 0
    entities: int = 0
    entities_pruned: int = 0
    size_bytes: int = 0
    seconds: float = 0.0
    server_seconds: float = 0.0
    rejects_path: str = ""
    reasons: list[str] = field(default_factory=list)
    reason_counts: dict[str, int] = field(default_factory=dict)
    window_start_ms: int | None = None
    window_end_ms: int | None = None
    newest_event_ms: int | None = None
    corrects_ms: int | None = None
    error: str = ""
    history_error: str = ""
    rejected_keys: RejectedKeys = field(default_factory=RejectedKeys, repr=False, compare=False)

    def add_partition(self, other: MaterializeReport) -> None:
        """Add the rows of a partition."""
        for name in ("rows_written", "rows_rejected", "rows_kept", "size_bytes"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.reasons = [*self.reasons, *other.reasons][:MAX_REASONS]
        counts = dict(self.reason_counts)
        for reason, count in other.reason_counts.items():
            counts[reason] = counts.get(reason, 0) + count
        most = sorted(counts, key=counts.__getitem__, reverse=True)[:MAX_REASON_COUNTS]
        self.reason_counts = {reason: counts[reason] for reason in most}
        self.rejected_keys.update(other.rejected_keys)

    def to_dict(self) -> dict[str, object]:
        """Return the report as plain data."""
        names = [each.name for each in fields(self) if each.name != "rejected_keys"]
        return {name: deepcopy(getattr(self, name)) for name in names}


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of a load.

    Attributes:
        view: The view.
        rows_done: Rows written or rejected so far.
        rows_total: Rows to load; 0 if not known.
        seconds: Seconds since the start.
    """

    view: str
    rows_done: int
    rows_total: int
    seconds: float


OnProgress = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class LoadTarget:
    """Where the rows of a load go, and which of them.

    Attributes:
        view: The compiled view.
        dialect: The commands that the server has.
        guard: The script by which the server decides whether to write a row; `None` to write all.
    """

    view: ViewPlan
    dialect: Dialect
    guard: Script | None = None


@dataclass(frozen=True, slots=True)
class LoadBatch:
    """Encoded rows, ready to be sent.

    Attributes:
        chunk: Their bytes.
        row_errors: Maps all replies to the errors of refused rows, by row index.
        key: Returns a row's key, for error messages.
        rejected: Further rows of the batch that did not fit and are not in the chunk.
        rejected_keys: The keys of these rows, as far as they have one.
        kept: Returns, from all replies, how many rows the server left out; `None` if it writes all.
        reject: Adds rows of the chunk to the rejected rows, by index, with the server's errors.
    """

    chunk: Chunk
    row_errors: Callable[[list[Reply]], dict[int, str]]
    key: Callable[[int], str]
    rejected: int = 0
    kept: Callable[[list[Reply]], int] | None = None
    reject: Callable[[dict[int, str]], None] = lambda _: None
    rejected_keys: Sequence[bytes] = ()


def guarded_batch(
    target: LoadTarget, data: bytes | memoryview, spans: Callable[[], RowSpans], rows: int
) -> LoadBatch:
    """Return rows that are calls of the target's guard, which is loaded before them.

    Args:
        target: Where the rows go.
        data: Their bytes.
        spans: Returns each row's key and the end of its bytes.
        rows: The number of rows.
    """
    # A cluster store loads missing scripts itself.
    script = target.guard.load if target.guard and target.dialect.transactions else b""
    first = 1 if script else 0

    def row_errors(replies: list[Reply]) -> dict[int, str]:
        errors = command_errors(replies[first:])
        if first and isinstance(replies[0], ErrorReply):
            # The script could not be loaded, which matters only to rows that did not find it.
            for row, error in errors.items():
                errors[row] = str(replies[0]) if error.startswith("NOSCRIPT") else error
        return errors

    return LoadBatch(
        # The digest of the script is a reply of two lines.
        Chunk(
            data=b"".join((script, data)),
            replies=first + rows,
            reply_lines=2 * first + rows,
            rows=rows,
            row_spans=spans,
            keep_replies=True,
        ),
        row_errors,
        lambda row: spans()[0][row].decode(errors="replace"),
        kept=lambda replies: replies[first:].count(0),
    )


@dataclass(frozen=True, slots=True)
class LoadCallbacks:
    """What a load calls while it runs.

    Attributes:
        on_batch: Called after each batch with the number of rows done. May raise to stop.
        before_send: Called before data is sent. May raise to stop before that.
        interrupt: Makes the batches raise soon, if they wait for a query. Without it, an iterator
            of the caller that does not return is left behind after `_STOP_TIMEOUT_S`.
        on_cpu: Called with the reply to `INFO cpu`, which is sent behind the last rows, unless they are
            few. For a store on one server only; `None` to send nothing.
    """

    on_batch: Callable[[int], None] = lambda _: None
    before_send: BeforeSend | None = None
    interrupt: Callable[[], None] | None = None
    on_cpu: Callable[[Reply], None] | None = None


def send_batches(
    store: OnlineStore,
    batches: Iterator[LoadBatch],
    report: MaterializeReport,
    *,
    skip: bool,
    callbacks: LoadCallbacks = LoadCallbacks(),
) -> None:
    """Send all batches and count the results into `report`.

    On any error, the thread that iterates over `batches` has stopped before this raises, so that
    no source is read after its view's lock is released.

    Args:
        store: The store to write to.
        batches: The encoded rows; iterated in another thread.
        report: Updated as replies arrive.
        skip: Count and skip rows whose key holds a value of another type, or whose stored event
            time is damaged.
        callbacks: What to call meanwhile.

    Raises:
        StoreError: The server refused a row.
        StoreUnavailableError: The server stopped answering and did not return in time.
    """
    unanswered: deque[LoadBatch] = deque()
    encoder = _EncoderThread(batches)
    results: Iterator[tuple[Chunk, list[Reply] | None]] = iter(())
    encoder.start()
    try:
        chunks = _chunks(encoder.encoded(), unanswered, report, callbacks)
        results = store.load(chunks, callbacks.before_send)
        for chunk, replies in results:
            if chunk is _CPU:
                if callbacks.on_cpu is not None and replies:
                    callbacks.on_cpu(replies[0])
                continue
            _count_replies(unanswered.popleft(), replies, report, skip=skip)
            callbacks.on_batch(report.rows_written + report.rows_rejected + report.rows_kept)
    finally:
        encoder.stop(callbacks.interrupt)
        _close(results)


def _chunks(
    batches: Iterator[LoadBatch],
    unanswered: deque[LoadBatch],
    report: MaterializeReport,
    callbacks: LoadCallbacks,
) -> Iterator[Chunk]:
    """Yield the chunks of batches with rows, whose batches are then unanswered; count the others."""
    rows = 0
    for batch in batches:
        report.rows_rejected += batch.rejected
        report.rejected_keys.add_rows(batch.rejected, batch.rejected_keys)
        if batch.chunk.rows:
            rows += batch.chunk.rows
            unanswered.append(batch)
            yield batch.chunk
        else:
            callbacks.on_batch(report.rows_written + report.rows_rejected)
    if callbacks.on_cpu is not None and rows >= _MIN_ROWS_FOR_CPU:
        yield _CPU


def _count_replies(
    batch: LoadBatch, replies: list[Reply] | None, report: MaterializeReport, *, skip: bool
) -> None:
    chunk = batch.chunk
    report.size_bytes += len(chunk.data)
    errors = batch.row_errors(replies) if replies is not None else {}
    kept = batch.kept(replies) if batch.kept is not None and replies is not None else 0
    report.rows_kept += kept
    report.rows_written += chunk.rows - len(errors) - kept
    report.rows_rejected += len(errors)
    if errors:
        report.rejected_keys.add(batch.key(row).encode() for row in errors)
        _report_errors(batch, errors, report, skip=skip)


def _report_errors(
    batch: LoadBatch, errors: dict[int, str], report: MaterializeReport, *, skip: bool
) -> None:
    # These concern a row's entity alone; any other error hits the next rows too.
    if skip and all(error.startswith(_ENTITY_CODES) for error in errors.values()):
        batch.reject({row: f"{batch.key(row)}: {error}" for row, error in errors.items()})
        return
    row, error = next(iter(errors.items()))
    raise StoreError(
        f"the store refused {len(errors)} of {batch.chunk.rows} rows; {batch.key(row)}: {error}",
        where=report.view,
        hint=f"{report.rows_written} rows are written completely; fix the cause and load again",
    )


def progress_callback(
    view: str, rows_total: int, on_progress: OnProgress | None, check_lock: Callable[[], None]
) -> Callable[[int], None]:
    """Return the `on_batch` of a load: it checks the lock and reports the progress."""
    start = time.monotonic()

    def on_batch(rows_done: int) -> None:
        check_lock()
        if on_progress is not None:
            on_progress(Progress(view, rows_done, rows_total, time.monotonic() - start))

    return on_batch


@dataclass(frozen=True, slots=True)
class _Failure:
    """An error of the encoder thread, to be raised in the sending thread."""

    error: BaseException


class _EncoderThread(threading.Thread):
    """Puts the items of an iterator, then `None`, into a bounded queue."""

    def __init__(self, batches: Iterator[LoadBatch]) -> None:
        super().__init__(name="featurekit load", daemon=True)
        self._batches = batches
        self.results: queue.Queue[LoadBatch | _Failure | None] = queue.Queue(_BATCHES_AHEAD)
        self.stopped = threading.Event()

    @override
    def run(self) -> None:
        end: _Failure | None = None
        try:
            for batch in self._batches:
                self._put(batch)
                if self.stopped.is_set():
                    break
        except BaseException as error:  # noqa: BLE001 - raised again in the sending thread
            end = _Failure(error)
        finally:
            _close(self._batches)
        self._put(end)

    def encoded(self) -> Iterator[LoadBatch]:
        """Yield the batches in the thread that sends them, or raise what this one raised."""
        while (item := self.results.get()) is not None:
            if isinstance(item, _Failure):
                raise item.error
            yield item

    def stop(self, interrupt: Callable[[], None] | None) -> None:
        """Stop the thread and wait for its end."""
        self.stopped.set()
        end = time.monotonic() + _STOP_TIMEOUT_S
        while self.is_alive() and (interrupt is not None or time.monotonic() < end):
            if interrupt is not None:
                interrupt()
            self.join(_INTERRUPT_INTERVAL_S)

    def _put(self, item: LoadBatch | _Failure | None) -> None:
        while not self.stopped.is_set():
            try:
                return self.results.put(item, timeout=0.1)
            except queue.Full:
                continue
        return None


def _close(iterator: Iterator[object]) -> None:
    """Run the `finally` blocks of a generator now, in this thread."""
    close = getattr(iterator, "close", None)
    if close is not None:
        close()
