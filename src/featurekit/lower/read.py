"""Build the `HMGET` requests of a read, and decode one cell of the replies. `row_decoder` decodes rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from typing_extensions import override

from featurekit.lower.build import build
from featurekit.lower.keys import KeyFunction, key_function
from featurekit.plan import FieldPlan, ReadPlan
from featurekit.types import DECODE_ERRORS, Codec, codec_of
from featurekit.wire import UNAVAILABLE as UNAVAILABLE_CODE
from featurekit.wire import ErrorReply, bulk, command

Cell = bytes | ErrorReply | None
"""One stored value: its bytes, `None` if there is none, or the error that replaces its hash."""

Cells = Sequence[Cell]
"""The stored values of one row: the fields of all groups, one group after another."""


class Stale(bytes):
    """The bytes of a value that is older than the read allows."""

    @override
    def __repr__(self) -> str:
        return f"Stale({super().__repr__()})"


class StaleAbsence(Stale):
    """A value that is not stored, where that means nothing: the view's mark is too old."""


class FailedFunction(bytes):
    """The cell of a feature whose function is not available or has failed."""


class PartialRow(list[Cell]):
    """The cells of a row with an undecodable, stale or unavailable value."""


RequestsFunction = Callable[[Sequence[bytes]], list[bytes]]
"""Returns one request for each key."""

RowDecoder = Callable[[Any], Any]
"""Returns the row of a reader for the reply to one request."""


@dataclass(frozen=True, slots=True)
class AbsentCounters:
    """Counters of absent values: endless iterators of `None`, advanced once for each value.

    Attributes:
        columns: One for each feature.
        rows: For rows without any stored value; their features are not counted one by one.
    """

    columns: Sequence[Iterator[None]]
    rows: Iterator[None]


Status = Literal["present", "default", "missing", "invalid", "unavailable", "stale"]
"""What a read found for one value."""

STATUSES: tuple[str, ...] = get_args(Status)
PRESENT, DEFAULT, MISSING, INVALID, UNAVAILABLE, STALE = STATUSES


@dataclass(frozen=True, slots=True)
class GroupReader:
    """How to read the hashes of one entity.

    Attributes:
        key: Returns the key of an entity.
        requests: Returns one request for each key.
        replies_per_request: The same for all groups; the last reply is that to `HMGET`.
        field_count: The number of the plan's fields that a request names.
        event_time_fields: The hash fields with event times that it names after those: all with
            freshness, else those that limit an age.
        ttl_fields: The fields whose TTLs are in the first reply; if empty, no TTLs of fields are.
    """

    key: KeyFunction
    requests: RequestsFunction
    replies_per_request: int
    field_count: int
    event_time_fields: tuple[str, ...]
    ttl_fields: tuple[str, ...]


def group_readers(plan: ReadPlan, *, freshness: bool) -> tuple[GroupReader, ...]:
    """Return the lowered groups of a read.

    If ages are limited, each request asks for the TTLs that determine them, of fields or of the
    key. With `freshness`, it asks for all TTLs and for event times as well.
    """
    limited = [column for column in plan.stored if column.min_remaining_ttl_ms is not None]
    needs_field_ttls = freshness or any(column.field.ttl_ms for column in limited)
    needs_key_ttl = freshness or any(not column.field.ttl_ms for column in limited)
    readers = []
    for index, group in enumerate(plan.groups):
        event_times = [
            column.event_time_field
            for column in plan.stored
            if column.group == index and (freshness or column.max_event_age_ms is not None)
        ]
        event_time_fields = tuple(dict.fromkeys(filter(None, event_times)))
        names = (*group.fields, *event_time_fields)
        ttl_fields = tuple(c.field.name for c in limited if c.group == index and c.field.ttl_ms)
        if freshness:
            ttl_fields = names
        elif needs_field_ttls and not ttl_fields:
            ttl_fields = names[:1]  # unused; all requests get the same number of replies
        requests, replies = requests_function(names, ttls=ttl_fields, key_ttl=needs_key_ttl)
        key = key_function(group.key)
        count = len(group.fields)
        readers.append(GroupReader(key, requests, replies, count, event_time_fields, ttl_fields))
    return tuple(readers)


