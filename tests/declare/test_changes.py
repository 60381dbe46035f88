from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from decimal import Decimal
from typing import Any

import pytest

from featurekit.changes import Change, Changes, diff
from featurekit.compiler import compile_repo
from featurekit.plan import CsvSourcePlan, KafkaTopicPlan, LogPlan, RepoPlan, SchedulePlan
from featurekit.registry import Registry
from featurekit.types import DType
from tests.declare.conftest import Load

OBJECTS = {"project", "key prefix", "entity", "feature view", "field", "feature service"}


def shown(changes: Changes) -> list[str]:
    return [str(change) for change in changes]


def test_without_an_old_plan_everything_is_added(load: Load, fraud: str) -> None:
    plan = compile_repo(Registry.from_loaded(load(fraud), None))
    assert shown(diff(None, plan)) == [
        "add entity user",
        "add feature view user_activity",
        "add feature view user_profile",
        "add feature service fraud_v1",
    ]


def test_descriptions_change_no_plan(load: Load, fraud: str) -> None:
    old = Registry.from_loaded(load(fraud), None)
    new = Registry.from_loaded(load(fraud.replace("risk@", "fraud@")), old)
    assert old.fingerprint != new.fingerprint
    assert not diff(compile_repo(old), compile_repo(new))


PROFILE = "field user_profile:country_iso"
CASES = {
    "field added": (
        "      country_iso: string\n",
        "      country_iso: string\n      age: int32\n",
        ["add field user_profile:age"],
    ),
    "field removed": (
        "      country_iso: string\n",
        "",
        [f"remove {PROFILE}: the next load deletes its values from each row it writes"],
    ),
    "type": (
        "country_iso: string",
        "country_iso: bytes",
        [f"breaking {PROFILE}: type string -> bytes: stored bytes would mean something else"],
    ),
    "ttl": ("ttl: 48h", "ttl: 36h", ["ttl feature view user_profile: ttl 2d -> 36h"]),
    "refresh": (
        "refresh: 1m\n",
        "refresh: 30s\n",
        [
            "ttl feature view user_activity: ttl 5m -> 150s",
            "ttl feature view user_activity: refresh 1m -> 30s",
        ],
    ),
    "ttl of a field": (
        "ttl: 15m",
        "ttl: 20m",
        ["ttl field user_activity:failed_logins_15m: ttl 15m -> 20m"],
    ),
    "default and constraints": (
        "tx_count_7d: {type: int64, default: 0, min: 0,",
        "tx_count_7d: {type: int64, default: 1, max: 9, required: true,",
        [
            "compatible field user_profile:tx_count_7d: default 0 -> 1",
            "compatible field user_profile:tx_count_7d: min 0 -> none",
            "compatible field user_profile:tx_count_7d: max none -> 9",
            "compatible field user_profile:tx_count_7d: required false -> true",
        ],
    ),
    "source": (
        "data/users.parquet",
        "data/users2.parquet",
        ["compatible feature view user_profile: another source"],
    ),
    "ordering": (
        "refresh: 1m\n",
        "refresh: 1m\n      ordering: event_time\n",
        ["compatible feature view user_activity: ordering arrival -> event_time"],
    ),
    "ordering of a batch view": (
        "ttl: 48h\n",
        "ttl: 48h\n      ordering: event_time\n",
        ["compatible feature view user_profile: ordering arrival -> event_time"],
    ),
    "expires": (
        "ttl: 48h",
        "ttl: 48h\n      expires: field",
        [
            "breaking feature view user_profile: expires key -> field: "
            "stored values would keep the old one",
            "ttl feature view user_profile: no view renews the keys of entity user any more: keys "
            "with a TTL live for 2d after the last write, and take the values of other views with "
            "them, also those written since",
        ],
    ),
    "join keys": (
        "{user_id: string}",
        "{user_id: string, region: string}",
        [
            "breaking entity user: join keys user_id: string -> user_id: string, region: string: "
            "nothing stored would be found"
        ],
    ),
    "hash tag": (
        "    description: A cardholder.",
        "    hash_tag: {literal: vip}",
        ["breaking entity user: hash tag none -> {vip}: nothing stored would be found"],
    ),
    "service": (
        "[user_profile:tx_count_7d, user_activity]",
        "[user_activity, user_profile:country_iso]",
        [
            "compatible feature service fraud_v1: +user_profile:country_iso, "
            "-user_profile:tx_count_7d"
        ],
    ),
    "service removed": (
        "name: fraud_v1",
        "name: fraud_v2",
        ["add feature service fraud_v2", "remove feature service fraud_v1"],
    ),
    "view renamed": (
        "name: user_activity",
        "name: user_actions",
        [
            "add feature view user_actions",
            "compatible field user_actions:tx_count_5m: moves here from feature view user_activity",
            "compatible field user_actions:failed_logins_15m: moves here from feature view "
            "user_activity",
            "remove feature view user_activity",
            "compatible feature service fraud_v1: +user_actions:tx_count_5m, "
            "+user_actions:failed_logins_15m, -user_activity:tx_count_5m, "
            "-user_activity:failed_logins_15m",
        ],
    ),
}


