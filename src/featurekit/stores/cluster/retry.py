"""Courses: what is done between the rounds of an errand, until it is done or time is up.

Servers that point elsewhere are followed at once. Where one is gone, or busy with its slots, the
topology is asked for again and the rest goes again after a pause, as long as the call may take.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from featurekit.errors import StoreError, StoreUnavailableError
from featurekit.stores.cluster.routed_requests import NodeBatch, RoutedRequests, Told
from featurekit.stores.cluster.topology import Topology
from featurekit.stores.deadline import Deadline
from featurekit.stores.url import Address, StoreUrl

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.01, 0.2
FOLLOWED = 4
"""Rounds in which servers are followed without a pause: two of them may point at each other."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A parcel that got no answer.

    Attributes:
        parcel: What was to be sent.
        error: Why.
        sent: Whether the server may have got it.
    """

    parcel: NodeBatch
    error: StoreError
    sent: bool


@dataclass(slots=True)
class FanOutResult:
    """What came of a round.

    Attributes:
        again: Who said what to which request in the place of an answer.
        failures: What got no answer.
    """

    again: list[Told] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)

    def take_in(
        self, errand: RoutedRequests, parcel: NodeBatch, result: list[Any] | Failure
    ) -> None:
        """Put the replies to a parcel where they belong, or note that there are none."""
        if isinstance(result, Failure):
            self.failures.append(result)
        elif again := errand.settle(parcel, result):
            self.again += [(parcel.address, place, redirect) for place, redirect in again]


class RetryState:
    """The way of one errand.

    Args:
        url: The cluster's.
        errand: What is carried.
        deadline: That of the call.
        partial: Whether to answer for servers that are away after one further try, in the place
            of failing once time is up.
        once: Whether what a server may have got is never sent again.

    Attributes:
        deadline_s: When the call is over, by the monotonic clock.
        refresh: Whether the topology is to be asked for before the next round.
        away: The servers that gave no answer in the last round, or none worth having.
        deadline: That of the call, bounded as a whole.
    """

    def __init__(
        self,
        url: StoreUrl,
        errand: RoutedRequests,
        deadline: Deadline,
        *,
        partial: bool = False,
        once: bool = False,
    ) -> None:
        self._url, self._errand = url, errand
        self._partial, self._once = partial, once
        self._attempt_timeout_s, self._retries = deadline.attempt_timeout_s, deadline.retries
        self._rounds = self._troubles = 0
        self._errors: dict[int, StoreError] = {}
        bound = monotonic() + deadline.attempt_timeout_s * (1 + deadline.retries)
        self.deadline_s = deadline.deadline_s if deadline.bounds_call else bound
        self.deadline = Deadline(deadline.attempt_timeout_s, deadline.retries, self.deadline_s)
        self.refresh = False
        self.away: list[Address] = []

    def timeout_s(self, *, share: float = 1.0) -> float:
        """How long the next round may wait: one try, or a share of what is left if that is less."""
        return max(min(self._attempt_timeout_s, share * (self.deadline_s - monotonic())), 0.001)

    def next(self, outcome: FanOutResult, lost: Sequence[int], topology: Topology) -> float:
        """Take in a round; how long to pause before the next one, if there is anything left to do.

        Args:
            outcome: What came of it.
            lost: The requests whose slot nobody serves.
            topology: The one that the round used.

        Raises:
            StoreUnavailableError: There is no time left; names a server and what it said.
            StoreError: A server refuses this user.
        """
        errand, failures = self._errand, outcome.failures
        self._rounds += 1
        self.refresh = False
        if not (failures or outcome.again or lost):
            errand.todo = ()
            return 0.0
        places = [place for failure in failures for place in failure.parcel.places]
        errand.resend(outcome.again, [*places, *lost], topology)
        self._errors = self._told(failures, lost)
        passing = [address for address, _ in errand.passing.values()]
        self.away = [*(failure.parcel.address for failure in failures), *passing]
        for failure in failures:
            if not isinstance(failure.error, StoreUnavailableError):
                raise failure.error
        if not self._errors:
            return self._follow()
        self._troubles += 1
        self._retries -= any(failure.sent for failure in failures)
        pause_s = self._pause(self._troubles)
        if self._ends(failures, pause_s):
            self._end()
            return 0.0
        self.refresh = True
        return pause_s

    def _follow(self) -> float:
        """How long to pause before going where servers point; not for ever."""
        pause_s = self._pause(self._rounds - FOLLOWED)
        if pause_s and monotonic() + pause_s >= self.deadline_s:
            for place in self._errand.todo:
                slot = self._errand.slot(place)
                fact = f"the servers of {self._url} point at each other for slot {slot}"
                self._errors[place] = StoreUnavailableError(fact, hint="are slots being moved?")
            self._end()
        self.refresh = self._errand.strange or pause_s > 0
        return pause_s

    def _ends(self, failures: Sequence[Failure], pause_s: float) -> bool:
        if self._retries < 0 or (self._once and any(failure.sent for failure in failures)):
            return True
        return monotonic() + pause_s >= self.deadline_s or (self._partial and self._troubles > 1)

    def _end(self) -> None:
        """Answer for what is left, or say why it cannot be had."""
        errors = {place: self._worded(error) for place, error in self._errors.items()}
        if not self._partial:
            raise next(iter(errors.values()))
        self._errand.give_up(errors)

    def _worded(self, error: StoreError) -> StoreUnavailableError:
        whole = StoreUnavailableError(
            f"{error.message}; it is one server of {self._url}", hint=error.hint
        )
        whole.__cause__ = error
        return whole

    def _told(self, failures: Sequence[Failure], lost: Sequence[int]) -> dict[int, StoreError]:
        """Why each request that waits has no answer; nothing about those that were pointed on."""
        errors: dict[int, StoreError] = {}
        for failure in failures:
            errors |= dict.fromkeys(failure.parcel.places, failure.error)
        for place, (address, redirect) in self._errand.passing.items():
            errors[place] = StoreUnavailableError(
                f"{self._url.for_server(*address)} answers {redirect}",
                hint=HINTS.get(redirect.code, ""),
            )
        for place in lost:
            errors[place] = StoreUnavailableError(
                f"no server has slot {self._errand.slot(place)}", hint=HINTS["CLUSTERDOWN"]
            )
        return errors

    def _pause(self, count: int) -> float:
        return min(FIRST_PAUSE_S * 2 ** min(count - 1, 9), LONGEST_PAUSE_S) if count > 0 else 0.0


HINTS = {
    "CLUSTERDOWN": "a shard is gone and no replica has taken its place; "
    "with cluster-require-full-coverage no, the others go on serving",
    "LOADING": "the server is still reading its data: try again in a moment",
    "MASTERDOWN": "the replica has lost its primary",
    "TRYAGAIN": "its slot is being moved to another server: try again in a moment",
}
