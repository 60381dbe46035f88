"""Loads: the prepared rows of one batch view into the store.

Whoever prepares rows (`tables` from Arrow, `rows` from dicts) yields `LoadBatch` batches; a
load sends them and finds out, row by row, what the server refused. Preparing goes on in a
thread while the server works, a bounded number of batches ahead.
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
from featurekit.ports import Chunk, OnlineStore
from featurekit.wire import Reply

_AHEAD = 2
_SHOWN = 20
_PATIENCE_S = 5.0


@dataclass(slots=True)
class MaterializeReport:
    """What one load of one view did.

    Attributes:
        view: The view.
        rows_read: Rows read from the source, within `start` and `end`.
        rows_written: Rows that the store took: one for each entity.
        rows_superseded: Rows that a newer row of the same entity took the place of.
        rows_rejected: Rows that did not fit the view, or that the store refused.
        entities: Entities written.
        size_bytes: Bytes sent to the store.
        seconds: Wall time.
        server_seconds: CPU time that the store's server used meanwhile; 0 if it does not tell.
        rejects_path: The Parquet file of the refused rows; empty if none was.
        reasons: The first refused rows, in words.
    """

    view: str
    rows_read: int = 0
    rows_written: int = 0
    rows_superseded: int = 0
    rows_rejected: int = 0
    entities: int = 0
    size_bytes: int = 0
    seconds: float = 0.0
    server_seconds: float = 0.0
    rejects_path: str = ""
    reasons: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, object]:
        """The report as plain data."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a load is: rows done, rows to do (0 while that is not known), seconds so far."""

    view: str
    rows_done: int
    rows_total: int
    seconds: float


OnProgress = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class LoadBatch:
    """Rows ready to be sent.

    Attributes:
        chunk: Their bytes.
        faults: From all replies to which rows the server refused, by their index, and why.
        key: From a row's index to its key, for errors.
        rejected: How many further rows of the same batch were refused before.
    """

    chunk: Chunk
    faults: Callable[[list[Reply]], dict[int, str]]
    key: Callable[[int], str]
    rejected: int = 0


def send_batches(
    store: OnlineStore,
    batches: Iterator[LoadBatch],
    report: MaterializeReport,
    *,
    skip: bool,
    watch: Callable[[int], None],
) -> None:
    """Send every batch, counting into `report`.

    Args:
        store: Where to.
        batches: What; made in a thread of its own.
        report: Counted up as replies come.
        skip: Whether rows whose key is of another type are counted and passed over.
        watch: Called with the rows done so far after each batch; may raise to stop.

    Raises:
        StoreError: The server refused a row; names the key and the reason, and what was written.
        StoreUnavailableError: The server went away and did not come back.
    """
    under_way: deque[LoadBatch] = deque()

    def chunks() -> Iterator[Chunk]:
        for prepared in ahead(batches):
            report.rows_rejected += prepared.rejected
            if prepared.chunk.rows:
                under_way.append(prepared)
                yield prepared.chunk

    for chunk, replies in store.load(chunks()):
        prepared = under_way.popleft()
        report.size_bytes += len(chunk.data)
        faults = prepared.faults(replies) if replies is not None else {}
        report.rows_written += chunk.rows - len(faults)
        report.rows_rejected += len(faults)
        if faults:
            _refused(prepared, faults, report, skip=skip)
        watch(report.rows_written + report.rows_rejected)


def _refused(
    prepared: LoadBatch, faults: dict[int, str], report: MaterializeReport, *, skip: bool
) -> None:
    shown = [f"{prepared.key(row)}: {fault}" for row, fault in list(faults.items())[:_SHOWN]]
    report.reasons += shown[: _SHOWN - len(report.reasons)]
    # A key of another type is that row's own fault; everything else will hit the next rows too.
    if skip and all(fault.startswith("WRONGTYPE") for fault in faults.values()):
        return
    raise StoreError(
        f"the store refused {len(faults)} of {prepared.chunk.rows} rows; {shown[0]}",
        where=report.view,
        hint=f"{report.rows_written} rows are written, each whole; mend the cause and run it again",
    )


def progress_callback(
    view: str, total: int, on_progress: OnProgress | None, check: Callable[[], None]
) -> Callable[[int], None]:
    """What `send_batches` calls after each batch: looks after the lock and tells the progress."""
    start = time.monotonic()

    def watch(done: int) -> None:
        check()
        if on_progress is not None:
            on_progress(Progress(view, done, total, time.monotonic() - start))

    return watch


def ahead(batches: Iterator[LoadBatch]) -> Iterator[LoadBatch]:
    """The same batches, made in a thread up to two ahead of whoever takes them."""
    maker = _Maker(batches)
    maker.start()
    try:
        while (item := maker.box.get()) is not None:
            if isinstance(item, _Failure):
                raise item.error
            yield item
    finally:
        maker.stopped.set()
        # A source may be deep in a query; its thread is a daemon and is not waited for without end.
        maker.join(_PATIENCE_S)


@dataclass(frozen=True, slots=True)
class _Failure:
    """An error on its way from the preparing thread."""

    error: BaseException


class _Maker(threading.Thread):
    """Takes batches from an iterator and puts them into a box of a few, then `None`."""

    def __init__(self, batches: Iterator[LoadBatch]) -> None:
        super().__init__(name="featurekit load", daemon=True)
        self._batches = batches
        self.box: queue.Queue[LoadBatch | _Failure | None] = queue.Queue(_AHEAD)
        self.stopped = threading.Event()

    @override
    def run(self) -> None:
        end: _Failure | None = None
        try:
            for batch in self._batches:
                self._put(batch)
                if self.stopped.is_set():
                    break
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits
            end = _Failure(error)
        finally:
            close = getattr(self._batches, "close", None)
            if close is not None:
                close()
        self._put(end)

    def _put(self, item: LoadBatch | _Failure | None) -> None:
        while not self.stopped.is_set():
            try:
                return self.box.put(item, timeout=0.1)
            except queue.Full:
                continue
        return None
