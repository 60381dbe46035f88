"""Build the commands that write one event of a stream view, applied together or not at all.

Three forms, the cheapest that is correct:

- `ordering: arrival`, one TTL, nothing to delete, server with `HSETEX`: one `HSETEX`, from a
  function that is generated for each set of fields. It encodes common values inline and raises
  for the others, which then take the next form.
- `ordering: arrival`, anything else: the commands of a write group in a transaction, or one call of
  the script `ROW` where there are no transactions.
- `ordering: event_time`: one call of the script `EVENT`, which compares the event's time with the
  newest one and writes in the same step.

Deadlines count from the event's time if it is known, otherwise from the write, so that replaying an
old log does not make old values look fresh. An event with nothing left to write is not sent. A
deadline in the past is never sent: it would delete the newer value. A field that has expired by now
is left alone with `ordering: arrival`, where a newer event may have written it; with `event_time` it
is deleted, because what is stored is older still.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from featurekit.lower.build import build
from featurekit.lower.encoders import ENCODE_ERRORS, encoder_expression, field_encoder
from featurekit.lower.scripts import BAD_EVENT_TIME, EVENT
from featurekit.lower.window_scripts import BAD_TILES
from featurekit.lower.write_group import (
    Dialect,
    WriteGroup,
    row_command,
    set_commands,
    transaction,
)
from featurekit.plan import ViewPlan
from featurekit.wire import ErrorReply, Reply, bulk, command, first_error

_ENTITY_CODES = ("WRONGTYPE", BAD_EVENT_TIME, BAD_TILES)
"""Errors about one entity's key, event time or windows, which last until the entity is repaired."""

_MAX_FUNCTIONS = 1024
"""Generated functions to keep, one for each set of fields and TTL."""


EventCommands = tuple[bytes, int]
"""The framed commands of one event and the number of replies to them; a tuple, for speed."""

EventFunction = Callable[[bytes, Mapping[str, object], int], EventCommands]
"""Takes a key, an event's values and the call's own TTL in ms (0 for none)."""

TimedEventFunction = Callable[[bytes, Mapping[str, object], int, int, int], EventCommands | None]
"""Takes a key, an event's values, the call's own TTL in ms (0 for none), the event's time and the
current time. Returns `None` if everything that the event would write has expired."""

_ExpiryGroups = dict[int, list[tuple[bytes, bytes]]]
"""Fields and their bytes by TTL or deadline in ms."""

_Hsetex = tuple[Callable[[bytes, Mapping[str, object], int], bytes] | None, int]
"""A generated function and the TTL in ms that all its fields have. The function takes a key, an
event's values and their deadline, which it needs only if it sends `PXAT`."""


def event_encoder(view: ViewPlan) -> Callable[[Mapping[str, object]], dict[str, bytes | None]]:
    """Return the function that checks and encodes an event's fields; `None` deletes a field.

    Raises (the function):
        ValueRefusedError: A value does not fit; `where` names the field.
        UnknownNameError: The view has no such field.
    """
    encoders = {field.name: field_encoder(field) for field in view.fields}

    def encode_event(values: Mapping[str, object]) -> dict[str, bytes | None]:
        for name in values:
            if name not in encoders:
                view.field(name)
        return {name: encoders[name](value) for name, value in values.items()}

    return encode_event


def arrival_write_group(view: ViewPlan, dialect: Dialect) -> EventFunction:
    """Return the function that builds the commands of an event whose TTLs count from the write."""
    general = _general_function(view, dialect)
    if not dialect.hsetex:
        return general
    functions = _HsetexFunctions(view, absolute=False)

    def write_group(key: bytes, values: Mapping[str, object], ttl_ms: int) -> EventCommands:
        hsetex, ttl = functions[(ttl_ms, *values)]
        if hsetex is None:
            return general(key, values, ttl_ms)
        try:
            return hsetex(key, values, ttl), 1
        except ENCODE_ERRORS:
            return general(key, values, ttl_ms)

    return write_group


