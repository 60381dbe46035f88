"""Where examples are tried: copies in a folder of their own, with an embedded server of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from featurekit.stores.embedded_server import EmbeddedServer

ROOT = Path(__file__).parents[2]

ENVIRONMENT = {
    "FEATUREKIT_ONLINE_URL": "embedded://.featurekit/online?timeout=10s&connect_timeout=10s",
    "OMP_NUM_THREADS": "1",
}
"""The store that examples have anyway, and one thread for models: the machine is busy with tests."""


@contextmanager
def folder() -> Iterator[Path]:
    """An empty folder with a short path; at its end, so do the embedded servers in it."""
    place = Path(tempfile.mkdtemp(prefix="fk"))
    try:
        yield place
    finally:
        for online in place.rglob(".featurekit/online"):
            EmbeddedServer(online).stop()
        shutil.rmtree(place)


@contextmanager
def repository(*parts: str) -> Iterator[Path]:
    """Copies of some files and folders of the project, without data."""
    with folder() as place:
        for part in parts:
            if (ROOT / part).is_dir():
                copy_folder(part, place)
            else:
                shutil.copy(ROOT / part, place / part)
        yield place


def copy_folder(name: str, place: Path) -> None:
    """Copy a folder of the project, without data."""
    ignore = shutil.ignore_patterns("data", ".featurekit")
    shutil.copytree(ROOT / name, place / name, ignore=ignore)


def environment() -> dict[str, str]:
    """The environment of an example: this one, with no settings but those here."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("FEATUREKIT_")}
    path = os.pathsep.join([str(Path(sys.executable).parent), kept.get("PATH", "")])
    return kept | ENVIRONMENT | {"PATH": path, "PYTHONUNBUFFERED": "1", "COLUMNS": "100"}


def run(
    place: Path, command: Sequence[str], *, merged: bool = False, fails: bool | None = False
) -> str:
    """Run a command in a folder, with no settings but those here; returns what it printed.

    Args:
        place: The folder.
        command: The program and its arguments.
        merged: Whether to return what it printed as an error, too.
        fails: Whether it should fail; `None` for either.
    """
    done = subprocess.run(
        command,
        cwd=place,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT if merged else subprocess.PIPE,
        text=True,
        check=False,
        timeout=300,  # a command that waits forever must not block all tests
    )
    if fails is not None:
        assert (done.returncode != 0) is fails, f"{command}: {done.stdout}{done.stderr or ''}"
    return done.stdout


def python(place: Path, *arguments: str) -> str:
    """Run Python."""
    return run(place, [sys.executable, *arguments])


def featurekit(place: Path, *arguments: str) -> str:
    """Run the command."""
    return run(place, ["featurekit", *arguments])
