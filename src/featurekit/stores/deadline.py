"""Deadline: how long a call may take, in each of its tries and in all."""

from __future__ import annotations

from math import inf
from time import monotonic

from typing_extensions import override

GRACE_S = 0.05
LEAST_S = 0.001
AS_GOOD_AS_ALL = 0.98


class Deadline:
    """The time that a call has.

    Attributes:
        try_s: How long one try waits for its replies; all of the call where `late` is given.
        retries: How often the call may be sent again.
        late: When the whole call is over, by the monotonic clock; `inf` if only tries are bounded.
    """

    __slots__ = ("late", "retries", "try_s")

    def __init__(self, try_s: float, retries: int = 0, late: float = inf) -> None:
        self.try_s = try_s
        self.retries = retries
        self.late = late

    @classmethod
    def of_call(cls, timeout_s: float, retries: int) -> Deadline:
        """The patience of a call that begins now and must be over in time, whatever it meets."""
        return cls(timeout_s, retries, monotonic() + timeout_s)

    def left_s(self) -> float:
        """How long the next try may wait."""
        left_s = self.late - monotonic()
        # A link keeps its timeout from call to call, as long as it is told the same.
        return self.try_s if left_s > AS_GOOD_AS_ALL * self.try_s else max(left_s, LEAST_S)

    def bounded(self, timeout_s: float, share: float = 1.0) -> float:
        """A step's own bound, or the given share of what is left of the whole call if that is less."""
        return max(min(timeout_s, share * (self.late - monotonic())), LEAST_S)

    def again(self, began: float) -> bool:
        """Whether a call that began then may be tried again now."""
        now = monotonic()
        return now < self.late - LEAST_S and now <= began + self.try_s * self.retries + GRACE_S

    @property
    def bounds_call(self) -> bool:
        """Whether the whole call is bounded, and not only its tries."""
        return self.late != inf

    @override
    def __str__(self) -> str:
        """The bound, for people, as in `no answer within 250 ms`."""
        text = f"{self.try_s * 1000:.0f} ms"
        return f"the {text} of the call" if self.bounds_call else text
