"""Send batches to several servers at once, on an event loop.

Idle connections are written to at once. A server without one gets a task of its own, which connects.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Any, NamedTuple

from featurekit.errors import StoreError
from featurekit.stores.cluster.client import SendBatches
from featurekit.stores.cluster.nodes_async import AsyncNodeConnection, AsyncNodePool
from featurekit.stores.cluster.retry import Failure, FanOutResult
from featurekit.stores.cluster.routed_requests import NodeBatch


class _Exchange(NamedTuple):
    """A batch that was written, and the future of its replies."""

    batch: NodeBatch
    pool: AsyncNodePool
    connection: AsyncNodeConnection
    waiter: asyncio.Future[list[Any]]


class AsyncFanOut:
    """Performs one `SendBatches` step on an event loop."""

    def __init__(self, step: SendBatches[AsyncNodePool]) -> None:
        self._step = step

    async def run(self) -> FanOutResult:
        """Exchange all batches with their servers; a batch without replies is a failure."""
        result = FanOutResult()
        batch, *others = self._step.batches
        if others:
            await self._run_concurrently(result)
        else:
            result.add(self._step.requests, batch, await self._connect_and_send(batch))
        return result

    async def _run_concurrently(self, result: FanOutResult) -> None:
        requests, now = self._step.requests, monotonic()
        exchanges: list[_Exchange] = []
        tasks: list[tuple[NodeBatch, asyncio.Task[list[Any] | Failure]]] = []
        try:
            for batch in self._step.batches:
                if (exchange := await self._begin(batch, now)) is not None:
                    exchanges.append(exchange)
                else:
                    tasks.append((batch, asyncio.create_task(self._connect_and_send(batch))))
            while exchanges:
                values = await self._end(exchanges[-1])
                result.add(requests, exchanges.pop().batch, values)
            for batch, task in tasks:
                result.add(requests, batch, await task)
        except BaseException:
            # A connection on which replies are still to arrive cannot be used again.
            for exchange in exchanges:
                exchange.waiter.cancel()
                exchange.pool.abandon(exchange.connection)
            for _, task in tasks:
                task.cancel()
            raise

    async def _begin(self, batch: NodeBatch, now: float) -> _Exchange | None:
        """Send a batch if its server has an idle connection."""
        pool = self._step.pool_of(batch.address)
        if (connection := await pool.acquire_idle(now)) is None:
            return None
        convert = self._step.requests.on_reply(batch)
        waiter = connection.begin(batch.data, batch.reply_count, self._step.timeout_s, convert)
        return _Exchange(batch, pool, connection, waiter)

    async def _end(self, exchange: _Exchange) -> list[Any] | Failure:
        """Wait for the replies to a batch."""
        batch, pool, connection, waiter = exchange
        try:
            values = await connection.end(waiter)
        except OSError as error:
            pool.release_failed(connection, error)
            return self._step.failure(batch, pool.url, error)
        pool.release(connection)
        return values

    async def _connect_and_send(self, batch: NodeBatch) -> list[Any] | Failure:
        """Send one batch, on a new connection if necessary, and wait for its replies."""
        pool = self._step.pool_of(batch.address)
        try:
            connection = await pool.acquire(self._step.deadline)
        except StoreError as error:
            return Failure(batch, error, sent=False)
        try:
            values = await connection.exchange(
                batch.data,
                batch.reply_count,
                self._step.deadline.cap(self._step.timeout_s),
                self._step.requests.on_reply(batch),
            )
        except OSError as error:
            pool.release_failed(connection, error)
            return self._step.failure(batch, pool.url, error)
        except BaseException:
            pool.abandon(connection)
            raise
        pool.release(connection)
        return values
