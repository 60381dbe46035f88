"""The interfaces that the runtime needs from stores, sources and streams.

The adapters are in `stores`, `sources` and `streams`. Only `repo` chooses among them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

from featurekit.lower.write_group import Dialect
from featurekit.plan import ViewPlan
from featurekit.wire import Reply


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities(Dialect):
    """The commands that a server has, as `COMMAND INFO` reports them.

    Attributes:
        server: The server's name and version, for messages: `valkey 9.1.2`.
    """

    server: str


RowSpans = tuple[Sequence[bytes], Sequence[int]]
"""The keys of some rows, and the offset at which the bytes of each row end."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """The commands that write some rows, as bytes.

    Attributes:
        data: Complete commands, one after another.
        replies: The number of replies to expect.
        reply_lines: The number of RESP lines in those replies if no command fails; `None` if
            the caller needs the parsed replies in any case.
        rows: The number of rows that the chunk writes.
        row_spans: Returns each row's key and the offset at which its bytes end. A cluster store
            needs it to route rows; each row is then one command with one reply.
        keep_replies: Whether the caller needs the parsed replies also if `reply_lines` is known.
    """

    data: bytes | memoryview
    replies: int
    reply_lines: int | None
    rows: int
    row_spans: Callable[[], RowSpans] | None = None
    keep_replies: bool = False


KeyedCommand = tuple[str, Sequence[str | int | bytes]]
"""A key, and the command that is about it. Without a key, the command is about the server."""

BeforeSend = Callable[[], None]
"""Called before data is sent; raises to stop a load."""


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """Options of one read.

    Attributes:
        timeout_s: Time limit of the whole call, including the wait for a connection and all
            retries; 0 uses the store's own limit for each attempt.
        partial: Return an `ErrorReply` with the code `UNAVAILABLE` for each reply of a server
            that does not answer, instead of raising.
    """

    timeout_s: float = 0.0
    partial: bool = False


DEFAULT_READ_OPTIONS = ReadOptions()


@dataclass(frozen=True, slots=True)
class ConnectionStats:
    """Counters of a store's connections since the store was opened.

    Attributes:
        round_trips: Times that requests were sent and their replies awaited.
        retries: Round trips that repeated an earlier one because it got no reply.
        connects: Connections opened.
        waits: Calls that waited for a free connection.
        open: Connections that are open now.
        in_use: Open connections that a call is using now.
    """

    round_trips: int = 0
    retries: int = 0
    connects: int = 0
    waits: int = 0
    open: int = 0
    in_use: int = 0

    def __add__(self, other: ConnectionStats) -> ConnectionStats:
        names = ConnectionStats.__slots__
        return ConnectionStats(*(getattr(self, n) + getattr(other, n) for n in names))


class OnlineStore(Protocol):
    """One or more servers that run prepared commands and return their replies.

    A store is thread-safe and survives `fork`: a child process opens its own connections. An
    error reply to a command is returned as `wire.ErrorReply`, never raised. A call that gets no
    reply is sent again, once by default (the URL option `retries`): every request that
    featurekit builds is safe to repeat.
    """

    @property
    def capabilities(self) -> Capabilities:
        """The commands that the server has. Requested at the first access, then cached.

        Raises:
            StoreUnfitError: The server lacks a required command; the message names it.
        """

    @property
    def connection_stats(self) -> ConnectionStats:
        """Counters of the store's connections."""
        return ConnectionStats()

    def describe(self) -> str:
        """Return the store's address for messages, without its password."""

    def run(
        self,
        keys: Sequence[bytes],
        requests: Sequence[bytes],
        replies_per_request: int | Sequence[int] = 1,
    ) -> list[Reply]:
        """Send all requests in one round trip for each server.

        Args:
            keys: One key for each request. A cluster store routes by it.
            requests: Each is one or more complete commands.
            replies_per_request: The number of replies to each request; a sequence if the
                requests differ.

        Returns:
            All replies, in the order of the requests.

        Raises:
            StoreUnavailableError: No reply within the store's timeout. Safe to retry.
        """

    def run_admin(self, keys: Sequence[bytes], requests: Sequence[bytes]) -> list[Reply]:
        """Send requests with one reply each, as `run` does, but wait for replies as a load does.

        For many keys at once: a server that is busy may need longer than reads may take.
        """

    def read(
        self,
        keys: Sequence[bytes],
        requests: Sequence[bytes],
        on_reply: Callable[[Reply], Any] | None = None,
        *,
        replies_per_request: int = 1,
        options: ReadOptions = DEFAULT_READ_OPTIONS,
    ) -> list[Any]:
        """Send requests that only read; replicas may answer them. Otherwise the same as `run`.

        Args:
            keys: One key for each request.
            requests: Each is one or more complete commands.
            on_reply: Converts a reply as soon as it arrives, while the server still answers the
                rest. Its results are returned instead of the replies. It may raise `StoreError`.
            replies_per_request: The number of replies to each request.
            options: Time limit, and what to do about a server that does not answer.
        """

    def call(self, *args: str | int | bytes, key: str | bytes = b"") -> Reply:
        """Send one command and return its reply. The command never runs twice.

        Args:
            args: The command.
            key: The key that the command is about, if any. A cluster store routes by it.

        Raises:
            StoreUnavailableError: No reply within the store's timeout. The command may have run.
        """

    def call_many(self, commands: Sequence[KeyedCommand]) -> list[Any]:
        """Do the same as `call` for several commands, in one round trip if there is one server.

        Returns:
            One reply for each command; for a command without a key, which goes to all servers, a
            list of the reply of each, which is empty if one of several servers is unavailable.

        Raises:
            StoreUnavailableError: No reply within the store's timeout. Any of them may have run.
        """

    def check_writable(self, prefix: str) -> None:
        """Check, with a probe key under `prefix`, that writes work and keep their expiry.

        The check runs once for each prefix.

        Raises:
            StoreUnfitError: This server or user cannot write with expiry. Nothing was written.
        """

    def load(
        self, chunks: Iterable[Chunk], before_send: BeforeSend | None = None
    ) -> Iterator[tuple[Chunk, list[Reply] | None]]:
        """Send chunks as fast as the server accepts them, with a few chunks unanswered at a time.

        Args:
            chunks: The chunks.
            before_send: Called before every piece of data that is handed to the network. If it
                raises, nothing more is sent.

        Yields:
            Each chunk, in order, when all its replies have arrived: with `None` if no command
            failed, `reply_lines` was given and `keep_replies` was not, else with all its replies.

        Raises:
            StoreUnavailableError: The server stopped answering and did not return in time.
        """

    def info(self, section: str) -> list[dict[str, str]]:
        """Return a section of `INFO` for each server; empty where this user may not run it."""

    def scan(self, pattern: str) -> Iterator[list[bytes]]:
        """Yield the keys that match a glob pattern, one page for each `SCAN` call.

        A page may be empty and a key may repeat. Taking only some pages limits the work of the
        server.
        """

    def close(self) -> None:
        """Close the connections. The next call opens new ones."""


