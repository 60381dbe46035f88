"""Loads whose partitions are written by an engine of yours, such as Ray or Dask.

with open_load(store, "profile") as load:     holds the lock, records the load at the end
    report = write_partition(load.ticket, batches)     in tasks, on any machine
    load.add(report)                          here, once for each partition
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from featurekit.errors import RequestError
from featurekit.plan import EVENT_TIMESTAMP
from featurekit.ports import SOURCE_ROW
from featurekit.repo.feature_store import FeatureStore
from featurekit.repo.materialization import OnBadRow
from featurekit.runtime.load import MaterializeReport
from featurekit.runtime.partition import LoadTicket
from featurekit.runtime.partition import write_partition as write_columns

__all__ = ["LoadTicket", "OpenLoad", "open_load", "write_partition"]


@dataclass(frozen=True, slots=True)
class OpenLoad:
    """A load that tasks write.

    Attributes:
        ticket: What tasks need. Pickles, without the password of the store: machines that have none in its
            URL read it from `FEATUREKIT_ONLINE_PASSWORD`.
        report: The sum of the partitions.
    """

    ticket: LoadTicket
    report: MaterializeReport

    def add(self, partition: MaterializeReport) -> None:
        """Add the report of a partition, once."""
        self.report.add_partition(partition)
        self.report.rows_read += sum(
            (partition.rows_written, partition.rows_rejected, partition.rows_kept)
        )


@contextmanager
def open_load(
    store: FeatureStore, view: str, *, on_bad_row: OnBadRow = "fail"
) -> Iterator[OpenLoad]:
    """Hold the lock of a batch view during the block, and record the load at its end.

    If the block raises, tasks that still write are stopped before the lock is free: that takes two
    seconds.

    Args:
        store: The feature store.
        view: The batch view.
        on_bad_row: With `fail`, a row that does not fit the view is an error of its partition; with
            `skip`, it is counted with its reason, and the others are written.

    Raises:
        LockedError: Another load of the view is running, or took the lock in the meantime.
        RequestError: The view is a stream view, or the store is in the memory of this process.
        UnknownNameError: There is no such view.
    """
    materializer = store._materializer(on_bad_row, None, None)  # noqa: SLF001 - not a verb of its own
    report = MaterializeReport(view)
    with materializer.open_load(materializer.plan.view(view), report) as ticket:
        yield OpenLoad(ticket, report)


def write_partition(ticket: LoadTicket, batches: Iterable[Any]) -> MaterializeReport:
    """Write rows of a load, in a task; return the report to add to it.

    Writing them again, as when a task is tried again, changes nothing.

    Args:
        ticket: The load.
        batches: `pyarrow.RecordBatch`es: one row for each entity, with a column for each join key and
            field under its name, and `event_timestamp` with `ordering: event_time`. Other columns are
            left out. Some thousand rows in each are best.

    Raises:
        BadRowError: A row does not fit the view.
        LockedError: The load has ended, or lost its lock.
        RequestError: A column is missing.
        StoreError: The server refused a row.
        StoreUnavailableError: The server stopped answering and did not return in time.
    """
    try:
        return write_columns(ticket, _with_row_numbers(ticket, batches))
    finally:
        ticket.store.close()


def _with_row_numbers(ticket: LoadTicket, batches: Iterable[Any]) -> Iterator[Any]:
    import pyarrow as pa

    view = ticket.view
    names = [*(key.name for key in view.key.join_keys), *(field.name for field in view.fields)]
    names += [EVENT_TIMESTAMP] if view.event_time_field else []
    first = 1
    for batch in batches:
        if missing := [name for name in names if name not in batch.schema.names]:
            raise RequestError(
                f"the rows have no column '{missing[0]}'",
                where=f"feature view {view.name}",
                hint=f"they have {', '.join(batch.schema.names)}",
            )
        numbers = pa.array(range(first, first + batch.num_rows), pa.int64())
        yield batch.select(names).append_column(SOURCE_ROW, numbers)
        first += batch.num_rows
