"""What became of events that were written."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class WriteReport:
    """The result of writing some events.

    Attributes:
        written: Events that the store accepted.
        dropped_older: Events older than the stored ones; only with `ordering: event_time`.
        dropped_expired: Events whose TTL had passed before they were written, or that were too late for
            every window.
        repeated: Events that had been applied before; only of views with windows.
        rejected: Index and reason of each event that did not fit the view or that the store
            refused.
        refusal: The server's error if it refused events for a reason of its own, such as a lack of
            memory, and may accept them later; empty otherwise.
        ttl_left_ms: Of `push`: how long the longest-lived value had to live when it was written;
            0 or less if all had expired. `None` without events, and of other writes.
    """

    written: int = 0
    dropped_older: int = 0
    dropped_expired: int = 0
    repeated: int = 0
    rejected: list[tuple[int, str]] = field(default_factory=list)
    refusal: str = ""
    ttl_left_ms: int | None = None

    def add(self, other: WriteReport) -> None:
        """Add the counts of another report, without its rejected events."""
        self.written += other.written
        self.dropped_older += other.dropped_older
        self.dropped_expired += other.dropped_expired
        self.repeated += other.repeated
