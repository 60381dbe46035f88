"""Time limits of a call and of its attempts.

A call makes one attempt and up to `retries` more. There are two kinds of limits:

- Per attempt, the default: each attempt waits up to `attempt_timeout_s` for its replies, beside the time
  in which they are decoded. A retry starts only if at most `attempt_timeout_s * retries` has passed
  since the call began.
- Per call (`Deadline.for_call`): everything ends at `deadline_s`, including the wait for a
  permit, connecting, the check of an idle connection, decoding, and retries.

Invariant: every blocking step takes its timeout from `remaining_s()` or `cap()`, so that no step
outlives the call. The timeout is set on the socket or timer of that step. Rejected alternatives:
a timer around the whole call (a thread cannot be interrupted from outside), and a limit per call
only (a slow first attempt would leave no time for the retry that usually succeeds).
"""

from __future__ import annotations

from math import inf
from time import monotonic

from typing_extensions import override

RETRY_GRACE_S = 0.05
MIN_TIMEOUT_S = 0.001
NEARLY_ALL = 0.98


class Deadline:
    """The time limits of one call.

    Attributes:
        attempt_timeout_s: How long one attempt waits for its replies.
        retries: How often the call may be sent again.
        deadline_s: When the whole call must end, on the monotonic clock; `inf` if only its
            attempts are limited.
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
        """Return the limits of a call that begins now and must end within `timeout_s`."""
        return cls(timeout_s, retries, monotonic() + timeout_s)

    def remaining_s(self) -> float:
        """Return how long the next attempt may wait."""
        left_s = self.deadline_s - monotonic()
        # Setting a socket's timeout is a system call, which an equal timeout makes unnecessary.
        if left_s > NEARLY_ALL * self.attempt_timeout_s:
            return self.attempt_timeout_s
        return max(left_s, MIN_TIMEOUT_S)

    def cap(self, timeout_s: float, share: float = 1.0) -> float:
        """Return `timeout_s`, or a share of the call's remaining time if that is less."""
        return max(min(timeout_s, share * (self.deadline_s - monotonic())), MIN_TIMEOUT_S)

    def allows_retry(self, began: float) -> bool:
        """Return whether a call that began at `began` may be sent again now."""
        now = monotonic()
        retries_end = began + self.attempt_timeout_s * self.retries + RETRY_GRACE_S
        return now < self.deadline_s - MIN_TIMEOUT_S and now <= retries_end

    @property
    def bounds_call(self) -> bool:
        """Whether the call as a whole is limited, not only its attempts."""
        return self.deadline_s != inf

    @override
    def __str__(self) -> str:
        """Return the limit for messages, as in `no answer within 250 ms`."""
        text = f"{self.attempt_timeout_s * 1000:.0f} ms"
        return f"the {text} of the call" if self.bounds_call else text
