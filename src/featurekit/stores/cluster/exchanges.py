"""Exchanges with several servers at once, for threads and event loops.

A thread sends what each socket accepts, and waits for all of them with one `poll`; an event loop
wakes a task with the replies. `fan_out` drives both in the same way.
"""

from __future__ import annotations

import asyncio
import select
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Generic, NamedTuple

from typing_extensions import override

from featurekit.stores.cluster.client import PoolT
from featurekit.stores.cluster.node_connections import AsyncNodeConnection, NodeConnection
from featurekit.stores.cluster.node_pool import NodePool
from featurekit.stores.cluster.node_pool_async import AsyncNodePool
from featurekit.stores.cluster.retry import Failure, FanOutResult
from featurekit.stores.cluster.routed_requests import NodeBatch, RoutedRequests
from featurekit.stores.connection import DecodingTime
from featurekit.stores.deadline import Deadline
from featurekit.stores.error_mapping import unavailable_error
from featurekit.stores.url import Address, StoreUrl

READ_OR_WRITE = select.POLLIN | select.POLLOUT
Outcome = list[Any] | Failure
"""All replies to a batch, or why there are none."""


@dataclass(eq=False)
class _Exchanges(Generic[PoolT]):
    """Batches of requests, and what came of them so far.

    Attributes:
        requests: The requests in the batches; they store the replies.
        batches: The batches, each for another server.
        pool_of: Returns the connection pool of a server.
        deadline: The time limit of the call.
        timeout_s: How long to wait for replies.
        result: What is left to do.
    """

    requests: RoutedRequests
    batches: list[NodeBatch]
    pool_of: Callable[[Address], PoolT]
    deadline: Deadline
    timeout_s: float
    result: FanOutResult = field(default_factory=FanOutResult, init=False)

    def add(self, batch: NodeBatch, outcome: Outcome) -> None:
        """Store the outcome of a batch."""
        self.result.add(self.requests, batch, outcome)

    def failure(self, batch: NodeBatch, url: StoreUrl, error: OSError) -> Failure:
        """Return the failure of a batch whose connection broke, or timed out, after sending."""
        reason = unavailable_error(url, "waiting for replies", self.deadline, error)
        reason.__cause__ = error
        return Failure(batch, reason, sent=True)


class _ThreadExchange(NamedTuple):
    """A batch on its way."""

    pool: NodePool
    connection: NodeConnection
    batch: NodeBatch


class _SendingThread(threading.Thread):
    """Sends one batch."""

    def __init__(self, send: Callable[[NodeBatch], Outcome], batch: NodeBatch) -> None:
        super().__init__(name="featurekit connect", daemon=True)
        self._send, self._batch = send, batch
        self.outcome: Outcome | BaseException

    @override
    def run(self) -> None:
        try:
            self.outcome = self._send(self._batch)
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits
            self.outcome = error


