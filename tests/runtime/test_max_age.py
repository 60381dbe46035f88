"""Reads with `max_age`: older values are stale, and replaced by the default."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import redis

from featurekit import FeatureStore
from featurekit.errors import FeatureKitError, RequestError, StoreError, UnknownNameError
from tests.promise.repos import applied, commands, names
from tests.servers import Server

REPO = """
entities:
  - {name: user, join_keys: {user_id: string}}
  - {name: shop, join_keys: {shop_id: string}}
feature_views:
  - name: profile
    entity: user
    batch: {refresh: 12h, ttl: 24h}
    fields: {country: string, count: {type: int64, default: 0}}
  - name: scores
    entity: user
    batch: {refresh: 30m, ttl: 1h, expires: field}
    fields: {risk: {type: float64, ttl: 2h}, model: string}
  - name: activity
    entity: user
    stream: {refresh: 1m, ttl: 5m}
    fields: {clicks: {type: int64, default: -1}, logins: {type: int64, ttl: 15m}}
  - name: visits
    entity: shop
    stream: {refresh: 1m, ttl: 10m, ordering: event_time}
    fields: {visits: int64}
feature_services:
  - {name: all, features: [profile, scores, activity]}
  - {name: both, features: [activity, visits]}
"""

MINUTE_MS = 60_000
KEY = "fs:user:u1"
RIGHTS = ["+hmget", "+pttl", "+command|info", "+ping"]


@pytest.fixture
def shop(server: Server, tmp_path: Path) -> Iterator[FeatureStore]:
    """A user with a new value in each view."""
    with applied(tmp_path, server.url, REPO) as store:
        store.write_batch("profile", {"u1": {"country": "NO", "count": 5}})
        store.write_batch("scores", {"u1": {"risk": 0.5, "model": "m"}})
        store.stream_writer("activity").write("u1", {"clicks": 3, "logins": 2})
        yield store


@pytest.fixture
def client(server: Server) -> Iterator[redis.Redis]:
    with server.client() as client:
        yield client


def age_key(client: redis.Redis, minutes: float) -> None:
    client.pexpire(KEY, int((24 * 60 - minutes) * MINUTE_MS))


def age_field(client: redis.Redis, field: str, ttl_minutes: float, minutes: float) -> None:
    client.hpexpire(KEY, int((ttl_minutes - minutes) * MINUTE_MS), field)


def statuses(store: FeatureStore, max_age: Any, features: Any = "all") -> dict[str, str]:
    answer = store.get_online_features(features, [{"user_id": "u1"}], max_age=max_age)
    return {name: by_feature[0] for name, by_feature in answer.statuses.items()}


def test_a_stream_value_older_than_its_limit_is_replaced_by_the_default(
    shop: FeatureStore, client: redis.Redis
) -> None:
    age_field(client, "clicks", 5, minutes=3)
    age_field(client, "logins", 15, minutes=1)
    answer = shop.get_online_features("all", {"user_id": ["u1"]}, max_age={"activity": "2m"})
    assert (answer.to_dict()["clicks"], answer.statuses["clicks"]) == ([-1], ["stale"])
    assert (answer.to_dict()["logins"], answer.statuses["logins"]) == ([2], ["present"])
    assert answer.statuses["country"] == answer.statuses["risk"] == ["present"]
    assert (answer.found, answer.errors) == ([True], {})
    age_field(client, "logins", 15, minutes=3)
    row = shop.online_reader("all", max_age={"activity": "2m"}).read("u1")
    assert (row.clicks, row.logins, row.country) == (-1, None, "NO")
    assert (row.statuses["logins"], row.found, row.error) == ("stale", True, "")
    assert pickle.loads(pickle.dumps(row)) == row
    assert row != shop.online_reader("all").read("u1")


def test_the_ttl_of_the_key_gives_the_age_of_a_batch_view(
    shop: FeatureStore, client: redis.Redis
) -> None:
    age_key(client, minutes=61)
    assert statuses(shop, {"profile": "1h"})["country"] == "stale"
    assert statuses(shop, {"profile": "1h"})["clicks"] == "present"
    assert statuses(shop, {"profile": "62m"})["country"] == "present"


def test_fields_of_a_view_that_expires_by_field_have_their_own_age(
    shop: FeatureStore, client: redis.Redis
) -> None:
    age_field(client, "risk", 120, minutes=20)
    age_field(client, "model", 60, minutes=5)
    by_feature = statuses(shop, {"scores": timedelta(minutes=10), "profile": "1h"})
    assert (by_feature["risk"], by_feature["model"], by_feature["count"]) == (
        "stale",
        "present",
        "present",
    )


def test_the_age_in_a_view_with_event_times_counts_from_the_event(
    shop: FeatureStore, client: redis.Redis
) -> None:
    now_ms = int(shop.handle.now_ms())
    writer = shop.stream_writer("visits")
    writer.write("s1", {"visits": 1}, event_timestamp=now_ms - 3 * MINUTE_MS)
    writer.write("s2", {"visits": 2}, event_timestamp=now_ms)
    asked = {"shop_id": ["s1", "s2"]}
    answer = shop.get_online_features(["visits"], asked, max_age={"visits": "2m"}, freshness=True)
    assert answer.to_dict()["visits"] == [None, 2]
    assert answer.statuses["visits"] == ["stale", "present"]
    old, new = answer.ages["visits"]
    assert 180 <= (old or 0) < 200
    assert 0 <= (new or 0) < 20
    assert 400 < (answer.freshness["visits"][0] or 0) <= 420


def test_one_read_limits_the_age_in_views_of_several_entities(
    shop: FeatureStore, client: redis.Redis
) -> None:
    age_field(client, "clicks", 5, minutes=3)
    shop.stream_writer("visits").write("s1", {"visits": 1}, event_timestamp=shop.handle.now_ms())
    reader = shop.online_reader("both", max_age={"activity": "2m", "visits": "2m"})
    row = reader.read({"user_id": "u1", "shop_id": "s1"})
    assert row.statuses == {"clicks": "stale", "logins": "present", "visits": "present"}


def test_a_value_without_a_ttl_is_stale(shop: FeatureStore, client: redis.Redis) -> None:
    client.persist(KEY)
    client.hset(KEY, "clicks", 9)
    by_feature = statuses(shop, {"activity": "2m", "profile": "48h"})
    assert (by_feature["clicks"], by_feature["country"], by_feature["count"]) == (
        "stale",
        "stale",
        "stale",
    )


def test_a_limit_that_is_not_below_the_ttl_has_no_effect(
    shop: FeatureStore, client: redis.Redis
) -> None:
    age_field(client, "clicks", 5, minutes=4.9)
    assert statuses(shop, {"activity": "5m"})["clicks"] == "present"
    assert statuses(shop, {"activity": 300})["clicks"] == "present"
    assert statuses(shop, {"activity": 240})["clicks"] == "stale"


def test_missing_and_invalid_values_keep_their_status(
    shop: FeatureStore, client: redis.Redis
) -> None:
    client.hset(KEY, mapping={"count": "many"})
    client.hdel(KEY, "clicks", "logins")
    client.set("fs:user:text", "no hash")
    by_feature = statuses(shop, {"profile": "24h", "activity": "1m"})
    assert (by_feature["count"], by_feature["clicks"], by_feature["logins"]) == (
        "invalid",
        "default",
        "missing",
    )
    users = {"user_id": ["text", "unknown"]}
    answer = shop.get_online_features("all", users, max_age={"profile": "1h"})
    assert answer.statuses["country"] == ["invalid", "missing"]
    assert list(answer.errors) == [0]


def test_only_reads_with_a_limit_request_ttls_and_in_one_round_trip(
    shop: FeatureStore, server: Server
) -> None:
    users = {"user_id": ["u1", "u2"]}
    for views, asked in (
        (["activity"], ["HPTTL", "HMGET"]),
        (["profile"], ["PTTL", "HMGET"]),
        (["profile", "scores"], ["HPTTL", "PTTL", "HMGET"]),
    ):
        with commands(server) as seen:
            shop.get_online_features("all", users, max_age=dict.fromkeys(views, "2m"))
        assert [parts[0] for parts in seen] == asked * 2
        names_of = {"activity": ["clicks", "logins"], "scores": ["risk", "model"]}
        timed = [name for view in views for name in names_of.get(view, [])]
        assert seen[0][4:] == timed if "HPTTL" in asked else seen[0][2:] == []
    with commands(server) as seen:
        shop.get_online_features("all", users, max_age={})
    assert names(seen) == {"HMGET": 2}


async def test_asyncio_reads_return_the_same(shop: FeatureStore, client: redis.Redis) -> None:
    age_field(client, "clicks", 5, minutes=3)
    bound = {"activity": "2m"}
    answer = await shop.get_online_features_async("all", [{"user_id": "u1"}], max_age=bound)
    assert answer.statuses["clicks"] == ["stale"]
    row = await shop.online_reader("all", max_age=bound).read_async("u1")
    assert row.statuses["clicks"] == "stale"
    assert shop.metrics().features["activity"]["stale"] == 2
    await shop.close_async()


def test_a_user_without_permission_for_ttls_gets_an_error(
    shop: FeatureStore, server: Server, client: redis.Redis
) -> None:
    client.acl_setuser("half", enabled=True, passwords=["+pw"], keys=["*"], commands=RIGHTS)
    try:
        url = server.url.replace("unix://", "unix://half:pw@")
        with FeatureStore(shop.path, url=url) as store:
            users = [{"user_id": "u1"}]
            with pytest.raises(StoreError, match=r"refused the read: NOPERM .*hpttl"):
                store.get_online_features("all", users, max_age={"activity": "2m"})
    finally:
        client.acl_deluser("half")


WRONG: list[tuple[Any, type[FeatureKitError], str]] = [
    ({"activty": "2m"}, UnknownNameError, "did you mean 'activity'"),
    ({"visits": "2m"}, RequestError, "not among the features of this read"),
    ({"activity": "2 minutes"}, RequestError, "max_age of activity: found '2 minutes'"),
    ({"activity": "0s"}, RequestError, "above 0"),
    ({"activity": 0}, RequestError, "0 is not a duration"),
    ({"activity": -5}, RequestError, "-5 is not a duration"),
    ({"activity": 1.5}, RequestError, "1.5 is not a duration"),
    ({"activity": True}, RequestError, "True is not a duration"),
    ({"activity": None}, RequestError, "None is not a duration"),
    ({"activity": timedelta(0)}, RequestError, "is not a duration"),
    ("2m", RequestError, "max_age must map views to durations"),
    ([("activity", "2m")], RequestError, "max_age must map views to durations"),
]


def test_a_wrong_limit_is_one_clear_error(valkey: Server, tmp_path: Path) -> None:
    with applied(tmp_path, valkey.url, REPO) as store:
        for max_age, error, words in WRONG:
            with pytest.raises(error, match=words):
                store.get_online_features("all", [{"user_id": "u1"}], max_age=max_age)
