"""The interfaces of histories: what a source held at past moments, for training sets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

from featurekit.plan import ViewPlan
from featurekit.ports import RowForm

AsOf = Literal["event_time", "created", "schedule", "loads"]
"""When a row of a history counts: from its time; only from its creation if that is later; or from the
load after that, by the schedule of the view or by the log of its loads. Events count at once, so of a
stream view the last two mean `created` if the history has the arrival of events, else `event_time`."""


class PastLoad(NamedTuple):
    """A load that succeeded.

    Attributes:
        scanned_ms: When it began to read the source.
        written_ms: When it had written all rows.
        start_ms: The earliest time of the rows that it took; `None` for any.
        end_ms: The time before which it took rows; `None` for any up to `scanned_ms`.
    """

    scanned_ms: int
    written_ms: int
    start_ms: int | None = None
    end_ms: int | None = None


@dataclass(frozen=True, slots=True)
class HistoryQuery:
    """The moments at which the rows of a view are wanted.

    Attributes:
        moments: A `pyarrow.Table` with the columns `rid` (int64, from 0, in order), `k` (of
            `lower.columns.encode_ids`: binary, or a dictionary of such with one dictionary for all
            chunks) and `at` (int64, microseconds since the epoch).
        as_of: When a row counts; by default `schedule` if the view has one, else `created` if the
            history has such times, else `event_time`.
        loads: The loads of the view, for `loads`.
        key_ends: When keys expired, from `HistorySource.key_ends` of the view that owns the TTL of
            the entity's keys; `None` if they never did.
        ends_keys: Whether the query is for `HistorySource.key_ends`.
        skip_bad_rows: Whether events of windows that do not fit are left out, instead of an error.
    """

    moments: Any
    as_of: AsOf | None = None
    loads: Sequence[PastLoad] = ()
    key_ends: Any = None
    ends_keys: bool = False
    skip_bad_rows: bool = False


@dataclass(frozen=True, slots=True)
class HistoricalRows:
    """The rows of a history whose values a store would have held at some moments.

    Attributes:
        form: The form of the rows, see `Scan`.
        numbers: For each field an array with the `SOURCE_ROW` of each moment's value; null if the
            store would have had none. Its value in that row may be null. Fields may share an array.
            `None` if the batches have the row of each moment.
        deadlines: For each field an array with the last millisecond at which that value would have
            been served; null where `numbers` is, and where the value never expires. Without `numbers`,
            for each field the name of such a column of the batches, null where there is no value.
        batches: The rows of the numbers, each once, in any order, with the columns of
            `Scan.batches`; or the row of each moment, in order, with a null `SOURCE_ROW` for none.
        as_of: When rows counted; `static` if the source says that they hold for all times.
        rows_read: The rows that were read: of Parquet and queries, those whose times can matter.
        rows_incomplete: Those of them without a key or a time, which no moment has.
        loads: The loads of `HistoryQuery`, if they counted.
        source_identity: What identifies the contents of the source; empty if not known.
        rows_rejected: Events of windows that do not fit and were left out.
        close: Frees what batches hold that are not read.
    """

    form: RowForm
    numbers: Mapping[str, Any] | None
    deadlines: Mapping[str, Any]
    batches: Iterator[Any]
    as_of: AsOf | Literal["static"]
    rows_read: int
    rows_incomplete: int
    loads: Sequence[PastLoad] = ()
    source_identity: str = ""
    rows_rejected: int = 0
    close: Callable[[], object] = lambda: None


class HistorySource(Protocol):
    """A source that answers what a store would have held at a moment.

    It can be implemented by an engine that does not run in this process.
    """

    def rows_at(self, view: ViewPlan, query: HistoryQuery) -> HistoricalRows:
        """Return the row of each moment.

        Raises:
            SourceError: The source cannot be read, or lacks the times that `as_of` needs.
        """

    def key_ends(self, view: ViewPlan, query: HistoryQuery) -> Any:
        """Return when the keys of the entities expired because loads of the view did not renew them.

        The view is a batch view with `expires: key`.

        Returns:
            A `pyarrow.Table` with the columns `k` (binary) and `end_ms` (int64): the last millisecond
            at which a key existed. `None` if no key expired.
        """

    def interrupt(self) -> None:
        """Make queries of this source that run in other threads raise."""

    def progress(self) -> float | None:
        """Return the share of the running query that is done, from 0 to 1; `None` if not known."""


class SampledSource(Protocol):
    """A source of which some entities can be read without all of its rows."""

    def sample_keys(self, view: ViewPlan, count: int, seed: int) -> list[bytes]:
        """Return the keys of up to `count` entities; the same ones for the same seed.

        Raises:
            SourceError: The source cannot be read.
        """

    def identity(self, view: ViewPlan) -> str:
        """Return the `Scan.source_identity` that a scan would have now; empty if it says nothing."""


@dataclass(frozen=True, slots=True)
class StoredValues:
    """What the store would have held of a view at some moments. What a training set is made of.

    Attributes:
        batches: Record batches in the order of the moments, together one row for each. For each
            field of the view they have a binary column with the stored bytes, null if there were
            none. If ages were asked for, int64 columns named by `remaining_column` and
            `event_age_column` contain how long a value would still be served, and the age of its
            event, in milliseconds.
        metadata: How the view was read, for `RetrievalJob.metadata`: at least `as_of` and `rows_read`.
        counts: Counts of rows for the metadata, complete after the last batch.
        close: Frees what batches hold that are not read.
    """

    batches: Iterator[Any]
    metadata: dict[str, Any]
    counts: dict[str, int] = field(default_factory=dict)
    close: Callable[[], object] = lambda: None


def remaining_column(field: str) -> str:
    """Return the name of the column of `StoredValues.batches` with the remaining TTLs of a field."""
    return f"{field}@remaining_ms"


def event_age_column(field: str) -> str:
    """Return the name of the column of `StoredValues.batches` with the ages of a field's events."""
    return f"{field}@event_age_ms"


@runtime_checkable
class LabelQuery(Protocol):
    """A query whose rows are the labels of a training set."""

    def reader(self) -> Any:
        """Return a `pyarrow.RecordBatchReader` of the rows.

        Raises:
            SourceError: The query fails.
        """

    def interrupt(self) -> None:
        """Make the query raise, if it runs in another thread."""

    def progress(self) -> float | None:
        """Return the share of the query that is done, from 0 to 1; `None` if not known."""