def timed_arrival_write_group(view: ViewPlan, dialect: Dialect) -> TimedEventFunction:
    """Return the function for events of a known time that are ordered by arrival."""
    general = _general_timed_function(view, dialect)
    if not dialect.hsetex:
        return general
    functions = _HsetexFunctions(view, absolute=True)

    def write_group(
        key: bytes, values: Mapping[str, object], ttl_ms: int, event_ms: int, now_ms: int
    ) -> EventCommands | None:
        hsetex, ttl = functions[(ttl_ms, *values)]
        deadline = event_ms + ttl
        if hsetex is None or deadline <= now_ms:
            return general(key, values, ttl_ms, event_ms, now_ms)
        try:
            return hsetex(key, values, deadline), 1
        except ENCODE_ERRORS:
            return general(key, values, ttl_ms, event_ms, now_ms)

    return write_group


def _general_function(view: ViewPlan, dialect: Dialect) -> EventFunction:
    """Return the form for events with any fields, TTLs and deletions."""
    encode = event_encoder(view)
    ttls_ms = {field.name: field.ttl_ms for field in view.fields}

    def write_group(key: bytes, values: Mapping[str, object], ttl_ms: int) -> EventCommands:
        groups: _ExpiryGroups = {}
        deletes: list[bytes] = []
        for name, data in encode(values).items():
            if data is None:
                deletes.append(name.encode())
            else:
                groups.setdefault(ttl_ms or ttls_ms[name], []).append((name.encode(), data))
        return _commands(key, groups, deletes, dialect, absolute=False)

    return write_group


def _general_timed_function(view: ViewPlan, dialect: Dialect) -> TimedEventFunction:
    """Return the form for timed events with any fields, TTLs and deletions."""
    encode = event_encoder(view)
    ttls_ms = {field.name: field.ttl_ms for field in view.fields}

    def write_group(
        key: bytes, values: Mapping[str, object], ttl_ms: int, event_ms: int, now_ms: int
    ) -> EventCommands | None:
        groups: _ExpiryGroups = {}
        deletes: list[bytes] = []
        for name, data in encode(values).items():
            deadline = event_ms + (ttl_ms or ttls_ms[name])
            if data is None:
                deletes.append(name.encode())
            elif deadline > now_ms:
                groups.setdefault(deadline, []).append((name.encode(), data))
        if values and not groups and not deletes:
            return None
        return _commands(key, groups, deletes, dialect, absolute=True)

    return write_group


def _commands(
    key: bytes, groups: _ExpiryGroups, deletes: list[bytes], dialect: Dialect, *, absolute: bool
) -> EventCommands:
    commands: list[bytes] = []
    for expiry, items in groups.items():
        commands += set_commands(key, items, expiry, hsetex=dialect.hsetex, absolute=absolute)
    if deletes:
        commands.append(command(b"HDEL", key, *deletes))
    if len(commands) <= 1:
        return b"".join(commands), len(commands)
    if not dialect.transactions:
        row = row_command(key, groups, deletes, 0, hsetex=dialect.hsetex, absolute=absolute)
        return row, 1
    group = WriteGroup(b"".join(commands), len(commands), 0)
    return transaction(group), len(commands) + 2


class _HsetexFunctions(dict[tuple[Any, ...], _Hsetex]):
    """The generated functions of a view by the call's own TTL and the names of the fields."""

    def __init__(self, view: ViewPlan, *, absolute: bool) -> None:
        super().__init__()
        self._view, self._absolute = view, absolute

    def __missing__(self, shape: tuple[Any, ...]) -> _Hsetex:
        if len(self) >= _MAX_FUNCTIONS:
            self.clear()
        ttl_ms, *names = shape
        self[shape] = _hsetex_function(self._view, names, ttl_ms, absolute=self._absolute)
        return self[shape]


