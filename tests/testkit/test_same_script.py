"""The same scripts on a store in memory and on real servers: values expire at the same steps."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featurekit.testing import MemoryFeatureStore
from featurekit.testing.store_under_test import StoreUnderTest
from tests.conftest import KINDS, flushed
from tests.servers import Server
from tests.testkit.server_clock import ServerFeatureStore, ago

DEFINITIONS = """
entities:
  - {name: user, join_keys: {user_id: string}}
  - {name: card, join_keys: {user_id: string, card: int64}}
feature_views:
  - name: profile
    entity: user
    batch: {refresh: 12h, ttl: 24h}
    fields: {country: string, score: {type: float64, default: 0.5}}
  - name: labels
    entity: user
    batch: {refresh: 30m, ttl: 1h, expires: field}
    fields: {label: string}
  - name: activity
    entity: user
    stream: {refresh: 1m, ttl: 5m}
    fields: {count: {type: int64, default: 0}, device: {type: string, ttl: 15m}}
  - name: session
    entity: user
    stream: {refresh: 1m, ttl: 5m, ordering: event_time}
    fields: {step: int64, page: {type: string, ttl: 15m}}
  - name: limits
    entity: card
    batch: {refresh: 1h, ttl: 2h, ordering: event_time}
    fields: {limit: int64, currency: string}
  - name: rates
    batch: {refresh: 1h, ttl: 2h}
    fields: {rate: float64}
feature_services:
  - {name: all, features: [profile, labels, activity, session, limits, rates]}
