"""A Redis stream, read by a consumer group and acknowledged after the write.

Each entry is in one of these states for the group:

- *new*: not delivered yet. `XREADGROUP ... >` delivers it.
- *pending here*: delivered to this consumer, not acknowledged. `XREADGROUP ... 0` delivers it
  again. This happens first after a start, since the name may be that of a consumer that crashed,
  and after any command without a usable reply, since the lost reply may have carried entries.
- *pending elsewhere*: held by another consumer. `XAUTOCLAIM` takes it over once it was idle for
  `claim_after_ms`; a full scan of the pending list is followed by a pause.
- *done*: acknowledged by `XACK`.
- *lost*: deleted from the stream before it was done, and counted. While it was pending, `XREADGROUP`
  returns it without fields (this module acknowledges it) and `XAUTOCLAIM` lists its id. Before it
  was read, the group's counter `entries-read` rises by more than the number of entries delivered;
  so on a single server an `XREADGROUP` that does not wait stands in a transaction between two
  looks at that counter. It is null for a group that was begun in the middle of a stream, until the
  first read; then nothing is known.

Invariant: an entry is acknowledged only after its values, or its dead letter, are in the store.
So a crash at any point causes a repeated write, never a lost one.

Rejected: `NOACK` (a crash would lose the batch); remembering unacknowledged ids in the process
(the server's pending list survives a crash); trimming the stream (other groups may read it).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from time import monotonic
from typing import Any

from typing_extensions import override

from featurekit.errors import (
    StoreError,
    StoreUnavailableError,
    StreamError,
    StreamUnavailableError,
    ValueRefusedError,
)
from featurekit.lower.rows import JsonObjectDecoder
from featurekit.plan import RedisStreamPlan
from featurekit.ports import (
    Consumer,
    DeadLetter,
    EventSource,
    OnlineStore,
    Progress,
    StreamEvent,
)
from featurekit.wire import EXEC, MULTI, ErrorReply, Reply, text_command

DELETED_CODES = {"NOGROUP", "UNBLOCKED"}
"""Error codes when the stream or its group was deleted."""

TRANSIENT_CODES = {"BUSY", "CLUSTERDOWN", "LOADING", "MASTERDOWN", "MISCONF", "NOREPLICAS", "OOM"}
TRANSIENT_CODES |= {"READONLY", "TRYAGAIN"}

MAX_CACHED_NAMES = 10_000

CLAIM_INTERVAL_S = 5.0
"""The pause between scans for abandoned entries while new events arrive."""

FIRST_ID = b"0-0"

PENDING_PAGE = 1000

GROUP = "group"
"""The only part of a stream in its `Progress`."""


class RedisStream(EventSource):
    """The entries of one stream, for one consumer of a group."""

    def __init__(
        self,
        store: OnlineStore,
        plan: RedisStreamPlan,
        consumer: Consumer,
        decode_json: JsonObjectDecoder,
    ) -> None:
        self._store = store
        self._plan = plan
        self._consumer = consumer
        self._decode_json = decode_json
        self._names = _NameCache()
        self._group_exists = False
        self._may_have_pending = True
        self._claim_cursor: bytes = FIRST_ID
        self._next_claim_s = 0.0
        self._lost = 0
        self._may_count_unread = True
        self._is_drained = False

    @override
    def read(self, max_events: int, wait_s: float) -> Sequence[StreamEvent]:
        with self._invalid_replies():
            return self._read(max_events, wait_s)

    @contextmanager
    def _invalid_replies(self) -> Iterator[None]:
        """Turn what a reply of another form raises into `StreamError`."""
        try:
            yield
        except (TypeError, ValueError, AttributeError, IndexError) as error:
            raise StreamError(
                f"the server sent an invalid reply to a read: {error}", where=self._where
            ) from error

    def _read(self, max_events: int, wait_s: float) -> Sequence[StreamEvent]:
        if not self._group_exists:
            self._create_group()
        if self._may_have_pending:
            if events := self._read_group("0", max_events, 0.0):
                return events
            self._may_have_pending = False
        if monotonic() >= self._next_claim_s and (events := self._claim(max_events)):
            return events
        if events := self._read_counted(max_events):
            self._is_drained = False
            return events
        events = self._read_group(">", max_events, wait_s)
        self._is_drained = not events
        return events

    @override
    def acknowledge(self, events: Sequence[StreamEvent]) -> None:
        if events:
            self._call("XACK", *self._stream_and_group, *[e.id.encode() for e in events])

    @override
    def dead_letter(self, event: StreamEvent, reason: str) -> None:
        stream = self._plan.dead_letter_name
        marks = ("@reason", reason.encode(), "@id", event.id)
        self._call("XADD", stream, "*", *event.raw, *marks, key=stream)

    @override
    def dead_letters(self, count: int) -> Sequence[DeadLetter]:
        stream = self._plan.dead_letter_name
        entries = self._call("XREVRANGE", stream, "+", "-", "COUNT", count, key=stream)
        with self._invalid_replies():
            return [_dead_letter(*pair) for pair in map(_as_list, _as_list(entries))]

    @override
    def lag(self) -> int | None:
        try:
            groups = self._call("XINFO", "GROUPS", self._plan.stream)
        except StreamUnavailableError:
            raise
        except StreamError:  # the stream does not exist yet
            return None
        with self._invalid_replies():
            return self._group_counter(groups, b"lag")

    @override
    def done_events(self) -> Callable[[str], bool]:
        """See `EventSource.done_events`: those up to the last delivered one that are not pending."""
        try:
            groups = self._call("XINFO", "GROUPS", self._plan.stream)
        except StreamUnavailableError:
            raise
        except StreamError:  # the stream does not exist
            return lambda _id: True
        with self._invalid_replies():
            last = self._group_value(groups, b"last-delivered-id")
            if not isinstance(last, bytes):  # a new group begins at the first entry
                first = _as_list(self._call("XRANGE", self._plan.stream, "-", "+", "COUNT", 1))
                begin = _entry_id(_as_list(first[0])[0]) if first else (math.inf, 0)
                return lambda event_id: _entry_id(event_id.encode()) < begin
            end, pending = _entry_id(last), set(self._pending_ids())
        return lambda event_id: event_id not in pending and _entry_id(event_id.encode()) <= end

    def _pending_ids(self) -> Iterator[str]:
        start = "-"
        while True:
            page = _as_list(
                self._call("XPENDING", *self._stream_and_group, start, "+", PENDING_PAGE)
            )
            ids = [_text(_as_list(entry)[0]) for entry in page]
            yield from ids
            if len(ids) < PENDING_PAGE:
                return
            start = f"({ids[-1]}"

    @override
    def progress(self, now_ms: int) -> Progress | None:
        """See `EventSource.progress`. The group is one part: its consumers share all entries.

        All entries before the oldest pending one are done, and before the last delivered one if
        some are not delivered yet. The counters are read before the pending entries, so an entry that
        is delivered in between is not missed.
        """
        groups = self._call("XINFO", "GROUPS", self._plan.stream)
        pending = self._call("XPENDING", *self._stream_and_group)
        with self._invalid_replies():
            lag = self._group_counter(groups, b"lag")
            last = self._group_value(groups, b"last-delivered-id")
            times = [now_ms]
            if (lag if lag is not None else not self._is_drained) and isinstance(last, bytes):
                times.append(_entry_ms(last))
            if isinstance(oldest := _as_list(pending)[1], bytes):
                times.append(_entry_ms(oldest))
        return Progress({GROUP: min(times)}, frozenset({GROUP}))

    @override
    def take_lost(self) -> int:
        lost, self._lost = self._lost, 0
        return lost

    @override
    def close(self) -> None:
        try:
            self._delete_consumer()
        except StreamError:
            pass  # the name stays in the group, and others claim what it holds
        finally:
            self._store.close()

    @property
    def _stream_and_group(self) -> tuple[str, str]:
        return self._plan.stream, self._plan.group

    @property
    def _where(self) -> str:
        return f"stream {self._plan.stream}"

    def _create_group(self) -> None:
        """Create the group and the stream if needed; a new group begins at the first entry."""
        try:
            self._call("XGROUP", "CREATE", *self._stream_and_group, "0", "MKSTREAM")
        except StreamError as error:
            if "BUSYGROUP" not in error.message:
                raise
        self._group_exists = True

    def _delete_consumer(self) -> None:
        """Delete this consumer's name from the group unless entries are pending for it."""
        if not self._group_exists or self._may_have_pending:
            return
        name = self._consumer.name
        pending = self._call("XPENDING", *self._stream_and_group, "-", "+", 1, name)
        if pending == []:
            self._call("XGROUP", "DELCONSUMER", *self._stream_and_group, name)

    def _read_group(self, after_id: str, max_events: int, wait_s: float) -> list[StreamEvent]:
        block = ("BLOCK", int(wait_s * 1000)) if wait_s >= 0.001 else ()  # noqa: PLR2004 - BLOCK 0 waits forever
        reply = self._call(
            *("XREADGROUP", "GROUP", self._plan.group, self._consumer.name),
            *("COUNT", max_events, *block, "STREAMS", self._plan.stream, after_id),
        )
        return [e for pair in _as_list(reply) for e in self._events(_as_list(pair)[1])]

    def _read_counted(self, max_events: int) -> list[StreamEvent]:
        """Read new entries without waiting, and count those that were deleted before them.

        Empty if there are none, or if they cannot be counted here: then nothing was read.
        """
        if not (self._may_count_unread and self._store.capabilities.transactions):
            return []
        look = text_command("XINFO", "GROUPS", self._plan.stream)
        read = text_command(
            *("XREADGROUP", "GROUP", self._plan.group, self._consumer.name),
            *("COUNT", max_events, "STREAMS", self._plan.stream, ">"),
        )
        key, data = self._plan.stream.encode(), MULTI + look + read + look + EXEC
        try:
            *queued, result = self._store.run([key], [data], 5)
        except StoreUnavailableError as error:
            self._may_have_pending = True
            raise StreamUnavailableError(
                error.message, where=self._where, hint=error.hint
            ) from error
        if not isinstance(result, list):
            # A user without `+multi` got the entries outside a transaction: read them again.
            self._may_have_pending = True
            refused = any(isinstance(r, ErrorReply) and r.code == "NOPERM" for r in queued)
            self._may_count_unread = not refused
            return []
        before, reply, after = result
        if isinstance(reply, ErrorReply):
            return []
        entries = [entry for pair in _as_list(reply) for entry in _as_list(_as_list(pair)[1])]
        counts = [self._group_counter(groups, b"entries-read") for groups in (before, after)]
        if entries and counts[0] is not None and counts[1] is not None:
            self._lost += max(0, counts[1] - counts[0] - len(entries))
        return list(self._events(entries))

    def _group_counter(self, groups: Reply, name: bytes) -> int | None:
        """Return a counter of this group from a reply to `XINFO GROUPS`; `None` if not known."""
        value = self._group_value(groups, name)
        return value if isinstance(value, int) else None

    def _group_value(self, groups: Reply, name: bytes) -> Reply:
        for pairs in map(_as_list, _as_list(groups)):
            group: dict[Any, Reply] = dict(zip(pairs[::2], pairs[1::2], strict=True))
            if group.get(b"name") == self._plan.group.encode():
                return group.get(name)
        return None

    def _claim(self, max_events: int) -> list[StreamEvent]:
        reply = self._call(
            *("XAUTOCLAIM", *self._stream_and_group, self._consumer.name),
            *(self._consumer.claim_after_ms, self._claim_cursor, "COUNT", max_events),
        )
        if not isinstance(reply, list) or not isinstance(reply[0], bytes):
            return []
        self._claim_cursor = reply[0]
        if self._claim_cursor == FIRST_ID:
            pause_s = min(CLAIM_INTERVAL_S, self._consumer.claim_after_ms / 2000)
            self._next_claim_s = monotonic() + pause_s
        self._lost += sum(len(_as_list(ids)) for ids in reply[2:])
        return list(self._events(reply[1]))

    def _events(self, entries: Reply) -> Iterator[StreamEvent]:
        deleted: list[bytes] = []
        entry: Any
        for entry in _as_list(entries):
            entry_id, pairs = entry
            if pairs is None:
                deleted.append(entry_id)
            else:
                yield self._event(entry_id.decode(), pairs)
        if deleted:  # by the producer, while they were pending here
            self._lost += len(deleted)
            self._call("XACK", *self._stream_and_group, *deleted)

    def _event(self, entry_id: str, pairs: list[Any]) -> StreamEvent:
        arrived_ms = int(entry_id[: entry_id.index("-")])
        names, values = pairs[::2], pairs[1::2]
        try:
            if self._plan.json_field is not None:
                columns = self._json_columns(dict(zip(names, values, strict=True)))
                return StreamEvent(entry_id, columns, "json", arrived_ms, pairs)
            columns = dict(zip(map(self._names.__getitem__, names), values, strict=True))
        except UnicodeDecodeError:
            fault = "the name of a field is not UTF-8"
        except ValueRefusedError as error:
            fault = error.message
        else:
            return StreamEvent(entry_id, columns, "text", arrived_ms, pairs)
        return StreamEvent(entry_id, {}, "text", arrived_ms, pairs, fault)

    def _json_columns(self, entry: Mapping[bytes, bytes]) -> dict[str, object]:
        name = self._plan.json_field or ""
        data = entry.get(name.encode())
        if data is None:
            raise ValueRefusedError(f"the entry has no field '{name}'")
        return self._decode_json(data)

    def _call(self, *args: str | int | bytes, key: str = "") -> Reply:
        """Send one command; after a failure, read pending entries again."""
        try:
            reply = self._store.call(*args, key=key or self._plan.stream)
        except StoreUnavailableError as error:
            self._may_have_pending = True
            raise StreamUnavailableError(
                error.message, where=self._where, hint=error.hint
            ) from error
        except StoreError as error:
            raise StreamError(error.message, where=self._where, hint=error.hint) from error
        if isinstance(reply, ErrorReply):
            self._may_have_pending = True
            raise self._error_of(str(args[0]), reply)
        return reply

    def _error_of(self, command: str, reply: ErrorReply) -> StreamError:
        if reply.code in DELETED_CODES:
            self._group_exists = False
            return StreamUnavailableError("the stream or its group was deleted", where=self._where)
        kind = StreamUnavailableError if reply.code in TRANSIENT_CODES else StreamError
        return kind(f"the server refused {command}: {reply}", where=self._where)


