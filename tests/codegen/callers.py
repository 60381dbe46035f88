"""Callers of the code generated from `SHOP` and `HOSTILE`: what type checkers accept and refuse."""

GOOD = """
from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Literal, NotRequired, TypedDict

from typing_extensions import assert_type

import hostile
import payments
from featurekit import FeatureStore, OnlineReader, OnlineResponse
from shop import (
    ActivityEvent, ActivityValues, ActivityWriter, FeatureName, GreetingReader, GreetingRow,
    ProfileBatchRow, ProfileWriter, RankingReader, ShopFeatureStore, StockWriter,
)


def read(store: FeatureStore, users: Sequence[str]) -> int:
    reader = GreetingReader(store, freshness=True, max_age={"activity": "2m"})
    row = reader.read(user_id="u1")
    assert_type(row, GreetingRow)
    assert_type(row.clicks_5m, int)
    assert_type(row.age, int | None)
    if row.tier == "gold":
        return row.clicks_5m + (row.age or 0)
    rows = reader.read_many(user_id=users, options={"timeout": 0.05, "partial": True})
    reader.read_many(user_id=("a", "b"))
    ranking = RankingReader(store).read(user_id="u1", shop="a", item_id=3)
    assert_type(ranking.price, float)
    assert_type(ranking.email, str | None)
    return sum(each.clicks_5m for each in rows) + len(row.statuses)


async def read_async(store: FeatureStore) -> list[GreetingRow]:
    reader = GreetingReader(store)
    row = await reader.read_async(user_id="u1")
    return [row, *await reader.read_many_async(user_id=["u2"])]


class Payment(TypedDict):
    amount: float | None
    request: NotRequired[Literal["web", "app"] | None]
    terminal: str
    object: datetime


def derive(store: payments.PaymentsFeatureStore, payment: Payment) -> None:
    reader = payments.FraudReader(store)
    reader.read(user_id="u1", request=payment)
    reader.read(user_id="u1", request={"amount": 2, "terminal": "t1", "object": 3})
    store.get_online_features("fraud", [{"user_id": "u1"}], request=[payment])
    row = reader.read(user_id="u1", request={"amount": 2})
    assert_type(row.ratio, float)
    assert_type(row.is_large, bool | None)
    each: list[payments.FraudRequest] = [{"amount": 2}, {"amount": 3, "request": "app"}]
    reader.read_many(user_id=["u1", "u2"], request=each)
    reader.read_many(user_id=["u1", "u2"], request={"amount": 1})
    store.get_online_features("fraud", [{"user_id": "u1"}], request={"amount": 1})
    writer = payments.PaymentsWriter(store)
    writer.write(user_id="u1", id="p1", amount=2, shop=None)
    assert_type(payments.PaymentsReader(store).read(user_id="u1").paid_10m, int)


def write(store: FeatureStore) -> None:
    writer = ActivityWriter(store)
    assert_type(writer.write(user_id="u1", clicks_5m=3), bool)
    writer.write(user_id="u1", last_page=None, options={"ttl": 60})
    values: ActivityValues = {"clicks_5m": 3}
    writer.write(user_id="u1", **values)
    events: list[ActivityEvent] = [("u1", values), ("u2", {"last_page": "a"}, datetime.now(UTC))]
    assert_type(writer.write_many(events, on_bad_event="skip").written, int)
    writer.write_many([(f"u{n}", {"clicks_5m": n}) for n in range(3)])
    rows: list[ProfileBatchRow] = [{"user_id": "u1", "email": "a", "tier": "gold", "age": None}]
    ProfileWriter(store).write(rows)
    ProfileWriter(store).write([{"user_id": "u1", "email": "a"}], on_bad_row="skip", ttl=60)
    StockWriter(store).write(
        shop="a", item_id=1, options={"event_timestamp": datetime.now(UTC)}, units=1, price=2
    )
    StockWriter(store).write_many([(("a", 1), {"units": 1}, 1_700_000_000_000)])


def of_the_store(store: ShopFeatureStore) -> None:
    reader = store.online_reader("greeting", freshness=True)
    assert_type(reader, OnlineReader[GreetingRow, str])
    assert_type(reader.read("u1").clicks_5m, int)
    assert_type(store.online_reader("ranking").read(("u1", "a", 3)).price, float)
    response = store.get_online_features("greeting", [{"user_id": "u1"}], partial=True)
    assert_type(response.to_dict()["clicks_5m"], list[int])
    assert_type(response.to_rows()[0]["age"], int | None)
    assert_type(response.to_rows()[0]["user_id"], str)
    store.get_online_features("greeting", {"user_id": ["u1", "u2"]}).to_pandas()
    features: list[FeatureName] = ["profile:age", "activity"]
    assert_type(store.get_online_features(features, [{"user_id": "u1"}]), OnlineResponse)
    store.online_reader(["profile:age", {"view": "activity", "as": "now"}])


def of_any_store(store: FeatureStore, name: str) -> None:
    assert_type(store.online_reader("greeting"), OnlineReader)
    store.online_reader(name).read("u1").anything
    store.get_online_features(name, [{"user_id": "u1"}]).to_dict()["anything"]


async def of_the_store_async(store: ShopFeatureStore) -> None:
    response = await store.get_online_features_async("greeting", [{"user_id": "u1"}])
    assert_type(response.to_dict()["tier"][0] == "gold", bool)


def with_odd_names(store: FeatureStore) -> None:
    day = date(2026, 1, 2)
    stream = hostile.StreamViewWriter(store)
    stream.write(
        self="a", options=3, date=day, _options={"event_timestamp": 1}, int=3, str="s", dict=[1],
        values={"a": [1]}, self_=True, type="t", match=None, items=4,
    )
    row = hostile.TypedServiceReader(store).read(self="a", options=1, date=day, values=1, str="s")
    assert_type(row.int, int)
    assert_type(row.dict, list[int] | None)
    assert_type(row.me, str | None)
    types = hostile.TypesReader(store).read(user_id="u")
    assert_type(types.str, str)
    assert_type(types.int, int | None)
    assert_type(types.list, list[str] | None)
    assert_type(types.date, date | None)
    assert_type(types.datetime, datetime | None)
    assert_type(types.Decimal, Decimal | None)
    assert_type(types.bytes, bytes | None)
    assert_type(types.float, float)
    assert_type(types.bool, Literal[True] | None)
    assert_type(types.tuple, list[float] | None)
    assert_type(types.Array, list[datetime] | None)
    hostile.TypesWriter(store).write([{
        "user_id": "u", "datetime": datetime.now(UTC), "Decimal": 3, "tuple": (1, 2, 3),
        "NotRequired": [1, 2.5], "bool": True, "Literal": "it's", "名前": "x", "list": ("a",),
    }])
    assert_type(hostile.GlobalStreamReader(store).read().property, int | None)
    hostile.GlobalStreamWriter(store).write(rate=1)
    hostile.OnlineViewWriter(store).write([{"rate": 1.5}])
    both = hostile.ABReader(store).read(origin="a", destination="b")
    assert_type(both.origin__x1, int | None)
"""

