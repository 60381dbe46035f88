"""Encode the record batches of a source for a load, with Arrow compute."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from featurekit.errors import BadRowError, join_where
from featurekit.lower.chunks import EncodedChunk, build_chunk, build_missing_chunk
from featurekit.lower.columns import EVENT_TIMESTAMP, EncodedBatch, RowError, encode_batch
from featurekit.lower.scripts import MISSING
from featurekit.lower.write_group import Dialect, command_errors
from featurekit.plan import ViewPlan
from featurekit.ports import LINE, PROBLEM, Chunk, RowSpans, Scan
from featurekit.runtime.load import LoadBatch
from featurekit.runtime.rejects import Rejects
from featurekit.types import DType
from featurekit.types.arrow import python_value

_ROWS_PER_PARSED_CHUNK = 500
"""Replies that are parsed instead of counted; few, because an incomplete reply is parsed again."""

LocateRow = Callable[[dict[str, object]], str | None]
"""Returns where a row is in its source, such as `users.parquet, row 17`."""


_RejectRows = Callable[[dict[int, str]], None]
"""Adds rows that the store refused to the rejected rows, by index among the accepted ones."""


def encode_tables(
    view: ViewPlan,
    scan: Scan,
    rejects: Rejects | None,
    locate: LocateRow,
    dialect: Dialect,
    *,
    missing_only: bool = False,
) -> Iterator[LoadBatch]:
    """Yield the encoded batches of a scan.

    Args:
        view: The compiled view.
        scan: The rows of its source.
        rejects: Collects rows that do not fit. `None` raises at the first one, and nothing of
            its batch is written.
        locate: Returns where a row is, for error messages.
        dialect: The commands that the server has.
        missing_only: Write only the rows of entities without any value of the view.

    Raises:
        BadRowError: A row does not fit and `rejects` is `None`.
    """
    for rows in scan.batches:
        batch, unread = _without_problems(rows, scan.form, rejects)
        if unread:
            yield LoadBatch(Chunk(b"", 0, 0, 0), command_errors, str, unread)
        encoded = encode_batch(view, scan.form, batch)
        if encoded.rejected and rejects is None:
            error = _bad_row_error(view, batch, encoded, locate)
            error.keys = encoded.rejected_keys
            raise error
        if encoded.rejected and rejects is not None:
            errors = [encoded.errors(index) for index in encoded.rejected]
            rejects.add_batch(batch.take(pa.array(encoded.rejected)), scan.form, errors)
        reject = _store_rejects(batch, scan.form, encoded, rejects)
        if missing_only:
            yield from _missing_batches(view, encoded, dialect, reject)
        else:
            yield _load_batch(view, encoded, dialect, reject)


def _without_problems(batch: Any, form: str, rejects: Rejects | None) -> tuple[Any, int]:
    """Return the rows of lines that could be read, and the number of others, which are rejected."""
    if PROBLEM not in batch.schema.names:
        return batch, 0
    has_problem = batch.column(PROBLEM).is_valid()
    unread = batch.filter(has_problem)
    if rejects is not None and unread.num_rows:
        rejects.add_lines(unread, form)
    return batch.filter(pc.invert(has_problem)).drop_columns([PROBLEM, LINE]), unread.num_rows


def _store_rejects(
    batch: Any, form: str, encoded: EncodedBatch, rejects: Rejects | None
) -> _RejectRows:
    """Return the function that adds the rows of a batch that the store refused."""

    def reject(errors: dict[int, str]) -> None:
        if rejects is None:
            return
        bad = set(encoded.rejected)
        accepted = [index for index in range(batch.num_rows) if index not in bad]
        rows = batch.take(pa.array([accepted[row] for row in errors]))
        rejects.add_batch(rows, form, [[RowError("", error)] for error in errors.values()])

    return reject


def _bad_row_error(
    view: ViewPlan, batch: Any, encoded: EncodedBatch, locate: LocateRow
) -> BadRowError:
    index = encoded.rejected[0]
    error = encoded.errors(index)[0]
    row = _identifying_values(view, batch, index)
    keys = ", ".join(f"{k.name}={row[k.name]!r}" for k in view.key.join_keys if k.name in row)
    where = join_where(view.name, locate(row), keys, error.field)
    hint = _value_hint(view, error) or _hint(
        view, batch, error.field, all_rejected=len(encoded.rejected) == batch.num_rows
    )
    return BadRowError(error.reason, where=where, hint=hint)


def _value_hint(view: ViewPlan, error: RowError) -> str:
    """Return what to do about a value, with the name of its column; empty if that is not known."""
    if not error.hint:
        return ""
    name = error.field.removeprefix("join key ")
    column = view.source.column(name) if view.source else name
    return f"column '{column}': {error.hint}; nothing of this row's batch is written"


def _hint(view: ViewPlan, batch: Any, name: str, *, all_rejected: bool) -> str:
    """Return what to do about a bad row. If all rows are bad, the column's type is the cause."""
    fields = {field.name: field.dtype for field in view.fields}
    if all_rejected and batch.num_rows > 1 and name in fields and name in batch.schema.names:
        column = batch.schema.field(name).type
        return (
            f"the column is {column}, the field is {fields[name]}, and no row of this batch fits; "
            "change the column's type, or cast it in a source of `type: sql`"
        )
    return "nothing of this row's batch is written; fix the row, or load with on_bad_row=skip"