class AsyncOnlineStore(Protocol):
    """The asyncio form of `OnlineStore.run` and `read`, bound to one event loop at a time."""

    def describe(self) -> str:
        """Return the store's address for messages, without its password."""

    @property
    def connection_stats(self) -> ConnectionStats:
        """Counters of the store's connections."""
        return ConnectionStats()

    async def run(
        self,
        keys: Sequence[bytes],
        requests: Sequence[bytes],
        replies_per_request: int | Sequence[int] = 1,
    ) -> list[Reply]:
        """See `OnlineStore.run`."""

    async def read(
        self,
        keys: Sequence[bytes],
        requests: Sequence[bytes],
        on_reply: Callable[[Reply], Any] | None = None,
        *,
        replies_per_request: int = 1,
        options: ReadOptions = DEFAULT_READ_OPTIONS,
    ) -> list[Any]:
        """See `OnlineStore.read`."""

    async def close(self) -> None:
        """Close the connections."""


class StoreHandle(Protocol):
    """Access to one online store from threads and event loops. Pickles without connections."""

    @property
    def store(self) -> OnlineStore:
        """The store for threads."""

    def async_store(self) -> AsyncOnlineStore:
        """Return the store of the running event loop."""

    def now_ms(self) -> int:
        """Return the current time in milliseconds since the epoch."""

    def close(self) -> None:
        """Close the connections of threads; the next call opens new ones."""

    def check_store(self) -> None:
        """Check before a write that the registry was applied to this store; ask it at times only.

        Raises:
            RegistryError: It was not: the store was flushed or replaced since.
        """

    def is_check_due(self) -> bool:
        """Return whether the next `check_store` asks the store."""
        return False