BAD = """
from __future__ import annotations

from datetime import UTC, datetime

import hostile
import payments
from featurekit import FeatureStore
from shop import (
    ActivityWriter, GreetingReader, ProfileBatchRow, ProfileWriter, RankingReader, ShopFeatureStore,
    StockWriter,
)


def derive(store: payments.PaymentsFeatureStore) -> None:
    reader = payments.FraudReader(store)
    reader.read(user_id="u1")  # bad: the request data
    reader.read(user_id="u1", request={})  # bad: the amount
    reader.read(user_id="u1", request={"amount": "2"})  # bad
    reader.read(user_id="u1", request={"amount": 2, "request": "desk"})  # bad
    reader.read(user_id="u1", request={"amount": 2, "terminl": "t1"})  # bad: no such value
    reader.read(user_id="u1", request=[{"amount": 2}])  # bad: one row
    store.get_online_features("fraud", [{"user_id": "u1"}], request={"amont": 1})  # bad
    writer = payments.PaymentsWriter(store)
    writer.write(user_id="u1", amount=2.0)  # bad: the id
    writer.write(user_id="u1", id="p1", amount=None)  # bad
    writer.write(user_id="u1", id="p1", amount=1.0, paid_10m=3)  # bad: no input


def read(store: FeatureStore) -> None:
    reader = GreetingReader(store)
    row = reader.read(user_id="u1")
    row.click_5m  # bad: no such feature
    row.email  # bad: not of this service
    row.clicks_5m + "1"  # bad: an int
    row.age + 1  # bad: may be None
    row.tier == "silver" or row.tier.missing  # bad: no attribute of str
    row.nothing = 3  # bad: no such feature
    reader.read(user_id=1)  # bad: text
    reader.read(user="u1")  # bad: another join key
    reader.read()  # bad: no join key
    reader.read("u1")  # bad: join keys are keywords
    reader.read_many(user_id="u1")  # bad: one text
    reader.read_many(user_id=[1])  # bad: numbers
    reader.read(user_id="u1", options={"timeuot": 1})  # bad: no such option
    RankingReader(store).read(user_id="u1", shop="a")  # bad: a join key is missing
    RankingReader(store).read(user_id="u1", shop="a", item_id="3")  # bad: a number


async def read_async(store: FeatureStore) -> int:
    row = await GreetingReader(store).read_async(user_id="u1")
    return row.age  # bad: may be None


def write(store: FeatureStore) -> None:
    writer = ActivityWriter(store)
    writer.write(user_id="u1", clicks_5m="three")  # bad: a number
    writer.write(user_id="u1", clicks=3)  # bad: no such field
    writer.write(clicks_5m=3)  # bad: no join key
    writer.write(user_id="u1", clicks_5m=3, ttl=60)  # bad: belongs into options
    writer.write(user_id="u1", clicks_5m=3, options={"ttl": "1m"})  # bad: no text
    writer.write_many([("u1", {"clicks": 3})])  # bad: no such field
    writer.write_many([(1, {"clicks_5m": 3})])  # bad: text
    ProfileWriter(store).write([{"user_id": "u1", "tier": "gold"}])  # bad: the required field is missing
    rows: list[ProfileBatchRow] = [{"user_id": "u", "email": None}]  # bad: required
    ProfileWriter(store).write([{"user_id": "u1", "email": "a", "tier": "silver"}])  # bad: not a choice
    ProfileWriter(store).write([{"email": "a"}])  # bad: no join key
    StockWriter(store).write(shop="a", item_id=1, units=3)  # bad: no time
    StockWriter(store).write(shop="a", item_id=1, options={}, units=3)  # bad: no time
    StockWriter(store).write_many([(("a", 1), {"units": 1})])  # bad: no time
    StockWriter(store).write_many([("a", {"units": 1}, 1)])  # bad: two join keys
    print(rows)


def of_the_store(store: ShopFeatureStore, name: str) -> None:
    store.online_reader("greetings")  # bad: no such service
    store.online_reader(name)  # bad: any text
    store.online_reader(["profile:ages"])  # bad: no such feature
    store.online_reader("greeting").read(1)  # bad: text
    store.online_reader("greeting").read("u1").clicks  # bad: no such feature
    store.online_reader("greeting").read_many("u1")  # bad: one text
    store.get_online_features("greeting", [{"user": "u1"}])  # bad: another join key
    store.get_online_features("greeting", {"user_id": "u1"})  # bad: one text
    store.get_online_features("greeting", [{"user_id": "u1"}]).to_dict()["clicks"]  # bad: no such feature
    store.get_online_features("greeting", [{"user_id": "u1"}]).to_rows()[0]["age"] + 1  # bad: may be None


def with_odd_names(store: FeatureStore) -> None:
    row = hostile.TypesReader(store).read(user_id="u")
    row.int + 1  # bad: may be None
    row.str + 1  # bad: text
    hostile.TypesWriter(store).write([{"user_id": "u", "datetime": "2026-01-02"}])  # bad: text
    now = datetime.now(UTC)
    hostile.TypesWriter(store).write([{"user_id": "u", "datetime": now, "Required": 4}])  # bad: not a choice
    hostile.TypesWriter(store).write([{"user_id": "u", "datetime": now, "list": "abc"}])  # bad: text
    hostile.TypesWriter(store).write([{"user_id": "u", "datetime": now, "Any": {1}}])  # bad: no JSON
    hostile.GlobalStreamReader(store).read(rate=1)  # bad: no join keys
    hostile.ABReader(store).read(user_id="u")  # bad: two roles
"""
