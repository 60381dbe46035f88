"""The features of the delay model, tested without a server: `pytest examples/flights`."""

from __future__ import annotations

import pandas as pd
from model import fit, late_probability

from featurekit.testing import Clock, MemoryFeatureStore

FLIGHT = {"tailnum": "N516JB", "origin": "JFK", "dest": "LAX"}
ROUTE = {"origin": "JFK", "dest": "LAX", "distance_miles": 2475, "flights_30d": 900}


def given_a_day(store: MemoryFeatureStore) -> None:
    """Write what the hourly and daily loads write."""
    store.given_features(
        {"tailnum": "N516JB", "flights_30d": 60, "cancelled_30d": 1, "mean_dep_delay_30d": 8.5},
        {"tailnum": "N516JB", "built": 2000, "seats": 200, "last_arr_delay": -4},
    )
    store.given_features(ROUTE | {"median_dep_delay_30d": 1.0, "cancelled_share_30d": 0.02})
    store.given_features(
        {"airport": "JFK", "departures": 20, "mean_dep_delay": 12.0, "arrivals": 18},
        {"airport": "LAX", "departures": 2, "arrivals": 9, "mean_arr_delay": -3.5},
    )


def test_one_airport_view_is_read_for_both_ends_of_a_flight(
    feature_store: MemoryFeatureStore,
) -> None:
    given_a_day(feature_store)
    feature_store.assert_served(
        "delay_v1",
        FLIGHT,
        {
            "origin__departures": 20,
            "origin__mean_dep_delay": 12.0,
            "destination__arrivals": 9,
            "destination__mean_arr_delay": -3.5,
            "distance_miles": 2475,
        },
    )


def test_hourly_features_end_before_daily_ones(
    feature_store: MemoryFeatureStore, clock: Clock
) -> None:
    given_a_day(feature_store)
    clock.advance("3h")
    feature_store.assert_missing("delay_v1", FLIGHT, "origin__departures", "destination__arrivals")
    feature_store.assert_served("delay_v1", FLIGHT, {"last_arr_delay": -4})
    clock.advance("3h")
    feature_store.assert_missing("delay_v1", FLIGHT, "last_arr_delay")
    feature_store.assert_served("delay_v1", FLIGHT, {"flights_30d": 60, "seats": 200})


def test_the_model_takes_what_is_served_for_known_and_unknown_planes(
    feature_store: MemoryFeatureStore,
) -> None:
    given_a_day(feature_store)
    reader = feature_store.online_reader("delay_v1")
    rows = reader.read_many([FLIGHT, {**FLIGHT, "tailnum": "unknown"}])
    table = pd.DataFrame([row.to_dict() for row in rows]).assign(hour=19)
    learned = table.assign(
        late=[False, True], event_timestamp=pd.Timestamp("2013-01-01", tz="UTC")
    )
    model = fit(learned, [name for name in table if name != "hour"])
    assert late_probability(model, table).between(0, 1).all()
