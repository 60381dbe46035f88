"""Transactions of one user, and the worker that adds them to windows.

In each tick, the user's transactions are added to a Redis stream, and a worker of the library reads them
until none is left. So a pause stops both: the count of the last 20 seconds falls, and the mark ages.
"""

from __future__ import annotations

import random
import threading
from uuid import uuid4

from featurekit.demo.repository import WINDOWS
from featurekit.demo.synthetic_users import SEED, user_id
from featurekit.errors import (
    FeatureKitError,
    StoreError,
    StoreUnavailableError,
    StreamUnavailableError,
)
from featurekit.plan import RedisStreamPlan
from featurekit.repo import FeatureStore
from featurekit.repo.store_handle import now_ms
from featurekit.repo.streaming import StreamOptions
from featurekit.runtime.worker import OnReport, Worker, WorkerOptions
from featurekit.wire import ErrorReply

USER = user_id(1)
"""The user that pays in each tick."""

MAX_EVENTS = 1000
"""Entries that the stream keeps, about."""


class Transactions:
    """The transactions of a user, and their windows.

    Args:
        store: The demo's store.
        stop: Set when the worker is to stop.
        tick_s: The pause between two ticks, in seconds.
        on_report: Called with the worker's reports.

    Attributes:
        worker: The worker that reads the stream.
    """

    def __init__(
        self, store: FeatureStore, stop: threading.Event, tick_s: float, on_report: OnReport
    ) -> None:
        view, self._store, self._stop = store.compiled.view(WINDOWS), store.handle.store, stop
        assert isinstance(view.stream, RedisStreamPlan)  # noqa: S101 - as `declare` writes it
        self._stream = view.stream.stream
        self._random = random.Random(SEED)  # noqa: S311 - the same sequence in each run
        pace = WorkerOptions(wait_s=0.001, report_interval_s=tick_s, grace_s=0.5)
        options = StreamOptions("demo", worker=pace)
        self._source = store.streams.open_source(view, view.stream, options)
        self.worker = Worker(store.stream_writer(WINDOWS), self._source, pace, on_report, now_ms)

    def tick(self) -> str:
        """Add transactions to the stream and count them; return why the store refuses it, or nothing.

        Raises:
            StoreUnavailableError: The store is unavailable.
        """
        try:
            self._tick()
        except (StoreUnavailableError, StreamUnavailableError):
            raise
        except FeatureKitError as error:  # for example for lack of a right
            return error.message
        return ""

    def _tick(self) -> None:
        for _ in range(self._random.randint(1, 3)):
            entry = ("user_id", USER, "id", uuid4().hex)
            amount = str(round(self._random.uniform(5, 200), 2))
            reply = self._store.call(
                *("XADD", self._stream, "MAXLEN", "~", MAX_EVENTS, "*", *entry, "amount", amount),
                key=self._stream,
            )
            if isinstance(reply, ErrorReply):
                raise StoreError(str(reply), where=self._stream)
        self.worker.run(self._stop, once=True)

    def close(self) -> None:
        """Close the connection to the stream."""
        self._source.close()
