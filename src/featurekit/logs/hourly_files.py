"""Parquet files by hour, written by many processes into one folder, so that a crash leaves all of them readable.

    {folder}/2026-11-28/15-{created}-{host}-{process id}-{random}.parquet

A Parquet file is readable once it is complete, so the rows of the current hour stand in an Arrow stream
beside it, `*.arrows.part`, to which each call of `write` appends one message. When the hour is over, or the
log is closed, the stream is copied to a Parquet file under a temporary name, which is then renamed.

    part                 rows of an hour that is not over, or of a process that died
    part and parquet     the process died after it had renamed the file: the part is deleted
    parquet              complete

A process holds a lock (`flock`) on its parts, which ends with it. One that begins to write completes the
parts of processes that have died. A part that is cut off or damaged is read up to there; then it is kept as
`*.arrows.damaged`, and a warning is logged.

Rejected: a Parquet writer that stays open (without its footer, which comes last, the hour is lost), and
a file for each call of `write` (thousands of small files a day).
"""

from __future__ import annotations

import fcntl
import logging
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

_log = logging.getLogger("featurekit.logs")

HOUR_MS = 3_600_000

_PART = ".arrows.part"
_DAMAGED = ".arrows.damaged"

_HEADER_BYTES = 8
"""The size of what starts a message. Fewer bytes at the end of a part contain nothing."""

_GRACE_MS = 10_000
"""How long after an hour its file is completed: rows wait in a buffer before they are written."""

_DEAD_S = 30.0
"""How long nothing was written to a part of this machine that no process has locked."""

_ABANDONED_S = 2 * 3600.0
"""How long nothing was written to a part of another machine, or one without locks."""

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
        """Append rows to the files of their hours.

        Raises:
            OSError: The rows cannot be written. Nothing of the hour in question is.
        """
        if rows and not self._has_recovered:
            complete_abandoned(self._folder, self._now_ms())
            self._has_recovered = True
        groups = groupby(rows, lambda row: int(row[0]) // HOUR_MS)
        batches = [(hour, self._encode(list(group))) for hour, group in groups]
        for hour, batch in batches:
            part = self._parts.get(hour)
            if part is None or part.is_deleted:
                name = f"{self._now_ms()}-{_host()}-{os.getpid()}-{secrets.token_hex(4)}"
                part = self._parts[hour] = _Part.create(self._folder, hour, name, self._schema)
            part.append(batch)

    def complete_past_hours(self) -> None:
        """Complete the files of past hours.

        Raises:
            OSError: A file cannot be completed. The next call tries it again.
        """
        over = (self._now_ms() - _GRACE_MS) // HOUR_MS
        for hour in [hour for hour in self._parts if hour < over]:
            self._parts[hour].complete()
            del self._parts[hour]

    def close(self) -> None:
        """Complete all files.

        Raises:
            OSError: A file cannot be completed. Its part stays, and another process completes it.
        """
        try:
            for part in self._parts.values():
                part.complete()
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Forget the open files: they are complete, or belong to the parent of this process."""
        for part in self._parts.values():
            part.close()
        self._parts = {}


class _Part:
    """An open and locked Arrow stream. Messages are appended as a whole, without a buffer in this process."""

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
        try:
            with suppress(OSError):  # a file system without locks
                fcntl.flock(part._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            part._write(schema.serialize())
        except OSError:
            part.close()
            path.unlink(missing_ok=True)
            raise
        return part

    @property
    def is_deleted(self) -> bool:
        """Whether another process has deleted or completed the file, so that rows in it would be lost."""
        return os.fstat(self._descriptor).st_nlink == 0

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
        """Convert the stream to a Parquet file. If that fails, it stays open."""
        if not self.is_deleted:
            complete_part(self._path)
        self.close()

    def close(self) -> None:
        """Close the stream. It stays as it is."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def complete_part(part: Path) -> None:
    """Convert a part to a Parquet file, and delete it."""
    final = part.with_name(part.name.removesuffix(_PART) + ".parquet")
    if not final.exists():
        temporary = part.with_name(f"{final.name}.{secrets.token_hex(4)}.tmp")
        try:
            rows, unread_bytes = _copy_to_parquet(part, temporary)
            if rows:
                with temporary.open("rb") as file:  # or a power failure may leave an empty file
                    os.fsync(file.fileno())
                temporary.replace(final)
        finally:
            temporary.unlink(missing_ok=True)
        if unread_bytes >= _HEADER_BYTES:
            _keep_damaged(part, rows, unread_bytes)
    part.unlink(missing_ok=True)
    for other in part.parent.glob(f"{final.name}.*.tmp"):  # of a process that was killed meanwhile
        other.unlink(missing_ok=True)


def _keep_damaged(part: Path, rows: int, unread_bytes: int) -> None:
    """Rename a part that could not be read to its end, and log a warning."""
    damaged = part.with_name(part.name.removesuffix(_PART) + _DAMAGED)
    part.replace(damaged)
    message = (
        "%s is damaged: its first %d rows are in a Parquet file, the last %d bytes cannot be read"
    )
    _log.warning(message, damaged, rows, unread_bytes)


def _copy_to_parquet(part: Path, path: Path) -> tuple[int, int]:
    """Return the number of rows that were copied, and that of bytes that could not be read."""
    rows = read_bytes = 0
    writer = None
    with pa.OSFile(str(part)) as file:
        for batch in _complete_batches(file):
            read_bytes = file.seek(0, os.SEEK_CUR)
            if batch is None:
                continue
            if writer is None:
                writer = pq.ParquetWriter(path, batch.schema, compression="zstd")
            writer.write_batch(batch)
            rows += batch.num_rows
        unread_bytes = file.size() - read_bytes
    if writer is not None:
        writer.close()
    return rows, unread_bytes


def _complete_batches(file: Any) -> Iterator[Any]:
    """Yield the messages of a stream up to its end, or to where it is cut off or damaged.

    Each is a record batch, except the first one, with the schema, which is `None`.
    """
    with suppress(StopIteration, pa.ArrowException, ValueError, OSError):
        reader = pa.ipc.open_stream(file)
        yield None
        while True:
            batch = reader.read_next_batch()
            batch.validate(full=True)  # a Parquet writer may crash on offsets that are wrong
            yield batch


def complete_abandoned(folder: Path, now_ms: int) -> None:
    """Complete the parts of processes that have died."""
    for part in sorted(folder.glob(f"*/*{_PART}")):
        # Another process completes it at the same time, or it is damaged: then it stays.
        with suppress(OSError, ValueError, pa.ArrowException):
            if _is_abandoned(part, now_ms):
                complete_part(part)


def unfinished_files(folder: Path) -> list[Path]:
    """Return the files that are not complete, since their processes may write to them."""
    return sorted(folder.glob(f"*/*{_PART}"))


def _is_abandoned(part: Path, now_ms: int) -> bool:
    idle_s = now_ms / 1000 - part.stat().st_mtime
    found = re.fullmatch(r"\d\d-\d+-(.+)-\d+-\w+", part.name.removesuffix(_PART))
    if found is None or idle_s <= _DEAD_S:
        return False
    is_locked = _is_locked(part)
    is_dead = found[1] == _host() and is_locked is False
    return is_dead or (idle_s > _ABANDONED_S and not is_locked)


def _host() -> str:
    return re.sub(r"[^A-Za-z0-9.]+", "_", socket.gethostname())


def _is_locked(part: Path) -> bool | None:
    """Return whether a process holds the lock of a part; `None` if the file system has no locks."""
    descriptor = os.open(part, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return False