def group_offsets(plan: ReadPlan) -> tuple[int, ...]:
    """Return the index of each group's first field in the cells of a row."""
    sizes = [len(group.fields) for group in plan.groups]
    return tuple(sum(sizes[:i]) for i in range(len(sizes)))


def group_spans(plan: ReadPlan) -> dict[str, tuple[int, int]]:
    """Return for each entity, or its alias, the range of its fields in the cells of a row.

    Views without an entity are left out: they are the same for all rows.
    """
    pairs = zip(plan.groups, group_offsets(plan), strict=True)
    return {
        group.name: (start, start + len(group.fields))
        for group, start in pairs
        if not group.is_global
    }


def any_stored(cells: Cells, span: tuple[int, int]) -> bool:
    """Return whether a range of a row's cells has a stored value, of any age."""
    part = cells[span[0] : span[1]]
    if type(cells) is list:  # without errors
        return part.count(None) < len(part)
    return any(
        cell is not None and not isinstance(cell, ErrorReply | StaleAbsence) for cell in part
    )


def requests_function(
    names: Sequence[str], *, ttls: Sequence[str] = (), key_ttl: bool = False
) -> tuple[RequestsFunction, int]:
    """Return the function from keys to requests, and the number of replies to each request.

    Args:
        names: The fields to read; their values are the last reply.
        ttls: The fields whose TTLs to read, in a reply before that.
        key_ttl: Whether to read the key's TTL, in the reply right before the values.
    """
    fields, ttl_fields = [name.encode() for name in names], [name.encode() for name in ttls]
    commands: list[tuple[bytes, list[bytes]]] = []
    if ttl_fields:
        commands.append((b"HPTTL", [b"FIELDS", b"%d" % len(ttl_fields), *ttl_fields]))
    if key_ttl:
        commands.append((b"PTTL", []))
    commands.append((b"HMGET", fields))
    template = b"".join(
        b"*%d\r\n" % (2 + len(rest)) + bulk(verb) + b"$%d\r\n%b\r\n" + b"".join(map(bulk, rest))
        for verb, rest in commands
    )
    arguments = ", ".join(["len(k), k"] * len(commands))
    source = f"def requests(keys):\n return [T % ({arguments}) for k in keys]\n"
    return build("requests", source, {"T": template}), len(commands)


def absent_status(field: FieldPlan) -> str:
    """Return the status of an absent value."""
    return MISSING if field.default is None else DEFAULT


def column_codec(plan: ReadPlan, field: FieldPlan) -> Codec:
    """Return the codec of a feature of a read."""
    codec = codec_of(field.dtype)
    return codec.as_arrays() if plan.arrays else codec


ROW_ERRORS = (*DECODE_ERRORS, AttributeError, IndexError)
"""What the generated functions raise for undecodable bytes, and for cells that are not bytes."""


def decode_cell(field: FieldPlan, cell: Cell, codec: Codec | None = None) -> tuple[object, str]:
    """Return one value and its status: the reference of the generated decoder."""
    codec = codec or codec_of(field.dtype)
    status = bad_status(cell)
    if status is None:
        status = absent_status(field)
        if cell is not None:
            try:
                return codec.decode(cell), PRESENT  # type: ignore[arg-type]
            except ROW_ERRORS:
                status = INVALID
    return default_value(field, codec), status


def bad_status(cell: Cell) -> str | None:
    """Return the status of a cell that holds something else than a value; `None` if it may hold one."""
    if isinstance(cell, ErrorReply):
        return UNAVAILABLE if cell.code == UNAVAILABLE_CODE else INVALID
    if isinstance(cell, Stale):
        return STALE
    return INVALID if isinstance(cell, FailedFunction) else None


def default_value(field: FieldPlan, codec: Codec) -> object:
    """Return the default of a field; `None` if it has none."""
    return None if field.default is None else codec.decode(field.default)


def inspect_requests(key: bytes, fields: Sequence[str]) -> list[bytes]:
    """Return what `inspect` reads besides the hash: TTLs of fields and key, and the encoding."""
    names = [f.encode() for f in fields]
    return [
        command(b"HPTTL", key, b"FIELDS", b"%d" % len(names), *names),
        command(b"PTTL", key),
        command(b"OBJECT", b"ENCODING", key),
    ]
