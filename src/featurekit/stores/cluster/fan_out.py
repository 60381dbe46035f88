# Generated from fan_out_async.py by featurekit.codegen.unasync: edit that file.
"""Send batches to several servers at once, from one thread.

All batches are sent before any reply is awaited, so that a slow server does not delay the others. A
server without an idle connection gets a thread of its own, since connecting to a server that is gone
may use up the whole time limit.
"""

from __future__ import annotations

from time import monotonic
from typing import Any

from typing_extensions import override

from featurekit.errors import StoreError
from featurekit.stores.cluster.exchanges import ThreadExchanges
from featurekit.stores.cluster.retry import Failure, FanOutResult
from featurekit.stores.cluster.routed_requests import NodeBatch


class FanOut(ThreadExchanges):
    """Sends batches, and waits for their replies."""

    def run(self) -> FanOutResult:
        """Send all batches, and wait until each has its replies or has failed."""
        batches = self.batches
        if len(batches) == 1:
            self.add(batches[0], self.send_and_wait(batches[0]))
            return self.result
        began = monotonic()
        threads = []
        try:
            unsent = [batch for batch in batches if not self.begin(batch, began)]
            threads = [(batch, self.start(batch)) for batch in unsent]
            self.collect(began + self.timeout_s)
            for batch, thread in threads:
                self.add(batch, self.outcome(thread))
        except BaseException:
            self.abandon([thread for _, thread in threads])
            raise
        return self.result

    @override
    def send_and_wait(self, batch: NodeBatch) -> list[Any] | Failure:
        pool = self.pool_of(batch.address)
        try:
            connection = pool.acquire(self.deadline)
        except StoreError as error:
            return Failure(batch, error, sent=False)
        timeout_s = self.deadline.cap(self.timeout_s)
        on_reply = self.requests.on_reply(batch)
        try:
            values = connection.exchange(
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
