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
        try_s: How long one try waits for its replies; all of the call where `deadline_s` is given.
        retries: How often the call may be sent again.
        deadline_s: When the whole call is over, by the monotonic clock; `inf` if only tries are bounded.
    """

    __slots__ = ("attempt_timeout_s", "deadline_s", "retries")

    def __init__(
        self, attempt_timeout_s: float, retries: int = 0, deadline_s: float = inf
    ) -> None:
        self.attempt_timeout_s = attempt_timeout_s
        self.retries = retries
        self.deadline_s = deadline_s

    @classmethod
    def for_call(cls, timeout_s: float, retries: int) -> Deadline:
        """The patience of a call that begins now and must be over in time, whatever it meets."""
        return cls(timeout_s, retries, monotonic() + timeout_s)

    def remaining_s(self) -> float:
        """How long the next try may wait."""
        remaining_s = self.deadline_s - monotonic()
        # A link keeps its timeout from call to call, as long as it is told the same.
        return (
            self.attempt_timeout_s
            if remaining_s > AS_GOOD_AS_ALL * self.attempt_timeout_s
            else max(remaining_s, LEAST_S)
        )

    def cap(self, timeout_s: float, share: float = 1.0) -> float:
        """A step's own bound, or the given share of what is left of the whole call if that is less."""
        return max(min(timeout_s, share * (self.deadline_s - monotonic())), LEAST_S)

    def allows_retry(self, began: float) -> bool:
        """Whether a call that began then may be tried again now."""
        now = monotonic()
        return (
            now < self.deadline_s - LEAST_S
            and now <= began + self.attempt_timeout_s * self.retries + GRACE_S
        )

    @property
    def bounds_call(self) -> bool:
        """Whether the whole call is bounded, and not only its tries."""
        return self.deadline_s != inf

    @override
    def __str__(self) -> str:
        """The bound, for people, as in `no answer within 250 ms`."""
        text = f"{self.attempt_timeout_s * 1000:.0f} ms"
        return f"the {text} of the call" if self.bounds_call else text
