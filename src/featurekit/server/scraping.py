"""`GET /metrics`: what this process and its fellow workers have counted, for Prometheus.

Each worker leaves its snapshot in a folder of theirs once a second; whichever is scraped adds them
up. The snapshots of workers that died stay, since a counter may not go down.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from itertools import accumulate
from pathlib import Path

from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from typing_extensions import override

from featurekit.ports import ConnectionStats
from featurekit.runtime.metrics import BOUNDS_S, Metrics
from featurekit.server.context import ServerContext
from featurekit.server.prometheus import MetricsCollector
from featurekit.server.registry_reloader import RegistryReloader
from featurekit.server.request_metrics import HttpMetrics
from featurekit.server.routing import route

EVERY_S = 1.0
"""Seconds between two snapshots of a worker."""

Both = tuple[Metrics, HttpMetrics]


class Scraping:
    """The snapshots of this process and its fellows.

    Args:
        site: What is served, and the folder that workers share.
        following: What tells of the registry.
    """

    def __init__(self, site: ServerContext, following: RegistryReloader) -> None:
        self._site = site
        self._following = following
        self._folder = Path(site.shared) if site.shared else None

    def routes(self) -> list[BaseRoute]:
        """The route."""
        return [route("/metrics", self._metrics, site=self._site)]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Leave snapshots while the block runs, and a last one."""
        if self._folder is None:
            yield
            return
        task = asyncio.create_task(self._run())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            self._leave()

    async def _run(self) -> None:
        while True:
            await asyncio.to_thread(self._leave)
            await asyncio.sleep(EVERY_S)

    async def _metrics(self, request: Request) -> Response:
        metrics, http = await asyncio.to_thread(self._together)
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        body = encode(_Together(metrics, http))
        return Response(body, headers={"Content-Type": content_type})

    def _own(self) -> Both:
        following = self._following
        http = self._site.traffic.metrics(following.reloads, stale=bool(following.error))
        return self._site.store.metrics(), http

    def _together(self) -> Both:
        metrics, http = self._own()
        for other, other_http in self._others():
            metrics, http = metrics + other, http + other_http
        return metrics, http

    def _leave(self) -> None:
        if self._folder is None:
            return
        metrics, http = self._own()
        new = self._folder / f".{os.getpid()}"
        with suppress(OSError):  # the folder is gone when the server ends
            new.write_text(f"{metrics.to_json()}\n{http.to_json()}")
            new.replace(self._folder / f"{os.getpid()}.json")

    def _others(self) -> Iterator[Both]:
        for file in self._folder.glob("*.json") if self._folder is not None else ():
            pid = int(file.stem)
            if pid == os.getpid():
                continue
            told, http_told = file.read_text().split("\n")
            metrics, http = Metrics.from_json(told), HttpMetrics.from_json(http_told)
            if not _is_alive(pid):
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


class _Together(Collector):
    def __init__(self, metrics: Metrics, http: HttpMetrics) -> None:
        self._store = MetricsCollector(metrics)
        self._http = http

    @override
    def collect(self) -> Iterator[Metric]:
        yield from self._store.collect()
        requests = CounterMetricFamily(
            "featurekit_http_requests",
            "Requests that were answered.",
            labels=["route", "method", "status"],
        )
        for path, answers in self._http.answers.items():
            for answer, count in answers.items():
                requests.add_metric([path, *answer.split()], count)
        latency = HistogramMetricFamily(
            "featurekit_http_request_seconds",
            "How long requests took, from their head to the last byte of the answer.",
            labels=["route"],
        )
        bounds = [*map(repr, BOUNDS_S), "+Inf"]
        for path, histogram in self._http.latency.items():
            counts = accumulate(histogram.counts)
            latency.add_metric([path], list(zip(bounds, counts, strict=True)), histogram.seconds)
        yield from (requests, latency)
        yield CounterMetricFamily(
            "featurekit_registry_reloads",
            "Registries that were taken over while serving.",
            value=self._http.reloads,
        )
        yield GaugeMetricFamily(
            "featurekit_registry_stale",
            "Processes that serve an old registry, since the new one cannot be read.",
            value=self._http.stale,
        )
