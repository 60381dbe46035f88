"""Redis streams: entries read by a consumer group, acknowledged once they are written.

What was handed to this consumer and not acknowledged comes first: after a start under the same
name, and after each reply that was lost on its way. What others held and left idle is claimed.
Entries are never trimmed here; that is the producer's to decide.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any, Self

from typing_extensions import override

from featurekit.errors import (
    StoreError,
    StoreUnavailableError,
    StreamError,
    StreamUnavailableError,
    ValueRefusedError,
)
from featurekit.ports import DeadLetter, EventSource, OnlineStore, StreamEvent
from featurekit.streams.consumer import Consumer
from featurekit.streams.objects import ObjectReader
from featurekit.wire import ErrorReply, Reply

GONE = {"NOGROUP", "UNBLOCKED"}
"""The stream or its group was deleted."""

PASSING = {"BUSY", "CLUSTERDOWN", "LOADING", "MASTERDOWN", "MISCONF", "NOREPLICAS", "OOM"}
PASSING |= {"READONLY", "TRYAGAIN"}

MOST_NAMES = 10_000

CLAIM_EVERY_S = 5.0
"""How often a consumer that has new events looks for what others left."""


@dataclass(frozen=True, slots=True)
class Stream:
    """One stream, as one group reads it.

    Attributes:
        key: The stream.
        group: The consumer group.
        dead: The stream of dead letters.
        member: The field of an entry that holds the event as JSON; empty if its fields are it.
    """

    key: str
    group: str
    dead: str
    member: str = ""

    @classmethod
    def of(cls, options: Mapping[str, str]) -> Self:
        """From the options of a compiled stream."""
        key = options["stream"]
        dead = options.get("dead_letter", f"{key}:dead")
        return cls(key, options["group"], dead, options.get("field", ""))


class RedisStream(EventSource):
    """The entries of one stream, for one consumer of a group."""

    def __init__(
        self, store: OnlineStore, stream: Stream, consumer: Consumer, read: ObjectReader
    ) -> None:
        self._store = store
        self._stream = stream
        self._consumer = consumer
        self._read_object = read
        self._names = _Names()
        self._joined = False
        self._behind = True
        self._cursor: bytes = b"0-0"
        self._claim_at = 0.0

    @override
    def read(self, most: int, wait_s: float) -> Sequence[StreamEvent]:
        if not self._joined:
            self._join()
        if self._behind:
            if events := self._handed_out("0", most, 0.0):
                return events
            self._behind = False
        if monotonic() >= self._claim_at and (events := self._claimed(most)):
            return events
        return self._handed_out(">", most, wait_s)

    @override
    def acknowledge(self, events: Sequence[StreamEvent]) -> None:
        if events:
            self._call(
                "XACK", self._stream.key, self._stream.group, *[e.id.encode() for e in events]
            )

    @override
    def bury(self, event: StreamEvent, reason: str) -> None:
        self._call(
            *("XADD", self._stream.dead, "*"),
            *event.raw,
            *("@reason", reason.encode(), "@id", event.id),
            key=self._stream.dead,
        )

    @override
    def buried(self, most: int) -> Sequence[DeadLetter]:
        dead = self._stream.dead
        entries = self._call("XREVRANGE", dead, "+", "-", "COUNT", most, key=dead)
        return [_letter(*pair) for pair in map(_listed, _listed(entries))]

    @override
    def lag(self) -> int | None:
        try:
            groups = self._call("XINFO", "GROUPS", self._stream.key)
        except StreamUnavailableError:
            raise
        except StreamError:  # there is no stream yet
            return None
        for group in map(_listed, _listed(groups)):
            told: dict[Any, Reply] = dict(zip(group[::2], group[1::2], strict=True))
            if told.get(b"name") == self._stream.group.encode():
                lag = told.get(b"lag")
                return lag if isinstance(lag, int) else None
        return None

    @override
    def close(self) -> None:
        try:
            self._leave()
        except StreamError:
            pass  # the name stays in the group, and what it holds is claimed by others
        finally:
            self._store.close()

    def _join(self) -> None:
        """Make the group, and the stream, if they are not there; it begins at the first entry."""
        place = (self._stream.key, self._stream.group)
        try:
            self._call("XGROUP", "CREATE", *place, "0", "MKSTREAM")
        except StreamError as error:
            if "BUSYGROUP" not in error.message:
                raise
        self._joined = True

    def _leave(self) -> None:
        """Take this consumer's name out of the group, unless it holds something."""
        if not self._joined or self._behind:
            return
        place = (self._stream.key, self._stream.group)
        held = self._call("XPENDING", *place, "-", "+", 1, self._consumer.name)
        if held == []:
            self._call("XGROUP", "DELCONSUMER", *place, self._consumer.name)

    def _handed_out(self, after: str, most: int, wait_s: float) -> list[StreamEvent]:
        block = ("BLOCK", int(wait_s * 1000)) if wait_s >= 0.001 else ()  # noqa: PLR2004 - 0 is for ever
        reply = self._call(
            *("XREADGROUP", "GROUP", self._stream.group, self._consumer.name),
            *("COUNT", most, *block, "STREAMS", self._stream.key, after),
        )
        return [e for pair in _listed(reply) for e in self._events(_listed(pair)[1])]

    def _claimed(self, most: int) -> list[StreamEvent]:
        reply = self._call(
            *("XAUTOCLAIM", self._stream.key, self._stream.group, self._consumer.name),
            *(self._consumer.claim_after_ms, self._cursor, "COUNT", most),
        )
        if not isinstance(reply, list) or not isinstance(reply[0], bytes):
            return []
        self._cursor = reply[0]
        if self._cursor == b"0-0":
            pause_s = min(CLAIM_EVERY_S, self._consumer.claim_after_ms / 2000)
            self._claim_at = monotonic() + pause_s
        return list(self._events(reply[1]))

    def _events(self, entries: Reply) -> Iterator[StreamEvent]:
        trimmed: list[bytes] = []
        entry: Any
        for entry in _listed(entries):
            entry_id, flat = entry
            if flat is None:
                trimmed.append(entry_id)
            else:
                yield self._event(entry_id.decode(), flat)
        if trimmed:  # the producer took them away while they waited here
            self._call("XACK", self._stream.key, self._stream.group, *trimmed)

    def _event(self, entry_id: str, flat: list[Any]) -> StreamEvent:
        arrived_ms = int(entry_id[: entry_id.index("-")])
        names, values = flat[::2], flat[1::2]
        try:
            if self._stream.member:
                columns: dict[str, object] = self._object(dict(zip(names, values, strict=True)))
                return StreamEvent(entry_id, columns, "json", arrived_ms, flat)
            columns = dict(zip(map(self._names.__getitem__, names), values, strict=True))
        except UnicodeDecodeError:
            fault = "the name of a field is not UTF-8"
        except ValueRefusedError as error:
            fault = error.message
        else:
            return StreamEvent(entry_id, columns, "text", arrived_ms, flat)
        return StreamEvent(entry_id, {}, "text", arrived_ms, flat, fault)

    def _object(self, raw: Mapping[bytes, bytes]) -> dict[str, object]:
        data = raw.get(self._stream.member.encode())
        if data is None:
            raise ValueRefusedError(f"the entry has no field '{self._stream.member}'")
        return self._read_object(data)

    def _call(self, *args: str | int | bytes, key: str = "") -> Reply:
        """Send one command. Whatever goes wrong, what was handed out is asked for again."""
        try:
            reply = self._store.call(*args, key=key or self._stream.key)
        except StoreUnavailableError as error:
            self._behind = True
            raise StreamUnavailableError(
                error.message, where=self._place, hint=error.hint
            ) from error
        except StoreError as error:
            raise StreamError(error.message, where=self._place, hint=error.hint) from error
        if isinstance(reply, ErrorReply):
            self._behind = True
            raise self._refusal(str(args[0]), reply)
        return reply

    def _refusal(self, command: str, reply: ErrorReply) -> StreamError:
        if reply.code in GONE:
            self._joined = False
            return StreamUnavailableError("the stream or its group was deleted", where=self._place)
        kind = StreamUnavailableError if reply.code in PASSING else StreamError
        return kind(f"the server refused {command}: {reply}", where=self._place)

    @property
    def _place(self) -> str:
        return f"stream {self._stream.key}"


def _listed(reply: Reply) -> list[Reply]:
    return reply if isinstance(reply, list) else []


def _letter(entry_id: Any, flat: Any) -> DeadLetter:
    """A dead letter of its entry; its last two fields are those that `bury` adds."""
    texts = [part.decode(errors="backslashreplace") for part in flat]
    told = dict(zip(texts[-4::2], texts[-3::2], strict=True))
    own = texts[:-4] if told.keys() == {"@reason", "@id"} else texts
    marks = told if own is not texts else {}
    return DeadLetter(
        id=entry_id.decode(),
        at_ms=int(entry_id[: entry_id.index(b"-")]),
        reason=marks.get("@reason", ""),
        event_id=marks.get("@id", ""),
        fields=dict(zip(own[::2], own[1::2], strict=True)),
    )


class _Names(dict[bytes, str]):
    """The names of fields, decoded once each; a stream has few."""

    def __missing__(self, name: bytes) -> str:
        if len(self) > MOST_NAMES:
            self.clear()
        text = self[name] = name.decode()
        return text
