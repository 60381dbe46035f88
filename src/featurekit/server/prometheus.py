"""Prometheus: snapshots of metrics as its text, by `prometheus_client`.

Of several processes, add the snapshots up and tell of the sum. Nothing is registered anywhere: an
application's own registry stays its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import accumulate

from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from typing_extensions import override

from featurekit.runtime.metrics import BOUNDS_S, Metrics


def exposition(metrics: Metrics, accept: str = "") -> tuple[bytes, str]:
    """The text that a scrape gets, and its content type.

    Args:
        metrics: What to tell.
        accept: The scraper's `Accept` header: OpenMetrics, if it asks for that.
    """
    encode, content_type = choose_encoder(accept)
    return encode(MetricsCollector(metrics)), content_type


class MetricsCollector(Collector):
    """A snapshot as metric families, for a registry of `prometheus_client` too."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    @override
    def collect(self) -> Iterator[Metric]:
        yield from _reads(self._metrics)
        yield from _store(self._metrics)
        yield from _writes(self._metrics)
        yield from _views(self._metrics)


def _reads(metrics: Metrics) -> Iterator[Metric]:
    reads = metrics.reads
    yield _by_name("reads", "Reads that were answered.", "service", _of(reads, "calls"))
    yield _by_name("read_failures", "Reads that failed.", "service", _of(reads, "failures"))
    yield _by_name("entities", "Rows asked for.", "service", _of(reads, "entities"))
    yield _by_name(
        "entities_absent",
        "Rows asked for of which nothing was stored.",
        "service",
        _of(reads, "nothing"),
    )
    latency = HistogramMetricFamily(
        "featurekit_read_seconds", "How long the store took to answer a read.", labels=["service"]
    )
    bounds = [*map(repr, BOUNDS_S), "+Inf"]
    for service, read in reads.items():
        counts = accumulate(read.latency.counts)
        buckets = list(zip(bounds, counts, strict=True))
        latency.add_metric([service], buckets, read.latency.seconds)
    yield latency
    yield _by_two(
        "features", "Values read, by view and status.", ("view", "status"), metrics.features
    )


def _store(metrics: Metrics) -> Iterator[Metric]:
    store = metrics.store
    yield _one("round_trips", "Requests sent and awaited.", store.round_trips)
    yield _one("retries", "FanOut trips that repeated one without an answer.", store.retries)
    yield _one("connects", "Connections made.", store.connects)
    yield _one("connection_waits", "Calls that waited for a free connection.", store.waits)
    connections = GaugeMetricFamily(
        "featurekit_connections", "Open connections to the online store.", labels=["state"]
    )
    connections.add_metric(["in_use"], store.in_use)
    connections.add_metric(["idle"], store.open - store.in_use)
    yield connections


def _writes(metrics: Metrics) -> Iterator[Metric]:
    events, loads = metrics.events, metrics.loads
    outcomes = ("written", "dropped_older", "dropped_expired", "rejected")
    yield _by_two(
        "events",
        "Events for stream views, by what became of them.",
        ("view", "outcome"),
        {view: {name: getattr(e, name) for name in outcomes} for view, e in events.items()},
    )
    yield _by_name(
        "dead_letters", "Events put among the dead letters.", "view", _of(events, "dead_letters")
    )
    yield _by_two(
        "rows",
        "Rows for batch views, by what became of them.",
        ("view", "outcome"),
        {v: {"written": x.rows_written, "rejected": x.rows_rejected} for v, x in loads.items()},
    )
    yield _by_two(
        "loads",
        "Loads of batch views, by how they ended.",
        ("view", "outcome"),
        {view: {"done": load.loads, "failed": load.failures} for view, load in loads.items()},
    )
    yield _by_name("load_seconds", "Time spent in loads.", "view", _of(loads, "seconds"))


def _views(metrics: Metrics) -> Iterator[Metric]:
    age = GaugeMetricFamily(
        "featurekit_materialization_age_seconds",
        "Time since a load of the view last ended well; absent before the first.",
        labels=["view"],
    )
    refresh = GaugeMetricFamily(
        "featurekit_refresh_seconds", "How often the view is to be written.", labels=["view"]
    )
    late = GaugeMetricFamily(
        "featurekit_view_late", "1 if a batch view is older than its refresh.", labels=["view"]
    )
    for name, view in metrics.views.items():
        refresh.add_metric([name], view.refresh_ms / 1000)
        if view.kind == "batch":
            late.add_metric([name], int(view.late))
        if view.age_ms is not None:
            age.add_metric([name], view.age_ms / 1000)
    yield from (age, refresh, late)


def _of(metrics: Mapping[str, object], name: str) -> dict[str, float]:
    return {key: getattr(each, name) for key, each in metrics.items()}


def _one(name: str, told: str, value: float) -> Metric:
    return CounterMetricFamily(f"featurekit_{name}", told, value=value)


def _by_name(name: str, told: str, label: str, values: Mapping[str, float]) -> Metric:
    family = CounterMetricFamily(f"featurekit_{name}", told, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family


def _by_two(
    name: str, told: str, labels: tuple[str, str], values: Mapping[str, Mapping[str, float]]
) -> Metric:
    family = CounterMetricFamily(f"featurekit_{name}", told, labels=labels)
    for key, counts in values.items():
        for other, value in counts.items():
            family.add_metric([key, other], value)
    return family
