"""Events: the commands that write one event of a stream view, which apply together or not at all.

With `ordering: arrival` an event is one `HSETEX` where the server has it and one TTL is
involved; else a transaction, or a call of a script where there are none. With `ordering:
event_time` it is one call of a script, which compares the event's time with the newest one seen
and writes in the same step. Expiry then counts from the event, so that an old log played again
makes nothing look fresh.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from featurekit.lower.build import build
from featurekit.lower.encoders import ENCODE_ERRORS, encoder_expression, field_encoder
from featurekit.lower.scripts import EVENT
from featurekit.lower.write_group import (
    Dialect,
    WriteGroup,
    hsetex_flag,
    row_command,
    set_commands,
    transaction,
)
from featurekit.plan import ViewPlan
from featurekit.wire import ErrorReply, Reply, bulk, command, first_error

Encoded = Mapping[str, bytes | None]
"""The fields of an event as bytes; `None` deletes, an absent field is left alone."""

_SHAPES = 1024
"""Subsets of fields that a function is kept for."""


EventCommands = tuple[bytes, int]
"""One event's commands, framed, and how many replies they get. Plain, since each event has one."""

EventFunction = Callable[[bytes, Mapping[str, object], int], EventCommands]
"""From a key, an event's values and the call's TTL in ms (0 for none of its own)."""


def event_encoder(view: ViewPlan) -> Callable[[Mapping[str, object]], dict[str, bytes | None]]:
    """The function that checks and encodes an event's fields.

    Raises (the function):
        ValueRefusedError: A value does not fit; `where` names the field.
        UnknownNameError: The view has no such field.
    """
    encoders = {field.name: field_encoder(field) for field in view.fields}

    def encode(values: Mapping[str, object]) -> dict[str, bytes | None]:
        for name in values:
            if name not in encoders:
                view.field(name)
        return {name: encoders[name](value) for name, value in values.items()}

    return encode


def arrival_write_group(view: ViewPlan, dialect: Dialect) -> EventFunction:
    """The function that makes the unit of an event whose expiry counts from its arrival."""
    slow = _any_event(view, dialect)
    if not dialect.hsetex:
        return slow

    shapes: dict[tuple[object, ...], Callable[..., bytes] | None] = {}

    def unit(key: bytes, values: Mapping[str, object], ttl_ms: int) -> EventCommands:
        shape = (ttl_ms, *values)
        try:
            fast = shapes[shape]
        except KeyError:
            if len(shapes) >= _SHAPES:
                shapes.clear()
            fast = shapes[shape] = _fast(view, tuple(values), ttl_ms)
        if fast is None:
            return slow(key, values, ttl_ms)
        try:
            return fast(key, values), 1
        except ENCODE_ERRORS:
            return slow(key, values, ttl_ms)

    return unit


def _any_event(view: ViewPlan, dialect: Dialect) -> EventFunction:
    """The plain form, for events of any fields, TTLs and deletions."""
    encode = event_encoder(view)
    lives = {field.name: field.ttl_ms for field in view.fields}

    def unit(key: bytes, values: Mapping[str, object], ttl_ms: int) -> EventCommands:
        groups: dict[int, list[tuple[bytes, bytes]]] = {}
        gone: list[bytes] = []
        for name, data in encode(values).items():
            if data is None:
                gone.append(name.encode())
            else:
                groups.setdefault(ttl_ms or lives[name], []).append((name.encode(), data))
        parts: list[bytes] = []
        for ttl, items in groups.items():
            parts += set_commands(key, items, ttl, hsetex=dialect.hsetex)
        if gone:
            parts.append(command(b"HDEL", key, *gone))
        if len(parts) <= 1:
            return b"".join(parts), len(parts)
        if not dialect.transactions:
            return row_command(key, groups, gone, 0, hsetex=dialect.hsetex), 1
        return transaction(WriteGroup(b"".join(parts), len(parts), 0)), len(parts) + 2

    return unit