@pytest.mark.parametrize(("old", "new", "changes"), CASES.values(), ids=CASES)
def test_each_change_has_its_kind(
    load: Load, fraud: str, old: str, new: str, changes: list[str]
) -> None:
    fraud = fraud.replace(", stream: user-activity}", ", stream: user-activity, group: g}")
    assert old in fraud
    text = fraud.replace(old, new)
    if "name: user_actions" in new:
        text = text.replace("tx_count_7d, user_activity]", "tx_count_7d, user_actions]")
    before = Registry.from_loaded(load(fraud), None)
    after = Registry.from_loaded(load(text), before)
    found = diff(compile_repo(before), compile_repo(after))
    assert shown(found) == changes
    for change in map(Change.to_dict, found):
        assert change["object"] in OBJECTS
        assert change["name"] or change["object"] == "key prefix"
        assert (change["field"] is not None) == (change["object"] == "field")
        if " -> " in str(change["detail"]):
            assert change["attribute"]
            assert change["before"] != change["after"]


def test_moving_a_field_to_a_view_with_another_expiry_is_breaking(load: Load, fraud: str) -> None:
    text = fraud.replace("      country_iso: string\n", "") .replace(
        "tx_count_5m: {type: int64, default: 0}", "country_iso: string")  # fmt: skip
    before = compile_repo(Registry.from_loaded(load(fraud), None))
    changes = diff(before, compile_repo(Registry.from_loaded(load(text), None)))
    assert [c.detail for c in changes.breaking] == [
        "moves here from feature view user_profile: stored values would keep their expiry"
    ]


def test_declaring_a_retired_field_again_is_breaking(load: Load, fraud: str) -> None:
    first = Registry.from_loaded(load(fraud), None)
    second = Registry.from_loaded(load(fraud.replace("      country_iso: string\n", "")), first)
    third = Registry.from_loaded(load(fraud), second)
    changes = diff(compile_repo(second), compile_repo(third))
    assert shown(changes) == [
        f"breaking {PROFILE}: was declared before: rows not written since may hold its old values"
    ]
    assert changes.to_dict()["breaking"] is True


OTHERS: dict[type, Any] = {
    str: lambda v: v + "x",
    int: lambda v: v + 1,
    bool: lambda v: not v,
    bytes: lambda v: v + b"1",
    type(None): lambda _: None,
}
KINDS = {"kind": "stream", "expires": "field", "ordering": "event_time"}
CHOICES = {"min": Decimal(1), "max": 5.5, "default": b"9", "one_of": (b"1",), "dtype": DType("date"),
           "source": CsvSourcePlan(paths=()), "history": CsvSourcePlan(paths=()),
           "lookback_ms": 1000, "schedule": SchedulePlan(1000), "log": LogPlan("log"),
           "logging": LogPlan("log"),
           "stream": KafkaTopicPlan(group="g", topic="t", bootstrap_servers="h")}  # fmt: skip


def variants(value: Any, name: str = "") -> list[Any]:
    """The plan with one attribute changed, once for each attribute at any depth."""
    if name in KINDS:
        return [KINDS[name]]
    if name in CHOICES:
        return [CHOICES[name]]
    if is_dataclass(value) and not isinstance(value, type):
        return [
            replace(value, **{f.name: other})
            for f in fields(value)
            if f.name not in {"fingerprint", "retired", "hash_tag_index", "entity", "key"}
            for other in variants(getattr(value, f.name), f.name)
        ]
    if isinstance(value, tuple):
        inside = [
            (*value[:i], other, *value[i + 1 :])
            for i, item in enumerate(value)
            for other in variants(item)
        ]
        return [*inside, value[1:]] if value and not isinstance(value[0], str) else inside
    is_unset_ttl = value == 0 and name == "ttl_ms"  # changes with `expires` and never alone
    return [] if is_unset_ttl else [OTHERS[type(value)](value)]


