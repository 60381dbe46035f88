"""The Prometheus text format, read back by Prometheus' own parser."""

from __future__ import annotations

from dataclasses import replace

from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from featurekit.ports import ConnectionStats
from featurekit.runtime.metrics import (
    BOUNDS_S,
    EventMetrics,
    Histogram,
    LoadMetrics,
    Metrics,
    ReadMetrics,
    ViewMetrics,
)
from featurekit.server.prometheus import MetricsCollector, exposition

METRICS = Metrics(
    reads={'s"1': ReadMetrics(3, 1, 30, 2, Histogram([2, 1, *[0] * (len(BOUNDS_S) - 2), 1], 0.5))},
    features={"v": {"present": 20, "stale": 10}},
    store=ConnectionStats(round_trips=5, retries=1, connects=2, waits=0, open=2, in_use=1),
    events={"w": EventMetrics(10, 1, 2, 3, 3)},
    loads={"v": LoadMetrics(1, 1, 100, 5, 2.5, 4, 118, 6, 3, 2048, 0.5, 7)},
    views={
        "v": ViewMetrics("batch", "failed", 60_000, 1500, 500, 2.5, 100, 5, 0.5),
        "new": ViewMetrics("batch", "never", 60_000),
        "w": ViewMetrics(
            "stream",
            "silent",
            1000,
            live_share=0.25,
            newest_event_age_ms=2500,
            lag=7,
            dead_letters=3,
            workers=0,
        ),
    },
)

METRICS = replace(METRICS, store_state="lost")

SAMPLES: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {
    ("featurekit_reads_total", (("service", 's"1'),)): 3,
    ("featurekit_read_failures_total", (("service", 's"1'),)): 1,
    ("featurekit_entities_total", (("service", 's"1'),)): 30,
    ("featurekit_entities_absent_total", (("service", 's"1'),)): 2,
    ("featurekit_read_seconds_count", (("service", 's"1'),)): 4,
    ("featurekit_read_seconds_sum", (("service", 's"1'),)): 0.5,
    ("featurekit_read_seconds_bucket", (("le", "0.0001"), ("service", 's"1'))): 3,
    ("featurekit_read_seconds_bucket", (("le", "+Inf"), ("service", 's"1'))): 4,
    ("featurekit_features_total", (("status", "present"), ("view", "v"))): 20,
    ("featurekit_features_total", (("status", "stale"), ("view", "v"))): 10,
    ("featurekit_round_trips_total", ()): 5,
    ("featurekit_retries_total", ()): 1,
    ("featurekit_connects_total", ()): 2,
    ("featurekit_connection_waits_total", ()): 0,
    ("featurekit_connections", (("state", "in_use"),)): 1,
    ("featurekit_connections", (("state", "idle"),)): 1,
    ("featurekit_events_total", (("outcome", "written"), ("view", "w"))): 10,
    ("featurekit_events_total", (("outcome", "dropped_older"), ("view", "w"))): 1,
    ("featurekit_events_total", (("outcome", "dropped_expired"), ("view", "w"))): 2,
    ("featurekit_events_total", (("outcome", "repeated"), ("view", "w"))): 0,
    ("featurekit_events_total", (("outcome", "rejected"), ("view", "w"))): 3,
    ("featurekit_events_total", (("outcome", "lost"), ("view", "w"))): 0,
    ("featurekit_dead_letters_total", (("view", "w"),)): 3,
    ("featurekit_rows_total", (("outcome", "written"), ("view", "v"))): 100,
    ("featurekit_rows_total", (("outcome", "rejected"), ("view", "v"))): 5,
    ("featurekit_rows_total", (("outcome", "future"), ("view", "v"))): 4,
    ("featurekit_rows_total", (("outcome", "superseded"), ("view", "v"))): 6,
    ("featurekit_rows_total", (("outcome", "kept"), ("view", "v"))): 3,
    ("featurekit_load_bytes_total", (("view", "v"),)): 2048,
    ("featurekit_load_server_seconds_total", (("view", "v"),)): 0.5,
    ("featurekit_loads_total", (("outcome", "done"), ("view", "v"))): 1,
    ("featurekit_loads_total", (("outcome", "failed"), ("view", "v"))): 1,
    ("featurekit_load_seconds_total", (("view", "v"),)): 2.5,
    ("featurekit_pruned_entities_total", (("view", "v"),)): 7,
    ("featurekit_materialization_age_seconds", (("view", "v"),)): 1.5,
    ("featurekit_refresh_seconds", (("view", "v"),)): 60,
    ("featurekit_refresh_seconds", (("view", "new"),)): 60,
    ("featurekit_refresh_seconds", (("view", "w"),)): 1,
    ("featurekit_last_load_age_seconds", (("view", "v"),)): 0.5,
    ("featurekit_last_load_seconds", (("view", "v"),)): 2.5,
    ("featurekit_last_load_rows", (("outcome", "written"), ("view", "v"))): 100,
    ("featurekit_last_load_rows", (("outcome", "rejected"), ("view", "v"))): 5,
    ("featurekit_live_share", (("view", "v"),)): 0.5,
    ("featurekit_live_share", (("view", "w"),)): 0.25,
    ("featurekit_newest_event_age_seconds", (("view", "w"),)): 2.5,
    ("featurekit_stream_lag", (("view", "w"),)): 7,
    ("featurekit_stored_dead_letters", (("view", "w"),)): 3,
    ("featurekit_workers", (("view", "w"),)): 0,
    **{
        ("featurekit_store_state", (("state", state),)): int(state == "lost")
        for state in ("same", "never applied", "replaced", "lost")
    },
    **{
        ("featurekit_view_state", (("state", state), ("view", view))): int(state == current)
        for view, current in (("v", "failed"), ("new", "never"), ("w", "silent"))
        for state in ("never", "expired", "failed", "silent", "late", "on time")
    },
}


def test_prometheus_reads_back_a_snapshot() -> None:
    text, content_type = exposition(METRICS)
    families = list(text_string_to_metric_families(text.decode()))
    samples = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }
    shown = {k: v for k, v in samples.items() if k in SAMPLES or not k[0].endswith("_bucket")}
    assert shown == SAMPLES
    assert all(family.documentation and family.type != "unknown" for family in families)
    assert content_type.startswith("text/plain")


def test_a_scraper_that_asks_for_openmetrics_gets_it() -> None:
    text, content_type = exposition(METRICS, "application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    read = openmetrics.text_string_to_metric_families(text.decode())  # type: ignore[no-untyped-call]
    names = [family.name for family in read]
    assert "featurekit_read_seconds" in names
    assert len(names) == len(set(names))


def test_an_application_can_register_the_collector() -> None:
    registry = CollectorRegistry()
    registry.register(MetricsCollector(METRICS))
    assert registry.get_sample_value("featurekit_round_trips_total") == 5


def test_an_empty_snapshot_is_a_valid_page() -> None:
    text, _ = exposition(Metrics())
    assert b"featurekit_retries_total 0.0" in text
