from __future__ import annotations

from datetime import date
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from featurekit.errors import RequestError, ValueRefusedError
from featurekit.keys import JoinKey, KeyPlan, escape_glob
from featurekit.lower.keys import key_function, parse_entity_id
from featurekit.types import DType, codec_of
from tests.lower.strategies import keys, values

STRING, INT64 = DType("string"), DType("int64")
USER = KeyPlan("fs", "user", (JoinKey("user_id", STRING),))
ACCOUNT = KeyPlan("fs", "account", (JoinKey("number", INT64),))
ROUTE = KeyPlan("fs", "route", (JoinKey("origin", STRING), JoinKey("dest", STRING)))
REGIONAL = KeyPlan(
    "fs", "user", (JoinKey("region", STRING), JoinKey("id", STRING)), hash_tag_index=0
)
PARTS = st.sampled_from(["a", ":", "%", "a:b", "%3A", "{", "}", "{a}", "::", "%25"])


@st.composite
def entities(draw: st.DrawFn) -> tuple[KeyPlan, tuple[Any, ...]]:
    plan = draw(keys())
    return plan, tuple(draw(values(k.dtype).filter(lambda v: v != "")) for k in plan.join_keys)


@given(entities())
def test_the_generated_key_is_that_of_the_plan(entity: tuple[KeyPlan, tuple[Any, ...]]) -> None:
    plan, parts = entity
    texts = [
        codec_of(k.dtype).encode(v).decode() for k, v in zip(plan.join_keys, parts, strict=True)
    ]
    expected = plan.key(texts)
    key_of = key_function(plan)
    assert key_of(parts if len(parts) > 1 else parts[0]) == expected
    named = dict(zip([k.name for k in plan.join_keys], parts, strict=True))
    assert key_of(named) == expected


@given(entities())
def test_an_id_as_it_stands_in_the_key_is_its_entity(
    entity: tuple[KeyPlan, tuple[Any, ...]],
) -> None:
    plan, parts = entity
    given_ = parts if len(parts) > 1 else parts[0]
    text = key_function(plan)(given_).decode().removeprefix(plan.entity_prefix)
    assert parse_entity_id(plan, text) == given_


TAGGED = KeyPlan("fs", "user", USER.join_keys, hash_tag_index=0)


@pytest.mark.parametrize(
    ("plan", "text", "entity"),
    [
        (TAGGED, "{x}", "x"),
        (TAGGED, "x", "x"),
        (TAGGED, "{x", "{x"),
        (TAGGED, "x}", "x}"),
        (TAGGED, "{}", "{}"),
        (TAGGED, "{a}{b}", "{a}{b}"),
        (TAGGED, "{%7Bx%7D}", "{x}"),
        (TAGGED, "%41", "%41"),
        (ROUTE, "%41:50%", ("%41", "50%")),
        (ROUTE, "%7B:%C3%A9", ("%7B", "%C3%A9")),
        (ROUTE, "a%3Ab:50%25", ("a:b", "50%")),
    ],
)
def test_an_id_that_cannot_stand_in_a_key_is_not_another_entity(
    plan: KeyPlan, text: str, entity: object
) -> None:
    assert parse_entity_id(plan, text) == entity


@pytest.mark.parametrize("plan", [ROUTE, REGIONAL])
@given(one=st.tuples(PARTS, PARTS), other=st.tuples(PARTS, PARTS))
def test_no_two_composite_entities_share_a_key(
    plan: KeyPlan, one: tuple[str, str], other: tuple[str, str]
) -> None:
    key_of = key_function(plan)
    assert (key_of(one) == key_of(other)) == (one == other)


def test_keys_are_as_the_wire_format_says() -> None:
    assert key_function(USER)("u0001") == b"fs:user:u0001"
    assert key_function(USER)("a:b%c") == b"fs:user:a:b%c"
    assert key_function(ACCOUNT)(-7) == b"fs:account:-7"
    assert key_function(ROUTE)(("a:b", "50%")) == b"fs:route:a%3Ab:50%25"
    assert key_function(REGIONAL)(("eu", "u1")) == b"fs:user:{eu}:u1"
    tagged = KeyPlan("fs", "user", USER.join_keys, hash_tag="vip")
    assert key_function(tagged)("u0001") == b"fs:user:{vip}:u0001"


@pytest.mark.parametrize(
    ("plan", "entity", "words"),
    [
        (USER, "", "join key user_id: must not be empty"),
        (USER, 7, "join key user_id: 7 is not a string"),
        (USER, None, "join key user_id: None is not a string"),
        (USER, "\ud800", "half of a surrogate pair"),
        (ACCOUNT, "7", "join key number: '7' is not an int64"),
        (ACCOUNT, True, "join key number: True is not an int64"),
        (ACCOUNT, 2**63, "join key number: 9223372036854775808 is outside int64"),
        (ROUTE, ("a", ""), "join key dest: must not be empty"),
    ],
)
def test_what_is_no_id_is_refused_by_name(plan: KeyPlan, entity: object, words: str) -> None:
    with pytest.raises(ValueRefusedError, match=words):
        key_function(plan)(entity)


@pytest.mark.parametrize("entity", ["ab", ("a",), ("a", "b", "c"), {"origin": "a"}, {"x": 1}])
def test_a_composite_entity_of_another_shape_is_refused(entity: object) -> None:
    with pytest.raises(RequestError, match=r"origin, dest"):
        key_function(ROUTE)(entity)


def test_a_date_is_its_text() -> None:
    plan = KeyPlan("fs", "day", (JoinKey("day", DType("date")),))
    assert key_function(plan)(date(2026, 11, 22)) == b"fs:day:2026-11-22"


def test_a_glob_matches_just_its_own_text() -> None:
    plan = KeyPlan("f[s]*", "user", USER.join_keys)
    assert plan.scan_pattern() == r"f\[s\]\*:user:*"
    assert escape_glob(r"a\?^-") == r"a\\\?\^\-"
