"""Encode the record batches of a source for a load, with Arrow compute."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from featurekit.errors import BadRowError, join_where
from featurekit.lower.chunks import build_chunk, build_guarded_chunk
from featurekit.lower.columns import EVENT_TIMESTAMP, EncodedBatch, RowError, encode_batch
from featurekit.lower.write_group import command_errors
from featurekit.plan import ViewPlan
from featurekit.ports import FILE, LINE, PROBLEM, SOURCE_ROW, Chunk, RowSpans, Scan
from featurekit.runtime.load import LoadBatch, LoadTarget, guarded_batch
from featurekit.runtime.rejects import Rejects
from featurekit.types import DType
from featurekit.types.arrow import python_value

LocateRow = Callable[[dict[str, object]], str | None]
"""Returns where a row is in its source, such as `users.parquet, row 17`."""


_RejectRows = Callable[[dict[int, str]], None]
"""Adds rows that the store refused to the rejected rows, by index among the accepted ones."""


def encode_tables(
    target: LoadTarget,
    scan: Scan,
    rejects: Rejects | None,
    locate: LocateRow,
    *,
    skip: bool = False,
) -> Iterator[LoadBatch]:
    """Yield the encoded batches of a scan.

    Args:
        target: Where the rows go.
        scan: The rows of the view's source.
        rejects: Collects rows that do not fit; `None` only counts them.
        locate: Returns where a row is, for error messages.
        skip: Go on after a row that does not fit. Otherwise the first one raises, and nothing of its
            batch is written.

    Raises:
        BadRowError: A row does not fit, and `skip` is not set.
    """
    view = target.view
    for rows in scan.batches:
        batch, unread = split_problems(rows, scan.form, rejects)
        if unread:
            yield LoadBatch(Chunk(b"", 0, 0, 0), command_errors, str, unread)
        encoded = encode_batch(view, scan.form, batch)
        if encoded.rejected and not skip:
            error = _bad_row_error(view, batch, encoded, locate)
            error.keys = encoded.rejected_keys
            raise error
        if encoded.rejected and rejects is not None:
            errors = [encoded.errors(index) for index in encoded.rejected]
            rejects.add_batch(batch.take(pa.array(encoded.rejected)), scan.form, errors)
        reject = _store_rejects(batch, scan.form, encoded, rejects)
        yield replace(
            _load_batch(target, encoded),
            rejected=len(encoded.rejected),
            rejected_keys=encoded.rejected_keys,
            reject=reject,
        )


def split_problems(batch: Any, form: str, rejects: Rejects | None) -> tuple[Any, int]:
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
    row = identifying_values(view, batch, index)
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


def identifying_values(view: ViewPlan, batch: Any, index: int) -> dict[str, object]:
    """Return a row's join keys and event time. A row of JSON is parsed for them, if possible."""
    dtypes = {k.name: k.dtype for k in view.key.join_keys}
    dtypes |= {FILE: DType("string"), SOURCE_ROW: DType("int64")}
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


def _load_batch(target: LoadTarget, encoded: EncodedBatch) -> LoadBatch:
    keys, values, view, dialect = encoded.keys, encoded.values, target.view, target.dialect
    if not len(keys):
        return LoadBatch(Chunk(b"", 0, 0, 0), command_errors, str)
    guard = target.guard
    if guard is None:
        chunk = build_chunk(view, keys, values, dialect)
    else:
        chunk = build_guarded_chunk(view, keys, values, dialect, guard)

    def row_spans() -> RowSpans:
        return keys.to_pylist(), chunk.row_ends()

    if guard is not None:
        return guarded_batch(target, chunk.data, row_spans, len(keys))
    return LoadBatch(
        Chunk(chunk.data, chunk.replies, chunk.reply_lines, len(keys), row_spans),
        chunk.row_errors,
        lambda row: keys[row].as_py().decode(errors="replace"),
    )