def test_every_difference_between_plans_is_reported(load: Load, fraud: str) -> None:
    plan: RepoPlan = compile_repo(Registry.from_loaded(load(fraud), None))
    others = variants(plan)
    assert len(others) > 50
    for other in others:
        assert bool(diff(plan, other)) == (other != plan), other


USERS = """
entities: [{name: user, join_keys: {user_id: string}}]
feature_views:
  - name: profile
    entity: user
    batch: {refresh: 1h}
    fields: {code: string, age: int32}
"""
SHOPS = "entities: [{name: shop, join_keys: {shop_id: string}}]\n"


def _again(load: Load, definitions: str) -> tuple[Registry, Changes]:
    """Remove the entity of `USERS`, declare it again, and return the registry and the changes."""
    first = Registry.from_loaded(load(USERS), None)
    without = Registry.from_loaded(load(SHOPS), Registry.from_json(first.to_json()))
    without = Registry.from_loaded(load(SHOPS), Registry.from_json(without.to_json()))
    again = Registry.from_loaded(load(definitions), Registry.from_json(without.to_json()))
    return again, diff(compile_repo(without), compile_repo(again))


def test_a_removed_entity_that_returns_with_another_type_is_breaking(load: Load) -> None:
    _, changes = _again(load, USERS.replace("code: string", "code: int64"))
    assert [str(change) for change in changes.breaking] == [
        "breaking field profile:code: was declared before the entity was removed, as string: "
        "stored bytes would mean something else"
    ]


def test_a_removed_entity_that_returns_unchanged_is_compatible(load: Load) -> None:
    again, changes = _again(load, USERS)
    assert "was declared before the entity was removed" in str(changes.changes)
    assert not changes.breaking
    assert [each.entity.name for each in again.removed] == ["shop"]


def test_a_removed_entity_that_returns_with_other_keys_is_breaking(load: Load) -> None:
    _, changes = _again(load, USERS.replace("user_id: string", "user_id: string, day: date"))
    assert [change.subject for change in changes.breaking] == [
        "entity user, which was declared before"
    ]


def test_the_fields_that_a_removed_entity_does_not_bring_back_are_retired(load: Load) -> None:
    again, _ = _again(load, USERS.replace(", age: int32", ""))
    assert again.retired == {"user": ("age",)}
    with_age = Registry.from_loaded(load(USERS), again)
    [change] = diff(compile_repo(again), compile_repo(with_age)).breaking
    assert change.subject == "field profile:age"


def test_retired_fields_of_a_removed_entity_are_breaking_when_they_return(load: Load) -> None:
    first = Registry.from_loaded(load(USERS), None)
    shorter = Registry.from_loaded(load(USERS.replace(", age: int32", "")), first)
    without = Registry.from_loaded(load(SHOPS), shorter)
    again = Registry.from_loaded(load(USERS), without)
    [change] = diff(compile_repo(without), compile_repo(again)).breaking
    assert change.subject == "field profile:age"


CLICKS = (
    USERS
    + """
  - name: clicks
    entity: user
    stream: {refresh: 1m}
    fields: {clicks: int64}
"""
)


@pytest.mark.parametrize(
    ("loaded_ms", "until"),
    [
        ({"profile": 1_000}, "until 1970-01-01T02:00:01Z, 2h after the last recorded load"),
        ({}, "for 2h after the last write"),
    ],
)
def test_removing_the_owner_of_the_keys_says_until_when_they_live(
    load: Load, loaded_ms: dict[str, int], until: str
) -> None:
    first = Registry.from_loaded(load(CLICKS), None)
    text = CLICKS[: CLICKS.index("  - name: profile")] + CLICKS[CLICKS.index("  - name: clicks") :]
    second = Registry.from_loaded(load(text), first)
    assert shown(diff(compile_repo(first), compile_repo(second), loaded_ms)) == [
        "remove feature view profile: its values stay until they expire",
        "ttl feature view profile: no view renews the keys of entity user any more: keys with a "
        f"TTL live {until}, and take the values of other views with them, also those written since",
    ]


def test_another_owner_of_the_keys_renews_them(load: Load) -> None:
    first = Registry.from_loaded(load(CLICKS), None)
    second = Registry.from_loaded(load(CLICKS.replace("name: profile", "name: person")), first)
    assert not [c for c in diff(compile_repo(first), compile_repo(second)) if c.kind == "ttl"]
