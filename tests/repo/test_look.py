"""What people see of a store that is running: how much is stored, and why something is not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from featurekit import FeatureStore
from tests.promise.repos import applied
from tests.servers import Server


@pytest.fixture
def store(tmp_path: Path, valkey: Server) -> Iterator[FeatureStore]:
    """Entities of one join key and of two, with nothing stored."""
    with applied(tmp_path, valkey.url) as store:
        yield store


def why(store: FeatureStore, id_: str) -> dict[str, str]:
    return store.diagnostics.explain(store.inspect("user", id_))


def test_an_overview_counts_what_lives_of_each_entity_view_and_field(store: FeatureStore) -> None:
    store.write_batch("profile", {f"u{n}": {"country": "NO"} for n in range(5)})
    store.stream_writer("activity").write("u1", {"device": "ios"})
    seen = store.diagnostics.overview()
    entities = {one.entity: (one.present, one.whole) for one in seen.entities}
    views = {one.view: one for one in seen.views}
    assert entities == {"user": (5, True), "merchant": (0, True), "route": (0, True)}
    assert dict(views["profile"].fields) == {"country": 5, "tx_count_7d": 0, "tags": 0}
    assert views["activity"].live == 1
    assert store.diagnostics.server().keys >= 5


def test_a_sample_says_when_there_is_more(store: FeatureStore) -> None:
    store.write_batch("profile", {f"u{n}": {"country": "NO"} for n in range(20)})
    sample = store.diagnostics.samples(10)["user"]
    assert (len(sample.keys), sample.whole) == (10, False)


def test_a_field_that_expired_is_not_counted_though_its_key_is_found(
    store: FeatureStore, valkey: Server
) -> None:
    store.stream_writer("activity").write("u1", {"device": "ios"})
    with valkey.client() as client:
        client.hset("fs:user:u1", "other", 1)
        client.hdel("fs:user:u1", "device")
    [user] = [one for one in store.diagnostics.overview().entities if one.entity == "user"]
    assert (user.sampled, user.present) == (1, 0)


def test_an_absent_stream_field_tells_how_long_it_was_not_written(store: FeatureStore) -> None:
    said = why(store, "u1")["device"]
    assert "its TTL of 5m ran out" in said
    assert "no event about it came" in said


def test_a_stream_field_beside_one_that_lives_tells_when_that_was_written(
    store: FeatureStore, valkey: Server
) -> None:
    store.stream_writer("activity").write("u1", {"tx_count_5m": 3})
    with valkey.client() as client:
        client.hpexpire("fs:user:u1", 180_500, "tx_count_5m")
    assert "wrote tx_count_5m about 1m59s ago" in why(store, "u1")["device"]


def test_an_absent_field_of_a_loaded_row_was_null(store: FeatureStore) -> None:
    store.write_batch("profile", {"u1": {"country": "NO"}})
    assert "had no value here: null deletes" in why(store, "u1")["tx_count_7d"]


def test_an_entity_known_to_its_stream_alone_was_not_loaded(store: FeatureStore) -> None:
    store.stream_writer("activity").write("u1", {"device": "ios"})
    said = why(store, "u1")
    assert "what is stored comes from other views" in said["country"]
    assert "its TTL of 2h ran out" in said["risk"]


def test_an_entity_of_which_nothing_is_stored_may_be_loaded(store: FeatureStore) -> None:
    assert "Nothing is stored for this entity" in why(store, "u1")["country"]
    assert "`featurekit materialize profile` brings it back" in why(store, "u1")["country"]


def test_what_is_present_needs_no_explanation(store: FeatureStore) -> None:
    store.write_batch("profile", {"u1": {"country": "NO"}})
    assert "country" not in why(store, "u1")
