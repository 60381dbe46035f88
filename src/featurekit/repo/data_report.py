"""What a check of batch sources has found. Plain data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Level = Literal["fail", "warn"]
CheckName = Literal[
    "source", "values", "limits", "duplicates", "future", "late", "freshness", "nulls"
]


@dataclass(frozen=True, slots=True)
class Offender:
    """A row that a check has found.

    Attributes:
        where: The file and the line or row; the number of the row in the source if that is not known.
        key: Its join keys, such as `user_id='u0001'`.
        message: What is wrong with it; empty if the finding says so.
    """

    where: str
    key: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong with a source.

    Attributes:
        level: `fail` if a load would fail or reject rows, else `warn`.
        check: What was checked.
        message: What is wrong.
        rows: How many rows; 0 if it concerns the whole source.
        field: The field or join key; empty if it concerns whole rows.
        first: The first such rows.
    """

    level: Level
    check: CheckName
    message: str
    rows: int = 0
    field: str = ""
    first: Sequence[Offender] = ()


@dataclass(frozen=True, slots=True)
class SourceCheck:
    """What the source of one view contains.

    Attributes:
        view: The view.
        source: The source, as declared.
        is_checked: Whether it was read; a source that only Spark reads is not.
        rows_read: Rows within the lookback.
        rows_checked: Rows whose values were checked: the newest of each entity, or all.
        rows_rejected: Those that a load would reject.
        rows_superseded: Rows that a newer row of their entity replaces.
        rows_future: Rows whose time is still to come.
        rows_outside: Rows that are older than the lookback.
        rows_tied: Rows with the same key and time as another one.
        rows_late: Rows that were created more than `refresh` after their time.
        entities: Entities with a row that a load takes.
        oldest_event_ms: The oldest time of these rows; `None` if rows have no times.
        newest_event_ms: The newest one.
        nulls: How many of the checked rows that fit have null, for each field.
        findings: What is wrong, failures first.
        seconds: How long the check took.
    """

    view: str
    source: str
    is_checked: bool = True
    rows_read: int = 0
    rows_checked: int = 0
    rows_rejected: int = 0
    rows_superseded: int = 0
    rows_future: int = 0
    rows_outside: int = 0
    rows_tied: int = 0
    rows_late: int = 0
    entities: int = 0
    oldest_event_ms: int | None = None
    newest_event_ms: int | None = None
    nulls: dict[str, int] = field(default_factory=dict)
    findings: Sequence[Finding] = ()
    seconds: float = 0.0

    @property
    def state(self) -> str:
        """`fail` or `warn` if there is such a finding, `skipped` if it was not read, else `ok`."""
        levels = {finding.level for finding in self.findings}
        if levels:
            return "fail" if "fail" in levels else "warn"
        return "ok" if self.is_checked else "skipped"


@dataclass(frozen=True, slots=True)
class DataReport:
    """The result of `FeatureStore.data.check`.

    Attributes:
        checked_ms: When the check started, in milliseconds since the epoch.
        every_row: Whether the values of superseded rows were checked too.
        views: The views.
    """

    checked_ms: int
    every_row: bool
    views: tuple[SourceCheck, ...]

    @property
    def failed(self) -> tuple[str, ...]:
        """The views that a load would fail for, or reject rows of."""
        return tuple(view.view for view in self.views if view.state == "fail")

    @property
    def warned(self) -> tuple[str, ...]:
        """The other views with a warning."""
        return tuple(view.view for view in self.views if view.state == "warn")

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain data, for JSON."""
        views = [{**asdict(view), "state": view.state} for view in self.views]
        return {
            "checked_ms": self.checked_ms,
            "every_row": self.every_row,
            "failed": self.failed,
            "warned": self.warned,
            "views": views,
        }
