"""Rounds: one exchange with several servers at once, from one thread.

Everything is sent before any answer is awaited, and answers are taken as they come, so that a
server that is slow or gone keeps none of the others' waiting. What has no connection yet is carried
by a thread of its own, since connecting to a server that is gone may take all the time there is.
"""

from __future__ import annotations

import select
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any

from typing_extensions import override

from featurekit.errors import StoreError
from featurekit.stores.cluster.nodes import NodeConnection, NodePool
from featurekit.stores.cluster.retry import Failure, FanOutResult
from featurekit.stores.cluster.routed_requests import NodeBatch, RoutedRequests
from featurekit.stores.deadline import Deadline
from featurekit.stores.error_mapping import unavailable_error
from featurekit.stores.url import Address

BOTH_WAYS = select.POLLIN | select.POLLOUT
PoolOf = Callable[[Address], NodePool]


class FanOut:
    """One exchange of an errand.

    Args:
        errand: Takes the replies.
        pool_of: Where links come from.
        deadline: That of the call.
        timeout_s: How long to wait for replies.
    """

    def __init__(
        self, errand: RoutedRequests, pool_of: PoolOf, deadline: Deadline, timeout_s: float
    ) -> None:
        self._errand = errand
        self._pool_of = pool_of
        self._deadline = deadline
        self._timeout_s = timeout_s
        self._waiting: dict[int, _Waiting] = {}
        self._outcome = FanOutResult()

    def run(self, parcels: Sequence[NodeBatch]) -> FanOutResult:
        """Send every parcel, and wait until each has got its replies or cannot get them."""
        if len(parcels) == 1:
            self._take_in(parcels[0], self._carry(parcels[0]))
            return self._outcome
        began = monotonic()
        try:
            cold = [_Carrier(p, self._carry) for p in parcels if not self._begin(p, began)]
            for carrier in cold:
                carrier.start()
            self._collect(began + self._timeout_s)
        except BaseException:
            for waiting in self._waiting.values():
                waiting.pool.abandon(waiting.link)
            raise
        for carrier in cold:
            carrier.join()
        for carrier in cold:
            self._take_in(carrier.parcel, carrier.result())
        return self._outcome

    def _begin(self, parcel: NodeBatch, now: float) -> bool:
        """Send a parcel if a link is ready for it; whether one was."""
        pool = self._pool_of(parcel.address)
        link = pool.ready(now)
        if link is None:
            return False
        waiting = self._waiting[link.sock.fileno()] = _Waiting(pool, link, parcel)
        on_reply = self._errand.take_of(parcel)
        try:
            waiting.sent = link.begin(parcel.data, parcel.count, self._timeout_s, on_reply)
        except OSError as error:
            self._broken(link.sock.fileno(), error)
        return True

    def _collect(self, deadline_s: float) -> None:
        """Take replies from whoever has some, until all are there or time is up."""
        poll = select.poll()
        for number, waiting in self._waiting.items():
            poll.register(number, select.POLLIN if waiting.sent else BOTH_WAYS)
        while self._waiting:
            ready = poll.poll(max(0.0, deadline_s - monotonic()) * 1000)
            if not ready:
                for number in list(self._waiting):
                    self._broken(number, TimeoutError("timed out"))
            for number, _ in ready:
                waiting = self._waiting[number]
                was_sent = waiting.sent
                if self._advance(number, waiting):
                    poll.unregister(number)
                elif waiting.sent and not was_sent:
                    poll.modify(number, select.POLLIN)

    def _advance(self, number: int, waiting: _Waiting) -> bool:
        """Send and take what can be; whether nothing more is to come."""
        try:
            waiting.sent = waiting.sent or waiting.link.push()
            if not waiting.link.pull():
                return False
        except OSError as error:
            self._broken(number, error)
            return True
        del self._waiting[number]
        waiting.pool.release(waiting.link)
        self._take_in(waiting.parcel, waiting.link.values)
        return True

    def _broken(self, number: int, error: OSError) -> None:
        waiting = self._waiting.pop(number)
        self._take_in(
            waiting.parcel, self._failure(waiting.parcel, waiting.pool, waiting.link, error)
        )

    def _carry(self, parcel: NodeBatch) -> list[Any] | Failure:
        """Send one parcel, waiting for a link first if none is ready, and wait for its replies."""
        pool = self._pool_of(parcel.address)
        try:
            link = pool.obtain(self._deadline)
        except StoreError as error:
            return Failure(parcel, error, sent=False)
        timeout_s = self._deadline.cap(self._timeout_s)
        try:
            values = link.exchange(
                parcel.data, parcel.count, timeout_s, self._errand.take_of(parcel)
            )
        except OSError as error:
            return self._failure(parcel, pool, link, error)
        except BaseException:
            pool.abandon(link)
            raise
        pool.release(link)
        return values

    def _failure(
        self, parcel: NodeBatch, pool: NodePool, link: NodeConnection, error: OSError
    ) -> Failure:
        pool.give_up(link, error)
        fact = unavailable_error(pool.url, "waiting for replies", self._deadline, error)
        fact.__cause__ = error
        return Failure(parcel, fact, sent=True)

    def _take_in(self, parcel: NodeBatch, result: list[Any] | Failure) -> None:
        self._outcome.take_in(self._errand, parcel, result)


@dataclass(slots=True)
class _Waiting:
    """A parcel under way.

    Attributes:
        sent: Whether all of it is sent.
    """

    pool: NodePool
    link: NodeConnection
    parcel: NodeBatch
    sent: bool = False


class _Carrier(threading.Thread):
    """Carries one parcel."""

    def __init__(
        self, parcel: NodeBatch, carry: Callable[[NodeBatch], list[Any] | Failure]
    ) -> None:
        super().__init__(name="featurekit connect", daemon=True)
        self.parcel = parcel
        self._carry = carry
        self._result: list[Any] | Failure | BaseException

    @override
    def run(self) -> None:
        try:
            self._result = self._carry(self.parcel)
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits
            self._result = error

    def result(self) -> list[Any] | Failure:
        """What came of it, once it has ended."""
        if isinstance(self._result, BaseException):
            raise self._result
        return self._result
