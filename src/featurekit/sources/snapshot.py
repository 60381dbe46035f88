"""Detect that files change while a load reads them.

A load reads its files more than once, and uses row numbers of the first pass in the last one. It
looks at the files before the first pass, and again after each batch of the last one is read and
before its rows are used. So no row is written whose number comes from other contents.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from featurekit.errors import SourceError

_CLOCK_STEP_S = 0.02
"""More than the step of file times, so that two writes this far apart have different times."""

_MAX_WAITS = 5


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state of local files at one moment.

    Attributes:
        where: The name of the source in error messages.
        states: Maps each file to its device, inode, size, and times of its contents and inode.
    """

    where: str
    states: dict[str, tuple[int, ...]]

    @classmethod
    def of(cls, files: Sequence[str], where: str) -> Snapshot:
        """Return the state of files; those at URLs are left out, they are read only once."""
        local = [file for file in files if "://" not in file]
        states = {file: _state(file) for file in local}
        for _ in range(_MAX_WAITS):
            # A file that was just written could change again within the same step of the clock.
            recent_ns = time.time_ns() - _CLOCK_STEP_S * 1e9
            if not any(changed_ns >= recent_ns for *_, changed_ns in states.values()):
                break
            time.sleep(_CLOCK_STEP_S)
            states = {file: _state(file) for file in local}
        return cls(where, states)

    def identity(self, files: Sequence[str], root: Path) -> str:
        """Return a text that changes when files are added, removed or written.

        Args:
            files: The files of the source, of which those at URLs count by their names.
            root: The repository's folder; the names of files below it do not contain it.
        """
        digest = hashlib.blake2b(digest_size=8)
        for file in sorted(files):
            name = file.removeprefix(f"{root}/")
            size_and_time = self.states.get(file, ())[2:4]
            digest.update(repr((name, size_and_time)).encode())
        return f"{len(files)} file{'s' if len(files) != 1 else ''} {digest.hexdigest()}"

    def check(self) -> None:
        """Raise `SourceError` if a file was replaced, changed or removed."""
        for file, state in self.states.items():
            if _state(file) != state:
                raise SourceError(
                    f"{Path(file).name} changed while it was read",
                    where=self.where,
                    hint="load again when no other process writes to it; rows of the new contents "
                    "were not written",
                )

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Check at the end of the block; a change also explains any error within it."""
        try:
            yield
        except SourceError:
            self.check()
            raise
        self.check()


def _state(file: str) -> tuple[int, ...]:
    try:
        found = Path(file).stat()
    except OSError:
        return (0,)
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
