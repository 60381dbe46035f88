"""Files of a repository: where it begins and which files belong to it."""

from __future__ import annotations

import glob
import os
from pathlib import Path

from featurekit.errors import RepoNotFoundError
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
    if start.is_file() and start.name == REPO_FILE:
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
        data = path.read_bytes()
    except OSError as error:
        finding = Finding(Place(shown), f"cannot be read: {error.strerror}")
        return Document(shown, findings=[finding])
    return read_document(shown, data)


def relative(root: Path, path: Path) -> str:
    """A path as messages show it: from the repository's folder, with slashes."""
    return Path(os.path.relpath(path, root)).as_posix()


def matching(root: Path, pattern: str) -> list[Path]:
    """The definition files that a file name, folder or glob stands for, sorted."""
    # glob.glob and not Path.glob, which refuses absolute patterns
    names = glob.glob(pattern, root_dir=root, recursive=True)  # noqa: PTH207
    if (root / pattern).exists():
        names = [pattern]
    return sorted({file for name in names for file in _files(root / name)})


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        inside = (file for file in path.rglob("*") if file.suffix in _SUFFIXES)
        return [file for file in inside if file.is_file() and _is_definition(file, path)]
    return [path] if path.name != REPO_FILE else []


def _is_definition(file: Path, folder: Path) -> bool:
    hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
    return not hidden and file.name != REPO_FILE
