"""The Training panel and its endpoint: histories, training sets and the last verification."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from playwright.sync_api import Browser, expect

from featurekit import FeatureStore
from featurekit.repo.service_records import last_training_sets, record_training_set
from tests.console.browsers import NARROW, WIDE, browser, opened, served
from tests.console.conftest import console
from tests.servers import Server, patient

__all__ = ["browser"]

NOW = datetime.now(UTC)
REPO = """
project: training
definitions: [views.yaml]
registry: registry.json
online_store: {url: '%s', key_prefix: fs}
"""
VIEWS = """
entities: [{name: user, join_keys: {user_id: string}}]
feature_views:
  - name: profile
    entity: user
    batch:
      refresh: 1h
      schedule: {every: 1h, takes: 1m}
      source: {type: parquet, path: rows.parquet, timestamp_field: at}
    fields: {age: int64}
  - name: kind
    entity: user
    batch: {refresh: 1h, expires: field, source: {type: parquet, path: rows.parquet, static: true}}
    fields: {size: int64}
  - name: known
    entity: user
    batch:
      refresh: 1h
      expires: field
      source: {type: parquet, path: rows.parquet, timestamp_field: at, created_timestamp_field: made}
    fields: {weight: int64}
  - name: clicks
    entity: user
    stream: {refresh: 1m}
    fields: {clicks: int64}
feature_services:
  - {name: model, features: [profile, kind, known]}
  - {name: live, features: [profile, clicks]}
"""


@pytest.fixture
def training(tmp_path: Path, valkey: Server) -> Iterator[FeatureStore]:
    """A loaded repository whose views have histories of several kinds."""
    times = pa.array([NOW - timedelta(hours=3)] * 3, pa.timestamp("us", "UTC"))
    numbers = [1, 2, None]
    rows = {"user_id": ["a", "b", "c"], "at": times, "made": times}
    rows |= {"age": numbers, "size": numbers, "weight": numbers}
    pq.write_table(pa.table(rows), tmp_path / "rows.parquet")
    (tmp_path / "featurerepo.yaml").write_text(REPO % patient(valkey.url))
    (tmp_path / "views.yaml").write_text(VIEWS)
    with FeatureStore(tmp_path) as store:
        store.apply()
        store.materialize()
        yield store


def persist(store: FeatureStore, name: str) -> None:
    labels = pa.table({"user_id": ["a", "c"], "event_timestamp": [NOW, NOW]})
    store.get_historical_features(labels, "model").persist(store.path / name)


def ask(store: FeatureStore, service: str) -> Any:
    with console(store) as client:
        return client.get(f"/console/api/training?service={service}").json()


def test_each_view_has_the_as_of_that_its_training_sets_get(training: FeatureStore) -> None:
    found = ask(training, "model")
    assert found["as_of"] == {"profile": "schedule", "kind": "static", "known": "created"}
    persist(training, "train")
    [written] = ask(training, "model")["sets"]
    assert written["as_of"] == found["as_of"]
    assert ask(training, "live")["as_of"] == {"profile": "schedule", "clicks": None}
    assert [each["name"] for each in found["features"]] == ["age", "size", "weight"]


def test_the_last_training_sets_are_listed_newest_first(training: FeatureStore) -> None:
    for name in ("one", "two"):
        persist(training, name)
    found = ask(training, "model")["sets"]
    assert [each["path"] for each in found] == ["two", "one"]
    assert found[0]["rows"] == 2
    assert found[0]["missing"] == {"age": 1, "size": 1, "weight": 1}
    for _ in range(12):
        record_training_set(training.path, training.path / "one")
    assert [each["path"] for each in ask(training, "model")["sets"]] == ["one", "two"]
    assert last_training_sets(training.path, "../training/model") == []


def test_the_last_verification_is_returned(training: FeatureStore) -> None:
    assert ask(training, "model")["verification"] is None
    report = training.verify("model")
    assert ask(training, "model")["verification"]["values"] == report.values


@pytest.mark.slow
def test_the_panel_shows_histories_sets_and_differences(
    browser: Browser, training: FeatureStore, valkey: Server
) -> None:
    with served(training) as web:
        with opened(browser, f"{web.url}/console/#/training") as page:
            expect(page.get_by_text("No training set is recorded")).to_be_visible()
            expect(page.get_by_text("Not verified yet")).to_be_visible()
            page.get_by_label("Service").select_option("live")
            row = page.get_by_role("row").filter(has_text="clicks")
            expect(row).to_contain_text("no history")
            assert page.url.endswith("#/training?service=live")
        persist(training, "train")
        with valkey.client() as other:
            other.hset("fs:user:a", "age", 9)
        training.verify("model")
        for size in (WIDE, NARROW):
            for scheme in ("light", "dark"):
                url = f"{web.url}/console/#/training?service=model"
                with opened(browser, url, size, scheme) as page:
                    sets = page.get_by_role("region", name="Training sets")
                    expect(sets.get_by_role("row").filter(has_text="train")).to_contain_text("50%")
                    last = page.get_by_role("region", name="Last verification")
                    expect(last.get_by_role("row").filter(has_text="fs:user:a")).to_contain_text(
                        "9"
                    )
                    assert page.evaluate("document.documentElement.scrollWidth") == size[0]
