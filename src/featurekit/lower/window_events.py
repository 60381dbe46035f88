"""Turn the events of a windowed view into calls of its script, one call for each entity."""

from __future__ import annotations

import hashlib
import zlib
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence

from featurekit.errors import UnknownNameError, ValueRefusedError
from featurekit.lower.build import build
from featurekit.lower.encoders import ENCODE_ERRORS, encoder_expression, field_encoder
from featurekit.lower.expressions import compile_row_function
from featurekit.lower.scripts import Script
from featurekit.lower.window_scripts import HASH_SIZE, ID_SIZE, event_arguments
from featurekit.plan import (
    AggregatePlan,
    KafkaTopicPlan,
    RedisStreamPlan,
    ViewPlan,
    WindowsPlan,
)
from featurekit.types import codec_of, short_repr
from featurekit.wire import bulk

EventArguments = Callable[[Mapping[str, object]], tuple[bytes, ...]]
"""Checks the inputs of an event, and returns the arguments of the script that follow its time."""

Call = Callable[[bytes, int, Sequence[bytes]], bytes]
"""Returns the call for a key, the current time in ms, and the ids, times and arguments of its events."""


def arguments_function(view: ViewPlan, windows: WindowsPlan) -> EventArguments:
    """Return the function from the inputs of an event to the arguments of the script.

    An input that the event does not have is null. Keys of the event that are neither inputs nor its
    id are refused.

    Raises (the function):
        ValueRefusedError: A value does not fit; `where` names the input.
        UnknownNameError: The view has no such input.
    """
    names = {each.name for each in windows.inputs}
    known = names | {windows.event_id} if windows.event_id else names

    def refuse_unknown(values: Mapping[str, object]) -> None:
        for name in values:
            if name not in known:
                raise UnknownNameError.among(
                    "input", name, sorted(names), where=f"feature view {view.name}"
                )

    fast, plain = (
        _arguments(view, windows, refuse_unknown, known, inline=inline) for inline in (True, False)
    )

    def arguments(values: Mapping[str, object]) -> tuple[bytes, ...]:
        try:
            return fast(values)
        except ENCODE_ERRORS:
            return plain(values)

    return arguments


def _arguments(
    view: ViewPlan,
    windows: WindowsPlan,
    refuse_unknown: Callable[[Mapping[str, object]], None],
    known: set[str],
    *,
    inline: bool,
) -> EventArguments:
    """Return the generated function; `inline` encodes common values without the reference."""
    scope: dict[str, object] = {
        "known": known, "refuse_unknown": refuse_unknown, "digest": _digest,
    }  # fmt: skip
    plans = event_arguments(view)
    in_conditions = {name for plan in plans if plan.where for name in plan.where.names}
    lines = ["def arguments(e):", " if not e.keys() <= known: refuse_unknown(e)"]
    numbers = {}
    for i, field in enumerate(windows.inputs):
        numbers[field.name] = i
        expression, used = encoder_expression(field, f"E{i}")
        if not inline:
            expression, used = f"E{i}(v)", {f"E{i}": field_encoder(field)}
        scope |= used
        lines += [f" v = e.get({field.name!r})", f" b{i} = {expression}"]
        codec = codec_of(field.dtype)
        if codec.has_nan:
            lines.append(f" if b{i} == b'-0': b{i} = b'0'")
        if field.name in in_conditions:
            scope[f"D{i}"] = codec.decode
            lines.append(f" v{i} = None if b{i} is None else D{i}(b{i})")
    lines += _conditions(plans, numbers, scope)
    results = [_argument(plan, numbers, _condition_name(plan, plans)) for plan in plans]
    lines.append(f" return ({''.join(f'{each}, ' for each in results)})")
    return build("arguments", "\n".join(lines) + "\n", scope)


def _conditions(
    plans: Sequence[AggregatePlan], numbers: Mapping[str, int], scope: dict[str, object]
) -> list[str]:
    """Return the lines that compute each condition once."""
    lines = []
    for index, plan in enumerate(plans):
        if plan.where is None or _condition_name(plan, plans) != f"w{index}":
            continue
        scope[f"W{index}"] = compile_row_function(plan.where)
        values = ", ".join(f"v{numbers[name]}" for name in plan.where.names)
        lines.append(f" w{index} = W{index}({values}) is True")
    return lines


def _condition_name(plan: AggregatePlan, plans: Sequence[AggregatePlan]) -> str | None:
    """Return the variable of a condition; equal ones share that of the first."""
    if plan.where is None:
        return None
    return f"w{next(i for i, each in enumerate(plans) if each.where == plan.where)}"


def _argument(plan: AggregatePlan, numbers: Mapping[str, int], condition: str | None) -> str:
    """Return the expression of one argument: empty if the event does not count."""
    tests = [condition] if condition else []
    value = "b'1'"
    if plan.of is not None:
        data = f"b{numbers[plan.of]}"
        tests.append(f"{data} is not None")
        if plan.function != "count":
            value = f"digest({data})" if plan.function == "count_distinct" else data
    return f"{value} if {' and '.join(tests)} else b''"


def _digest(data: bytes) -> bytes:
    """Return what stands for a distinct value: the start of the SHA-1 of its bytes."""
    return hashlib.sha1(data, usedforsecurity=False).hexdigest()[:HASH_SIZE].encode()


def call_function(view: ViewPlan, windows: WindowsPlan, script: Script) -> Call:
    """Return the function that builds a call of a view's script."""
    stream = view.stream
    keys, first = b"1", b""
    after_key = b""
    if windows.once == "group" and isinstance(stream, RedisStreamPlan):
        keys, after_key, first = b"2", bulk(stream.stream.encode()), bulk(stream.group.encode())
    elif windows.once == "offset" and isinstance(stream, KafkaTopicPlan):
        first = bulk(b"%08x" % zlib.crc32(stream.topic.encode()))
    head = bulk(b"EVALSHA") + bulk(script.sha) + bulk(keys)
    fixed = 5 + (1 if after_key else 0) + (1 if first else 0)

    def call(key: bytes, now_ms: int, arguments: Sequence[bytes]) -> bytes:
        now = b"%d" % now_ms
        body = b"".join([b"$%d\r\n%b\r\n" % (len(each), each) for each in arguments])
        return b"*%d\r\n%b$%d\r\n%b\r\n%b$%d\r\n%b\r\n%b%b" % (
            *(fixed + len(arguments), head, len(key), key, after_key),
            *(len(now), now, first, body),
        )

    return call


def event_id_bytes(
    windows: WindowsPlan, values: Mapping[str, object], position: str | None
) -> bytes:
    """Return the id of an event as the script takes it; empty if a repeated one looks like a new one.

    Raises:
        ValueRefusedError: The view has `once: {event_id: …}`, and the event has no id.
    """
    if windows.once == "event_id":
        name = windows.event_id
        return _hashed_id(name or "", values.get(name) if name else position)
    if position is None or windows.once == "none":
        return b""
    if windows.once == "group":
        return position.encode()
    _, partition, offset = position.rsplit("/", 2)
    return f"{partition}:{offset}".encode()


def _hashed_id(name: str, value: object) -> bytes:
    if value is None or value == "":
        raise ValueRefusedError(
            "an event of this view must have an id, by which repeated events are found", where=name
        )
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueRefusedError(
            f"{short_repr(value)} is not an id: expected text or an integer", where=name
        )
    try:
        digest = hashlib.sha1(str(value).encode(), usedforsecurity=False).digest()
    except UnicodeEncodeError:
        raise ValueRefusedError(f"{short_repr(value)} is not UTF-8", where=name) from None
    return b64encode(digest)[:ID_SIZE]
