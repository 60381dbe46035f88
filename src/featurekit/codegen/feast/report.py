"""What became of each definition of a Feast repository."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

State = Literal["mapped", "changed", "left out"]
"""`changed`: mapped, with a difference that a comment explains. `left out`: only a comment is left."""


@dataclass(slots=True)
class Outcome:
    """What became of one definition.

    Attributes:
        kind: What it is in Feast, such as `feature view`.
        name: Its name in Feast.
        target: Its name here; empty if it was left out.
        notes: What differs, why, and what to do.
    """

    kind: str
    name: str
    target: str
    notes: list[str] = field(default_factory=list)

    @property
    def state(self) -> State:
        """Whether it was mapped, changed or left out."""
        if not self.target:
            return "left out"
        return "changed" if self.notes else "mapped"


@dataclass(frozen=True, slots=True)
class Imported:
    """The result of an import.

    Attributes:
        texts: The files by path, relative to the new repository's folder.
        outcomes: What became of each definition.
    """

    texts: Mapping[str, str]
    outcomes: tuple[Outcome, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain data."""
        return {
            "files": list(self.texts),
            "definitions": [asdict(each) | {"state": each.state} for each in self.outcomes],
        }
