from __future__ import annotations

import pickle
from decimal import Decimal

import pytest

from featurekit.compiler import compile_read, compile_repo
from featurekit.constraints import Constraints
from featurekit.errors import RequestError, UnknownNameError
from featurekit.plan import (
    CsvSourcePlan,
    FieldPlan,
    KafkaTopicPlan,
    ParquetSourcePlan,
    ReadPlan,
    RedisStreamPlan,
    RepoPlan,
)
from featurekit.registry import Registry
from featurekit.types import DType
from tests.declare.conftest import Load

MINUTE = 60_000
HOUR = 60 * MINUTE


@pytest.fixture
def repo(load: Load, fraud: str) -> RepoPlan:
    return compile_repo(Registry.from_loaded(load(fraud), None))


def compiled(load: Load, text: str) -> RepoPlan:
    return compile_repo(Registry.from_loaded(load(text), None))


def test_a_batch_view_expires_by_its_key(repo: RepoPlan) -> None:
    view = repo.view("user_profile")
    assert (view.kind, view.expires, view.ttl_ms, view.refresh_ms) == (
        "batch",
        "key",
        48 * HOUR,
        24 * HOUR,
    )
    assert view.fields == (
        FieldPlan("country_iso", DType("string")),
        FieldPlan("tx_count_7d", DType("int64"), Constraints(min=0), default=b"0"),
    )
    assert view.source == ParquetSourcePlan(
        paths=("data/users.parquet",), timestamp_field="event_timestamp"
    )


def test_a_stream_view_expires_field_by_field(repo: RepoPlan) -> None:
    view = repo.view("user_activity")
    assert (view.kind, view.expires, view.ttl_ms) == ("stream", "field", 5 * MINUTE)
    assert [field.ttl_ms for field in view.fields] == [5 * MINUTE, 15 * MINUTE]
    assert view.stream == RedisStreamPlan(group="fraud-user_activity", stream="user-activity")


def test_a_plan_pickles_and_is_the_same_from_a_stored_registry(load: Load, fraud: str) -> None:
    registry = Registry.from_loaded(load(fraud), None)
    plan = compile_repo(registry)
    assert pickle.loads(pickle.dumps(plan)) == plan
    assert compile_repo(Registry.from_json(registry.to_json())) == plan


EVERYTHING = """
entities:
- {name: a, join_keys: {id: string, region: date}, hash_tag: {join_key: region}}
- {name: b, join_keys: {number: int64}, hash_tag: {literal: vip}}
feature_views:
- name: k
  entity: a
  batch: {refresh: 1h}
  fields: {same: bool}
- name: f
  entity: a
  batch:
    refresh: 1h
    expires: field
    source: {type: csv, path: [x, y], delimiter: ;, null: NA, columns: {f1: One, f2: f2}}
  fields:
    f1: {type: decimal, min: 1.50, default: 2.0}
    f2: {type: string, one_of: [NO, 1], pattern: .*, max_length: 9, required: true, ttl: 5m}
    f3: {type: float64, default: .nan, allow_nan: true}
    f4: {type: json, default: {b: 1, a: [x]}}
- name: s
  entity: b
  stream:
    refresh: 1s
    ordering: event_time
    source:
      type: kafka
      topic: t
      bootstrap_servers: h:1
      where: {kind: 1}
      columns: {same: Same}
      event_timestamp_field: at
      dead_letter: bad
  fields: {same: bool, number2: int64}
feature_services:
- {name: all, features: [k, s, 'f:f1']}
"""


def test_every_yaml_key_is_compiled_into_its_plan(load: Load) -> None:
    repo = compiled(load, EVERYTHING)
    assert repo.entity("a").key.hash_tag_index == 1
    assert repo.entity("b").key.hash_tag == "vip"
    view = repo.view("f")
    assert view.expires == "field"
    assert view.source == CsvSourcePlan(
        paths=("x", "y"), columns=(("f1", "One"),), delimiter=";", null=("NA",)
    )
    f1, f2, f3, f4 = view.fields
    assert (f1.constraints.min, f1.default, f1.ttl_ms) == (Decimal("1.50"), b"2", 2 * HOUR)
    assert f2.constraints == Constraints(
        one_of=(b"NO", b"1"), pattern=".*", max_length=9, required=True
    )
    assert f2.ttl_ms == 5 * MINUTE
    assert (f3.default, f3.constraints.allow_nan) == (b"nan", True)
    assert f4.default == b'{"a":["x"],"b":1}'
    assert repo.view("s").event_time_field == "@s"
    assert repo.view("s").stream == KafkaTopicPlan(
        group="fraud-s",
        columns=(("same", "Same"),),
        where=(("kind", "1"),),
        event_timestamp_field="at",
        dead_letter="bad",
        topic="t",
        bootstrap_servers="h:1",
        start="earliest",
    )


