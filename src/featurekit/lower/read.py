"""Reads: from entities to `HMGET` bytes, and from replies to rows.

One function is generated for a whole row: each field's decoder stands in it as an
expression. A row that does not decode, and only that row, takes the plain path.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from typing_extensions import override

from featurekit.lower.build import build
from featurekit.lower.keys import KeyFunction, key_function
from featurekit.plan import FieldPlan, ReadPlan
from featurekit.types import DECODE_ERRORS, codec_of
from featurekit.wire import UNAVAILABLE as AWAY
from featurekit.wire import ErrorReply, bulk, command

Cell = bytes | ErrorReply | None
"""One value as it came: bytes, nothing, or the error that took the place of its hash."""


class Stale(bytes):
    """A value as it came, that is older than the read allows."""

    @override
    def __repr__(self) -> str:
        return f"Stale({super().__repr__()})"


Raw = Sequence[Cell]
"""One row as it came: the fields of all groups, one after another."""


class PartialRow(list[Cell]):
    """A row as it came of which not all that is there is present: some value did not decode, say."""


RequestsFunction = Callable[[Sequence[bytes]], list[bytes]]
RowDecoder = Callable[[Any], Any]
"""From the reply to one request to the row that a reader gives."""


@dataclass(frozen=True, slots=True)
class AbsentCounters:
    """What counts the values that are not there: endless iterators of `None`, a step for each.

    Attributes:
        columns: For each feature its iterator.
        rows: That of rows of which nothing is there; their features are not counted one by one.
    """

    columns: Sequence[Iterator[None]]
    rows: Iterator[None]


Status = Literal["present", "default", "missing", "invalid", "unavailable", "stale"]
"""What a read found for one value."""

STATUSES: tuple[str, ...] = get_args(Status)
PRESENT, DEFAULT, MISSING, INVALID, UNAVAILABLE, STALE = STATUSES


@dataclass(frozen=True, slots=True)
class GroupReader:
    """How the hashes of one entity are asked.

    Attributes:
        key: From an entity to its key.
        requests: From keys to one request each.
        width: Replies to each request, the same for all groups; the last is that to `HMGET`.
        fields: How many fields of the plan the request names.
        clocks: The clock fields it names after those, to tell ages by.
        ttls: The fields whose TTLs the first reply tells; if none, no request asks for any.
    """

    key: KeyFunction
    requests: RequestsFunction
    width: int
    fields: int
    clocks: tuple[str, ...]
    ttls: tuple[str, ...]


def group_readers(plan: ReadPlan, *, freshness: bool) -> tuple[GroupReader, ...]:
    """The groups of a read, lowered.

    Where ages are bound, each request asks for the TTLs that tell them, of fields or of the key;
    with `freshness` for all of them, and for the clocks as well.
    """
    bounded = [column for column in plan.columns if column.min_remaining_ttl_ms is not None]
    of_fields = freshness or any(column.field.ttl_ms for column in bounded)
    of_key = freshness or any(not column.field.ttl_ms for column in bounded)
    readers = []
    for index, group in enumerate(plan.groups):
        clocked = [c.event_time_field for c in plan.columns if c.group == index]
        clocks = tuple(dict.fromkeys(filter(None, clocked))) if freshness else ()
        names = (*group.fields, *clocks)
        own = tuple(c.field.name for c in bounded if c.group == index and c.field.ttl_ms)
        # All requests get as many replies, so that one may ask for what nobody needs.
        ttls = names if freshness else (own or names[:1]) if of_fields else ()
        requests, width = requests_function(names, ttls=ttls, key_ttl=of_key)
        key = key_function(group.key)
        readers.append(GroupReader(key, requests, width, len(group.fields), clocks, ttls))
    return tuple(readers)


def group_offsets(plan: ReadPlan) -> tuple[int, ...]:
    """Where the fields of each group begin in a raw row."""
    sizes = [len(group.fields) for group in plan.groups]
    return tuple(sum(sizes[:i]) for i in range(len(sizes)))


def requests_function(
    names: Sequence[str], *, ttls: Sequence[str] = (), key_ttl: bool = False
) -> tuple[RequestsFunction, int]:
    """The function from keys to request bytes, and the replies that each request gets.

    Args:
        names: The fields to read; their values are the last reply.
        ttls: The fields to ask the TTLs of, in a reply before that.
        key_ttl: Whether to ask for the key's TTL, in a reply right before the values.
    """
    fields, timed = [name.encode() for name in names], [name.encode() for name in ttls]
    shapes = [(b"HPTTL", [b"FIELDS", b"%d" % len(timed), *timed])] if timed else []
    shapes += [(b"PTTL", [])] if key_ttl else []
    shapes += [(b"HMGET", fields)]
    template = b"".join(
        b"*%d\r\n" % (2 + len(rest)) + bulk(verb) + b"$%d\r\n%b\r\n" + b"".join(map(bulk, rest))
        for verb, rest in shapes
    )
    arguments = ", ".join(["len(k), k"] * len(shapes))
    source = f"def requests(keys):\n return [T % ({arguments}) for k in keys]\n"
    return build("requests", source, {"T": template}), len(shapes)


def row_function(
    plan: ReadPlan, otherwise: RowDecoder, steps: AbsentCounters | None = None
) -> RowDecoder:
    """The generated function from raw values to the features and, after them, those values.

    Args:
        plan: What is read.
        otherwise: Takes what does not decode, whatever it is.
        steps: What counts the values that are not there; `None` if nobody does.
    """
    terms, defaults, names = decoder_expressions(plan, steps)
    body, none = ",\n   ".join([*terms, "r"]), ", ".join([*defaults, "r"])
    source = (
        "def row(r):\n try:\n"
        f"  if {NOTHING}:\n{'   next(A)' if steps else ''}\n   return ({none})\n"
        f"  return (\n   {body},\n  )\n"
        " except E:\n  return otherwise(r)\n"
    )
    return build("row", source, names | {"E": DECODE_ERRORS, "otherwise": otherwise})


def absent_status(field: FieldPlan) -> str:
    """The status of a value that is not there."""
    return MISSING if field.default is None else DEFAULT


NOTHING = "r[0] is None and r == NONE"
"""Whether nothing is there of a raw row: an entity that is not known is soon done with."""


def decoder_expressions(
    plan: ReadPlan, steps: AbsentCounters | None
) -> tuple[list[str], list[str], dict[str, object]]:
    """For each feature an expression of the raw row `r`, one of its default, and their globals."""
    names: dict[str, object] = {"NONE": [None] * sum(len(group.fields) for group in plan.groups)}
    if steps is not None:
        names |= {"next": next, "A": steps.rows}
    starts = group_offsets(plan)
    terms, defaults = [], []
    for index, column in enumerate(plan.columns):
        codec = codec_of(column.field.dtype)
        names |= codec.decoder_globals()
        cell = f"r[{starts[column.group] + column.slot}]"
        default = _default(column.field, f"D{index}", names)
        defaults.append(default)
        if steps is not None:
            names[f"A{index}"] = steps.columns[index]
            default = f"next(A{index}) or {default}"
        terms.append(
            f"{codec.decoder_expression('v')} if (v := {cell}) is not None else {default}"
        )
    return terms, defaults, names


def _default(field: FieldPlan, name: str, names: dict[str, object]) -> str:
    if field.default is None:
        return "None"
    codec = codec_of(field.dtype)
    if codec.is_scalar:
        names[name] = codec.decode(field.default)
        return name
    # A list or dict is made anew for each row, so that no caller changes another's default.
    names[name] = field.default
    return codec.decoder_expression(name)


def decode_row_by_cell(plan: ReadPlan, raw: Raw) -> tuple[tuple[object, ...], tuple[str, ...]]:
    """A row's features and their statuses, value by value; never raises for what came."""
    starts = group_offsets(plan)
    pairs = [decode_cell(c.field, raw[starts[c.group] + c.slot]) for c in plan.columns]
    return tuple(value for value, _ in pairs), tuple(status for _, status in pairs)


def decode_cell(field: FieldPlan, cell: Cell) -> tuple[object, str]:
    """One value and its status: the reference of the generated decoder."""
    codec = codec_of(field.dtype)
    status = absent_status(field)
    if isinstance(cell, ErrorReply):
        status = UNAVAILABLE if cell.code == AWAY else INVALID
    elif isinstance(cell, Stale):
        status = STALE
    elif cell is not None:
        try:
            return codec.decode(cell), PRESENT
        except DECODE_ERRORS:
            status = INVALID
    return None if field.default is None else codec.decode(field.default), status


def inspect_requests(key: bytes, fields: Sequence[str]) -> list[bytes]:
    """What `inspect` asks besides the hash: the fields' TTLs, the key's TTL, the encoding."""
    names = [f.encode() for f in fields]
    return [
        command(b"HPTTL", key, b"FIELDS", b"%d" % len(names), *names),
        command(b"PTTL", key),
        command(b"OBJECT", b"ENCODING", key),
    ]
