"""Compare generated files with those on disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class FileStates:
    """How files on disk differ from what would be generated.

    Attributes:
        missing: Files that do not exist.
        stale: Files with another content.
    """

    missing: tuple[Path, ...]
    stale: tuple[Path, ...]

    @property
    def different(self) -> tuple[Path, ...]:
        """The files to write."""
        return (*self.missing, *self.stale)


def compare_files(files: Mapping[Path, str]) -> FileStates:
    """Return which files differ from their generated content."""
    missing = tuple(path for path in files if not path.exists())
    stale = tuple(
        path for path in files if path not in missing and path.read_bytes() != files[path].encode()
    )
    return FileStates(missing, stale)
