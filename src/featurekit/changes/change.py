"""One difference between two compiled repositories, and the texts of its values."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Literal, TypeVar

from typing_extensions import override

from featurekit.plan.fields import NamedPlan

Kind = Literal["add", "remove", "ttl", "compatible", "breaking"]
_SUBJECT = re.compile(r"(project|entity|feature view|field|feature service|request) ([^ ,]+)")

STARTS_EMPTY = "its window starts empty"
"""The effect of a change of a window: its stored tiles are read as empty."""


T = TypeVar("T", bound=NamedPlan)


@dataclass(frozen=True, slots=True)
class Change:
    """One difference.

    Attributes:
        kind: The kind of change.
        subject: What changes, such as `field user_profile:age`.
        detail: How it changes; may be empty.
        attribute: What of the subject changes, such as `ttl`; empty for the whole of it.
        before: The attribute before, as text; `None` if there was none.
        after: The attribute after.
    """

    kind: Kind
    subject: str
    detail: str = ""
    attribute: str = ""
    before: str | None = None
    after: str | None = None

    def to_dict(self) -> dict[str, object]:
        """Return the change as JSON values, its subject also taken apart.

        Examples:
            >>> Change("add", "field user_profile:age").to_dict()["field"]
            'age'
        """
        found = _SUBJECT.match(self.subject)
        object_, name = found.groups() if found is not None else (self.subject, "")
        view, _, field_name = name.partition(":") if object_ == "field" else ("", "", "")
        if object_ == "feature view":
            view = name
        return {
            **asdict(self),
            "object": object_,
            "name": name,
            "view": view or None,
            "field": field_name or None,
        }

    @override
    def __str__(self) -> str:
        return f"{self.kind} {self.subject}" + (f": {self.detail}" if self.detail else "")


@dataclass(frozen=True, slots=True)
class Changes:
    """All differences; true if there are any.

    Attributes:
        changes: The differences.
        views_to_load: The batch views whose values are not stored yet, or not in the new form.
    """

    changes: tuple[Change, ...] = ()
    views_to_load: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.changes)

    def __len__(self) -> int:
        return len(self.changes)

    def __iter__(self) -> Iterator[Change]:
        return iter(self.changes)

    @property
    def breaking(self) -> tuple[Change, ...]:
        """The breaking changes."""
        return tuple(change for change in self.changes if change.kind == "breaking")

    @property
    def after_breaking(self) -> str:
        """What to do about the breaking changes, as a hint."""
        if all(change.detail.endswith(STARTS_EMPTY) for change in self.breaking):
            return "apply with --allow-breaking; `featurekit stream replay` fills windows from the log"
        return "apply with --allow-breaking, then run `featurekit reset` and materialize again"

    def to_dict(self) -> dict[str, object]:
        """Return the changes as JSON values."""
        return {
            "changes": [change.to_dict() for change in self.changes],
            "breaking": bool(self.breaking),
            "views_to_load": list(self.views_to_load),
        }


def changed(
    kind: Kind, subject: str, attribute: str, values: Sequence[str | None], effect: str = ""
) -> Change:
    """Return the change of an attribute from one value to another, with its effect."""
    before, after = values
    detail = f"{attribute} {before or 'none'} -> {after or 'none'}"
    text = f"{detail}: {effect}" if effect else detail
    return Change(kind, subject, text, attribute, before, after)


def pair_by_name(
    old: tuple[T, ...], new: tuple[T, ...]
) -> Iterator[tuple[str, T | None, T | None]]:
    """Yield (name, old, new); names of `new` come first, in its order."""
    before: dict[str, T] = {each.name: each for each in old}
    after: dict[str, T] = {each.name: each for each in new}
    for name in dict.fromkeys([*after, *before]):
        yield name, before.get(name), after.get(name)


def value_text(value: object) -> str | None:
    """Return a default or a constraint as text; `None` if there is none."""
    match value:
        case None | "" | ():
            return None
        case bool():
            return str(value).lower()
        case bytes():
            return value.decode(errors="backslashreplace")
        case tuple():
            return f"[{', '.join(value_text(each) or 'none' for each in value)}]"
        case _:
            return str(value)


def time_text(time_ms: int) -> str:
    """Return a time in UTC, rounded up to seconds."""
    time = datetime.fromtimestamp(-(-time_ms // 1000), UTC)
    return time.isoformat().replace("+00:00", "Z")


def duration_or_none(duration_ms: int | None) -> str | None:
    """Return a duration as text; `None` for none."""
    return None if duration_ms is None else duration_text(duration_ms)


def duration_text(duration_ms: int) -> str:
    """Return a duration as definitions write it, such as `5m`."""
    for unit, size_ms in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000)):
        if duration_ms % size_ms == 0:
            return f"{duration_ms // size_ms}{unit}"
    return f"{duration_ms}ms"
