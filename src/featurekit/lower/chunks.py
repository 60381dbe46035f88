"""Build the RESP bytes of a whole record batch with Arrow compute.

The bytes are those of `write_group.batch_write_group`, row by row, but no value becomes a Python
object. A chunk is a list of *pieces*, joined element-wise: an array has one piece for each row, a
`bytes` constant is the same piece in every row.

- A null piece adds nothing. So the name and value of a null field vanish from `HSET`, and the same
  null mask, inverted, puts the name into `HDEL`.
- RESP needs counts and lengths before the data: `*N` depends on how many fields a row sets. A count
  is therefore an `int` if it is the same in all rows (no column has nulls), and then part of a
  constant; otherwise it is an array, and the text for each possible count is looked up by `take`.
- Lengths below 256 come from a table in the same way; longer ones are cast.
- Each block of `ROWS_PER_TRANSACTION` rows stands between `MULTI` and `EXEC`. Without transactions,
  each row is one command: `HSETEX` if that suffices for it, else a call of the script `ROW`. If the
  server decides which rows it writes, each row is a call of one of the scripts of `load_guard`.

Invariant: `replies` and `reply_lines` count exactly what the server sends if no command fails, so
that a load can skip parsing. Rejected: formatting rows in Python, which is several times
slower, and one transaction for the whole chunk, for which other clients would wait.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from featurekit.lower.scripts import ROW, Script
from featurekit.lower.write_group import (
    Dialect,
    command_errors,
    deleted_fields,
    expiry_argument,
    row_errors,
    ttl_groups,
    view_key_ttl_ms,
)
from featurekit.plan import ViewPlan
from featurekit.wire import EXEC, MULTI, Reply, bulk

ROWS_PER_TRANSACTION = 32
"""Enough that `MULTI` costs little, few enough that other clients do not wait."""

_TABLE_SIZE = 256
"""Lengths below this are framed by a look-up, longer ones by a cast."""

_Columns = dict[str, Any]
"""The bytes of each field by name, as binary arrays."""

_TtlGroups = dict[int, list[tuple[str, Any]]]
"""Fields and their bytes by TTL in ms; 0 means the key's TTL."""


@dataclass(frozen=True, slots=True)
class EncodedChunk:
    """The bytes of a chunk, and how to read its replies.

    Attributes:
        data: Complete transactions, or one command for each row.
        replies: The number of replies.
        reply_lines: The number of lines in those replies if no command fails.
        row_errors: Returns the server's errors by row index, for all replies.
        row_ends: Returns the offset at which each row's bytes end, if rows are single commands.
    """

    data: memoryview
    replies: int
    reply_lines: int
    row_errors: Callable[[list[Reply]], dict[int, str]]
    row_ends: Callable[[], Sequence[int]]


@dataclass(slots=True)
class _Command:
    """One command in every row, as pieces.

    Attributes:
        pieces: Arrays and constants, in order.
        present: 1 if a row has the command, else 0: an array, or 1 for all rows.
        reply_lines: Lines of its replies over all rows.
    """

    pieces: list[Any]
    present: Any
    reply_lines: int


def build_guarded_chunk(
    view: ViewPlan, keys: Any, values: Sequence[Any], dialect: Dialect, guard: Script
) -> EncodedChunk:
    """Return the commands that write those of `n` rows that the guard lets pass.

    Each row is a call of that script, which must be loaded; it replies 0 if the row is left out. The
    other arguments are those of `build_chunk`.
    """
    columns = dict(zip(view.hash_fields, values, strict=True))
    framed_keys = _join_pieces([_framed_lengths(b"", pc.binary_length(keys)), keys])
    groups = {ttl: [(n, columns[n]) for n in names] for ttl, names in ttl_groups(view).items()}
    constant = _script_constant(view, dialect)
    deletes = _deletes(columns, deleted_fields(view, guard))
    rows = _join_pieces(_script_calls(guard, framed_keys, constant, groups, deletes))
    n = len(keys)
    return EncodedChunk(_data(rows), n, n, command_errors, partial(_row_ends, rows))


def _script_constant(view: ViewPlan, dialect: Dialect) -> bytes:
    """Return the arguments of a script call that are the same for all rows."""
    expiry = expiry_argument(hsetex=dialect.hsetex, absolute=False)
    return _argument(view_key_ttl_ms(view)) + _argument(expiry)


