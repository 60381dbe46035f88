"""The commands of events: with and without transactions, they write the same fields."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurekit.keys import JoinKey, KeyPlan
from featurekit.lower.events import arrival_write_group, timed_arrival_write_group
from featurekit.lower.scripts import ROW
from featurekit.lower.write_group import Dialect
from featurekit.plan import FieldPlan, ViewPlan
from featurekit.types import DType
from featurekit.wire import EXEC, MULTI, command, split_commands

FIELDS = tuple(
    FieldPlan(name, DType("int64"), ttl_ms=ttl)
    for name, ttl in {"a": 1000, "b": 1000, "c": 5000}.items()
)
KEY = KeyPlan("fs", "user", (JoinKey("user_id", DType("string")),))
VIEW = ViewPlan("v", "stream", KEY, FIELDS, "field", 1000, 500)
EVENTS = st.dictionaries(st.sampled_from("abc"), st.none() | st.integers(-9, 9), max_size=3)


@pytest.mark.parametrize("hsetex", [True, False])
@given(event=EVENTS, ttl_ms=st.sampled_from([0, 7000]))
def test_without_transactions_an_event_is_one_command(
    event: dict[str, Any], ttl_ms: int, *, hsetex: bool
) -> None:
    single = arrival_write_group(VIEW, Dialect(hsetex=hsetex, transactions=False))
    data, replies = single(b"k", event, ttl_ms)
    assert len(split_commands(data)) == replies == bool(event)
    several, _ = arrival_write_group(VIEW, Dialect(hsetex=hsetex))(b"k", event, ttl_ms)
    inner = several.removeprefix(MULTI).removesuffix(EXEC)
    if len(split_commands(inner)) <= 1:
        assert data == inner
    else:
        assert ROW.sha in data


def test_a_script_call_lists_ttl_groups_and_deleted_fields() -> None:
    write_group = arrival_write_group(VIEW, Dialect(hsetex=True, transactions=False))
    data, _ = write_group(b"k", {"a": 1, "b": None, "c": 3}, 0)
    assert data == command(
        *(b"EVALSHA", ROW.sha, b"1", b"k", b"0", b"PX", b"2", b"1"),
        *(b"1000", b"1", b"a", b"1"),
        *(b"5000", b"1", b"c", b"3"),
        b"b",
    )


@pytest.mark.parametrize("hsetex", [True, False])
@given(event=EVENTS, age_ms=st.sampled_from([0, 999, 1000, 4999, 5000]))
def test_timed_events_keep_the_fields_that_are_still_live(
    event: dict[str, Any], age_ms: int, *, hsetex: bool
) -> None:
    now_ms = 10**12
    event_ms = now_ms - age_ms
    several = timed_arrival_write_group(VIEW, Dialect(hsetex=hsetex))
    single = timed_arrival_write_group(VIEW, Dialect(hsetex=hsetex, transactions=False))
    ttls = {"a": 1000, "b": 1000, "c": 5000}
    live = {n for n, v in event.items() if v is None or event_ms + ttls[n] > now_ms}
    written = several(b"k", event, 0, event_ms, now_ms)
    called = single(b"k", event, 0, event_ms, now_ms)
    if event and not live:
        assert written is called is None
        return
    assert written is not None
    assert called is not None
    assert len(split_commands(called[0])) == called[1] == bool(event)
    for data in (written[0], called[0]):
        names = {name for name in "abc" if b"$1\r\n%b\r\n" % name.encode() in data}
        assert names == live
