"""The alert rules and the dashboard in examples/monitoring, against a real `/metrics`."""

from __future__ import annotations

import json
import operator
import os
import re
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from featurekit import FeatureStore, StreamOptions
from featurekit.errors import BadRowError
from featurekit.repo import heartbeats
from featurekit.runtime.worker import WorkerOptions
from featurekit.server import metrics_endpoint
from featurekit.server.app import create_app
from featurekit.server.context import ServerContext
from tests.servers import Server
from tests.streams.repositories import repository
from tests.streams.worker_processes import emit, forked, until

FOLDER = Path(__file__).parents[2] / "examples" / "monitoring"
SCRAPE_LABELS = {"job", "instance"}
"""Labels that Prometheus adds."""

OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "==": operator.eq,
    ">": operator.gt,
}
COMPARISON = re.compile(r"max by \(job, view\) \((\w+)(?:\{(\w+)=\"([\w ]+)\"\})?\) (==|>) (\d+)")

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def rules() -> dict[str, str]:
    [group] = yaml.safe_load((FOLDER / "alerts.yaml").read_text())["groups"]
    return {rule["alert"]: " ".join(rule["expr"].split()) for rule in group["rules"]}


def dashboard_expressions() -> list[str]:
    dashboard = json.loads((FOLDER / "grafana-dashboard.json").read_text())
    return [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]


def scrape(client: TestClient) -> Samples:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(client.get("/metrics").text)
        for sample in family.samples
    }


def firing(expression: str, samples: Samples) -> set[str]:
    """Return the views for which a rule's comparisons hold."""
    views: list[set[str]] = []
    for part in expression.split(" and "):
        found = COMPARISON.fullmatch(part)
        assert found is not None, part
        metric, label, value, compare, bound = found.groups()
        views.append(
            {
                dict(labels)["view"]
                for (name, labels), number in samples.items()
                if name == metric
                and (label is None or (label, value) in labels)
                and OPERATORS[compare](number, float(bound))
            }
        )
    return set.intersection(*views)


@pytest.fixture
def client(
    tmp_path: Path, valkey: Server, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[FeatureStore, TestClient]]:
    """A server on a store whose states are read at each scrape, and whose heartbeats expire soon."""
    monkeypatch.setattr(metrics_endpoint, "VIEWS_INTERVAL_S", 0)
    monkeypatch.setattr(heartbeats, "INTERVAL_S", 0.05)
    monkeypatch.setattr(heartbeats, "TTL_MS", 500)
    with repository(tmp_path, valkey.url) as store:
        yield store, TestClient(create_app(ServerContext(store)), base_url="http://127.0.0.1")


@pytest.mark.slow
def test_the_alerts_fire_for_a_killed_worker_and_a_failed_load(
    client: tuple[FeatureStore, TestClient], valkey: Server
) -> None:
    store, http = client

    def fired() -> dict[str, set[str]]:
        samples = scrape(http)
        found = {
            name: firing(expression, samples)
            for name, expression in rules().items()
            if COMPARISON.match(expression)
        }
        return {name: views for name, views in found.items() if views}

    store.write_batch("profile", {"u1": {"country": "NO"}})
    store.stream_writer("delays").write(("JFK", "LAX"), {"minutes": 1.0})
    store.stream_writer("session").write("u1", {"step": 1}, event_timestamp=store.handle.now_ms())
    quick = StreamOptions("w1", worker=WorkerOptions(wait_s=0.02, report_interval_s=0.05))
    with valkey.client() as redis:

        def work() -> None:
            store.streams.run(["activity"], quick, stop=threading.Event())

        with forked(work) as pid:
            emit(redis, 0, 10)
            until(lambda: scrape(http)[_gauge("featurekit_workers", "activity")] == 1)
            until(lambda: not fired())
            os.kill(pid, signal.SIGKILL)
            until(lambda: scrape(http)[_gauge("featurekit_workers", "activity")] == 0)
        assert not fired()  # nothing is unread yet
        emit(redis, 10, 5)
        until(lambda: fired().keys() == {"FeatureViewSilent", "FeatureStreamWithoutWorker"})
        assert set.union(*fired().values()) == {"activity"}
    with pytest.raises(BadRowError):
        store.write_batch("profile", {"u1": {"country": 5}})
    assert fired()["FeatureViewFailed"] == {"profile"}
    store.write_batch(
        "profile", {"u1": {"country": "NO"}, "u2": {"country": 5}}, on_bad_row="skip"
    )
    assert fired()["FeatureRowsRejected"] == {"profile"}
    store.reset("user")
    assert fired()["FeatureViewExpired"] == {"profile"}


def _gauge(name: str, view: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return name, frozenset({("view", view)})


def test_all_metrics_and_labels_of_the_rules_and_the_dashboard_exist(
    client: tuple[FeatureStore, TestClient], valkey: Server
) -> None:
    store, http = client
    with valkey.client() as redis:
        redis.xadd("activity-events", {"user_id": "u1", "count": "1", "kind": "k"})
        redis.xadd("activity-events", {"user_id": "u1", "count": "x"})
    store.streams.run(["activity"], StreamOptions(once=True))
    store.write_batch("profile", {"u1": {"country": "NO"}})
    store.get_online_features(["profile:country"], {"user_id": ["u1", "u2"]})
    labels: dict[str, set[str]] = {}
    values: dict[tuple[str, str], set[str]] = {}
    for name, pairs in scrape(http):
        labels.setdefault(name, set()).update(SCRAPE_LABELS, dict(pairs))
        for label, value in pairs:
            values.setdefault((name, label), set()).add(value)
    expressions = [*rules().values(), *dashboard_expressions()]
    assert len(expressions) > 20
    for expression in expressions:
        for name, label, compare, value in _selectors(expression):
            assert name in labels, expression
            if label:
                assert label in labels[name], expression
            if label and label not in SCRAPE_LABELS and compare in ("=", "!="):
                assert value in values[name, label], expression
        for grouped in re.findall(r"by \(([\w, ]+)\)", expression):
            names = {label.strip() for label in grouped.split(",")}
            metrics = {name for name, *_ in _selectors(expression)}
            assert all(names <= labels[name] for name in metrics), expression


def test_every_alert_is_in_the_runbook() -> None:
    runbook = (FOLDER.parents[1] / "docs" / "on-call.md").read_text()
    assert [name for name in rules() if f"`{name}`" not in runbook] == []


def _selectors(expression: str) -> Iterator[tuple[str, str, str, Any]]:
    """Yield each metric with each label that it is selected by."""
    for name, matchers in re.findall(r"(featurekit_\w+)(?:\{([^}]*)\})?", expression):
        found = re.findall(r'(\w+)(=~|!=|=)"([^"]*)"', matchers)
        yield from ((name, *each) for each in found or [("", "", "")])
