"""Chunks: a whole record batch as RESP, built by Arrow compute.

The bytes are those of `units`, row by row, without a value passing through Python. Nulls drop out
of a join of pieces, so a null field costs nothing and leaves an `HDEL`. There is `MULTI` and `EXEC`
around each block of a few rows; where there are no transactions, each row is one command.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from featurekit.lower.scripts import ROW
from featurekit.lower.write_group import (
    Dialect,
    command_errors,
    row_errors,
    ttl_groups,
    view_key_ttl_ms,
)
from featurekit.plan import ViewPlan
from featurekit.wire import EXEC, MULTI, Reply, bulk

BLOCK = 32
"""Rows in one transaction: enough that `MULTI` costs little, few enough that no other client waits."""

_TABLE = 256
"""Lengths below this are framed by a look-up, longer ones by a cast."""


@dataclass(frozen=True, slots=True)
class EncodedChunk:
    """A chunk's bytes and what its replies will look like.

    Attributes:
        data: Complete transactions, or a command for each row.
        replies: How many replies they get.
        lines: How many lines those take if nothing is refused.
        faults: From all replies to which rows were refused, and why.
        ends: From nothing to where each row's bytes end; for rows of one command alone.
    """

    data: memoryview
    replies: int
    lines: int
    faults: Callable[[list[Reply]], dict[int, str]]
    ends: Callable[[], Sequence[int]]


@dataclass(slots=True)
class _Command:
    """One command of every row, as pieces to be joined.

    Attributes:
        pieces: Arrays and scalars, in order; a null piece is no bytes.
        present: 1 where the row has the command, else 0; or 1 for all rows.
        lines: Lines of its reply over all rows.
    """

    pieces: list[Any]
    present: Any
    lines: int


def build_chunk(
    view: ViewPlan, keys: Any, values: Sequence[Any], dialect: Dialect
) -> EncodedChunk:
    """The commands that write `n` rows of a batch view.

    Args:
        view: The compiled view.
        keys: `n` keys, a binary array without nulls.
        values: For each field of the view, `n` values as bytes in the hash; null deletes.
        dialect: How the server is told what belongs together.
    """
    columns = dict(zip([f.name for f in view.fields], values, strict=True))
    framed = _join([_framed_lengths(b"", pc.binary_length(keys)), keys])
    if not dialect.transactions:
        return _row_commands(view, framed, columns, dialect)
    commands: list[_Command] = []
    for ttl_ms, names in ttl_groups(view).items():
        items = [(n, columns[n]) for n in names]
        commands += _set_commands(framed, items, ttl_ms, hsetex=dialect.hsetex)
    if (gone := _delete_command(framed, columns, view.retired)) is not None:
        commands.append(gone)
    if view.expires == "key":
        tail = b"\r\n" + bulk(b"%d" % view.ttl_ms)
        pieces = [b"*3\r\n" + bulk(b"PEXPIRE"), framed, tail]
        commands.append(_Command(pieces, 1, len(keys)))
    return _assemble(len(keys), commands)


def _row_commands(
    view: ViewPlan, framed: Any, columns: dict[str, Any], dialect: Dialect
) -> EncodedChunk:
    """Each row as one command: the bytes of `units.row_command`."""
    lives = {ttl: [(n, columns[n]) for n in names] for ttl, names in ttl_groups(view).items()}
    gone, names_gone = _gone(columns, view.retired)
    joined = None
    if dialect.hsetex and len(lives) == 1 and view.expires == "field":
        [(ttl_ms, items)] = lives.items()
        [alone] = _set_commands(framed, items, ttl_ms, hsetex=True)
        joined = _join(alone.pieces)
    if joined is None or not isinstance(gone, int) or gone:
        scripted = _join(_script_calls(view, framed, lives, (gone, names_gone), dialect))
        joined = scripted if joined is None else pc.if_else(pc.equal(gone, 0), joined, scripted)
    n = len(framed)
    return EncodedChunk(_data(joined), n, n, command_errors, partial(_ends, joined))


def _script_calls(
    view: ViewPlan,
    framed: Any,
    lives: dict[int, list[tuple[str, Any]]],
    deleted: tuple[Any, list[Any]],
    dialect: Dialect,
) -> list[Any]:
    """Each row as a call of the script `ROW`, as pieces to be joined."""
    gone, names_gone = deleted
    groups = [_set_count(items) for items in lives.values()]
    body: list[Any] = []
    for (ttl_ms, items), count in zip(lives.items(), groups, strict=True):
        body += [_by_count(count, partial(_group_head, ttl_ms)), *_pairs(items)]
    filled = [_by_count(count, lambda k: int(k > 0), pa.int32()) for count in groups]
    size = _sum(8, gone, *filled, *filled, *groups, *groups)
    constant = _argument(view_key_ttl_ms(view)) + _argument(int(dialect.hsetex))
    return [
        _by_count(size, lambda k: b"*%d\r\n" % k + bulk(b"EVALSHA") + bulk(ROW.sha) + bulk(b"1")),
        *(framed, constant, _by_count(_sum(0, *filled), _argument), _by_count(gone, _argument)),
        *(*body, *names_gone, b"\r\n"),
    ]


def _group_head(ttl_ms: int, size: int) -> bytes | None:
    return _argument(ttl_ms) + _argument(size) if size else None


def _assemble(n: int, commands: list[_Command]) -> EncodedChunk:
    first, last = _marks(n)
    joined = _join([first, *(p for c in commands for p in c.pieces), last])
    blocks = -(-n // BLOCK)
    queued = sum(
        c.present * n if isinstance(c.present, int) else pc.sum(c.present).as_py()
        for c in commands
    )

    def counts() -> list[int]:
        per_row = [0] * n
        for c in commands:
            present = [c.present] * n if isinstance(c.present, int) else c.present.to_pylist()
            per_row = [a + b for a, b in zip(per_row, present, strict=True)]
        return per_row

    return EncodedChunk(
        data=_data(joined),
        replies=queued + 2 * blocks,
        lines=queued + 2 * blocks + sum(c.lines for c in commands),
        faults=lambda replies: row_errors(replies, counts(), BLOCK),
        ends=partial(_ends, joined),
    )


def _data(joined: Any) -> memoryview:
    """The bytes of all rows, one after another."""
    total = pc.sum(pc.binary_length(joined)).as_py() or 0
    return memoryview(joined.buffers()[2] or b"")[:total]


def _ends(joined: Any) -> Sequence[int]:
    """Where each row ends in those bytes: a fresh array's own offsets."""
    return memoryview(joined.buffers()[1]).cast("i")[1 : len(joined) + 1]


