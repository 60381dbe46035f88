"""Ports: what the runtime needs from the world, and what each side may count on.

Adapters are in `stores`, `sources` and `streams`; only `repo` chooses among them, and has the `StoreHandle`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from featurekit.lower.write_group import Dialect
from featurekit.plan import ViewPlan
from featurekit.wire import Reply


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities(Dialect):
    """What a server can do, asked of it by `COMMAND INFO` and never guessed from its version.

    Attributes:
        server: Its name and version, for people: `valkey 9.1.2`.
    """

    server: str


RowSpans = tuple[Sequence[bytes], Sequence[int]]
"""The keys of some rows, and where the bytes of each end."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """The bytes of some rows' commands, ready to leave.

    Attributes:
        data: Complete commands, one after another.
        replies: How many replies they will get.
        lines: How many lines those replies take if nothing is refused; -1 if the replies are
            wanted whatever they are.
        rows: How many rows they write.
        apart: From nothing to each row's key and where its bytes end, for a store of several
            servers. Each row is then one command with one reply.
    """

    data: bytes | memoryview
    replies: int
    lines: int
    rows: int
    apart: Callable[[], RowSpans] | None = None


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """On which terms a read is made.

    Attributes:
        timeout_s: The bound of the whole call, in which waiting for a connection and retries are
            counted; 0 for the store's own bound on each try.
        partial: Whether a request whose server is away is answered by an `ErrorReply` with the
            code `UNAVAILABLE`, once for each of its replies, in the place of the call failing.
    """

    timeout_s: float = 0.0
    partial: bool = False


DEFAULT_READ_OPTIONS = ReadOptions()


@dataclass(frozen=True, slots=True)
class Traffic:
    """What went over a store's connections since it was opened, and how many there are.

    Attributes:
        round_trips: How often requests were sent and replies awaited.
        retries: How many of these were repeats, since no answer had come.
        connects: Connections made.
        waits: Calls that had to wait for a connection to be free.
        open: Connections that are open now.
        in_use: Those of them that are in use.
    """

    round_trips: int = 0
    retries: int = 0
    connects: int = 0
    waits: int = 0
    open: int = 0
    in_use: int = 0

    def __add__(self, other: Traffic) -> Traffic:
        return Traffic(*(getattr(self, n) + getattr(other, n) for n in Traffic.__slots__))


class OnlineStore(Protocol):
    """A server, or several, that take prepared commands and give back their replies.

    Thread-safe. Survives `fork`: a child process opens connections of its own. An error that
    the server gives to one command is a reply (`wire.ErrorReply`), never raised. Whole calls
    that got no answer are sent again once by default (the URL's `retries`), since every
    request built by featurekit may be repeated.
    """

    @property
    def capabilities(self) -> Capabilities:
        """What the server can do. Asked once for each store, at the first call.

        Raises:
            StoreUnfitError: It cannot keep the promise; says what is lacking.
        """

    @property
    def traffic(self) -> Traffic:
        """What went over its connections."""
        return Traffic()

    def describe(self) -> str:
        """Where it is, for people and without a password; of several servers, which they are."""

    def run(
        self, keys: Sequence[bytes], requests: Sequence[bytes], width: int | Sequence[int] = 1
    ) -> list[Reply]:
        """Send every request in one round trip per server; replies come in order.

        Args:
            keys: The key that each request is about: where it is routed.
            requests: One or more complete commands each.
            width: Replies to each request; a sequence where the requests differ.

        Returns:
            All replies, in order.

        Raises:
            StoreUnavailableError: No reply within the store's timeout. Safe to call again.
        """

    def read(
        self,
        keys: Sequence[bytes],
        requests: Sequence[bytes],
        take: Callable[[Reply], Any] | None = None,
        *,
        width: int = 1,
        terms: ReadOptions = DEFAULT_READ_OPTIONS,
    ) -> list[Any]:
        """As `run`, for requests that only read: a store may have replicas answer them.

        Args:
            keys: As of `run`.
            requests: As of `run`.
            take: Is given each reply as soon as it is there, and what it returns is returned in
                the reply's place. So its work, which must not raise, is done while the server
                still answers.
            width: Replies to each request.
            terms: On which terms.
        """

    def call(self, *args: str | int | bytes, key: str | bytes = b"") -> Reply:
        """Send one command and return its reply; never carried out twice.

        Args:
            args: The command.
            key: The key that it is about, if it is about one: where it is routed.

        Raises:
            StoreUnavailableError: No reply within the store's timeout. It may have been carried out.
        """

    def check_writable(self, prefix: str) -> None:
        """Prove on a probe key under `prefix` that writes keep their expiry. Done once.

        Raises:
            StoreUnfitError: This server or user cannot keep the promise; nothing was written.
        """

    def load(self, chunks: Iterable[Chunk]) -> Iterator[tuple[Chunk, list[Reply] | None]]:
        """Send chunks as fast as the server takes them, a bounded number under way.

        Yields:
            Each chunk when all of it was answered, in order, with `None` if nothing was refused
            (and `lines` was given), and else with all of its replies.

        Raises:
            StoreUnavailableError: The server went away and did not come back within the retries.
        """

    def info(self, section: str) -> list[dict[str, str]]:
        """What each server tells in a section of `INFO`; nothing if this user may not ask."""

    def scan(self, pattern: str) -> Iterator[list[bytes]]:
        """The keys that match a glob, in pages; a key may come twice.

        A page is what one step of the server's scan found, and may be empty: whoever takes only so
        many pages bounds what the server looks at.
        """

    def close(self) -> None:
        """Close the connections; the next call opens new ones."""


class AsyncOnlineStore(Protocol):
    """The asyncio side of `OnlineStore.run`, with the same promises, bound to one event loop."""

    @property
    def traffic(self) -> Traffic:
        """As `OnlineStore.traffic`."""
        return Traffic()

    async def run(
        self, keys: Sequence[bytes], requests: Sequence[bytes], width: int | Sequence[int] = 1
    ) -> list[Reply]:
        """As `OnlineStore.run`."""

    async def read(
        self,
        keys: Sequence[bytes],
        requests: Sequence[bytes],
        take: Callable[[Reply], Any] | None = None,
        *,
        width: int = 1,
        terms: ReadOptions = DEFAULT_READ_OPTIONS,
    ) -> list[Any]:
        """As `OnlineStore.read`."""

    async def close(self) -> None:
        """Close the connections."""


class StoreHandle(Protocol):
    """The way to one online store, for threads and for event loops. Pickles without connections."""

    @property
    def store(self) -> OnlineStore:
        """The store for threads."""

    def running(self) -> AsyncOnlineStore:
        """The store of the running event loop."""

    def now_ms(self) -> int:
        """The time, in milliseconds since the epoch."""


@dataclass(frozen=True, slots=True)
class Scan:
    """The rows of a batch source: the newest of each entity.

    Attributes:
        form: `native`: Arrow columns of the field's own types. `text`: utf8 columns, as of CSV.
            `json`: one utf8 column named `json`, an object a row.
        batches: `pyarrow.RecordBatch`es; `native` and `text` have one column for each join key and
            field, under the names of the view. Each batch ends with a column `event_timestamp`
            (timestamp[us, UTC]) if the source has a `timestamp_field`.
        rows_read: Rows read from the source, before the newest of each entity was taken.
    """

    form: str
    batches: Iterator[Any]
    rows_read: int


class BatchSource(Protocol):
    """Somewhere that the rows of a batch view come from."""

    def scan(self, view: ViewPlan, start_ms: int | None, end_ms: int | None) -> Scan:
        """The newest row of each entity with `start_ms <= timestamp < end_ms`.

        Raises:
            SourceError: It cannot be read, or lacks a column.
        """

    def locate(self, view: ViewPlan, row: dict[str, object]) -> str:
        """Where a row came from, for an error: `users.parquet, row 17`; empty if not known."""


class StreamEvent(NamedTuple):
    """One event as it came. A tuple, since a worker makes one of each.

    Attributes:
        id: What the source knows it by: an entry's id, `topic/partition/offset`.
        columns: Its columns: text in the bytes of the field's type (`form` is `text`), or JSON
            values (`form` is `json`). Empty if it could not be taken apart; then `fault` says why.
        form: `text` or `json`.
        arrived_ms: When the source took it in, in milliseconds since the epoch.
        raw: Its original bytes, names and values in turn, for the dead letters.
        fault: Why it is no event; empty if it is one.
    """

    id: str
    columns: Mapping[str, object]
    form: str
    arrived_ms: int
    raw: Sequence[bytes]
    fault: str = ""


class DeadLetter(NamedTuple):
    """An event that did not fit its view, as it was buried.

    Attributes:
        id: What the dead letters know it by.
        at_ms: When it was buried, in milliseconds since the epoch.
        reason: Why; empty if whoever put it there did not say.
        event_id: What its source knew it by.
        fields: Its original columns as text; what is not UTF-8 is escaped.
    """

    id: str
    at_ms: int
    reason: str
    event_id: str
    fields: Mapping[str, str]


class EventSource(Protocol):
    """Somewhere that events come from, at least once, to one of the consumers of a group."""

    def read(self, most: int, wait_s: float) -> Sequence[StreamEvent]:
        """Up to `most` events, in their order; none if none came within `wait_s` seconds.

        What consumers that died held is among them, once it has been idle long enough.

        Raises:
            StreamUnavailableError: The source is away; it is safe to call again.
            StreamError: It is there and refuses.
        """

    def acknowledge(self, events: Sequence[StreamEvent]) -> None:
        """Never hand these out again: what they told is in the store, or among the dead letters."""

    def bury(self, event: StreamEvent, reason: str) -> None:
        """Put an event that does not fit among the dead letters, with the reason."""

    def buried(self, most: int) -> Sequence[DeadLetter]:
        """Up to `most` of the dead letters, newest first.

        Raises:
            StreamUnavailableError: They are away.
            StreamError: They cannot be read here.
        """

    def lag(self) -> int | None:
        """Events that this group has yet to read; `None` if the source does not tell."""

    def close(self) -> None:
        """Leave the group in good order; what was not acknowledged is handed to others."""
