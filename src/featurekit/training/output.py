"""Write a training set to a folder: the data and a manifest."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import pyarrow as pa
import pyarrow.parquet

from featurekit.errors import RequestError

DATA_FILE, MANIFEST_FILE = "data.parquet", "manifest.json"

_ROW_GROUP_ROWS = 131_072
_ROW_GROUP_BYTES = 64_000_000


class Rows(Protocol):
    """The rows of a training set."""

    @property
    def schema(self) -> Any:
        """The columns."""

    @property
    def metadata(self) -> dict[str, Any]:
        """The manifest without its time; asked for after the rows."""

    def batches(self) -> Iterator[Any]:
        """Yield the rows."""


@runtime_checkable
class PartitionedRows(Protocol):
    """Rows that are written by several processes."""

    def write_data(self, path: Path) -> None:
        """Write the rows to a new folder of Parquet files."""


def write_training_set(
    training_set: Callable[[], Rows],
    folder: Path,
    now_ms: Callable[[], int],
    *,
    allow_overwrite: bool,
) -> Path:
    """Write a training set to a folder, and return the folder. See `RetrievalJob.persist`."""
    data, manifest = folder / DATA_FILE, folder / MANIFEST_FILE
    if not allow_overwrite and (data.exists() or manifest.exists()):
        raise RequestError(
            "the folder has a training set already",
            where=str(folder),
            hint="choose another folder, or pass allow_overwrite=True or --overwrite",
        )
    _check_folder(folder)
    built = training_set()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _replaced(data) as new:
            if isinstance(built, PartitionedRows):
                built.write_data(new)
            else:
                _write_data(built, new)
            manifest.unlink(missing_ok=True)
        document = {"created_at": _to_text(now_ms()), **built.metadata}
        text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
        with _replaced(manifest) as new:
            new.write_text(text, encoding="utf-8")
    except OSError as error:
        raise RequestError(
            f"the training set cannot be written: {error}", where=str(folder)
        ) from error
    return folder


def _check_folder(folder: Path) -> None:
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not existing.is_dir():
        raise RequestError(
            "a training set is a folder, and this is a file"
            if existing == folder
            else f"the folder cannot be made: {existing} is a file",
            where=str(folder),
            hint="choose the name of a new folder, such as train/",
        )


def _write_data(built: Rows, path: Path) -> None:
    """Write a Parquet file, with the schema of the registry."""
    with pyarrow.parquet.ParquetWriter(path, built.schema) as writer:
        for group in _row_groups(built.batches()):
            writer.write_table(pa.Table.from_batches(group, built.schema))


def _row_groups(batches: Iterator[Any]) -> Iterator[list[Any]]:
    group: list[Any] = []
    rows = size = 0
    for batch in batches:
        group.append(batch)
        rows += batch.num_rows
        size += batch.nbytes
        if rows >= _ROW_GROUP_ROWS or size >= _ROW_GROUP_BYTES:
            yield group
            group, rows, size = [], 0, 0
    if group:
        yield group


def _to_text(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms // 1000, UTC).isoformat()


@contextmanager
def _replaced(path: Path) -> Iterator[Path]:
    """Yield the name of a new file, and rename it to `path` after the block; leave no partial file."""
    new = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        yield new
        if path.is_dir() or (new.is_dir() and path.exists()):
            _delete(path)
        new.replace(path)
    finally:
        with suppress(OSError):
            _delete(new)


def _delete(path: Path) -> None:
    """Delete a file or a folder, if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