def _hsetex_function(
    view: ViewPlan, names: Sequence[str], ttl_ms: int, *, absolute: bool
) -> _Hsetex:
    """Return the generated function for events with exactly these fields, and their TTL.

    The function is `None` if one `HSETEX` cannot write them: their TTLs differ, or a field is unknown.
    """
    ttls_ms = {field.name: ttl_ms or field.ttl_ms for field in view.fields}
    distinct = {ttls_ms.get(name) for name in names}
    if len(distinct) != 1 or None in distinct:
        return None, 0
    ttl, count = distinct.pop() or 0, b"%d" % len(names)
    head = b"*%d\r\n$6\r\nHSETEX\r\n$%%d\r\n%%b\r\n" % (6 + 2 * len(names))
    expiry = b"$4\r\nPXAT\r\n$%d\r\n%b\r\n" if absolute else bulk(b"PX") + bulk(b"%d" % ttl)
    template = head + expiry + bulk(b"FIELDS") + bulk(count)
    template += b"".join(bulk(name.encode()) + b"$%d\r\n%b\r\n" for name in names)
    known: dict[str, object] = {"T": template}
    lines = [" d = b'%d' % d\n"] if absolute else []
    for i, name in enumerate(names):
        expression, used = encoder_expression(view.field(name), f"E{i}")
        known |= used
        lines.append(f" v = e[{name!r}]\n v{i} = {expression}\n")
    arguments = ", len(d), d" if absolute else ""
    arguments += "".join(f", len(v{i}), v{i}" for i in range(len(names)))
    source = f"def hsetex(k, e, d):\n{''.join(lines)} return T % (len(k), k{arguments})\n"
    return build("hsetex", source, known), ttl


def event_time_write_group(view: ViewPlan, dialect: Dialect) -> TimedEventFunction:
    """Return the function that builds the command of an event that is ordered by its time."""
    encode = event_encoder(view)
    ttls_ms = {field.name: field.ttl_ms for field in view.fields}
    event_time_field = f"{view.event_time_field}".encode()
    longest_ttl_ms = max([view.ttl_ms, *ttls_ms.values()])
    partial_mode, whole_mode = (b"1", b"3") if dialect.hsetex else (b"0", b"2")

    def write_group(
        key: bytes, values: Mapping[str, object], ttl_ms: int, event_ms: int, now_ms: int
    ) -> EventCommands | None:
        encoded = encode(values)
        if not encoded:
            return b"", 0
        time_deadline = event_ms + max(ttl_ms, longest_ttl_ms)
        if time_deadline <= now_ms:
            return None
        time = b"%d" % event_ms
        groups: dict[int, list[bytes]] = {time_deadline: [event_time_field, time]}
        deletes: list[bytes] = []
        has_effect = False
        for name, data in encoded.items():
            deadline = event_ms + (ttl_ms or ttls_ms[name])
            has_effect |= data is None or deadline > now_ms
            if data is not None and deadline > now_ms:
                groups.setdefault(deadline, []).extend((name.encode(), data))
            else:  # null, or expired by now
                deletes.append(name.encode())
        if not has_effect:
            return None
        mode = whole_mode if len(encoded) == len(ttls_ms) else partial_mode
        head = (EVENT.sha, b"1", key, event_time_field, time, mode, b"%d" % len(groups))
        arguments: list[bytes] = []
        for deadline, pairs in groups.items():
            arguments += [b"%d" % deadline, b"%d" % (len(pairs) // 2), *pairs]
        return command(b"EVALSHA", *head, *arguments, *deletes), 1

    return write_group


def event_error(replies: Sequence[Reply]) -> str:
    """Return what failed in the replies to one event: a command, or the expiry of a field."""
    error = first_error(replies)
    if error is not None:
        return str(error)
    last = replies[-1]
    for reply in last if isinstance(last, list) else []:
        # 2: the deadline passed on the way, and the field is gone.
        if isinstance(reply, list) and any(code not in (1, 2) for code in reply):
            return f"HPEXPIRE answered {reply}"
    return "" if last is not None else "the server discarded the transaction"


def server_refusal(replies: Sequence[Reply]) -> str:
    """Return an error that is about the server, not about the entity; empty if there is none."""
    error = first_error(replies)
    return "" if error is None or error.code in _ENTITY_CODES else str(error)


def is_script_missing(replies: Sequence[Reply]) -> bool:
    """Return whether the server lost its scripts, as after a restart."""
    return any(isinstance(reply, ErrorReply) and reply.code == "NOSCRIPT" for reply in replies)
