"""The feature service of the fraud model, tested without a server: `pytest examples/fraud`."""

from __future__ import annotations

import pytest

from featurekit.errors import BadRowError
from featurekit.testing import Clock, MemoryFeatureStore

USER = {"user_id": "u0001"}
PROFILE = {"country_iso": "NO", "risk_segment": "low", "tx_count_7d": 12}
ACTIVITY = {"tx_count_5m": 3, "failed_logins_15m": 1, "last_device_id": "d1"}


def test_activity_ends_field_by_field_while_the_profile_stays(
    feature_store: MemoryFeatureStore, clock: Clock
) -> None:
    feature_store.given_features({**USER, **PROFILE, **ACTIVITY})
    clock.advance("5m")
    feature_store.assert_missing("fraud_v1", USER, "tx_count_5m", "last_device_id")
    feature_store.assert_served("fraud_v1", USER, {"tx_count_5m": 0, "failed_logins_15m": 1})
    clock.advance("10m")
    feature_store.assert_missing("fraud_v1", USER, "failed_logins_15m")
    feature_store.assert_served("fraud_v1", USER, {**PROFILE, "failed_logins_15m": 0})


def test_a_user_survives_one_missed_load_but_not_two(
    feature_store: MemoryFeatureStore, clock: Clock
) -> None:
    feature_store.given_features({**USER, **PROFILE})
    clock.advance("23h")
    feature_store.assert_served("fraud_v1", USER, PROFILE)
    clock.advance("1h")
    feature_store.assert_missing("fraud_v1", USER)


def test_a_later_event_leaves_other_fields_alone(
    feature_store: MemoryFeatureStore, clock: Clock
) -> None:
    feature_store.given_events("user_activity", {**USER, **ACTIVITY})
    clock.advance("4m")
    feature_store.given_events("user_activity", {**USER, "tx_count_5m": 4})
    clock.advance("1m")
    feature_store.assert_served("fraud_v1", USER, {"tx_count_5m": 4, "last_device_id": None})


@pytest.mark.parametrize("country", ["Norway", "no", None])
def test_a_profile_needs_a_country_code(
    feature_store: MemoryFeatureStore, country: str | None
) -> None:
    with pytest.raises(BadRowError, match="country_iso"):
        feature_store.given_features({**USER, **PROFILE, "country_iso": country})
    feature_store.assert_missing("fraud_v1", USER)