def _fast(
    view: ViewPlan, names: Sequence[str], ttl_ms: int
) -> Callable[[bytes, Mapping[str, object]], bytes] | None:
    """The generated function for events of just these fields; `None` if one command won't do."""
    lives = {field.name: ttl_ms or field.ttl_ms for field in view.fields}
    ttls = {lives.get(name) for name in names}
    if len(ttls) != 1 or None in ttls:
        return None
    ttl = b"%d" % (ttls.pop() or 0)
    count = b"%d" % len(names)
    head = b"*%d\r\n$6\r\nHSETEX\r\n$%%d\r\n%%b\r\n" % (6 + 2 * len(names))
    template = head + bulk(b"PX") + bulk(ttl) + bulk(b"FIELDS") + bulk(count)
    template += b"".join(bulk(name.encode()) + b"$%d\r\n%b\r\n" for name in names)
    known: dict[str, object] = {"T": template}
    lines = []
    for i, name in enumerate(names):
        source, used = encoder_expression(view.field(name), f"E{i}")
        known |= used
        lines.append(f" v = e[{name!r}]\n v{i} = {source}\n")
    arguments = "".join(f", len(v{i}), v{i}" for i in range(len(names)))
    return build(
        "unit", f"def unit(k, e):\n{''.join(lines)} return T % (len(k), k{arguments})\n", known
    )


TimedEventFunction = Callable[[bytes, Mapping[str, object], int, int, int], EventCommands | None]
"""From a key, an event's values, the call's TTL in ms (0: none), its time and the time now. `None`
is an event that is not sent, since all it would write has expired by now."""


def event_time_write_group(view: ViewPlan, dialect: Dialect) -> TimedEventFunction:
    """The function that makes the unit of an event which is ordered by its time."""
    encode = event_encoder(view)
    lives = {field.name: field.ttl_ms for field in view.fields}
    clock = f"{view.event_time_field}".encode()
    longest = max([view.ttl_ms, *lives.values()])
    flag = hsetex_flag(hsetex=dialect.hsetex)

    def unit(
        key: bytes, values: Mapping[str, object], ttl_ms: int, event_ms: int, now_ms: int
    ) -> EventCommands | None:
        encoded = encode(values)
        if not encoded:
            return b"", 0
        clock_deadline = event_ms + max(ttl_ms, longest)
        if clock_deadline <= now_ms:
            return None
        time = b"%d" % event_ms
        groups: dict[int, list[bytes]] = {clock_deadline: [clock, time]}
        gone: list[bytes] = []
        alive = False
        for name, data in encoded.items():
            deadline = event_ms + (ttl_ms or lives[name])
            alive |= data is None or deadline > now_ms
            if data is not None and deadline > now_ms:
                groups.setdefault(deadline, []).extend((name.encode(), data))
            else:  # deleted, or expired by now: what is there is older still
                gone.append(name.encode())
        if not alive:
            return None
        parts = [b"EVALSHA", EVENT.sha, b"1", key, clock, time, flag, b"%d" % len(groups)]
        for deadline, pairs in groups.items():
            parts += [b"%d" % deadline, b"%d" % (len(pairs) // 2), *pairs]
        return command(*parts, *gone), 1

    return unit


def event_error(replies: Sequence[Reply]) -> str:
    """What is wrong with the replies to one event: a refusal, or a field left without expiry."""
    error = first_error(replies)
    if error is not None:
        return str(error)
    last = replies[-1]
    for reply in last if isinstance(last, list) else []:
        if isinstance(reply, list) and any(code != 1 for code in reply):
            return f"HPEXPIRE answered {reply}"
    return "" if last is not None else "the transaction was dropped"


def server_refusal(replies: Sequence[Reply]) -> str:
    """A refusal that is about the server and not about the event; empty if there is none."""
    error = first_error(replies)
    return "" if error is None or error.code == "WRONGTYPE" else str(error)


def is_script_missing(replies: Sequence[Reply]) -> bool:
    """Whether the server knows the script no more, as after a restart."""
    return any(isinstance(reply, ErrorReply) and reply.code == "NOSCRIPT" for reply in replies)