@dataclass(eq=False)
class ThreadExchanges(_Exchanges[NodePool], ABC):
    """Exchanges of one thread, which advances each one when its socket is ready."""

    _exchanges: dict[int, _ThreadExchange] = field(default_factory=dict, init=False)
    _poll: select.poll = field(default_factory=select.poll, init=False)

    @abstractmethod
    def send_and_wait(self, batch: NodeBatch) -> Outcome:
        """Send one batch, on a new connection if necessary, and wait for its replies."""

    def begin(self, batch: NodeBatch, now: float) -> bool:
        """Send a batch if its server has an idle connection; return whether it has."""
        pool = self.pool_of(batch.address)
        connection = pool.acquire_idle(now)
        if connection is None:
            return False
        number = connection.sock.fileno()
        self._exchanges[number] = _ThreadExchange(pool, connection, batch)
        on_reply = self.requests.on_reply(batch)
        try:
            sent = connection.begin(batch.data, batch.reply_count, self.timeout_s, on_reply)
        except OSError as error:
            self._fail(number, error)
        else:
            self._poll.register(number, select.POLLIN if sent else READ_OR_WRITE)
        return True

    def start(self, batch: NodeBatch) -> _SendingThread:
        """Send a batch from a thread of its own."""
        thread = _SendingThread(self.send_and_wait, batch)
        thread.start()
        return thread

    def outcome(self, thread: _SendingThread) -> Outcome:
        """Return what came of the batch that a thread sent."""
        thread.join()
        if isinstance(thread.outcome, BaseException):
            raise thread.outcome
        return thread.outcome

    def collect(self, end: float) -> None:
        """Read replies as they arrive, until all have arrived or time is up."""
        deadline_s = self.deadline.deadline_s
        while self._exchanges:
            ready = self._poll.poll(max(0.0, end - monotonic()) * 1000)
            arrived = monotonic()
            if not ready or arrived >= deadline_s:
                for number in list(self._exchanges):
                    self._fail(number, TimeoutError("timed out"))
                return
            for number, events in ready:
                self._advance(number, events)
            # The time of decoding is not the servers'.
            end = min(end + monotonic() - arrived, deadline_s)

    def abandon(self, threads: Iterable[_SendingThread]) -> None:  # noqa: ARG002 - they end alone
        """Close the connections on which replies are still to arrive."""
        for exchange in self._exchanges.values():
            exchange.pool.abandon(exchange.connection)

    def _advance(self, number: int, events: int) -> None:
        """Send and read what is possible."""
        pool, connection, batch = self._exchanges[number]
        try:
            sent = connection.send()
            received = connection.receive()
        except OSError as error:
            self._poll.unregister(number)
            self._fail(number, error)
            return
        if received:
            self._poll.unregister(number)
            del self._exchanges[number]
            pool.release(connection)
            self.add(batch, connection.values)
        elif sent and events & select.POLLOUT:
            self._poll.modify(number, select.POLLIN)

    def _fail(self, number: int, error: OSError) -> None:
        pool, connection, batch = self._exchanges.pop(number)
        pool.release_failed(connection, error)
        self.add(batch, self.failure(batch, pool.url, error))


class _LoopExchange(NamedTuple):
    """A batch that was written, and the future of its replies."""

    pool: AsyncNodePool
    connection: AsyncNodeConnection
    batch: NodeBatch
    waiter: asyncio.Future[list[Any]]


@dataclass(eq=False)
class LoopExchanges(_Exchanges[AsyncNodePool], ABC):
    """Exchanges of one task, which awaits one after another."""

    _exchanges: list[_LoopExchange] = field(default_factory=list, init=False)
    _decoding: DecodingTime = field(default_factory=DecodingTime, init=False)

    @abstractmethod
    async def send_and_wait(self, batch: NodeBatch) -> Outcome:
        """Send one batch, on a new connection if necessary, and wait for its replies."""

    def begin(self, batch: NodeBatch, now: float) -> bool:
        """Send a batch if its server has an idle connection; return whether it has."""
        pool = self.pool_of(batch.address)
        connection = pool.acquire_idle(now)
        if connection is None:
            return False
        on_reply = self.requests.on_reply(batch)
        deadline_s = self.deadline.deadline_s
        connection.share_decoding_time(self._decoding)
        waiter = connection.begin(
            batch.data, batch.reply_count, self.timeout_s, on_reply, deadline_s
        )
        self._exchanges.append(_LoopExchange(pool, connection, batch, waiter))
        return True

    def start(self, batch: NodeBatch) -> asyncio.Task[Outcome]:
        """Send a batch from a task of its own."""
        return asyncio.create_task(self.send_and_wait(batch))

    async def outcome(self, task: asyncio.Task[Outcome]) -> Outcome:
        """Return what came of the batch that a task sent."""
        return await task

    async def collect(self, end: float) -> None:  # noqa: ARG002 - each connection has a timer
        """Wait until each exchange has its replies or has failed."""
        while self._exchanges:
            pool, connection, batch, waiter = self._exchanges[-1]
            try:
                outcome: Outcome = await connection.end(waiter)
            except OSError as error:
                pool.release_failed(connection, error)
                outcome = self.failure(batch, pool.url, error)
            else:
                pool.release(connection)
            self._exchanges.pop()
            self.add(batch, outcome)

    def abandon(self, tasks: Iterable[asyncio.Task[Outcome]]) -> None:
        """Close the connections on which replies are still to arrive."""
        for exchange in self._exchanges:
            exchange.waiter.cancel()
            exchange.pool.abandon(exchange.connection)
        for task in tasks:
            task.cancel()
