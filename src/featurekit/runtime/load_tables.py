"""Tables: the record batches of a source, prepared for a load by Arrow compute."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from featurekit.errors import BadRowError
from featurekit.lower.chunks import build_chunk
from featurekit.lower.columns import EVENT_TIMESTAMP, EncodedBatch, encode_batch
from featurekit.lower.write_group import Dialect, command_errors
from featurekit.plan import ViewPlan
from featurekit.ports import Chunk, RowSpans, Scan
from featurekit.runtime.load import LoadBatch
from featurekit.types import DType
from featurekit.types.arrow import python_value

Locate = Callable[[dict[str, object]], str]
"""From a row to where it came from, in words."""


class RejectedRowsFile:
    """A Parquet file of refused rows, as they came, with a column `reason`. Made when needed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._writer: pq.ParquetWriter | None = None

    @property
    def written(self) -> bool:
        """Whether any row was refused."""
        return self._writer is not None

    def add(self, rows: Any, reasons: list[str]) -> None:
        """Append refused rows (a `pyarrow.RecordBatch`) and why each was refused."""
        table = pa.Table.from_batches([rows]).append_column(
            "reason", pa.array(reasons, pa.string())
        )
        if self._writer is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = pq.ParquetWriter(self.path, table.schema)
        self._writer.write_table(table)

    def close(self) -> None:
        """Finish the file."""
        if self._writer is not None:
            self._writer.close()


def encode_tables(
    view: ViewPlan, scan: Scan, rejects: RejectedRowsFile | None, locate: Locate, dialect: Dialect
) -> Iterator[LoadBatch]:
    """Encode a scan's batches.

    Args:
        view: The compiled view.
        scan: Its source's rows.
        rejects: Takes the rows that do not fit; without it the first one raises, and nothing
            of its batch is written.
        locate: Tells where a row came from.
        dialect: How the server is told what belongs together.

    Raises:
        BadRowError: A row does not fit and there is nowhere to put it.
    """
    for batch in scan.batches:
        encoded = encode_batch(view, scan.form, batch)
        if encoded.bad:
            _reject(view, batch, encoded, rejects, locate)
        yield _prepared(view, encoded, dialect)


def _reject(
    view: ViewPlan,
    batch: Any,
    encoded: EncodedBatch,
    rejects: RejectedRowsFile | None,
    locate: Locate,
) -> None:
    if rejects is None:
        fault = encoded.fault(encoded.bad[0])
        row = _shown(view, batch, encoded.bad[0])
        keys = ", ".join(f"{k.name}={row[k.name]!r}" for k in view.key.join_keys if k.name in row)
        where = ", ".join(part for part in (view.name, locate(row), keys, fault.field) if part)
        raise BadRowError(
            fault.reason,
            where=where,
            hint=_mend(view, batch, fault.field, whole=len(encoded.bad) == batch.num_rows),
        )
    reasons = [encoded.fault(index) for index in encoded.bad]
    rejects.add(
        batch.take(pa.array(encoded.bad)),
        [f"{fault.field}: {fault.reason}" if fault.field else fault.reason for fault in reasons],
    )


def _mend(view: ViewPlan, batch: Any, name: str, *, whole: bool) -> str:
    """What to do about a row; where the whole batch is bad, its column's type is to blame."""
    fields = {field.name: field.dtype for field in view.fields}
    if whole and batch.num_rows > 1 and name in fields and name in batch.schema.names:
        column = batch.schema.field(name).type
        return (
            f"the column is {column} and the field {fields[name]}, and no row of this batch fits; "
            "mend the column where it is made, or cast it by a source of `type: sql`"
        )
    return "nothing of this row's batch is written; mend the row, or load with on_bad_row=skip"


def _shown(view: ViewPlan, batch: Any, index: int) -> dict[str, object]:
    """A row by its join keys; one of a JSON file is taken apart first, as far as it can be."""
    kinds = {k.name: k.dtype for k in view.key.join_keys}
    kinds |= {"json": DType("string"), EVENT_TIMESTAMP: DType("timestamp")}
    row = {
        name: python_value(dtype, batch.column(name)[index])
        for name, dtype in kinds.items()
        if name in batch.schema.names
    }
    text = row.get("json")
    if not isinstance(text, str):
        return row
    try:
        members = json.loads(text)
    except (ValueError, RecursionError):
        return row
    source = view.source.column if view.source else str
    if not isinstance(members, dict):
        return row
    return row | {k.name: members.get(source(k.name)) for k in view.key.join_keys}


def _prepared(view: ViewPlan, encoded: EncodedBatch, dialect: Dialect) -> LoadBatch:
    if not len(encoded.keys):
        return LoadBatch(Chunk(b"", 0, 0, 0), command_errors, str, len(encoded.bad))
    built = build_chunk(view, encoded.keys, encoded.values, dialect)

    def apart() -> RowSpans:
        return encoded.keys.to_pylist(), built.ends()

    return LoadBatch(
        Chunk(built.data, built.replies, built.lines, len(encoded.keys), apart),
        built.faults,
        lambda row: encoded.keys[row].as_py().decode(errors="replace"),
        len(encoded.bad),
    )
