"""Send the encoded rows of one batch view to the store.

`load_tables` (Arrow tables) and `load_rows` (dicts) encode rows into `LoadBatch`es. `send_batches`
encodes in a thread of its own, at most two batches ahead, while the server works, and finds out
which rows the server refused.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field

from typing_extensions import override

from featurekit.errors import StoreError
from featurekit.ports import BeforeSend, Chunk, OnlineStore
from featurekit.wire import Reply

_BATCHES_AHEAD = 2
_MAX_REASONS = 20
_JOIN_TIMEOUT_S = 5.0


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
        entities: Entities written.
        size_bytes: Bytes sent to the store.
        seconds: Wall time.
        server_seconds: CPU time that the server used during the load; 0 if it is not known.
        rejects_path: The Parquet file of rejected rows; empty without any.
        reasons: Why the first rejected rows were rejected.
        window_start_ms: The `start` of the load; `None` for none.
        window_end_ms: The `end` of the load; `None` for none.
        newest_event_ms: The newest event time of the rows read; `None` if they have none.
        error: Why the load failed; empty if it succeeded.
        history_error: Why the load is not in the history; empty if it is.
    """

    view: str
    started_ms: int = 0
    rows_read: int = 0
    rows_written: int = 0
    rows_superseded: int = 0
    rows_rejected: int = 0
    rows_future: int = 0
    entities: int = 0
    size_bytes: int = 0
    seconds: float = 0.0
    server_seconds: float = 0.0
    rejects_path: str = ""
    reasons: list[str] = field(default_factory=list)
    window_start_ms: int | None = None
    window_end_ms: int | None = None
    newest_event_ms: int | None = None
    error: str = ""
    history_error: str = ""

    def to_dict(self) -> dict[str, object]:
        """Return the report as plain data."""
        return asdict(self)


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
class LoadBatch:
    """Encoded rows, ready to be sent.

    Attributes:
        chunk: Their bytes.
        row_errors: Maps all replies to the errors of refused rows, by row index.
        key: Returns a row's key, for error messages.
        rejected: Further rows of the batch that did not fit and are not in the chunk.
    """

    chunk: Chunk
    row_errors: Callable[[list[Reply]], dict[int, str]]
    key: Callable[[int], str]
    rejected: int = 0


def send_batches(
    store: OnlineStore,
    batches: Iterator[LoadBatch],
    report: MaterializeReport,
    *,
    skip: bool,
    on_batch: Callable[[int], None],
    before_send: BeforeSend | None = None,
) -> None:
    """Send all batches and count the results into `report`.

    Args:
        store: The store to write to.
        batches: The encoded rows; iterated in another thread.
        report: Updated as replies arrive.
        skip: Count and skip rows whose key holds a value of another type.
        on_batch: Called after each batch with the number of rows done. May raise to stop.
        before_send: Called before data is sent. May raise to stop before that.

    Raises:
        StoreError: The server refused a row.
        StoreUnavailableError: The server stopped answering and did not return in time.
    """
    unanswered: deque[LoadBatch] = deque()

    def chunks() -> Iterator[Chunk]:
        for batch in _encoded_ahead(batches):
            report.rows_rejected += batch.rejected
            if batch.chunk.rows:
                unanswered.append(batch)
                yield batch.chunk
            else:
                on_batch(report.rows_written + report.rows_rejected)

    for chunk, replies in store.load(chunks(), before_send):
        batch = unanswered.popleft()
        report.size_bytes += len(chunk.data)
        errors = batch.row_errors(replies) if replies is not None else {}
        report.rows_written += chunk.rows - len(errors)
        report.rows_rejected += len(errors)
        if errors:
            _report_errors(batch, errors, report, skip=skip)
        on_batch(report.rows_written + report.rows_rejected)


def _report_errors(
    batch: LoadBatch, errors: dict[int, str], report: MaterializeReport, *, skip: bool
) -> None:
    reasons = [f"{batch.key(row)}: {error}" for row, error in list(errors.items())[:_MAX_REASONS]]
    report.reasons += reasons[: _MAX_REASONS - len(report.reasons)]
    # Only a key of another type concerns this row alone; any other error hits the next rows too.
    if skip and all(error.startswith("WRONGTYPE") for error in errors.values()):
        return
    raise StoreError(
        f"the store refused {len(errors)} of {batch.chunk.rows} rows; {reasons[0]}",
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


def _encoded_ahead(batches: Iterator[LoadBatch]) -> Iterator[LoadBatch]:
    """Yield the same batches, encoded in a thread."""
    encoder = _EncoderThread(batches)
    encoder.start()
    try:
        while (item := encoder.results.get()) is not None:
            if isinstance(item, _Failure):
                raise item.error
            yield item
    finally:
        encoder.stopped.set()
        # The thread may be in the middle of a long query. It is a daemon, so do not wait for it.
        encoder.join(_JOIN_TIMEOUT_S)


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
            close = getattr(self._batches, "close", None)
            if close is not None:
                close()
        self._put(end)

    def _put(self, item: LoadBatch | _Failure | None) -> None:
        while not self.stopped.is_set():
            try:
                return self.results.put(item, timeout=0.1)
            except queue.Full:
                continue
        return None
