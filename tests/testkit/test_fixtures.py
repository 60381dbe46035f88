"""The fixtures of the pytest plugin, used as a service's tests use them."""

from __future__ import annotations

import os
import pickle
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from featurekit import FeatureStore, OnlineReader
from featurekit.errors import (
    BadEventError,
    BadRowError,
    DefinitionError,
    RepoNotFoundError,
    RequestError,
    UnknownNameError,
)
from featurekit.testing import Clock, MemoryFeatureStore

DEFINITIONS = """
entities:
  - {name: user, join_keys: {user_id: string}}
  - {name: card, join_keys: {user_id: string, card: int64}}
  - {name: member, join_keys: {user_id: string}}
feature_views:
  - name: profile
    entity: user
    batch: {refresh: 12h, ttl: 24h}
    fields: {country: {type: string, required: true}, ratio: float32, seen: timestamp}
  - name: activity
    entity: user
    stream: {refresh: 1m, ttl: 5m, log: {path: '${NOT_SET}/events'}}
    fields: {count: {type: int64, default: 0, min: 0}, device: string}
  - name: limits
    entity: card
    batch: {refresh: 1h}
    fields: {limit: int64}
  - name: membership
    entity: member
    batch: {refresh: 1h}
    fields: {level: int64, ratio: float64}
  - name: rates
    batch: {refresh: 1h}
    fields: {rate: float64}
feature_services:
  - {name: model, features: [profile, activity]}
  - {name: limited, features: [activity, limits, rates]}
"""
USER = {"user_id": "u1"}
pytestmark = pytest.mark.feature_repo(DEFINITIONS)


def test_a_row_may_have_features_of_several_views(feature_store: MemoryFeatureStore) -> None:
    feature_store.given_features({**USER, "country": "NO", "ratio": 0.1, "count": 2}, view=None)
    feature_store.given_features({**USER, "card": 7, "limit": 100}, {"rate": 1.5})
    feature_store.assert_served("model", USER, {"country": "NO", "ratio": 0.1, "count": 2})
    feature_store.assert_served("limited", {**USER, "card": 7}, {"limit": 100, "rate": 1.5})
    assert feature_store.online_reader("model").read("u1").found


@pytest.mark.parametrize("attempt", [1, 2])
def test_each_test_has_an_empty_store_of_its_own(
    feature_store: MemoryFeatureStore, attempt: int
) -> None:
    feature_store.assert_missing("model", USER)
    feature_store.assert_missing("limited", {**USER, "card": 7})
    feature_store.given_features({**USER, "country": "NO"}, {"rate": 1.5})
    feature_store.given_events("activity", {**USER, "count": attempt})
    [status] = [each for each in feature_store.status() if each.view == "profile"]
    assert (status.state, status.rows) == ("on time", 1)


def test_a_service_opens_the_same_store_by_itself(
    feature_store: MemoryFeatureStore, clock: Clock
) -> None:
    feature_store.given_features({**USER, "country": "NO", "count": 2})
    own = FeatureStore.from_registry(os.environ["FEATUREKIT_ONLINE_URL"], "test")
    own.stream_writer("activity").write("u1", {"device": "x"})
    clock.advance("5m")
    assert own.online_reader("model").read("u1").to_dict() == {
        "country": "NO",
        "ratio": None,
        "seen": None,
        "count": 0,
        "device": None,
    }


async def test_asyncio_reads_and_writes_share_the_store_and_its_clock(
    feature_store: MemoryFeatureStore, clock: Clock
) -> None:
    await feature_store.stream_writer("activity").write_async("u1", {"count": 4})
    reader = feature_store.online_reader("model")
    assert (await reader.read_async("u1")).count == 4
    clock.advance("5m")
    assert (await reader.read_async("u1")).statuses["count"] == "default"


def test_a_store_and_its_readers_pickle(feature_store: MemoryFeatureStore) -> None:
    feature_store.given_features({**USER, "country": "NO"})
    reader: OnlineReader = pickle.loads(pickle.dumps(feature_store.online_reader("model")))
    store: FeatureStore = pickle.loads(pickle.dumps(feature_store))
    assert reader.read("u1").country == store.online_reader("model").read("u1").country == "NO"


def test_ages_and_remaining_ttls_follow_the_clock(
    feature_store: MemoryFeatureStore, clock: Clock
) -> None:
    started = clock.now()
    feature_store.given_features({**USER, "count": 2})
    clock.advance(timedelta(minutes=1))
    clock.advance(30)
    assert clock.now() - started == timedelta(seconds=90)
    row = feature_store.online_reader("model", freshness=True).read("u1")
    assert row.freshness["count"] == 210.0
    with_limit = feature_store.online_reader("model", max_age={"activity": "80s"}).read("u1")
    assert with_limit.statuses["count"] == "stale"


