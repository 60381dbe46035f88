"""Write one partition of a load: in this process, or in a task of an engine such as Spark.

The driver of a load opens the source, holds the view's lock, adds up the reports and records the
load. What it sends to tasks is a `LoadTicket`; each task calls `write_partition`, which knows no engine.

A task that lost its driver (a cancelled job, a stolen lock, a network partition) must stop. On one server
as on a cluster, where the lock is in another slot than the rows, a chunk is not conditional on the
lock. So a task asks the server before the first chunk, then before the first piece of data that is
sent `FENCE_S` after the last answer, by the monotonic or the wall clock, whichever advanced more.
What may slip through is what is sent within `FENCE_S` of the theft, and one call of `send`. Rows are
whole in any case.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from featurekit.errors import LockedError
from featurekit.lower.scripts import Script
from featurekit.plan import ViewPlan
from featurekit.ports import BeforeSend, RowForm, Scan, StoreHandle
from featurekit.runtime.load import (
    LoadCallbacks,
    LoadTarget,
    MaterializeReport,
    send_batches,
)

if TYPE_CHECKING:
    from featurekit.runtime.load_tables import LocateRow
    from featurekit.runtime.rejects import Rejects

FENCE_S = 1.0
"""How long a task relies on the last answer that its driver holds the lock."""


@dataclass(frozen=True, slots=True)
class LockToken:
    """The key of a view's lock, and the value by which its owner is known."""

    key: str
    value: str


@dataclass(frozen=True, slots=True)
class LoadTicket:
    """What a task needs to write rows of a load. Pickles without connections.

    Attributes:
        view: The compiled view.
        store: Opens the online store.
        form: The form of the rows, see `ports.Scan`.
        skip_bad_rows: Reject rows that do not fit; otherwise the first one is an error.
        guard: The script by which the server decides whether to write a row; `None` to write all.
        lock: The lock that the driver holds; `None` if the caller checks it.
        load_ms: The start of the load, for the rejected rows; `None` leaves that out.
    """

    view: ViewPlan
    store: StoreHandle
    form: RowForm = "native"
    skip_bad_rows: bool = False
    guard: Script | None = None
    lock: LockToken | None = None
    load_ms: int | None = None


def lost_lock_error(view: str) -> LockedError:
    """Return the error of a load whose lock was lost."""
    return LockedError(
        f"lost the lock of feature view '{view}' during the load",
        hint="run the same command again; rows are written completely or not at all",
    )


def write_partition(
    ticket: LoadTicket,
    batches: Iterable[Any],
    report: MaterializeReport | None = None,
    *,
    rejects: Rejects | None = None,
    callbacks: LoadCallbacks | None = None,
    locate: LocateRow = lambda _: None,
) -> MaterializeReport:
    """Check, encode and send the rows of a partition, in memory that does not grow with their number.

    Args:
        ticket: The load.
        batches: `pyarrow.RecordBatch`es as in `ports.Scan.batches`; one row for each entity.
        report: The report to count in; a new one by default.
        rejects: Collects rejected rows if the ticket says to skip them; by default they are only counted.
        callbacks: What to call meanwhile; by default the fence of the ticket's lock.
        locate: Returns where a row is, for error messages.

    Returns:
        The report, with the rows of this partition.

    Raises:
        BadRowError: A row does not fit the view.
        LockedError: The driver lost the lock of the load.
        StoreError: The server refused a row.
        StoreUnavailableError: The server stopped answering and did not return in time.
    """
    from featurekit.runtime.load_tables import encode_tables

    report = report if report is not None else MaterializeReport(ticket.view.name)
    store = ticket.store.store
    if callbacks is None and ticket.lock is not None:
        callbacks = LoadCallbacks(before_send=_fence(ticket, ticket.lock))
    target = LoadTarget(ticket.view, store.capabilities, ticket.guard)
    scan = Scan(ticket.form, iter(batches), rows_read=0)
    prepared = encode_tables(target, scan, rejects, locate, skip=ticket.skip_bad_rows)
    send_batches(
        store, prepared, report, skip=ticket.skip_bad_rows, callbacks=callbacks or LoadCallbacks()
    )
    return report


def _fence(ticket: LoadTicket, lock: LockToken) -> BeforeSend:
    """Return what asks the server who holds the lock, unless it answered within `FENCE_S`.

    It raises `LockedError` if that is not the driver any more.
    """
    handle = ticket.store
    answered: tuple[float, float] | None = None

    def confirm() -> None:
        nonlocal answered
        clocks = (time.monotonic(), handle.now_ms() / 1000)
        if answered is not None:
            elapsed = max(now - then for now, then in zip(clocks, answered, strict=True))
            if elapsed < FENCE_S:
                return
        if handle.store.call("GET", lock.key, key=lock.key) != lock.value.encode():
            raise lost_lock_error(ticket.view.name)
        answered = clocks

    return confirm
