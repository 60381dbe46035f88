"""Record batches in temporary files, which are read any number of times in bounded memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

BATCH_ROWS = 16_384
"""Rows of a batch. A batch of wide rows must fit into memory a few times."""


class Spool:
    """A temporary file of record batches in the Arrow IPC format, which keeps all types.

    Write all batches, close it, then read them as often as needed.
    """

    def __init__(self, path: Path, schema: Any) -> None:
        self.schema = schema
        self.rows = 0
        self._path = path
        self._file = pa.OSFile(str(path), "wb")
        self._writer = pa.ipc.new_stream(self._file, schema)

    def write(self, batch: Any) -> None:
        """Append a batch."""
        self._writer.write_batch(batch)
        self.rows += batch.num_rows

    def close(self) -> None:
        """End writing."""
        self._writer.close()
        self._file.close()

    def batches(self) -> Iterator[Any]:
        """Yield the batches, in the order in which they were written."""
        with pa.OSFile(str(self._path)) as file, pa.ipc.open_stream(file) as reader:
            yield from reader


def rebatch(batches: Iterable[Any], rows: int = BATCH_ROWS) -> Iterator[Any]:
    """Yield the same rows in batches of `rows` rows; only the last one may be shorter."""
    return map(_join, divided(batches, rows))


def divided(batches: Iterable[Any], rows: int) -> Iterator[list[Any]]:
    """Yield the same rows in lists of batches with `rows` rows; only the last one may have fewer."""
    pending: list[Any] = []
    count = 0
    for batch in batches:
        rest = batch
        while count + rest.num_rows >= rows:
            pending.append(rest.slice(0, rows - count))
            rest = rest.slice(rows - count)
            yield pending
            pending, count = [], 0
        if rest.num_rows:
            pending.append(rest)
            count += rest.num_rows
    if pending:
        yield pending


def _join(batches: list[Any]) -> Any:
    if len(batches) == 1:
        return batches[0]
    table = pa.Table.from_batches(batches).combine_chunks()
    columns = [column.chunk(0) for column in table.columns]
    return pa.RecordBatch.from_arrays(columns, schema=table.schema)
