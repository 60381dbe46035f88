"""`GET /metrics`: the counters of all workers, for Prometheus.

Each worker writes its snapshot to a shared folder once a second, and the worker that is scraped
adds them up. Snapshots of dead workers are kept, because a counter must not decrease. The states of
views are the same for all workers; the one that is scraped reads them.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from math import inf
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from featurekit.ports import ConnectionStats
from featurekit.runtime.metrics import Metrics
from featurekit.server.context import ServerContext
from featurekit.server.prometheus import exposition
from featurekit.server.registry_reloader import RegistryReloader
from featurekit.server.request_metrics import HttpMetrics
from featurekit.server.routing import route

SNAPSHOT_INTERVAL_S = 1.0

VIEWS_INTERVAL_S = 5.0
"""How long the states of views are kept: they come from a sample of the store."""

Snapshot = tuple[Metrics, HttpMetrics]


class MetricsEndpoint:
    """Serves the metrics of this process and of the other workers.

    Args:
        context: The server's state.
        reloader: The source of the registry counters.
    """

    def __init__(self, context: ServerContext, reloader: RegistryReloader) -> None:
        self._context = context
        self._reloader = reloader
        self._observed = Metrics()
        self._observed_s = -inf
        self._folder = None if context.metrics_dir is None else Path(context.metrics_dir)

    def routes(self) -> list[BaseRoute]:
        """Return the route of the endpoint."""
        return [route("/metrics", self._serve, context=self._context)]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Write snapshots regularly while the block runs, and once at its end."""
        if self._folder is None:
            yield
            return
        folder = self._folder
        task = asyncio.create_task(self._run(folder))
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            self._write_snapshot(folder)

    async def _run(self, folder: Path) -> None:
        while True:
            await asyncio.to_thread(self._write_snapshot, folder)
            await asyncio.sleep(SNAPSHOT_INTERVAL_S)

    async def _serve(self, request: Request) -> Response:
        metrics, http = await asyncio.to_thread(self._total)
        body, content_type = exposition(metrics, request.headers.get("accept", ""), http=http)
        return Response(body, headers={"Content-Type": content_type})

    def _own_snapshot(self) -> Snapshot:
        reloader = self._reloader
        http = self._context.request_metrics.snapshot(reloader.reloads, stale=bool(reloader.error))
        return self._context.store.metrics(views=False), http

    def _current(self) -> Metrics:
        """Return a snapshot with the states of the store and the views, at most `VIEWS_INTERVAL_S` old."""
        if time.monotonic() - self._observed_s > VIEWS_INTERVAL_S:
            self._observed, self._observed_s = self._context.store.metrics(), time.monotonic()
        return self._observed

    def _total(self) -> Snapshot:
        metrics, http = self._own_snapshot()
        current = self._current()
        metrics = replace(metrics, views=current.views, store_state=current.store_state)
        for other, other_http in self._other_snapshots():
            metrics, http = metrics + other, http + other_http
        return metrics, http

    def _write_snapshot(self, folder: Path) -> None:
        metrics, http = self._own_snapshot()
        new = folder / f".{os.getpid()}"
        with suppress(OSError):  # the folder is deleted when the server ends
            new.write_text(f"{metrics.to_json()}\n{http.to_json()}")
            new.replace(folder / f"{os.getpid()}.json")

    def _other_snapshots(self) -> Iterator[Snapshot]:
        for file in self._folder.glob("*.json") if self._folder is not None else ():
            pid = int(file.stem)
            if pid == os.getpid():
                continue
            metrics_json, http_json = file.read_text().split("\n")
            metrics, http = Metrics.from_json(metrics_json), HttpMetrics.from_json(http_json)
            if not _is_alive(pid):  # its counters stay, its gauges do not
                none = ConnectionStats()
                store = replace(metrics.store, open=none.open, in_use=none.in_use)
                metrics, http = replace(metrics, store=store), replace(http, stale=0)
            yield metrics, http


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
