"""Decide what a cluster call does after each fan-out: follow redirects, pause, retry or give up.

Redirects are followed at once. If a server is gone, or is moving its slots, the topology is
refreshed and the rest is sent again after a pause, for as long as the call may take.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf
from time import monotonic
from typing import Any, NamedTuple

from featurekit.errors import StoreError, StoreUnavailableError
from featurekit.stores.cluster.routed_requests import (
    NodeBatch,
    RedirectedRequest,
    RoutedRequests,
)
from featurekit.stores.cluster.topology import Topology
from featurekit.stores.deadline import Deadline
from featurekit.stores.error_mapping import NOT_READY_HINTS
from featurekit.stores.url import Address, StoreUrl

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.01, 0.2
UNPAUSED_FAN_OUTS = 4
"""Redirects followed without a pause. Then pauses begin: two servers may name each other."""

HINTS = {
    "CLUSTERDOWN": "a shard is gone and no replica has replaced it; "
    "with cluster-require-full-coverage no, the other shards keep serving",
    **NOT_READY_HINTS,
    "TRYAGAIN": "its slot is being moved to another server: try again in a moment",
}


class CallOptions(NamedTuple):
    """How a call treats servers that do not answer.

    Attributes:
        partial: Answer for them with error replies after one retry, instead of raising.
        once: Never send again what a server may have received.
        replicas: Send to replicas first.
    """

    partial: bool = False
    once: bool = False
    replicas: bool = False


DEFAULT_CALL_OPTIONS = CallOptions()


@dataclass(frozen=True, slots=True)
class Failure:
    """A batch that got no reply.

    Attributes:
        batch: The batch.
        error: The reason.
        sent: Whether the server may have received it.
    """

    batch: NodeBatch
    error: StoreError
    sent: bool


@dataclass(slots=True)
class FanOutResult:
    """What is left to do after batches were sent to their servers.

    Attributes:
        redirected: Requests that a server did not execute.
        failures: Batches without a reply.
    """

    redirected: list[RedirectedRequest] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)

    def add(self, requests: RoutedRequests, batch: NodeBatch, result: list[Any] | Failure) -> None:
        """Store the replies to a batch in `requests`, or note its failure."""
        if isinstance(result, Failure):
            self.failures.append(result)
        elif redirected := requests.apply_replies(batch, result):
            self.redirected += [(batch.address, index, reply) for index, reply in redirected]


class RetryState:
    """The retries of one call.

    Args:
        url: The cluster's URL.
        requests: The requests of the call.
        deadline: The time limit of the call.
        options: How to treat servers that do not answer.

    Attributes:
        deadline: The time limit of the call with all its attempts.
        refresh: Whether to refresh the topology before the next attempt.
        unresponsive: The servers that did not answer, or not usefully, in the last attempt.
    """

    def __init__(
        self,
        url: StoreUrl,
        requests: RoutedRequests,
        deadline: Deadline,
        options: CallOptions = DEFAULT_CALL_OPTIONS,
    ) -> None:
        self._url, self._requests, self._options = url, requests, options
        self._attempt_timeout_s, self._retries = deadline.attempt_timeout_s, deadline.retries
        self._fan_outs = self._failed_fan_outs = 0
        self._errors: dict[int, StoreError] = {}
        end_s = deadline.deadline_s
        if not deadline.bounds_call:
            end_s = monotonic() + deadline.attempt_timeout_s * (1 + deadline.retries)
        self.deadline = Deadline(deadline.attempt_timeout_s, deadline.retries, end_s)
        self.refresh = False
        self.unresponsive: list[Address] = []
        self._bounds_call = deadline.bounds_call
        self._fan_out_end = inf

    def timeout_s(self, *, share: float = 1.0) -> float:
        """Return the time limit of the next attempt: at most a share of the remaining time."""
        timeout_s = self.deadline.cap(self._attempt_timeout_s, share)
        self._fan_out_end = monotonic() + timeout_s
        return timeout_s

    def after_fan_out(
        self, result: FanOutResult, unserved: Sequence[int], topology: Topology
    ) -> float:
        """Plan the next attempt, if there is anything left to do; return how long to pause before.

        Args:
            result: The result of the fan-out.
            unserved: The requests whose slot no server serves.
            topology: The topology that the fan-out used.

        Raises:
            StoreUnavailableError: There is no time left; names a server and its answer.
            StoreError: A server rejects this user.
        """
        requests, failures = self._requests, result.failures
        self._fan_outs += 1
        self.refresh = False
        if not (failures or result.redirected or unserved):
            requests.todo = ()
            return 0.0
        failed = [index for failure in failures for index in failure.batch.indices]
        requests.plan_retry(result.redirected, [*failed, *unserved], topology)
        self._errors = self._errors_of(failures, unserved)
        transient = [address for address, _ in requests.transient.values()]
        self.unresponsive = [*(failure.batch.address for failure in failures), *transient]
        for failure in failures:
            if not isinstance(failure.error, StoreUnavailableError):
                raise failure.error
        now = monotonic()
        if not failures and not self._bounds_call and now > self._fan_out_end:
            # All servers answered in time: decoding their replies took so long.
            self.deadline.deadline_s = max(self.deadline.deadline_s, now + self._attempt_timeout_s)
        if not self._errors:
            return self._pause_before_following()
        self._failed_fan_outs += 1
        self._retries -= any(failure.sent for failure in failures)
        pause_s = _pause_s(self._failed_fan_outs)
        if self._must_end(failures, pause_s):
            self._end()
            return 0.0
        self.refresh = True
        return pause_s

    def give_up_or_raise(self, errors: dict[int, StoreUnavailableError]) -> None:
        """Answer requests with error replies if the call is partial; raise otherwise."""
        if not self._options.partial:
            raise next(iter(errors.values()))
        self._requests.give_up(errors)

    def _pause_before_following(self) -> float:
        """Return how long to pause before redirects are followed; end the call if time is up."""
        pause_s = _pause_s(self._fan_outs - UNPAUSED_FAN_OUTS)
        if pause_s and monotonic() + pause_s >= self.deadline.deadline_s:
            for index in self._requests.todo:
                slot = self._requests.slot(index)
                self._errors[index] = StoreUnavailableError(
                    f"the servers of {self._url} point at each other for slot {slot}",
                    hint="are slots being moved?",
                )
            self._end()
        self.refresh = self._requests.unknown_primary or pause_s > 0
        return pause_s

    def _must_end(self, failures: Sequence[Failure], pause_s: float) -> bool:
        if self._retries < 0 or (self._options.once and any(each.sent for each in failures)):
            return True
        if monotonic() + pause_s >= self.deadline.deadline_s:
            return True
        return self._options.partial and self._failed_fan_outs > 1

    def _end(self) -> None:
        self.give_up_or_raise(
            {index: self._with_cluster(error) for index, error in self._errors.items()}
        )

    def _with_cluster(self, error: StoreError) -> StoreUnavailableError:
        """Return the error of one server, naming its cluster too."""
        named = StoreUnavailableError(
            f"{error.message}; it is one server of {self._url}", hint=error.hint
        )
        named.__cause__ = error
        return named

    def _errors_of(
        self, failures: Sequence[Failure], unserved: Sequence[int]
    ) -> dict[int, StoreError]:
        """Return why each request has no reply, except those that were only redirected."""
        errors: dict[int, StoreError] = {}
        for failure in failures:
            errors |= dict.fromkeys(failure.batch.indices, failure.error)
        for index, (address, redirect) in self._requests.transient.items():
            errors[index] = StoreUnavailableError(
                f"{self._url.for_server(*address)} answers {redirect}",
                hint=HINTS.get(redirect.code, ""),
            )
        for index in unserved:
            errors[index] = StoreUnavailableError(
                f"no server has slot {self._requests.slot(index)}", hint=HINTS["CLUSTERDOWN"]
            )
        return errors


def _pause_s(attempt: int) -> float:
    return min(FIRST_PAUSE_S * 2 ** min(attempt - 1, 9), LONGEST_PAUSE_S) if attempt > 0 else 0.0