def _as_list(reply: Reply) -> list[Reply]:
    return reply if isinstance(reply, list) else []


def _entry_id(data: Reply) -> tuple[float, int]:
    """Return the two numbers of an id, which compare as ids do."""
    ms, _, number = _text(data).partition("-")
    return int(ms), int(number)


def _text(data: Reply) -> str:
    if not isinstance(data, bytes):
        raise TypeError(f"{data!r} is not an id")
    return data.decode()


def _entry_ms(entry_id: bytes) -> int:
    return int(entry_id.partition(b"-")[0])


def _dead_letter(entry_id: Any, pairs: Any) -> DeadLetter:
    """Return an entry as a dead letter; the last two fields are those that `dead_letter` adds."""
    texts = [part.decode(errors="backslashreplace") for part in pairs]
    marks = dict(zip(texts[-4::2], texts[-3::2], strict=True))
    if marks.keys() == {"@reason", "@id"}:
        texts = texts[:-4]
    else:  # written by another program
        marks = {}
    return DeadLetter(
        id=entry_id.decode(),
        at_ms=_entry_ms(entry_id),
        reason=marks.get("@reason", ""),
        event_id=marks.get("@id", ""),
        fields=dict(zip(texts[::2], texts[1::2], strict=True)),
    )


class _NameCache(dict[bytes, str]):
    """Decoded field names; a stream has few different ones."""

    def __missing__(self, name: bytes) -> str:
        if len(self) > MAX_CACHED_NAMES:
            self.clear()
        text = self[name] = name.decode()
        return text
