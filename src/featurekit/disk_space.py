"""Check that the disk has space for temporary files before a job begins."""

from __future__ import annotations

import shutil
from pathlib import Path

from featurekit.errors import RequestError


def check_free_space(folder: Path, needed_bytes: int) -> None:
    """Raise `RequestError` if a folder's disk has less space than a job needs."""
    free = shutil.disk_usage(folder).free
    if free < needed_bytes:
        raise RequestError(
            f"the training set needs about {_gigabytes(needed_bytes)} of temporary files, and the disk "
            f"has {_gigabytes(free)} free",
            where=str(folder),
            hint="free some space, set TMPDIR to a folder on another disk, or pass fewer labels at a time",
        )


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB"