def _set_commands(
    framed: Any, items: list[tuple[str, Any]], ttl_ms: int, *, hsetex: bool
) -> list[_Command]:
    """What sets the fields of one TTL: `HSET`, or `HSETEX`, or `HSET` and `HPEXPIRE`."""
    count, pairs, n = _set_count(items), _pairs(items), len(framed)
    plain = partial(_command, n, framed, count, lambda k: b"*%d\r\n$4\r\nHSET\r\n" % (2 + 2 * k))
    if not ttl_ms:
        return [plain(None, pairs)]
    ttl = bulk(b"%d" % ttl_ms)

    def fields(k: int) -> bytes:
        return bulk(b"FIELDS") + b"$%d\r\n%d" % (len(b"%d" % k), k)

    if hsetex:

        def head(k: int) -> bytes:
            return b"*%d\r\n$6\r\nHSETEX\r\n" % (6 + 2 * k)

        return [
            _command(
                n, framed, count, head, lambda k: b"\r\n" + bulk(b"PX") + ttl + fields(k), pairs
            )
        ]
    return [plain(None, pairs), _expire_command(framed, items, count, lambda k: ttl + fields(k))]


def _set_count(items: list[tuple[str, Any]]) -> Any:
    """How many of the fields a row sets."""
    nullable = [values for _, values in items if values.null_count]
    return _sum(len(items) - len(nullable), *(values.is_valid() for values in nullable))


def _pairs(items: list[tuple[str, Any]]) -> list[Any]:
    """Names and values, framed, as pieces; nothing where the value is null."""
    return [
        piece
        for name, values in items
        for piece in (
            _framed_lengths(b"\r\n" + bulk(name.encode()), pc.binary_length(values)),
            values,
        )
    ]


def _expire_command(
    framed: Any, items: list[tuple[str, Any]], count: Any, middle: Callable[[int], bytes]
) -> _Command:
    """`HPEXPIRE` of the fields that were set; `middle` is its TTL and its count of fields."""
    names = [(_argument(name.encode()), values) for name, values in items]
    expire = _command(
        len(framed),
        framed,
        count,
        lambda k: b"*%d\r\n$8\r\nHPEXPIRE\r\n" % (5 + k),
        lambda k: b"\r\n" + middle(k),
        [_where(values.is_valid(), name) if values.null_count else name for name, values in names],
    )
    # Its reply is an array: one more line for each field.
    expire.lines += count * len(framed) if isinstance(count, int) else pc.sum(count).as_py()
    return expire


def _delete_command(
    framed: Any, columns: dict[str, Any], retired: Sequence[str]
) -> _Command | None:
    """`HDEL` of what is null and of what is retired, in the rows that have any of it."""
    count, names = _gone(columns, retired)
    if not names:
        return None
    return _command(
        len(framed), framed, count, lambda k: b"*%d\r\n$4\r\nHDEL\r\n" % (2 + k), None, names
    )