SOURCE_ROW = "_source_row"
"""The column with the number of a row in its source, from 1. No field has such a name."""

FILE = "_file"
"""The column with the file of a row, where rows of many files are in one batch."""

PROBLEM = "_problem"
"""The column that says why a line could not be read; null in all other rows."""

LINE = "_line"
"""The column with the text of such a line."""

LOAD = "_load"
"""The column of rejected rows with the start of the load; null if the row's key or time was wrong."""


@dataclass(frozen=True, slots=True)
class Correction:
    """What a file of corrected rows says about the load that rejected them.

    Attributes:
        load_ms: When that load started, if it chose rows as the newest of their entities; `None` if the
            file does not say it, or has rows of several loads.
        oldest_ms: The oldest event time of the rows; `None` if they have none.
        oldest_unsure_ms: The oldest event time of the rows whose key or time was wrong, so that
            the load could not compare them with others; `None` if there are none.
    """

    load_ms: int | None
    oldest_ms: int | None
    oldest_unsure_ms: int | None


RowForm = Literal["native", "text", "json"]
"""The form of rows, see `Scan`."""


@dataclass(frozen=True, slots=True)
class RowFacts:
    """What the keys and times of the rows of a source say, beyond what a load counts.

    Attributes:
        entities: Entities with a row that a load takes.
        outside: Rows outside the range of times, such as those older than the lookback.
        tied: Rows with the key, time and creation time of another one, so that their order decides.
        tied_keys: The join keys of the first entities with such rows.
        future_keys: The join keys of the first entities with rows of the future.
        late: Rows that were created more than a given time after their own time.
        max_delay_ms: The longest time between the two; `None` if rows have no creation time.
        oldest_event_ms: The oldest time of the rows that a load takes.
    """

    entities: int
    outside: int = 0
    tied: int = 0
    tied_keys: tuple[str, ...] = ()
    future_keys: tuple[str, ...] = ()
    late: int = 0
    max_delay_ms: int | None = None
    oldest_event_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Scan:
    """The newest row of each entity in a batch source.

    Attributes:
        form: `native`: Arrow columns with the types of the source. `text`: string columns, from
            CSV. `json`: one string column named `json` with an object per row.
        batches: `pyarrow.RecordBatch`es. `native` and `text` have one column per join key and
            field, named as in the view. If the source has a `timestamp_field`, the next column is
            `event_timestamp` (timestamp[us, UTC]). If lines could not be read, `PROBLEM` and
            `LINE` follow. In each form `SOURCE_ROW` is the last one.
        rows_read: Rows read from the source, before the newest of each entity was selected.
        rows_future: Those of them that are left out because their time is still to come.
        newest_event_ms: The newest event time of those rows; `None` if they have none.
        correction: What a file of corrected rows says about them; `None` for any other source.
        source_identity: What identifies the contents that were read, as far as it is known.
        facts: What `InspectedSource.inspect` found out; `None` for any other scan.
    """

    form: RowForm
    batches: Iterator[Any]
    rows_read: int
    rows_future: int = 0
    newest_event_ms: int | None = None
    correction: Correction | None = None
    source_identity: str = ""
    facts: RowFacts | None = None


class TimeRange(NamedTuple):
    """Which rows to read by their time.

    Attributes:
        start_ms: The earliest time; `None` for any.
        end_ms: The time before which rows are read; `None` for any.
        latest_ms: Later rows are of the future: they are counted and left out. `None` loads them.
    """

    start_ms: int | None = None
    end_ms: int | None = None
    latest_ms: int | None = None


ALL_TIMES = TimeRange()


class BatchSource(Protocol):
    """A source of rows for a batch view."""

    def scan(self, view: ViewPlan, times: TimeRange = ALL_TIMES) -> Scan:
        """Return the newest row of each entity within a range of times.

        Raises:
            SourceError: The source cannot be read, or lacks a column.
        """

    def locate(self, view: ViewPlan, row: dict[str, object]) -> str | None:
        """Return where a row is, such as `users.parquet, row 17`; `None` if not known."""

    def interrupt(self) -> None:
        """Make queries of this source that run in other threads raise.

        Has no effect on a query that has not begun, so repeat it until the thread has stopped.
        """


