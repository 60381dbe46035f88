"""Files that several processes write: whole or not at all, one writer at a time."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from featurekit.errors import RegistryError


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Be the only one to write beside `path`, in a folder that is made if it is not there.

    Raises:
        RegistryError: Nothing can be written there.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path.with_suffix(".lock"), os.O_CREAT | os.O_RDWR, 0o644)
    except OSError as error:
        raise RegistryError(f"the registry cannot be written: {error}", where=str(path)) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def write(path: Path, text: str) -> None:
    """Write a file whole or not at all.

    Raises:
        RegistryError: It cannot be written.
    """
    new = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        with new.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except OSError as error:
        new.unlink(missing_ok=True)
        raise RegistryError(f"it cannot be written: {error}", where=str(path)) from error