def build_chunk(
    view: ViewPlan, keys: Any, values: Sequence[Any], dialect: Dialect
) -> EncodedChunk:
    """Return the commands that write `n` rows of a batch view.

    Args:
        view: The compiled view.
        keys: `n` keys, a binary array without nulls.
        values: For each of `view.hash_fields`, the bytes of `n` values; null deletes.
        dialect: The commands that the server supports.
    """
    columns = dict(zip(view.hash_fields, values, strict=True))
    framed_keys = _join_pieces([_framed_lengths(b"", pc.binary_length(keys)), keys])
    groups = {ttl: [(n, columns[n]) for n in names] for ttl, names in ttl_groups(view).items()}
    if not dialect.transactions:
        return _single_commands(view, framed_keys, columns, groups, dialect)
    commands: list[_Command] = []
    for ttl_ms, items in groups.items():
        commands += _set_commands(framed_keys, items, ttl_ms, hsetex=dialect.hsetex)
    if (deletion := _delete_command(framed_keys, columns, view.retired)) is not None:
        commands.append(deletion)
    if view.expires == "key":
        tail = b"\r\n" + bulk(b"%d" % view.ttl_ms)
        pieces = [b"*3\r\n" + bulk(b"PEXPIRE"), framed_keys, tail]
        commands.append(_Command(pieces, 1, len(keys)))
    return _transactions(len(keys), commands)


def _single_commands(
    view: ViewPlan, framed_keys: Any, columns: _Columns, groups: _TtlGroups, dialect: Dialect
) -> EncodedChunk:
    """Return each row as one command: the bytes of `write_group.row_command`."""
    delete_count, deleted_names = _deletes(columns, view.retired)
    rows = None
    if dialect.hsetex and len(groups) == 1 and view.expires == "field":
        [(ttl_ms, items)] = groups.items()
        [hsetex] = _set_commands(framed_keys, items, ttl_ms, hsetex=True)
        rows = _join_pieces(hsetex.pieces)
    if rows is None or not isinstance(delete_count, int) or delete_count:
        constant = _script_constant(view, dialect)
        deletes = (delete_count, deleted_names)
        calls = _join_pieces(_script_calls(ROW, framed_keys, constant, groups, deletes))
        rows = calls if rows is None else pc.if_else(pc.equal(delete_count, 0), rows, calls)
    n = len(framed_keys)
    return EncodedChunk(_data(rows), n, n, command_errors, partial(_row_ends, rows))


def _script_calls(
    script: Script,
    framed_keys: Any,
    constant: bytes,
    groups: _TtlGroups,
    deletes: tuple[Any, list[Any]],
) -> list[Any]:
    """Return each row as a call of a script with the arguments of `ROW`, as pieces."""
    delete_count, deleted_names = deletes
    counts = [_set_count(items) for items in groups.values()]
    body: list[Any] = []
    for (ttl_ms, items), count in zip(groups.items(), counts, strict=True):
        body += [_by_count(count, partial(_group_head, ttl_ms)), *_pairs(items)]
    is_filled = [_by_count(count, lambda k: int(k > 0), pa.int32()) for count in counts]
    size = _sum(8, delete_count, *is_filled, *is_filled, *counts, *counts)
    return [
        _by_count(
            size, lambda k: b"*%d\r\n" % k + bulk(b"EVALSHA") + bulk(script.sha) + bulk(b"1")
        ),
        framed_keys,
        constant,
        _by_count(_sum(0, *is_filled), _argument),
        _by_count(delete_count, _argument),
        *body,
        *deleted_names,
        b"\r\n",
    ]


def _group_head(ttl_ms: int, size: int) -> bytes | None:
    return _argument(ttl_ms) + _argument(size) if size else None


