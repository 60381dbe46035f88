"""Files that several processes write: one writer at a time, and never a partial file."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from featurekit.errors import RegistryError


@contextmanager
def exclusive_lock(path: Path) -> Iterator[None]:
    """Hold the lock file beside `path` while the block runs. Creates the folder if needed.

    Raises:
        RegistryError: The folder or the lock file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path.with_suffix(".lock"), os.O_CREAT | os.O_RDWR, 0o644)
    except OSError as error:
        raise RegistryError(f"the registry cannot be written: {error}", where=str(path)) from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError as error:
            message = f"the registry cannot be locked: {error}"
            raise RegistryError(message, where=str(path)) from error
        yield
    finally:
        os.close(handle)


def write_atomically(path: Path, text: str, *, durable: bool = True) -> None:
    """Write a new file and rename it to `path`, so that readers never see a partial file.

    Args:
        path: The file.
        text: Its content.
        durable: Whether it must survive a power failure, which takes milliseconds.

    Raises:
        RegistryError: The file cannot be written.
    """
    new = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        with new.open("w", encoding="utf-8") as file:
            file.write(text)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        new.replace(path)
    except OSError as error:
        with suppress(OSError):
            new.unlink(missing_ok=True)
        raise RegistryError(f"the file cannot be written: {error}", where=str(path)) from error


def write_files(files: Mapping[Path, str]) -> None:
    """Write files that can be generated again, in folders that are created if needed.

    Readers never see a partial file.

    Raises:
        RegistryError: A folder or file cannot be written.
    """
    for path, text in files.items():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RegistryError(f"the folder cannot be made: {error}", where=str(path)) from error
        write_atomically(path, text, durable=False)