def test_the_clock_may_be_set_and_nothing_that_expired_returns(
    feature_store: MemoryFeatureStore, clock: Clock
) -> None:
    clock.set("2026-01-01T12:00:00Z")
    assert clock.now() == datetime(2026, 1, 1, 12, tzinfo=UTC)
    feature_store.given_features({**USER, "country": "NO", "count": 2})
    clock.set("2026-01-01T12:05:00Z")
    clock.set("2026-01-01T12:00:00Z")
    feature_store.assert_missing("model", USER, "count")
    feature_store.assert_served("model", USER, {"country": "NO"})
    assert repr(clock) == "<Clock 2026-01-01T12:00:00Z>"


@pytest.mark.parametrize("wrong", [0, -5, "5", "soon", timedelta(0)])
def test_a_clock_moves_by_a_duration(clock: Clock, wrong: object) -> None:
    with pytest.raises(RequestError, match="duration"):
        clock.advance(wrong)  # type: ignore[arg-type]


def test_a_clock_ends_with_the_year_9999(clock: Clock) -> None:
    clock.set("9999-12-31")
    with pytest.raises(RequestError, match="outside the years 1 to 9999"):
        clock.advance("24h")
    assert clock.now() == datetime(9999, 12, 31, tzinfo=UTC)


def test_wrong_rows_are_refused_with_the_reason(feature_store: MemoryFeatureStore) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'count'"):
        feature_store.given_features({**USER, "conut": 1})
    with pytest.raises(RequestError, match="join keys of no entity"):
        feature_store.given_features({"user": "u1", "count": 1})
    with pytest.raises(RequestError, match=r"activity, profile or membership\n.*view="):
        feature_store.given_features({**USER, "ratio": 0.5})
    with pytest.raises(RequestError, match="has no features"):
        feature_store.given_features({**USER, "card": 7})
    with pytest.raises(BadRowError, match="required"):
        feature_store.given_features({**USER, "ratio": 0.5}, view="profile")
    with pytest.raises(BadEventError, match="count"):
        feature_store.given_features({**USER, "count": -1})
    with pytest.raises(RequestError, match=r"not \[1\]\n.*several arguments"):
        feature_store.given_features([1])  # type: ignore[arg-type]
    with pytest.raises(RequestError, match="not 'x'"):
        feature_store.given_events("activity", "x")  # type: ignore[arg-type]
    with pytest.raises(RequestError, match="lacks the join key 'user_id'"):
        feature_store.given_events("activity", {"count": 1})
    feature_store.given_features({**USER, "ratio": 0.5}, view="membership")
    feature_store.assert_missing("model", USER)


def test_wrong_arguments_of_checks_are_refused(feature_store: MemoryFeatureStore) -> None:
    with pytest.raises(RequestError, match=r"not \['count'\]\n.*several arguments"):
        feature_store.assert_missing("model", USER, ["count"])  # type: ignore[arg-type]
    for wrong in (["count"], None):
        with pytest.raises(RequestError, match="expected a dict of features, not"):
            feature_store.assert_served("model", USER, wrong)  # type: ignore[arg-type]


def test_a_check_that_fails_says_what_is_served_and_why(
    feature_store: MemoryFeatureStore, clock: Clock
) -> None:
    feature_store.given_features({**USER, "ratio": 0.5, "seen": clock.now(), "country": "NO"})
    feature_store.given_events("activity", {**USER, "count": 2, "device": "x"})
    clock.advance("4m")
    feature_store.given_events("activity", {**USER, "device": "y"})
    clock.advance("1m")
    with pytest.raises(AssertionError) as failure:
        feature_store.assert_served("model", USER, {"count": 2, "ratio": 0.25, "country": "NO"})
    text = str(failure.value)
    assert "ratio: expected 0.25, served 0.5 (present, for 23h55m more)" in text
    assert "count: expected 2, served 0 (default)" in text
    assert "its TTL of 5m ran out" in text
    assert "country" not in text
    with pytest.raises(AssertionError, match=r"device: served 'y' \(present, for 4m more\)"):
        feature_store.assert_missing("model", USER, "count", "device")
    with pytest.raises(UnknownNameError, match="did you mean 'count'"):
        feature_store.assert_missing("model", USER, "conut")