def _transactions(n: int, commands: list[_Command]) -> EncodedChunk:
    """Return the commands of all rows, row by row, in blocks between `MULTI` and `EXEC`."""
    multi, execute = _transaction_marks(n)
    rows = _join_pieces([multi, *(piece for c in commands for piece in c.pieces), execute])
    blocks = -(-n // ROWS_PER_TRANSACTION)
    queued = sum(
        c.present * n if isinstance(c.present, int) else pc.sum(c.present).as_py()
        for c in commands
    )

    def commands_per_row() -> list[int]:
        counts = [0] * n
        for c in commands:
            present = [c.present] * n if isinstance(c.present, int) else c.present.to_pylist()
            counts = [a + b for a, b in zip(counts, present, strict=True)]
        return counts

    return EncodedChunk(
        data=_data(rows),
        replies=queued + 2 * blocks,
        reply_lines=queued + 2 * blocks + sum(c.reply_lines for c in commands),
        row_errors=lambda replies: row_errors(replies, commands_per_row(), ROWS_PER_TRANSACTION),
        row_ends=partial(_row_ends, rows),
    )


def _data(rows: Any) -> memoryview:
    """Return the bytes of all rows, one after another."""
    total = pc.sum(pc.binary_length(rows)).as_py() or 0
    return memoryview(rows.buffers()[2] or b"")[:total]


def _row_ends(rows: Any) -> Sequence[int]:
    """Return the end of each row in those bytes: the offsets of a freshly built array."""
    return memoryview(rows.buffers()[1]).cast("i")[1 : len(rows) + 1]


def _set_commands(
    framed_keys: Any, items: list[tuple[str, Any]], ttl_ms: int, *, hsetex: bool
) -> list[_Command]:
    """Return what sets fields of one TTL: `HSET`, or `HSETEX`, or `HSET` and `HPEXPIRE`."""
    count, pairs = _set_count(items), _pairs(items)
    ttl = bulk(b"%d" % ttl_ms)

    def hset_head(k: int) -> bytes:
        return b"*%d\r\n$4\r\nHSET\r\n" % (2 + 2 * k)

    def hsetex_head(k: int) -> bytes:
        return b"*%d\r\n$6\r\nHSETEX\r\n" % (6 + 2 * k)

    def field_count(k: int) -> bytes:
        return bulk(b"FIELDS") + b"$%d\r\n%d" % (len(b"%d" % k), k)

    def hsetex_options(k: int) -> bytes:
        return b"\r\n" + bulk(b"PX") + ttl + field_count(k)

    def hpexpire_options(k: int) -> bytes:
        return b"\r\n" + ttl + field_count(k)

    if ttl_ms and hsetex:
        return [_command(framed_keys, count, hsetex_head, hsetex_options, pairs)]
    commands = [_command(framed_keys, count, hset_head, None, pairs)]
    if ttl_ms:
        commands.append(_expire_command(framed_keys, items, count, hpexpire_options))
    return commands


def _set_count(items: list[tuple[str, Any]]) -> Any:
    """Return how many of the fields a row sets."""
    nullable = [values for _, values in items if values.null_count]
    return _sum(len(items) - len(nullable), *(values.is_valid() for values in nullable))


def _pairs(items: list[tuple[str, Any]]) -> list[Any]:
    """Return framed names and values as pieces; null where the value is null."""
    return [
        piece
        for name, values in items
        for piece in (
            _framed_lengths(b"\r\n" + bulk(name.encode()), pc.binary_length(values)),
            values,
        )
    ]


def _expire_command(
    framed_keys: Any, items: list[tuple[str, Any]], count: Any, options: Callable[[int], bytes]
) -> _Command:
    """Return `HPEXPIRE` of the fields that are set; `options` are its TTL and field count."""
    names = [
        _where(values.is_valid(), _argument(name.encode()))
        if values.null_count
        else _argument(name.encode())
        for name, values in items
    ]
    expire = _command(
        framed_keys, count, lambda k: b"*%d\r\n$8\r\nHPEXPIRE\r\n" % (5 + k), options, names
    )
    # Its reply is an array: one more line for each field.
    expire.reply_lines += (
        count * len(framed_keys) if isinstance(count, int) else pc.sum(count).as_py()
    )
    return expire


def _delete_command(
    framed_keys: Any, columns: _Columns, retired: Sequence[str]
) -> _Command | None:
    """Return `HDEL` of null and retired fields, in the rows that have any."""
    count, names = _deletes(columns, retired)
    if not names:
        return None
    return _command(framed_keys, count, lambda k: b"*%d\r\n$4\r\nHDEL\r\n" % (2 + k), None, names)


def _deletes(columns: _Columns, retired: Sequence[str]) -> tuple[Any, list[Any]]:
    """Return how many fields a row deletes, and their framed names as pieces."""
    nulls = {name: values.is_null() for name, values in columns.items() if values.null_count}
    names = [_where(mask, _argument(name.encode())) for name, mask in nulls.items()]
    return _sum(len(retired), *nulls.values()), names + [_argument(n.encode()) for n in retired]


def _command(
    framed_keys: Any,
    count: Any,
    head: Callable[[int], bytes],
    options: Callable[[int], bytes] | None,
    arguments: list[Any],
) -> _Command:
    """Return a command whose `count` of arguments is one number, or one number for each row.

    `head` precedes the key and `options` follow it; a row without arguments lacks the command.
    """
    n = len(framed_keys)
    if isinstance(count, int):
        middle = [options(count)] if options else []
        return _Command([head(count), framed_keys, *middle, *arguments, b"\r\n"], 1, n)
    most = pc.max(count).as_py()
    heads = pa.array([None, *map(head, range(1, most + 1))], pa.binary())
    is_present = pc.greater(count, 0)
    in_all_rows = pc.all(is_present).as_py()
    nothing = pa.scalar(None, pa.binary())
    keys = framed_keys if in_all_rows else pc.if_else(is_present, framed_keys, nothing)
    pieces = [heads.take(count), keys]
    if options:
        texts = pa.array([None, *map(options, range(1, most + 1))], pa.binary())
        pieces.append(texts.take(count))
    pieces += [*arguments, b"\r\n" if in_all_rows else _where(is_present, b"\r\n")]
    present = 1 if in_all_rows else is_present.cast(pa.int32())
    return _Command(pieces, present, n if in_all_rows else pc.sum(present).as_py())


def _sum(constant: int, *terms: Any) -> Any:
    """Return the sum of numbers and arrays: one number if it is the same in all rows."""
    total: Any = constant
    for term in terms:
        if isinstance(term, int):
            total = total + term if isinstance(total, int) else pc.add(total, term)
        else:
            total = pc.add(term.cast(pa.int32()), total)
    return total


def _by_count(count: Any, function: Callable[[int], Any], kind: Any = None) -> Any:
    """Return the function's value for a number, or for each row's number."""
    if isinstance(count, int):
        return function(count)
    most = pc.max(count).as_py()
    return pa.array(map(function, range(most + 1)), kind or pa.binary()).take(count)


def _argument(value: bytes | int) -> bytes:
    """Return one argument, framed, with its line end before it instead of after it."""
    data = value if isinstance(value, bytes) else b"%d" % value
    return b"\r\n$%d\r\n%b" % (len(data), data)


def _where(mask: Any, data: bytes) -> Any:
    """Return a piece with `data` where the mask is true, and no bytes elsewhere."""
    return pc.if_else(mask, pa.scalar(data, pa.binary()), pa.scalar(None, pa.binary()))


def _join_pieces(pieces: list[Any]) -> Any:
    """Return the pieces joined element-wise, after merging adjacent constants."""
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
    return pa.array([before + b"$%d\r\n" % size for size in range(_TABLE_SIZE)], pa.binary())


def _framed_lengths(before: bytes, lengths: Any) -> Any:
    """Return `before` and each length as RESP frames it; null where the length is null."""
    if (pc.max(lengths).as_py() or 0) < _TABLE_SIZE:
        return _length_table(before).take(lengths)
    text = lengths.cast(pa.string()).cast(pa.binary())
    start, end, separator = (pa.scalar(b, pa.binary()) for b in (before + b"$", b"\r\n", b""))
    return pc.binary_join_element_wise(start, text, end, separator)


@lru_cache(maxsize=16)
def _transaction_marks(n: int) -> tuple[Any, Any]:
    """Return `MULTI` before the first row of each block, and `EXEC` after the last."""
    block = ROWS_PER_TRANSACTION
    multi = [MULTI if i % block == 0 else None for i in range(n)]
    execute = [EXEC if i % block == block - 1 or i == n - 1 else None for i in range(n)]
    return pa.array(multi, pa.binary()), pa.array(execute, pa.binary())