class InspectedSource(BatchSource, Protocol):
    """A source whose rows can be checked before a load."""

    def inspect(self, view: ViewPlan, times: TimeRange, *, every_row: bool) -> Scan:
        """Return a scan with `facts`: of the rows that a load takes, or of every row of the range.

        Raises:
            SourceError: The source cannot be read, or lacks a column.
        """

    def position(self, view: ViewPlan, row: dict[str, object]) -> str | None:
        """Return where a row of `inspect` is, as `locate` does, also among lines that cannot be read."""


class StreamEvent(NamedTuple):
    """One undecoded event. A tuple, because workers create one per event.

    Attributes:
        id: The source's name for it: the id of an entry, or `topic/partition/offset`.
        columns: Its values: the bytes of texts (`form` is `text`) or JSON values (`form` is
            `json`). Empty if the event has a `fault`.
        form: `text` or `json`.
        arrived_ms: When the source received it, in milliseconds since the epoch.
        raw: Its original bytes, alternating names and values, for the dead letter.
        fault: Why it cannot be decoded; `None` if it can.
    """

    id: str
    columns: Mapping[str, object]
    form: Literal["text", "json"]
    arrived_ms: int
    raw: Sequence[bytes]
    fault: str | None = None


class DeadLetter(NamedTuple):
    """A rejected event in the stream or topic of dead letters.

    Attributes:
        id: Its id in that stream or topic.
        at_ms: When it was written there, in milliseconds since the epoch.
        reason: Why it was rejected; empty if another program wrote it without a reason.
        event_id: Its id in the source.
        fields: Its original columns as text; bytes that are not UTF-8 are escaped.
    """

    id: str
    at_ms: int
    reason: str
    event_id: str
    fields: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Consumer:
    """A member of a consumer group.

    Attributes:
        name: Its name. A consumer that restarts with the same name continues with the events that
            it had not acknowledged.
        claim_after_ms: How long another consumer's events must be idle before this one claims
            them.
    """

    name: str
    claim_after_ms: int = 60_000


@dataclass(frozen=True, slots=True)
class Progress:
    """Up to when the events of a source are done.

    Attributes:
        times: By part, such as a partition: the time in ms up to which all events that reached it are
            done. Parts that this consumer does not read are missing.
        parts: All parts of the source.
    """

    times: Mapping[str, int]
    parts: frozenset[str]


class EventSource(Protocol):
    """A source of events that delivers each at least once to one consumer of a group."""

    def read(self, max_events: int, wait_s: float) -> Sequence[StreamEvent]:
        """Return up to `max_events` events, in order; empty if none arrives within `wait_s`.

        Includes events that crashed consumers held, once they were idle long enough.

        Raises:
            StreamUnavailableError: The source cannot be reached; it is safe to call again.
            StreamError: The source refuses the request.
        """

    def acknowledge(self, events: Sequence[StreamEvent]) -> None:
        """Mark events as done: their values or their dead letters are stored."""

    def dead_letter(self, event: StreamEvent, reason: str) -> None:
        """Write a rejected event, with the reason, to the dead letters."""

    def dead_letters(self, count: int) -> Sequence[DeadLetter]:
        """Return up to `count` dead letters, newest first.

        Raises:
            StreamUnavailableError: The source cannot be reached.
            StreamError: They cannot be read from this source.
        """

    def take_lost(self) -> int:
        """Return how many events the source deleted before they were done, since the last call.

        These are events that this consumer held and had not acknowledged, and those that the group
        had not read when this consumer read past them, as far as the source knows.
        """
        return 0

    def lag(self) -> int | None:
        """Return how many events the group has not read yet; `None` if not known."""

    def done_events(self) -> Callable[[str], bool]:
        """Return the function that says whether the group has done an event, by its id.

        A consumer reads all others again, as far as the source still has them.

        Raises:
            StreamUnavailableError: The source cannot be reached.
            StreamError: The source refuses the request.
        """
        return lambda _event_id: True

    def progress(self, now_ms: int) -> Progress | None:  # noqa: ARG002 - for sources that know it
        """Return up to when all events are done, if all that `read` returned are; `None` if not known.

        Raises:
            StreamUnavailableError: The source cannot be reached.
            StreamError: The source refuses the request.
        """
        return None

    def close(self) -> None:
        """Leave the group; unacknowledged events are delivered to other consumers."""
