"""Reports: what a load did, and how far it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field


@dataclass(slots=True)
class MaterializeReport:
    """What one load of one view did.

    Attributes:
        view: The view.
        rows_read: Rows read from the source, within `start` and `end`.
        rows_written: Rows that the store took: one for each entity.
        rows_superseded: Rows that a newer row of the same entity took the place of.
        rows_rejected: Rows that did not fit the view, or that the store refused.
        entities: Entities written.
        size_bytes: Bytes sent to the store.
        seconds: Wall time.
        server_seconds: CPU time that the store's server used meanwhile; 0 if it does not tell.
        rejects_path: The Parquet file of the refused rows; empty if none was.
        reasons: The first refused rows, in words.
    """

    view: str
    rows_read: int = 0
    rows_written: int = 0
    rows_superseded: int = 0
    rows_rejected: int = 0
    entities: int = 0
    size_bytes: int = 0
    seconds: float = 0.0
    server_seconds: float = 0.0
    rejects_path: str = ""
    reasons: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, object]:
        """The report as plain data."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a load is: rows done, rows to do (0 while that is not known), seconds so far."""

    view: str
    rows_done: int
    rows_total: int
    seconds: float


OnProgress = Callable[[Progress], None]
