"""Globs of files, in which `**` also follows symbolic links, but enters each folder once."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from pathlib import Path

_RECURSIVE = "**"


def matching_paths(root: Path, pattern: str) -> list[str]:
    """Return the paths that a glob matches, relative to `root` unless the pattern is absolute.

    The result is that of `glob.glob(recursive=True)`, which never ends on folders that link to each
    other; a folder that can be reached by several paths counts once.
    """
    parts = pattern.split("/")
    if _RECURSIVE not in parts:
        return glob.glob(pattern, root_dir=root)  # noqa: PTH207 - absolute patterns
    index = parts.index(_RECURSIVE)
    start = "".join(f"{part}/" for part in parts[:index])
    rest = parts[index + 1 :]
    while rest[:1] == [_RECURSIVE]:
        del rest[0]
    tops = glob.glob(start, root_dir=root) if glob.has_magic(start) else [start]  # noqa: PTH207
    found: dict[str, None] = {}
    for top in tops:
        for folder in _folders(root / top):
            names = matching_paths(root / top / folder, "/".join(rest)) if rest else [""]
            if not rest:
                names += [e.name for e in _entries(root / top / folder) if e.is_file()]
            found |= dict.fromkeys(f"{top}{folder}{name}" for name in names)
    found.pop("", None)
    return list(found)


def _folders(top: Path) -> Iterator[str]:
    """Yield the folders below a folder, from `""` for itself on, each real folder once."""
    entered: set[tuple[int, int]] = set()
    waiting = [""]
    while waiting:
        name = waiting.pop(0)
        try:
            state = os.stat(top / name)  # noqa: PTH116
        except OSError:
            continue
        if (state.st_dev, state.st_ino) in entered:
            continue
        entered.add((state.st_dev, state.st_ino))
        yield name
        waiting += [f"{name}{e.name}/" for e in _entries(top / name) if e.is_dir()]


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """Return what is in a folder, sorted, except hidden entries."""
    try:
        with os.scandir(folder) as entries:
            shown = [entry for entry in entries if not entry.name.startswith(".")]
    except OSError:
        return []
    return sorted(shown, key=lambda entry: entry.name)
