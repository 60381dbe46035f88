"""Diagnostics of a running store: how much is stored, and why a value is missing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from featurekit import FeatureStore
from tests.promise.repos import applied
from tests.servers import Server


@pytest.fixture
def store(tmp_path: Path, valkey: Server) -> Iterator[FeatureStore]:
    """A store with nothing in it."""
    with applied(tmp_path, valkey.url) as store:
        yield store


def explanations(store: FeatureStore, id_: str) -> dict[str, str]:
    return {each.field: each.text for each in store.why("user", id_)}


def test_an_overview_counts_stored_entities_views_and_fields(store: FeatureStore) -> None:
    store.write_batch("profile", {f"u{n}": {"country": "NO"} for n in range(5)})
    store.stream_writer("activity").write("u1", {"device": "ios"})
    overview = store.diagnostics.overview()
    entities = {count.entity: (count.present, count.whole) for count in overview.entities}
    views = {count.view: count for count in overview.views}
    assert entities == {"user": (5, True), "merchant": (0, True), "route": (0, True)}
    assert dict(views["profile"].fields) == {"country": 5, "tx_count_7d": 0, "tags": 0}
    assert views["activity"].live == 1
    assert store.diagnostics.server().keys >= 5


def test_a_sample_says_whether_it_is_complete(store: FeatureStore) -> None:
    store.write_batch("profile", {f"u{n}": {"country": "NO"} for n in range(20)})
    sample = store.diagnostics.samples(10)["user"]
    assert (len(sample.keys), sample.whole) == (10, False)


def test_an_expired_field_is_not_counted_if_its_key_exists(
    store: FeatureStore, valkey: Server
) -> None:
    store.stream_writer("activity").write("u1", {"device": "ios"})
    with valkey.client() as client:
        client.hset("fs:user:u1", "other", 1)
        client.hdel("fs:user:u1", "device")
    [user] = [c for c in store.diagnostics.overview().entities if c.entity == "user"]
    assert (user.sampled, user.present) == (1, 0)


def test_a_missing_stream_field_is_explained_by_its_ttl(store: FeatureStore) -> None:
    text = explanations(store, "u1")["device"]
    assert "its TTL of 5m ran out" in text
    assert "no event about it came" in text


def test_a_missing_stream_field_is_explained_by_the_newest_stored_one(
    store: FeatureStore, valkey: Server
) -> None:
    store.stream_writer("activity").write("u1", {"tx_count_5m": 3})
    with valkey.client() as client:
        client.hpexpire("fs:user:u1", 180_500, "tx_count_5m")
    assert "wrote tx_count_5m about 1m59s ago" in explanations(store, "u1")["device"]


def test_a_missing_field_of_a_loaded_row_was_null(store: FeatureStore) -> None:
    store.write_batch("profile", {"u1": {"country": "NO"}})
    assert "had no value here: null deletes" in explanations(store, "u1")["tx_count_7d"]


def test_present_values_are_not_explained(store: FeatureStore) -> None:
    store.write_batch("profile", {"u1": {"country": "NO"}})
    assert "country" not in explanations(store, "u1")