"""
USER, KEYS = {"user_id": "u1"}, {"user_id": "u1", "card": 7}


@contextmanager
def opened(
    kind: str, folder: Path, started: dict[str, Server], definitions: str = DEFINITIONS
) -> Iterator[StoreUnderTest]:
    """A store in memory, or on a server of a kind."""
    if kind == "memory":
        with MemoryFeatureStore(definitions) as memory:
            yield memory
        return
    server = flushed(kind, started)
    (folder / "featurerepo.yaml").write_text(
        "project: test\ndefinitions: [definitions.yaml]\nregistry: online\n"
    )
    (folder / "definitions.yaml").write_text(definitions)
    with ServerFeatureStore(folder, server) as store:
        yield store


@pytest.fixture(params=["memory", *KINDS])
def store(
    request: pytest.FixtureRequest, tmp_path: Path, started: dict[str, Server]
) -> Iterator[StoreUnderTest]:
    with opened(request.param, tmp_path, started) as store:
        yield store


def test_values_expire_when_their_ttl_has_passed(store: StoreUnderTest) -> None:
    store.given_features({**USER, "country": "NO", "label": "x", "count": 2, "device": "a"})
    store.given_features({"rate": 1.5}, {**KEYS, "limit": 100})
    store.clock.advance("4m50s")
    store.assert_served("all", KEYS, {"count": 2, "device": "a", "label": "x", "rate": 1.5})
    store.clock.advance("10s")
    store.assert_missing("all", KEYS, "count")
    store.assert_served("all", KEYS, {"count": 0, "device": "a", "country": "NO", "score": 0.5})
    store.clock.advance("10m")
    store.assert_missing("all", KEYS, "device")
    store.clock.advance("45m")
    store.assert_missing("all", KEYS, "label")
    store.assert_served("all", KEYS, {"rate": 1.5, "limit": 100})
    store.clock.advance("1h")
    store.assert_missing("all", KEYS, "rate", "limit")
    store.clock.advance("21h50m")
    store.assert_served("all", KEYS, {"country": "NO"})
    store.clock.advance("10m")
    store.assert_missing("all", KEYS)


def test_ttls_count_from_event_times_and_older_events_are_dropped(store: StoreUnderTest) -> None:
    at = ago(store, timedelta(minutes=3))
    store.given_events("session", {**USER, "step": 5, "page": "a"}, at=at)
    earlier = ago(store, timedelta(minutes=4))
    report = store.given_events("session", {**USER, "step": 4}, at=earlier)
    assert (report.written, report.dropped_older) == (0, 1)
    store.clock.advance("90s")
    store.assert_served("all", KEYS, {"step": 5, "page": "a"})
    store.clock.advance("30s")
    store.assert_missing("all", KEYS, "step")
    store.assert_served("all", KEYS, {"page": "a"})
    report = store.given_events(
        "session", {**USER, "step": 3}, at=ago(store, timedelta(minutes=6))
    )
    assert (report.written, report.dropped_older, report.dropped_expired) == (0, 0, 1)
    store.clock.advance("10m")
    store.assert_missing("all", KEYS)


MINUTES = st.sampled_from([1, 2, 3, 5, 10, 15, 55, 60, 600])
VALUES = st.one_of(st.none(), st.integers(0, 3))
EVENTS = st.fixed_dictionaries({}, optional={"first": VALUES, "second": VALUES}).filter(bool)
STEPS = st.one_of(
    st.tuples(st.just("advance"), MINUTES),
    st.tuples(st.sampled_from(["profile", "labels", "limits", "rates"]), EVENTS),
    st.tuples(st.sampled_from(["activity", "session"]), EVENTS, st.sampled_from([0, 1, 2, 4, 14])),
)
FIELDS = {
    "profile": ("country", "score"),
    "labels": ("label", "label"),
    "activity": ("count", "device"),
    "session": ("step", "page"),
    "limits": ("limit", "currency"),
    "rates": ("rate", "rate"),
}
TEXTS = {"country", "label", "device", "page", "currency"}


def row_of(view: str, event: dict[str, int | None]) -> dict[str, Any]:
    """Return the fields that an event sets or deletes."""
    names = dict(zip(("first", "second"), FIELDS[view], strict=True))
    return {
        names[part]: str(value) if value is not None and names[part] in TEXTS else value
        for part, value in event.items()
    }


def run(store: StoreUnderTest, steps: list[Any]) -> list[dict[str, Any]]:
    """Run a script; return what is served after each step."""
    served = []
    for view, what, *minutes in steps:
        if view == "advance":
            store.clock.advance(timedelta(minutes=what))
        elif minutes:
            at = ago(store, timedelta(minutes=minutes[0])) if minutes[0] else None
            store.given_events(view, {**USER, **row_of(view, what)}, at=at)
        else:
            keys = {"limits": KEYS, "rates": {}}.get(view, USER)
            store.given_features({**keys, **row_of(view, what)}, view=view)
        row = store.online_reader("all").read(KEYS)
        served.append({**row.to_dict(), "statuses": row.statuses, "found": row.found_by})
    return served


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=50)
@given(steps=st.lists(STEPS, min_size=3, max_size=12))
def test_random_scripts_are_served_the_same(
    kind: str,
    steps: list[Any],
    tmp_path_factory: pytest.TempPathFactory,
    started: dict[str, Server],
) -> None:
    folder = tmp_path_factory.mktemp("repo")
    with opened(kind, folder, started) as real, MemoryFeatureStore(DEFINITIONS) as memory:
        assert run(memory, steps) == run(real, steps)


def test_a_script_of_all_kinds_of_writes_is_served_the_same(
    tmp_path: Path, started: dict[str, Server]
) -> None:
    both = {"first": 1, "second": 2}
    steps = [
        *[(view, both) for view in ("profile", "labels", "limits", "rates")],
        *[
            ("advance", 1),
            ("activity", both, 0),
            ("session", both, 1),
            ("session", {"first": 3}, 2),
        ],
        *[("advance", 3), ("activity", {"second": None}, 0), ("session", {"first": None}, 0)],
        *[("advance", 2), ("profile", {"first": 3}), ("limits", {"second": 1}), ("advance", 60)],
    ]
    with opened("valkey", tmp_path, started) as real, MemoryFeatureStore(DEFINITIONS) as memory:
        assert run(memory, steps) == run(real, steps)


WINDOWS = """
entities: [{name: user, join_keys: {user_id: string}}]
feature_views:
  - name: payments
    entity: user
    stream: {refresh: 1m, once: {event_id: id}}
    inputs: {amount: float64, units: int64, shop: string}
    fields:
      paid_10m: {type: int64, aggregate: count, window: 10m, tile: 1m}
      large_1h: {type: int64, aggregate: count, window: 1h, where: "amount > 50"}
      spent_1h: {type: float64, aggregate: sum, of: amount, window: 1h}
      units_1h: {type: int64, aggregate: sum, of: units, window: 1h}
      least_1h: {type: float64, aggregate: min, of: amount, window: 1h}
      largest_1h: {type: float64, aggregate: max, of: amount, window: 1h}
      mean_1h: {type: float64, aggregate: mean, of: amount, window: 1h}
      spread_1h: {type: float64, aggregate: stddev, of: amount, window: 1h}
      shops_1h: {type: int64, aggregate: count_distinct, of: shop, window: 1h}
"""


@pytest.mark.parametrize("kind", KINDS)
def test_events_leave_the_same_bytes_in_windows(
    kind: str, tmp_path: Path, started: dict[str, Server]
) -> None:
    chance, now_ms = random.Random(17), int(time.time() * 1000)
    events = [
        {
            **USER,
            "id": str(chance.randrange(250)),
            "amount": chance.choice([None, 0.1, 1e-300, 1e17, chance.uniform(-1e3, 1e3)]),
            "units": chance.choice([None, 0, 2**53 - 9, chance.randrange(-99, 99)]),
            "shop": chance.choice([None, "", "é", f"s{chance.randrange(99)}"]),
            "event_timestamp": now_ms - chance.randrange(9 * 60_000),
        }
        for _ in range(300)
    ]
    found = []
    for each in ("memory", kind):
        with opened(each, tmp_path, started, WINDOWS) as store:
            reports = [
                store.given_events("payments", *events[start : start + 7])
                for start in range(0, len(events), 7)
            ]
            record = store.inspect("user", "u1")
            found.append((reports, {field.name: field.raw for field in record.fields}))
    assert found[0] == found[1]
    assert all(found[0][1].values())
