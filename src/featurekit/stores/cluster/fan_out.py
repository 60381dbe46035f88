"""Send batches to several servers at once, from one thread.

All batches are sent before any reply is awaited, and replies are read as they arrive, so that a slow
server does not delay the others. A server without an idle connection gets a thread of its own, since
connecting to a server that is gone may use up the whole time limit.
"""

from __future__ import annotations

import select
import threading
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Any

from typing_extensions import override

from featurekit.errors import StoreError
from featurekit.stores.cluster.client import SendBatches
from featurekit.stores.cluster.nodes import NodeConnection, NodePool
from featurekit.stores.cluster.retry import Failure, FanOutResult
from featurekit.stores.cluster.routed_requests import NodeBatch

READ_OR_WRITE = select.POLLIN | select.POLLOUT


@dataclass(slots=True)
class _Exchange:
    """A batch on its way; `sent` says whether all of its bytes are."""

    pool: NodePool
    connection: NodeConnection
    batch: NodeBatch
    sent: bool = False


class FanOut:
    """Performs one `SendBatches` step."""

    def __init__(self, step: SendBatches[NodePool]) -> None:
        self._step = step
        self._exchanges: dict[int, _Exchange] = {}
        self._result = FanOutResult()

    def run(self) -> FanOutResult:
        """Send all batches, and wait until each has its replies or has failed."""
        batches = self._step.batches
        if len(batches) == 1:
            self._add(batches[0], self._send_blocking(batches[0]))
            return self._result
        began = monotonic()
        try:
            threads = [
                _SendingThread(batch, self._send_blocking)
                for batch in batches
                if not self._begin(batch, began)
            ]
            for thread in threads:
                thread.start()
            self._collect(began + self._step.timeout_s)
        except BaseException:
            for exchange in self._exchanges.values():
                exchange.pool.abandon(exchange.connection)
            raise
        for thread in threads:
            thread.join()
        for thread in threads:
            self._add(thread.batch, thread.result())
        return self._result

    def _begin(self, batch: NodeBatch, now: float) -> bool:
        """Send a batch if its server has an idle connection; return whether it has."""
        pool = self._step.pool_of(batch.address)
        connection = pool.acquire_idle(now)
        if connection is None:
            return False
        number = connection.sock.fileno()
        exchange = self._exchanges[number] = _Exchange(pool, connection, batch)
        on_reply = self._step.requests.on_reply(batch)
        try:
            exchange.sent = connection.begin(
                batch.data, batch.reply_count, self._step.timeout_s, on_reply
            )
        except OSError as error:
            self._fail(number, error)
        return True

    def _collect(self, end: float) -> None:
        """Read replies as they arrive, until all have arrived or time is up."""
        poll = select.poll()
        for number, exchange in self._exchanges.items():
            poll.register(number, select.POLLIN if exchange.sent else READ_OR_WRITE)
        while self._exchanges:
            ready = poll.poll(max(0.0, end - monotonic()) * 1000)
            if not ready:
                for number in list(self._exchanges):
                    self._fail(number, TimeoutError("timed out"))
            for number, _ in ready:
                exchange = self._exchanges[number]
                was_sent = exchange.sent
                if self._advance(number, exchange):
                    poll.unregister(number)
                elif exchange.sent and not was_sent:
                    poll.modify(number, select.POLLIN)

    def _advance(self, number: int, exchange: _Exchange) -> bool:
        """Send and read what is possible; return whether the exchange has ended."""
        connection = exchange.connection
        try:
            exchange.sent = exchange.sent or connection.send()
            if not connection.receive():
                return False
        except OSError as error:
            self._fail(number, error)
            return True
        del self._exchanges[number]
        exchange.pool.release(connection)
        self._add(exchange.batch, connection.values)
        return True

    def _fail(self, number: int, error: OSError) -> None:
        exchange = self._exchanges.pop(number)
        pool, batch = exchange.pool, exchange.batch
        pool.release_failed(exchange.connection, error)
        self._add(batch, self._step.failure(batch, pool.url, error))

    def _send_blocking(self, batch: NodeBatch) -> list[Any] | Failure:
        """Send one batch, on a new connection if necessary, and wait for its replies."""
        pool = self._step.pool_of(batch.address)
        try:
            connection = pool.acquire(self._step.deadline)
        except StoreError as error:
            return Failure(batch, error, sent=False)
        timeout_s = self._step.deadline.cap(self._step.timeout_s)
        on_reply = self._step.requests.on_reply(batch)
        try:
            values = connection.exchange(batch.data, batch.reply_count, timeout_s, on_reply)
        except OSError as error:
            pool.release_failed(connection, error)
            return self._step.failure(batch, pool.url, error)
        except BaseException:
            pool.abandon(connection)
            raise
        pool.release(connection)
        return values

    def _add(self, batch: NodeBatch, result: list[Any] | Failure) -> None:
        self._result.add(self._step.requests, batch, result)


class _SendingThread(threading.Thread):
    """Sends one batch."""

    def __init__(self, batch: NodeBatch, send: Callable[[NodeBatch], list[Any] | Failure]) -> None:
        super().__init__(name="featurekit connect", daemon=True)
        self.batch = batch
        self._send = send
        self._result: list[Any] | Failure | BaseException

    @override
    def run(self) -> None:
        try:
            self._result = self._send(self.batch)
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits
            self._result = error

    def result(self) -> list[Any] | Failure:
        """Return the replies or the failure, once the thread has ended."""
        if isinstance(self._result, BaseException):
            raise self._result
        return self._result
