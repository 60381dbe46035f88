"""Files of a repository: where it begins and which files belong to it."""

from __future__ import annotations

import glob
import os
from pathlib import Path

from featurekit.errors import RepoNotFoundError, nearest
from featurekit.loader.document import Document, read_document
from featurekit.loader.places import Finding, Place

REPO_FILE = "featurerepo.yaml"
_SUFFIXES = (".yaml", ".yml")


def find_repo(path: str | Path = ".") -> Path:
    """The folder of the nearest `featurerepo.yaml`, from `path` upwards.

    Raises:
        RepoNotFoundError: There is none.
    """
    start = Path(path).absolute()
    if start.name == REPO_FILE and start.is_file():
        return start.parent
    for folder in (start, *start.parents):
        if (folder / REPO_FILE).is_file():
            return folder
    raise RepoNotFoundError(
        f"no {REPO_FILE} in {start} or a folder above it",
        hint="run `featurekit init`, or name the folder with --repo",
    )


def read_file(root: Path, path: Path) -> Document:
    """The document in a file; that it cannot be read is among the findings."""
    shown = relative(root, path)
    try:
        return read_document(shown, content(path))
    except UnreadableError as error:
        return Document(shown, findings=[Finding(Place(shown), f"cannot be read: {error}")])


class UnreadableError(Exception):
    """Why a file cannot be read."""


def content(path: Path) -> bytes:
    """The bytes of a file.

    Raises:
        UnreadableError: They cannot be read.
    """
    try:
        if path.exists() and not path.is_file():  # a pipe or a device may never end
            raise UnreadableError("Is a directory" if path.is_dir() else "Not a regular file")
        return path.read_bytes()
    except OSError as error:
        raise UnreadableError(error.strerror or str(error)) from error
    except ValueError as error:  # a NUL in its name
        raise UnreadableError(str(error)) from error


def relative(root: Path, path: Path) -> str:
    """A path as messages show it: from the repository's folder, with slashes."""
    return Path(os.path.relpath(path, root)).as_posix()


def matching(root: Path, pattern: str) -> list[Path]:
    """The definition files that a file name, folder or glob stands for, sorted."""
    # glob.glob and not Path.glob, which refuses absolute patterns; os.path and not Path, which
    # raises for names that are too long
    names = glob.glob(pattern, root_dir=root, recursive=True)  # noqa: PTH207
    if os.path.exists(root / pattern):  # noqa: PTH110
        names = [pattern]
    return sorted({file for name in names for file in _files(root / name)})


def where_looked(root: Path, pattern: str) -> str:
    """A hint for a pattern that matches no file: what is there instead."""
    if os.path.isdir(root / pattern):  # noqa: PTH112
        return f"the folder has no {' or '.join(f'*{suffix}' for suffix in _SUFFIXES)} in it"
    first, *rest = Path(pattern).parts
    names = [p.name for p in root.iterdir() if (p.is_dir() if rest else p.suffix in _SUFFIXES)]
    known = [name for name in names if not name.startswith(".") and name != REPO_FILE]
    if first in known or glob.has_magic(first) or not known:
        return f"looked in the folder {root.name}"
    return nearest(first, known)


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        inside = (file for file in path.rglob("*") if file.suffix in _SUFFIXES)
        return [file for file in inside if file.is_file() and _is_definition(file, path)]
    return [path] if path.name != REPO_FILE else []


def _is_definition(file: Path, folder: Path) -> bool:
    hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
    return not hidden and file.name != REPO_FILE
