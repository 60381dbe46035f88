"""The test kit on features that are computed: derived ones, and windows over events."""

from __future__ import annotations

import pytest

from featurekit.errors import RequestError
from featurekit.testing import Clock, MemoryFeatureStore
from tests.codegen.repositories import PAYMENTS

KAFKA = """
entities:
  - {name: user, join_keys: {user_id: string}}
feature_views:
  - name: clicks
    entity: user
    stream:
      refresh: 1m
      source: {type: kafka, topic: clicks, bootstrap_servers: "kafka:9092"}
    inputs: {page: string}
    fields: {clicks_10m: {type: int64, aggregate: count, window: 10m}}
"""
USER = {"user_id": "u1"}


@pytest.mark.feature_repo(PAYMENTS)
def test_checks_of_derived_features_send_request_data_and_name_the_input_that_lacks(
    feature_store: MemoryFeatureStore,
) -> None:
    feature_store.given_features({**USER, "average": 10.0, "country": "NO"})
    sent = {"amount": 30.0, "request": "app"}
    expected = {"ratio": 3.0, "text": "app/NO", "country": "NO"}
    feature_store.assert_served("fraud", USER, expected, request=sent)
    feature_store.assert_served("fraud", {**USER, **sent}, expected)  # or beside the join keys
    feature_store.assert_missing("fraud", USER, "is_large", request=sent)
    with pytest.raises(AssertionError) as failed:
        feature_store.assert_served("fraud", USER, {"is_large": True}, request=sent)
    assert "'amount': 30.0" in str(failed.value)
    assert "is_large: expected True, served None (missing, computed when it is" in str(
        failed.value
    )
    assert "payments.largest_1h: No event about this entity" in str(failed.value)
    with pytest.raises(RequestError, match="missing request value 'amount'"):
        feature_store.assert_served("fraud", USER, {"ratio": 3.0})
    with pytest.raises(RequestError, match="expected a dict of request values, not"):
        feature_store.assert_missing("fraud", USER, request=[sent])  # type: ignore[arg-type]


@pytest.mark.feature_repo(PAYMENTS)
def test_windows_slide_by_the_clock_and_events_count_once(
    feature_store: MemoryFeatureStore, clock: Clock
) -> None:
    clock.set("2026-11-28T12:00:00Z")
    first, second = (
        {**USER, "id": name, "amount": size} for name, size in (("a", 5.0), ("b", 9.0))
    )
    assert feature_store.given_events("payments", first, second, second).repeated == 1
    features, sent = ["payments", "risk:is_large"], {"amount": 7.0}
    expected = {"paid_10m": 2, "largest_1h": 9.0, "is_large": False}
    feature_store.assert_served(features, USER, expected, request=sent)
    clock.advance("12m")
    feature_store.assert_missing(["payments:paid_10m"], USER)
    feature_store.assert_served(features, USER, {"largest_1h": 9.0}, request=sent)
    feature_store.given_events("payments", {**USER, "id": "c", "amount": 1.0}, at=clock.now())
    feature_store.assert_served(features, USER, {"paid_10m": 1, "largest_1h": 9.0}, request=sent)
    clock.advance("2h")
    feature_store.assert_missing(features, USER, request=sent)


@pytest.mark.feature_repo(KAFKA)
def test_windows_of_a_stream_are_stale_once_no_events_are_given(
    feature_store: MemoryFeatureStore, clock: Clock
) -> None:
    with pytest.raises(AssertionError, match=r"clicks_10m: expected 0, served None \(stale\)"):
        feature_store.assert_served(["clicks"], USER, {"clicks_10m": 0})
    feature_store.given_events("clicks", {**USER, "page": "/"})
    feature_store.assert_served(["clicks"], USER, {"clicks_10m": 1})
    feature_store.assert_served(["clicks"], {"user_id": "u2"}, {"clicks_10m": 0})
    with pytest.raises(AssertionError, match=r"expected 2, served 0 \(present, without TTL\)"):
        feature_store.assert_served(["clicks"], {"user_id": "u2"}, {"clicks_10m": 2})
    clock.advance("6m")  # more than 5 x refresh
    with pytest.raises(AssertionError, match=r"served None \(stale\)(.|\n)*up to 6m ago"):
        feature_store.assert_served(["clicks"], USER, {"clicks_10m": 1})
    feature_store.given_events("clicks")
    feature_store.assert_served(["clicks"], USER, {"clicks_10m": 1})
    clock.advance("6m")
    feature_store.given_events("clicks")
    feature_store.assert_served(["clicks"], USER, {"clicks_10m": 0})


@pytest.mark.feature_repo(PAYMENTS)
@pytest.mark.parametrize(
    ("row", "view", "message"),
    [
        ({"paid_10m": 2}, None, "payments computes its features from events"),
        ({"amount": 2.0, "id": "a"}, None, r'write events: given_events\("payments", ...\)'),
        ({"amount": 2.0}, "payments", "payments computes its features from events"),
        ({"average": 1.0, "ratio": 2.0}, None, "risk computes its features when they are read"),
    ],
)
def test_no_row_has_features_that_are_computed(
    feature_store: MemoryFeatureStore, row: dict[str, object], view: str | None, message: str
) -> None:
    with pytest.raises(RequestError, match=message):
        feature_store.given_features({**USER, **row}, view=view)