def test_expected_values_are_compared_by_the_type_of_the_feature(
    feature_store: MemoryFeatureStore,
) -> None:
    at = datetime(2026, 1, 1, 12, tzinfo=UTC)
    feature_store.given_features({**USER, "country": "NO", "ratio": 0.1, "seen": at})
    served = {"ratio": 0.1, "seen": at.astimezone()}
    feature_store.assert_served("model", USER, served)
    feature_store.assert_served("model", USER, {"ratio": pytest.approx(0.1, abs=0.05)})
    with pytest.raises(AssertionError, match=r"expected '0\.1'"):
        feature_store.assert_served("model", USER, {"ratio": "0.1"})


def test_logs_and_rejected_rows_stay_in_the_test(tmp_path: Path) -> None:
    (tmp_path / "featurerepo.yaml").write_text("project: shop\ndefinitions: [d.yaml]\n")
    (tmp_path / "d.yaml").write_text(DEFINITIONS)
    with MemoryFeatureStore(tmp_path) as store:
        store.given_events("activity", {**USER, "count": 1})
        rows = {"u1": {"country": "NO"}, "u2": {"ratio": 0.5}}
        report = store.write_batch("profile", rows, on_bad_row="skip")
        rejects = Path(report.rejects_path or "")
        assert rejects.is_file()
        store.close()
        store.assert_served("model", USER, {"count": 1})
    assert not rejects.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["d.yaml", "featurerepo.yaml"]


def test_a_text_may_have_settings_beside_definitions(feature_store: MemoryFeatureStore) -> None:
    text = "online_store:\n  key_prefix: own\nproject: shop\n" + DEFINITIONS
    with MemoryFeatureStore(text) as store:
        assert (store.project, store.address.rpartition(" ")[2]) == ("shop", "own")
    with pytest.raises(DefinitionError) as wrong:
        MemoryFeatureStore("project: 3\nentities: []\n\nfeature_view: []\n")
    assert {problem.where for problem in wrong.value.problems} == {
        "featurerepo.yaml:1:10",
        "definitions.yaml:4:1",
    }
    with pytest.raises(RepoNotFoundError):
        MemoryFeatureStore("entities: []")


def test_a_service_whose_file_has_a_store_in_memory_opens_the_store_of_the_test(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "featurerepo.yaml").write_text(
        "project: shop\ndefinitions: [d.yaml]\nonline_store: {url: 'memory://'}\n"
    )
    (tmp_path / "d.yaml").write_text(DEFINITIONS)
    with MemoryFeatureStore(tmp_path) as store:
        monkeypatch.setenv("FEATUREKIT_ONLINE_URL", store.url)
        assert FeatureStore(tmp_path).url == store.url


def test_a_failed_check_of_an_alias_says_why() -> None:
    repo = Path(__file__).parents[2] / "examples" / "flights"
    with MemoryFeatureStore(repo) as store:
        store.given_features({"airport": "JFK", "departures": 3, "arrivals": 2})
        flight = {"tailnum": "N1", "origin": "JFK", "dest": "LAX"}
        with pytest.raises(AssertionError, match=r"\(missing\)\n .*did not write this entity"):
            store.assert_served("delay_v1", flight, {"destination__arrivals": 9})


def test_a_training_set_at_the_time_of_the_clock_leaves_nothing_in_the_repository(
    tmp_path: Path,
) -> None:
    repo = tmp_path / "repo"
    repo.mkdir()
    (repo / "featurerepo.yaml").write_text("project: shop\ndefinitions: [d.yaml]\n")
    (repo / "rows.csv").write_text("user_id,at,country\nu1,2026-01-01T00:00:00Z,NO\n")
    (repo / "d.yaml").write_text(
        "entities: [{name: user, join_keys: {user_id: string}}]\n"
        "feature_views: [{name: profile, entity: user, batch: {refresh: 12h, source: {type: csv,\n"
        "  path: rows.csv, timestamp_field: at}}, fields: {country: string}}]\n"
        "feature_services: [{name: model, features: [profile]}]\n"
    )
    with MemoryFeatureStore(repo, clock=Clock("2026-01-01T06:00:00Z")) as store:
        store.materialize()
        store.assert_served("model", USER, {"country": "NO"})
        [status] = store.status()
        assert status.state == "on time"
        store.get_historical_features(None, "model").persist(tmp_path / "data")
        store.clock.advance("1d")
        store.assert_missing("model", USER)
    assert sorted(path.name for path in repo.iterdir()) == [
        "d.yaml",
        "featurerepo.yaml",
        "rows.csv",
    ]


def test_stores_in_memory_have_clocks_of_their_own() -> None:
    with MemoryFeatureStore(DEFINITIONS) as one, MemoryFeatureStore(DEFINITIONS) as other:
        for store in (one, other):
            store.given_features({**USER, "count": 2})
        one.clock.advance("1h")
        one.assert_missing("model", USER)
        other.assert_served("model", USER, {"count": 2})
