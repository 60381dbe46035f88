"""Convert metrics to Prometheus' text format with `prometheus_client`.

To export several processes, add up their snapshots first. This module registers nothing: an
application's own registry stays unchanged.
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

from featurekit.runtime.metrics import BOUNDS_S, Histogram, Metrics
from featurekit.server.request_metrics import HttpMetrics


def exposition(
    metrics: Metrics, accept: str = "", *, http: HttpMetrics | None = None
) -> tuple[bytes, str]:
    """Return the response body of a scrape and its content type.

    Args:
        metrics: The snapshot to export.
        accept: The `Accept` header of the scraper, which may ask for OpenMetrics.
        http: The HTTP requests of a server, exported as well.
    """
    encode, content_type = choose_encoder(accept)
    return encode(MetricsCollector(metrics, http)), content_type


class MetricsCollector(Collector):
    """A snapshot as metric families; can also be registered with `prometheus_client`."""

    def __init__(self, metrics: Metrics, http: HttpMetrics | None = None) -> None:
        self._metrics = metrics
        self._http = http

    @override
    def collect(self) -> Iterator[Metric]:
        yield from _read_families(self._metrics)
        yield from _store_families(self._metrics)
        yield from _write_families(self._metrics)
        yield _log_family(self._metrics)
        yield _store_state_family(self._metrics)
        yield from _view_families(self._metrics)
        if self._http is not None:
            yield from _http_families(self._http)


def _read_families(metrics: Metrics) -> Iterator[Metric]:
    reads = metrics.reads
    by_service = ("service",)
    yield _labelled("reads", "Successful reads.", by_service, _attribute(reads, "calls"))
    yield _labelled("read_failures", "Failed reads.", by_service, _attribute(reads, "failures"))
    yield _labelled("entities", "Rows requested.", by_service, _attribute(reads, "entities"))
    yield _labelled(
        "entities_absent",
        "Rows requested for which no value is stored.",
        by_service,
        _attribute(reads, "nothing"),
    )
    latency = {service: read.latency for service, read in reads.items()}
    yield _histogram("read_seconds", "Duration of reads in the online store.", "service", latency)
    features = _pairs(metrics.features)
    yield _labelled("features", "Values read, by view and status.", ("view", "status"), features)


def _log_family(metrics: Metrics) -> Metric:
    outcomes = ("written", "dropped")
    rows = {
        name: {each: getattr(log, each) for each in outcomes} for name, log in metrics.logs.items()
    }
    text = "Rows of logs of events and of served features, by outcome."
    return _labelled("log_rows", text, ("log", "outcome"), _pairs(rows))


def _store_families(metrics: Metrics) -> Iterator[Metric]:
    store = metrics.store
    yield _total("round_trips", "Round trips to the online store.", store.round_trips)
    yield _total("retries", "Round trips that repeated an unanswered one.", store.retries)
    yield _total("connects", "Connections opened.", store.connects)
    yield _total("connection_waits", "Calls that waited for a free connection.", store.waits)
    connections = GaugeMetricFamily(
        "featurekit_connections", "Open connections to the online store.", labels=["state"]
    )
    connections.add_metric(["in_use"], store.in_use)
    connections.add_metric(["idle"], store.open - store.in_use)
    yield connections


def _write_families(metrics: Metrics) -> Iterator[Metric]:
    events, loads = metrics.events, metrics.loads
    outcomes = ("written", "dropped_older", "dropped_expired", "repeated", "rejected", "lost")
    by_view, by_outcome = ("view",), ("view", "outcome")
    yield _labelled(
        "events",
        "Events for stream views, by outcome.",
        by_outcome,
        _pairs({v: {name: getattr(e, name) for name in outcomes} for v, e in events.items()}),
    )
    yield _labelled(
        "dead_letters", "Events dead-lettered.", by_view, _attribute(events, "dead_letters")
    )
    yield _labelled(
        "rows",
        "Rows for batch views, by outcome.",
        by_outcome,
        _pairs(
            {
                view: {
                    "written": load.rows_written,
                    "superseded": load.rows_superseded,
                    "rejected": load.rows_rejected,
                    "future": load.rows_future,
                    "kept": load.rows_kept,
                }
                for view, load in loads.items()
            }
        ),
    )
    yield _labelled(
        "loads",
        "Loads of batch views, by outcome.",
        by_outcome,
        _pairs({v: {"done": load.loads, "failed": load.failures} for v, load in loads.items()}),
    )
    yield _labelled(
        "load_seconds", "Total duration of loads.", by_view, _attribute(loads, "seconds")
    )
    yield _labelled(
        "load_server_seconds",
        "CPU time of the store's servers during loads.",
        by_view,
        _attribute(loads, "server_seconds"),
    )
    yield _labelled("load_bytes", "Bytes sent by loads.", by_view, _attribute(loads, "size_bytes"))
    yield _labelled(
        "pruned_entities",
        "Entities that lost the view's values because the source no longer had them.",
        by_view,
        _attribute(loads, "entities_pruned"),
    )


_STATES = ("never", "expired", "failed", "silent", "late", "on time")

_VIEW_GAUGES: tuple[tuple[str, str, str, float], ...] = (
    ("refresh_seconds", "Expected interval between writes.", "refresh_ms", 1000),
    (
        "materialization_age_seconds",
        "Time since the last successful load of the view; absent before the first.",
        "age_ms",
        1000,
    ),
    (
        "last_load_age_seconds",
        "Time since the last load of the view, successful or not.",
        "last_load_age_ms",
        1000,
    ),
    ("last_load_seconds", "Duration of the last load of the view.", "last_load_seconds", 1),
    (
        "live_share",
        "Share of the sampled entities that has a value of the view.",
        "live_share",
        1,
    ),
    (
        "newest_event_age_seconds",
        "Age of the newest event of a stream view.",
        "newest_event_age_ms",
        1000,
    ),
    ("stream_lag", "Events that the workers of a stream view have not read yet.", "lag", 1),
    ("stored_dead_letters", "Events in the stream of dead letters.", "dead_letters", 1),
    ("workers", "Running workers of a stream view.", "workers", 1),
    (
        "mark_age_seconds",
        "Time since all events of a view with windows were applied.",
        "mark_age_ms",
        1000,
    ),
)
"""The gauges of a view: name, description, attribute of `ViewMetrics`, and its units in one of the gauge."""


def _store_state_family(metrics: Metrics) -> Metric:
    store = GaugeMetricFamily(
        "featurekit_store_state",
        "1 for whether the store is the one that the registry was applied to, else 0.",
        labels=["state"],
    )
    for state in ("same", "never applied", "replaced", "lost") if metrics.store_state else ():
        store.add_metric([state], int(metrics.store_state == state))
    return store


def _view_families(metrics: Metrics) -> Iterator[Metric]:
    states = GaugeMetricFamily(
        "featurekit_view_state",
        "1 for the state that the view is in, else 0.",
        labels=["view", "state"],
    )
    rows = GaugeMetricFamily(
        "featurekit_last_load_rows",
        "Rows of the last load of the view, by outcome.",
        labels=["view", "outcome"],
    )
    for name, view in metrics.views.items():
        for state in _STATES:
            states.add_metric([name, state], int(view.state == state))
        for outcome, count in (("written", view.rows_written), ("rejected", view.rows_rejected)):
            if count is not None:
                rows.add_metric([name, outcome], count)
    yield from (states, rows)
    for gauge, description, attribute, units in _VIEW_GAUGES:
        family = GaugeMetricFamily(f"featurekit_{gauge}", description, labels=["view"])
        for name, view in metrics.views.items():
            if (value := getattr(view, attribute)) is not None:
                family.add_metric([name], value / units)
        yield family


def _http_families(http: HttpMetrics) -> Iterator[Metric]:
    requests = {
        (path, *response.split()): count
        for path, responses in http.responses.items()
        for response, count in responses.items()
    }
    labels = ("route", "method", "status")
    yield _labelled("http_requests", "HTTP requests answered.", labels, requests)
    yield _histogram(
        "http_request_seconds",
        "Duration of HTTP requests, from their head to the last byte of the response.",
        "route",
        http.latency,
    )
    yield _total("registry_reloads", "New registries loaded while serving.", http.reloads)
    yield GaugeMetricFamily(
        "featurekit_registry_stale",
        "Processes that serve an old registry because the new one cannot be read.",
        value=http.stale,
    )


def _attribute(metrics: Mapping[str, object], name: str) -> dict[tuple[str, ...], float]:
    return {(key,): getattr(each, name) for key, each in metrics.items()}


def _pairs(counts: Mapping[str, Mapping[str, float]]) -> dict[tuple[str, ...], float]:
    return {(key, name): n for key, own in counts.items() for name, n in own.items()}


def _total(name: str, description: str, value: float) -> Metric:
    return CounterMetricFamily(f"featurekit_{name}", description, value=value)


def _labelled(
    name: str,
    description: str,
    labels: tuple[str, ...],
    values: Mapping[tuple[str, ...], float],
) -> Metric:
    family = CounterMetricFamily(f"featurekit_{name}", description, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family


def _histogram(
    name: str, description: str, label: str, histograms: Mapping[str, Histogram]
) -> Metric:
    family = HistogramMetricFamily(f"featurekit_{name}", description, labels=[label])
    bounds = [*map(repr, BOUNDS_S), "+Inf"]
    for key, histogram in histograms.items():
        buckets = list(zip(bounds, accumulate(histogram.counts), strict=True))
        family.add_metric([key], buckets, histogram.seconds)
    return family