def _gone(columns: dict[str, Any], retired: Sequence[str]) -> tuple[Any, list[Any]]:
    """How many fields a row deletes, and their names, framed, as pieces."""
    nulls = {name: values.is_null() for name, values in columns.items() if values.null_count}
    names = [_where(mask, _argument(name.encode())) for name, mask in nulls.items()]
    return _sum(len(retired), *nulls.values()), names + [_argument(n.encode()) for n in retired]


def _command(
    n: int,
    framed: Any,
    count: Any,
    head: Callable[[int], bytes],
    middle: Callable[[int], bytes] | None,
    arguments: list[Any],
) -> _Command:
    """A command whose number of arguments `count` is one number, or one for each row.

    `head` comes before the key and `middle` after it; rows with no arguments lack the command.
    """
    if isinstance(count, int):
        pieces = [head(count), framed, *([middle(count)] if middle else []), *arguments, b"\r\n"]
        return _Command(pieces, 1, n)
    most = pc.max(count).as_py()
    heads = pa.array([None, *map(head, range(1, most + 1))], pa.binary())
    pieces = [heads.take(count)]
    some = pc.greater(count, 0)
    has_all = pc.all(some).as_py()
    pieces.append(framed if has_all else pc.if_else(some, framed, pa.scalar(None, pa.binary())))
    if middle:
        pieces.append(pa.array([None, *map(middle, range(1, most + 1))], pa.binary()).take(count))
    pieces += [*arguments, b"\r\n" if has_all else _where(some, b"\r\n")]
    present = 1 if has_all else some.cast(pa.int32())
    return _Command(pieces, present, n if has_all else pc.sum(present).as_py())


def _sum(fixed: int, *terms: Any) -> Any:
    """The sum of numbers and of arrays of them: one number if it is the same for all rows."""
    total: Any = fixed
    for term in terms:
        if isinstance(term, int):
            total = total + term if isinstance(total, int) else pc.add(total, term)
        else:
            total = pc.add(term.cast(pa.int32()), total)
    return total


def _by_count(count: Any, of: Callable[[int], Any], kind: Any = None) -> Any:
    """What `of` gives for a number, or for each row's; a null is no bytes."""
    if isinstance(count, int):
        return of(count)
    return pa.array(map(of, range(pc.max(count).as_py() + 1)), kind or pa.binary()).take(count)


def _argument(value: bytes | int) -> bytes:
    """One argument, framed, with the line's end before it in the place of after it."""
    data = value if isinstance(value, bytes) else b"%d" % value
    return b"\r\n$%d\r\n%b" % (len(data), data)


def _where(mask: Any, data: bytes) -> Any:
    """`data` where the mask is true, nothing elsewhere."""
    return pc.if_else(mask, pa.scalar(data, pa.binary()), pa.scalar(None, pa.binary()))


def _join(pieces: list[Any]) -> Any:
    """The pieces side by side, neighbouring constants merged first."""
    merged: list[Any] = []
    for piece in pieces:
        if isinstance(piece, bytes) and merged and isinstance(merged[-1], bytes):
            merged[-1] += piece
        else:
            merged.append(piece)
    arguments = [pa.scalar(p, pa.binary()) if isinstance(p, bytes) else p for p in merged]
    separator = pa.scalar(b"", pa.binary())
    return pc.binary_join_element_wise(
        *arguments, separator, null_handling="replace", null_replacement=b""
    )


@lru_cache(maxsize=512)
def _length_table(before: bytes) -> Any:
    return pa.array([before + b"$%d\r\n" % size for size in range(_TABLE)], pa.binary())


def _framed_lengths(before: bytes, lengths: Any) -> Any:
    """`before`, then each length as RESP frames it; null where the length is null."""
    if (pc.max(lengths).as_py() or 0) < _TABLE:
        return _length_table(before).take(lengths)
    text = lengths.cast(pa.string()).cast(pa.binary())
    start, end, nothing = (pa.scalar(b, pa.binary()) for b in (before + b"$", b"\r\n", b""))
    return pc.binary_join_element_wise(start, text, end, nothing)


@lru_cache(maxsize=16)
def _marks(n: int) -> tuple[Any, Any]:
    """`MULTI` before the first row of each block, `EXEC` after the last."""
    first = [MULTI if i % BLOCK == 0 else None for i in range(n)]
    last = [EXEC if i % BLOCK == BLOCK - 1 or i == n - 1 else None for i in range(n)]
    return pa.array(first, pa.binary()), pa.array(last, pa.binary())
