"""Places in files, and what is wrong there."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from typing_extensions import override

from featurekit.errors import Problem

Path = tuple[str | int, ...]
"""How to get to a value: keys of mappings and indexes of lists, from the top of its file."""


class Place(NamedTuple):
    """A character of a file, counted from 1; line 0 is the file as a whole."""

    file: str
    line: int = 0
    column: int = 0

    @override
    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file


class Finding(NamedTuple):
    """A problem and its place, which sorts findings."""

    place: Place
    message: str
    hint: str = ""


def as_problems(findings: Iterable[Finding]) -> tuple[Problem, ...]:
    """Findings as problems, each once, by file and line."""
    return tuple(Problem(str(f.place), f.message, f.hint) for f in sorted(set(findings)))
