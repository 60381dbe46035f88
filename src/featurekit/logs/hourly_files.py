"""Parquet files by hour, written by many processes into one folder, so that a crash leaves all of them readable.

    {folder}/2026-11-28/15-{created}-{host}-{process id}-{random}.parquet

A Parquet file is readable once it is complete, so the rows of the current hour stand in an Arrow stream
beside it, `*.arrows.part`, to which each call of `write` appends one message. When the hour is over, or the
log is closed, the stream is copied to a Parquet file under a temporary name, which is then renamed.

    part                 rows of an hour that is not over, or of a process that died
    part and parquet     the process died after it had renamed the file: the part is deleted
    parquet              complete

A process that begins to write completes the parts of processes that have died. A part cut off in the
middle of a message is read up to there.

Rejected: a Parquet writer that stays open (without its footer, which comes last, the hour is lost), and
a file for each call of `write` (thousands of small files a day).
"""

from __future__ import annotations

import os
import re
import secrets
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

HOUR_MS = 3_600_000

_PART = ".arrows.part"
_GRACE_MS = 10_000
"""How long after an hour its file is completed: rows wait in a buffer before they are written."""

_DEAD_S = 30.0
"""How long nothing was written to the part of a process that does not run on this machine any more."""

_ABANDONED_S = 2 * 3600.0
"""How long nothing was written to a part that any process may complete."""

Encode = Callable[[Sequence[Any]], Any]
"""Converts rows to a `pyarrow.RecordBatch`."""


class HourlyFiles:
    """The files of one process in the folder of a log. See `runtime.row_log.LogFiles`.

    Args:
        folder: The folder of the log. It is created at the first write.
        schema: The `pyarrow.Schema` of all files.
        encode: Converts rows to a record batch. The first item of a row is its time in milliseconds
            since the epoch.
        now_ms: The clock.
    """

    def __init__(
        self, folder: Path, schema: Any, encode: Encode, now_ms: Callable[[], int]
    ) -> None:
        self._folder = folder
        self._schema = schema
        self._encode = encode
        self._now_ms = now_ms
        self._parts: dict[int, _Part] = {}
        self._has_recovered = False

    def write(self, rows: Sequence[Any]) -> None:
        """Append rows to the files of their hours, and complete those of past hours.

        Raises:
            OSError: The rows cannot be written. Nothing of the hour in question is.
        """
        if rows and not self._has_recovered:
            complete_abandoned(self._folder, self._now_ms())
            self._has_recovered = True
        groups = groupby(rows, lambda row: int(row[0]) // HOUR_MS)
        batches = [(hour, self._encode(list(group))) for hour, group in groups]
        for hour, batch in batches:
            if (part := self._parts.get(hour)) is None:
                name = f"{self._now_ms()}-{_host()}-{os.getpid()}-{secrets.token_hex(4)}"
                part = self._parts[hour] = _Part.create(self._folder, hour, name, self._schema)
            part.append(batch)
        over = (self._now_ms() - _GRACE_MS) // HOUR_MS
        for hour in [hour for hour in self._parts if hour < over]:
            self._parts.pop(hour).complete()

    def close(self) -> None:
        """Complete all files.

        Raises:
            OSError: A file cannot be completed. Its part stays, and another process completes it.
        """
        while self._parts:
            self._parts.popitem()[1].complete()

    def abandon(self) -> None:
        """Forget the open files, which belong to the parent of this process."""
        for part in self._parts.values():
            part.close()
        self._parts = {}


class _Part:
    """An open Arrow stream. Messages are appended as a whole, without a buffer in this process."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor

    @classmethod
    def create(cls, folder: Path, hour: int, name: str, schema: Any) -> _Part:
        """Create the stream of an hour, with its schema."""
        at = datetime.fromtimestamp(hour * HOUR_MS / 1000, UTC)
        path = folder / f"{at:%Y-%m-%d}" / f"{at:%H}-{name}{_PART}"
        path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        part = cls(path, os.open(path, flags, 0o644))
        part._write(schema.serialize())
        return part

    def append(self, batch: Any) -> None:
        """Append a record batch."""
        self._write(batch.serialize())

    def _write(self, message: Any) -> None:
        size = os.fstat(self._descriptor).st_size
        data = memoryview(message)
        try:
            while data:
                data = data[os.write(self._descriptor, data) :]
        except OSError:  # such as a full disk: what follows must not stand behind half a message
            os.ftruncate(self._descriptor, size)
            raise

    def complete(self) -> None:
        """Convert the stream to a Parquet file."""
        self.close()
        complete_part(self._path)

    def close(self) -> None:
        """Close the stream. It stays as it is."""
        os.close(self._descriptor)


def complete_part(part: Path) -> None:
    """Convert a part to a Parquet file, and delete it."""
    final = part.with_name(part.name.removesuffix(_PART) + ".parquet")
    if not final.exists():
        temporary = part.with_name(f"{final.name}.{secrets.token_hex(4)}.tmp")
        try:
            rows = _copy_to_parquet(part, temporary)
            if rows:
                temporary.replace(final)
        finally:
            temporary.unlink(missing_ok=True)
    part.unlink(missing_ok=True)


def _copy_to_parquet(part: Path, path: Path) -> int:
    rows = 0
    writer = None
    with pa.OSFile(str(part)) as file:
        for batch in _complete_batches(file):
            if writer is None:
                writer = pq.ParquetWriter(path, batch.schema, compression="zstd")
            writer.write_batch(batch)
            rows += batch.num_rows
    if writer is not None:
        writer.close()
    return rows


def _complete_batches(file: Any) -> Iterator[Any]:
    """Yield the record batches of a stream up to its end, or to where it is cut off."""
    try:
        reader = pa.ipc.open_stream(file)
        while True:
            yield reader.read_next_batch()
    except (StopIteration, pa.ArrowInvalid, OSError):
        return


def complete_abandoned(folder: Path, now_ms: int) -> None:
    """Complete the parts of processes that have died."""
    for part in sorted(folder.glob(f"*/*{_PART}")):
        with suppress(OSError):  # another process completes it at the same time
            if _is_abandoned(part, now_ms):
                complete_part(part)


def _is_abandoned(part: Path, now_ms: int) -> bool:
    idle_s = now_ms / 1000 - part.stat().st_mtime
    found = re.fullmatch(r"\d\d-\d+-(.+)-(\d+)-\w+", part.name.removesuffix(_PART))
    if found is None:
        return False
    is_dead = found[1] == _host() and not _is_running(int(found[2]))
    return idle_s > (_DEAD_S if is_dead else _ABANDONED_S)


def _host() -> str:
    return re.sub(r"[^A-Za-z0-9.]+", "_", socket.gethostname())


def _is_running(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