def _identifying_values(view: ViewPlan, batch: Any, index: int) -> dict[str, object]:
    """Return a row's join keys and event time. A row of JSON is parsed for them, if possible."""
    dtypes = {k.name: k.dtype for k in view.key.join_keys}
    dtypes |= {"json": DType("string"), EVENT_TIMESTAMP: DType("timestamp")}
    row = {
        name: python_value(dtype, batch.column(name)[index])
        for name, dtype in dtypes.items()
        if name in batch.schema.names
    }
    text = row.get("json")
    if not isinstance(text, str):
        return row
    try:
        members = json.loads(text)
    except (ValueError, RecursionError):
        return row
    if not isinstance(members, dict):
        return row
    member = view.source.column if view.source else str
    return row | {k.name: members.get(member(k.name)) for k in view.key.join_keys}


def _load_batch(
    view: ViewPlan,
    encoded: EncodedBatch,
    dialect: Dialect,
    reject: _RejectRows,
) -> LoadBatch:
    if not len(encoded.keys):
        return _nothing_to_send(encoded)
    chunk = build_chunk(view, encoded.keys, encoded.values, dialect)

    def row_spans() -> RowSpans:
        return encoded.keys.to_pylist(), chunk.row_ends()

    return LoadBatch(
        Chunk(chunk.data, chunk.replies, chunk.reply_lines, len(encoded.keys), row_spans),
        chunk.row_errors,
        lambda row: encoded.keys[row].as_py().decode(errors="replace"),
        len(encoded.rejected),
        reject=reject,
        rejected_keys=encoded.rejected_keys,
    )


def _nothing_to_send(encoded: EncodedBatch) -> LoadBatch:
    """Return a batch that consists of rejected rows."""
    return LoadBatch(
        Chunk(b"", 0, 0, 0),
        command_errors,
        str,
        len(encoded.rejected),
        rejected_keys=encoded.rejected_keys,
    )


def _missing_batches(
    view: ViewPlan, encoded: EncodedBatch, dialect: Dialect, reject: _RejectRows
) -> Iterator[LoadBatch]:
    """Yield rows that the server writes only if their entities have no value of the view."""
    if encoded.rejected:
        yield _nothing_to_send(encoded)
    for start in range(0, len(encoded.keys), _ROWS_PER_PARSED_CHUNK):
        keys = encoded.keys.slice(start, _ROWS_PER_PARSED_CHUNK)
        values = [column.slice(start, _ROWS_PER_PARSED_CHUNK) for column in encoded.values]
        chunk = build_missing_chunk(view, keys, values, dialect)
        yield _missing_batch(keys, chunk, dialect, partial(_reject_from, reject, start))


def _reject_from(reject: _RejectRows, start: int, errors: dict[int, str]) -> None:
    """Reject rows by their index in a part of a batch that starts at row `start`."""
    reject({start + row: error for row, error in errors.items()})


def _missing_batch(
    keys: Any, chunk: EncodedChunk, dialect: Dialect, reject: _RejectRows
) -> LoadBatch:
    # A cluster store loads missing scripts itself.
    script = MISSING.load if dialect.transactions else b""
    first = 1 if script else 0
    data = script + bytes(chunk.data)
    return LoadBatch(
        Chunk(
            data,
            first + chunk.replies,
            None,
            len(keys),
            lambda: (keys.to_pylist(), chunk.row_ends()),
        ),
        lambda replies: command_errors(replies[first:]),
        lambda row: keys[row].as_py().decode(errors="replace"),
        reject=reject,
        kept=lambda replies: replies[first:].count(0),
    )