def test_only_batch_views_delete_retired_fields(load: Load, fraud: str) -> None:
    before = Registry.from_loaded(load(fraud), None)
    text = fraud.replace("      country_iso: string\n", "")
    repo = compile_repo(Registry.from_loaded(load(text), before))
    assert repo.entity("user").retired == ("country_iso",)
    assert repo.view("user_profile").retired == ("country_iso",)
    assert repo.view("user_activity").retired == ()


def names(read: ReadPlan) -> list[str]:
    return [column.name for column in read.columns]


def test_a_service_reads_its_features_in_order(repo: RepoPlan) -> None:
    read = compile_read(repo, "fraud_v1")
    assert read.name == "fraud_v1"
    assert names(read) == ["tx_count_7d", "tx_count_5m", "failed_logins_15m"]
    assert [group.fields for group in read.groups] == [tuple(names(read))]
    assert read.fingerprint == repo.fingerprint


def test_a_list_keeps_its_order_and_returns_a_feature_once(repo: RepoPlan) -> None:
    wanted = ["user_activity:failed_logins_15m", "user_profile", "user_profile:country_iso"]
    assert names(compile_read(repo, wanted)) == ["failed_logins_15m", "country_iso", "tx_count_7d"]
    full = compile_read(repo, wanted, full_feature_names=True)
    assert names(full)[0] == "user_activity__failed_logins_15m"


def test_columns_that_collide_get_their_full_names(load: Load) -> None:
    read = compile_read(compiled(load, EVERYTHING), "all")
    assert names(read) == ["k__same", "s__same", "number2", "f1"]
    assert [(c.group, c.slot) for c in read.stored] == [(0, 0), (1, 0), (1, 1), (0, 1)]
    assert [c.event_time_field for c in read.stored] == [None, "@s", "@s", None]
    assert read.join_keys == ("id", "region", "number")


def test_a_column_named_as_a_join_key_gets_its_full_name(load: Load) -> None:
    text = EVERYTHING.replace("number2", "id")
    assert "s__id" in names(compile_read(compiled(load, text), "all"))


@pytest.mark.parametrize(
    ("features", "error", "text"),
    [
        (
            "fraud_v2",
            UnknownNameError,
            "unknown feature service 'fraud_v2'\n  hint: did you mean",
        ),
        ("user_profile:x", RequestError, r"is a feature, .*\n  hint: pass a list of features"),
        ("user_profile", RequestError, r"is a feature view, .*\n  hint: pass a list of features"),
        ([], RequestError, "the list of features is empty"),
        (["fraud_v1"], RequestError, r"is a feature service, .*\n  hint: pass the name alone"),
        (["user_profil:x"], UnknownNameError, "did you mean 'user_profile'"),
        (["user_profile:country"], UnknownNameError, "did you mean 'country_iso'"),
        (["user_profile:"], UnknownNameError, "unknown field ''"),
        ([5], RequestError, "5 is not a feature"),
    ],
)
def test_an_error_about_an_unknown_feature_names_the_nearest_one(
    repo: RepoPlan, features: str | list[str], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        compile_read(repo, features)


def test_join_keys_with_two_types_cannot_share_a_request(load: Load) -> None:
    repo = compiled(load, EVERYTHING.replace("{number: int64}", "{region: int64}"). replace(
        "- {name: all, features: [k, s, 'f:f1']}", "- {name: all, features: [k]}"))  # fmt: skip
    with pytest.raises(
        RequestError, match="join key 'region' has different types in the entities 'a' and 'b'"
    ):
        compile_read(repo, ["k", "s"])
