"""Find the files of a repository and read them."""

from __future__ import annotations

import glob
import os
from pathlib import Path

from featurekit.errors import RepoNotFoundError, name_hint
from featurekit.file_globs import matching_paths
from featurekit.loader.document import Document, read_document
from featurekit.loader.problems import LocatedProblem, SourceLocation

REPO_FILE = "featurerepo.yaml"
_SUFFIXES = (".yaml", ".yml")
_MAX_BYTES = 10_000_000


def find_repo(path: str | Path = ".") -> Path:
    """Return the folder of the nearest `featurerepo.yaml`, from `path` upwards.

    Raises:
        RepoNotFoundError: There is no `featurerepo.yaml`.
    """
    start = Path(path).absolute()
    if start.name == REPO_FILE and start.is_file():
        return start.parent
    for folder in (start, *start.parents):
        if (folder / REPO_FILE).is_file():
            return folder
    raise RepoNotFoundError(
        f"no {REPO_FILE} in {start} or a folder above it",
        hint="run `featurekit init`, or pass the folder with --repo",
    )


def load_document(root: Path, path: Path) -> Document:
    """Return the document in a file; if the file cannot be read, the document has a problem."""
    name = _relative_name(root, path)
    try:
        return read_document(name, read_bytes(path))
    except UnreadableFileError as error:
        problem = LocatedProblem(SourceLocation(name), f"cannot read the file: {error}")
        return Document(name, problems=[problem])


class UnreadableFileError(Exception):
    """A file cannot be read; the message is the reason."""


def read_bytes(path: Path) -> bytes:
    """Return a file's contents.

    Raises:
        UnreadableFileError: The file cannot be read.
    """
    try:
        if path.exists() and not path.is_file():  # a pipe or a device may never end
            raise UnreadableFileError("Is a directory" if path.is_dir() else "Not a regular file")
        if path.exists() and path.stat().st_size > _MAX_BYTES:
            raise UnreadableFileError(f"larger than {_MAX_BYTES // 1_000_000} MB")
        return path.read_bytes()
    except OSError as error:
        raise UnreadableFileError(error.strerror or str(error)) from error
    except ValueError as error:  # the name contains a NUL
        raise UnreadableFileError(str(error)) from error


def _relative_name(root: Path, path: Path) -> str:
    return Path(os.path.relpath(path, root)).as_posix()


def matching_files(root: Path, pattern: str) -> list[Path]:
    """Return the definition files that a file name, folder or glob matches, sorted."""
    # Path.glob refuses absolute patterns, and Path raises for names that are too long
    names = matching_paths(root, pattern)
    if os.path.exists(root / pattern):  # noqa: PTH110
        names = [pattern]
    return sorted({file for name in names for file in _definition_files(root / name)})


def no_match_hint(root: Path, pattern: str) -> str:
    """Return a hint for a pattern that matches no definition file."""
    if os.path.isdir(root / pattern):  # noqa: PTH112
        return f"the folder contains no {' or '.join(f'*{suffix}' for suffix in _SUFFIXES)} file"
    first, *rest = Path(pattern).parts
    names = [p.name for p in root.iterdir() if (p.is_dir() if rest else p.suffix in _SUFFIXES)]
    known = [name for name in names if not name.startswith(".") and name != REPO_FILE]
    if first in known or glob.has_magic(first) or not known:
        return f"searched in the folder {root.name}"
    return name_hint(first, known)


def _definition_files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path] if path.name != REPO_FILE else []
    return [
        file
        for file in path.rglob("*")
        if file.suffix in _SUFFIXES and file.is_file() and file.name != REPO_FILE
        if not any(part.startswith(".") for part in file.relative_to(path).parts)
    ]
