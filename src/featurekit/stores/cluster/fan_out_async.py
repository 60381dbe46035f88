"""Send batches to several servers at once, from one asyncio event loop at a time.

All batches are sent before any reply is awaited, so that a slow server does not delay the others. A
server without an idle connection gets a task of its own, since connecting to a server that is gone
may use up the whole time limit.
"""

from __future__ import annotations

from time import monotonic
from typing import Any

from typing_extensions import override

from featurekit.errors import StoreError
from featurekit.stores.cluster.exchanges import LoopExchanges
from featurekit.stores.cluster.retry import Failure, FanOutResult
from featurekit.stores.cluster.routed_requests import NodeBatch


class AsyncFanOut(LoopExchanges):
    """Sends batches, and waits for their replies."""

    async def run(self) -> FanOutResult:
        """Send all batches, and wait until each has its replies or has failed."""
        batches = self.batches
        if len(batches) == 1:
            self.add(batches[0], await self.send_and_wait(batches[0]))
            return self.result
        began = monotonic()
        tasks = []
        try:
            unsent = [batch for batch in batches if not self.begin(batch, began)]
            tasks = [(batch, self.start(batch)) for batch in unsent]
            await self.collect(began + self.timeout_s)
            for batch, task in tasks:
                self.add(batch, await self.outcome(task))
        except BaseException:
            self.abandon([task for _, task in tasks])
            raise
        return self.result

    @override
    async def send_and_wait(self, batch: NodeBatch) -> list[Any] | Failure:
        pool = self.pool_of(batch.address)
        try:
            connection = await pool.acquire(self.deadline)
        except StoreError as error:
            return Failure(batch, error, sent=False)
        timeout_s = self.deadline.cap(self.timeout_s)
        on_reply = self.requests.on_reply(batch)
        try:
            values = await connection.exchange(
                batch.data, batch.reply_count, timeout_s, on_reply, self.deadline.deadline_s
            )
        except OSError as error:
            pool.release_failed(connection, error)
            return self.failure(batch, pool.url, error)
        except BaseException:
            pool.abandon(connection)
            raise
        pool.release(connection)
        return values
