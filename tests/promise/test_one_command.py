"""Rows written by one command each, as on a cluster: atomic, and never without expiry."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import pytest
import redis

from featurekit.keys import JoinKey, KeyPlan
from featurekit.lower.events import event_time_write_group
from featurekit.lower.scripts import SCRIPTS
from featurekit.lower.write_group import Dialect, row_command
from featurekit.plan import FieldPlan, ViewPlan
from featurekit.stores.redis import RedisStore
from featurekit.types import DType
from featurekit.wire import ErrorReply, Reply
from tests.promise.repos import immortal, near
from tests.servers import Server
from tests.stores.conftest import opened

KEY = b"fs:user:u1"
HOUR = 3_600_000
Groups = Mapping[int, list[tuple[bytes, bytes]]]


@pytest.fixture
def writing(server: Server) -> Iterator[RedisStore]:
    """A store with the scripts loaded."""
    store = opened(server.url)
    store.run([KEY] * len(SCRIPTS), [script.load for script in SCRIPTS])
    yield store
    store.close()


def write(store: RedisStore, groups: Groups, *deletes: bytes, key_ttl_ms: int = 0) -> Reply:
    hsetex = store.capabilities.hsetex
    return store.run([KEY], [row_command(KEY, groups, deletes, key_ttl_ms, hsetex=hsetex)])[0]


def remaining_ms(client: redis.Redis, *names: str) -> list[int]:
    return list(client.hpttl(KEY, *names))


def test_a_row_sets_deletes_and_renews_the_key(writing: RedisStore, client: redis.Redis) -> None:
    client.hset(KEY, mapping={"a": 0, "b": 0, "c": 0, "other": 0})
    assert write(writing, {0: [(b"a", b"1")]}, b"b", b"c", key_ttl_ms=HOUR) == 1
    assert client.hgetall(KEY) == {b"a": b"1", b"other": b"0"}
    assert near(client.pttl(KEY), HOUR)


def test_each_field_gets_the_ttl_of_its_group(writing: RedisStore, client: redis.Redis) -> None:
    client.hset(KEY, "kept", 0)
    groups: Groups = {HOUR: [(b"a", b"1"), (b"b", b"2")], 1000: [(b"c", b"3")], 5: []}
    assert write(writing, groups, b"gone") == 1
    a, b, c, kept = remaining_ms(client, "a", "b", "c", "kept")
    assert near(a, HOUR)
    assert near(b, HOUR)
    assert 0 < c <= 1000
    assert (kept, client.pttl(KEY)) == (-1, -1)


def test_a_row_of_nulls_deletes_the_hash(writing: RedisStore, client: redis.Redis) -> None:
    client.hset(KEY, "a", 0)
    assert write(writing, {0: []}, b"a", b"old", key_ttl_ms=HOUR) == 1
    assert not client.exists(KEY)


@pytest.mark.parametrize("key_ttl_ms", [0, HOUR])
def test_a_key_of_another_type_is_not_changed(
    writing: RedisStore, client: redis.Redis, key_ttl_ms: int
) -> None:
    client.set(KEY, "text")
    ttl_ms = 0 if key_ttl_ms else HOUR
    rows: list[Groups] = [{ttl_ms: [(b"a", b"1")]}, {ttl_ms: []}]
    for groups in rows:
        reply = write(writing, groups, b"b", key_ttl_ms=key_ttl_ms)
        assert isinstance(reply, ErrorReply)
        assert reply.code == "WRONGTYPE"
    assert (client.get(KEY), client.pttl(KEY)) == (b"text", -1)


@pytest.mark.parametrize("permission", ["hset", "hsetex", "hpexpire", "pexpire", "hdel"])
@pytest.mark.parametrize("key_ttl_ms", [0, HOUR])
def test_a_user_who_lacks_a_permission_writes_nothing_of_a_row(
    writing: RedisStore, server: Server, client: redis.Redis, permission: str, key_ttl_ms: int
) -> None:
    row: Groups = {0 if key_ttl_ms else HOUR: [(b"a", b"new")]}
    write(writing, {0: [(b"a", b"old"), (b"b", b"old")]}, key_ttl_ms=HOUR)
    hsetex = writing.capabilities.hsetex
    needed = {"hdel", "pexpire" if key_ttl_ms else "hsetex" if hsetex else "hpexpire"}
    needed |= {"hset"} if key_ttl_ms or not hsetex else set()
    known = {"hset", "hsetex", "hpexpire", "pexpire", "hdel"} - (set() if hsetex else {"hsetex"})
    granted = [f"+{name}" for name in known - {permission}]
    acl: Any = client.execute_command
    acl("ACL", "SETUSER", "u", "reset", "on", ">p", "~*", "+evalsha", *granted)
    user = opened(f"unix://u:p@{server.socket}")
    request = row_command(KEY, row, [b"b"], key_ttl_ms, hsetex=hsetex)
    [reply] = user.run([KEY], [request])
    user.close()
    acl("ACL", "DELUSER", "u")
    if permission in needed:
        assert isinstance(reply, ErrorReply)
        assert client.hgetall(KEY) == {b"a": b"old", b"b": b"old"}
        assert near(client.pttl(KEY), HOUR)
    else:
        assert reply == 1


def test_a_server_out_of_memory_writes_nothing_of_a_row(
    writing: RedisStore, client: redis.Redis
) -> None:
    client.hset(KEY, mapping={"a": "old", "b": "old"})
    client.pexpire(KEY, HOUR)
    client.config_set("maxmemory", 1)
    try:
        for ttl_ms, key_ttl_ms in ((0, 2 * HOUR), (HOUR, 0)):
            reply = write(writing, {ttl_ms: [(b"a", b"new")]}, b"b", key_ttl_ms=key_ttl_ms)
            assert isinstance(reply, ErrorReply)
            assert reply.code == "OOM"
    finally:
        client.config_set("maxmemory", 0)
    assert client.hgetall(KEY) == {b"a": b"old", b"b": b"old"}
    assert near(client.pttl(KEY), HOUR)
    assert not immortal(client)


TTLS_MS = {"a": HOUR, "b": 2 * HOUR, "c": HOUR}
SESSION = ViewPlan(
    "session",
    "stream",
    KeyPlan("fs", "user", (JoinKey("user_id", DType("string")),)),
    tuple(FieldPlan(name, DType("int64"), ttl_ms=ttl) for name, ttl in TTLS_MS.items()),
    "field",
    HOUR,
    500,
    ordering="event_time",
)
NOW_MS = time.time_ns() // 1_000_000


def event(values: Mapping[str, int | None], dialect: Dialect) -> bytes:
    commands = event_time_write_group(SESSION, dialect)(KEY, values, 0, NOW_MS, NOW_MS)
    assert commands is not None
    return commands[0]


def owned_row(dialect: Dialect) -> bytes:
    groups: Groups = {0: [(b"a", b"1")], HOUR: [(b"b", b"1")]}
    return row_command(KEY, groups, [b"c"], HOUR, hsetex=dialect.hsetex)


def timed_row(dialect: Dialect) -> bytes:
    groups: Groups = {HOUR: [(b"a", b"1")], 2 * HOUR: [(b"b", b"1")]}
    return row_command(KEY, groups, [], 0, hsetex=dialect.hsetex)


SCRIPT_CALLS: dict[str, Callable[[Dialect], bytes]] = {
    "an event": partial(event, {"a": 1, "b": 1}),
    "an event that deletes": partial(event, {"a": 1, "b": 1, "c": None}),
    "an event that only deletes": partial(event, {"c": None}),
    "a row of a view that owns the key": owned_row,
    "a row of fields with TTLs": timed_row,
}
WRITES = ("hget", "hset", "hsetex", "hpexpire", "hpexpireat", "pexpire", "hdel")


@pytest.mark.parametrize("call", SCRIPT_CALLS)
@pytest.mark.parametrize("lacking", [*WRITES, "hset hdel", "hpexpireat hdel", "hpexpire hdel"])
def test_a_script_that_lacks_a_permission_changes_nothing(
    writing: RedisStore, server: Server, client: redis.Redis, call: str, lacking: str
) -> None:
    client.hset(KEY, mapping={"a": 0, "b": 0, "c": 0, "@session": 1})
    client.hpexpire(KEY, HOUR, "a", "b", "c", "@session")
    before = [client.hgetall(KEY), client.hpexpiretime(KEY, "a", "b", "c", "@session")]
    hsetex = writing.capabilities.hsetex
    known = {*WRITES} - (set() if hsetex else {"hsetex"})
    granted = [f"+{name}" for name in sorted(known - {*lacking.split()})]
    acl: Any = client.execute_command
    acl("ACL", "SETUSER", "u", "reset", "on", ">p", "~*", "+evalsha", *granted)
    user = opened(f"unix://u:p@{server.socket}")
    [reply] = user.run([KEY], [SCRIPT_CALLS[call](writing.capabilities)])
    user.close()
    acl("ACL", "DELUSER", "u")
    after = [client.hgetall(KEY), client.hpexpiretime(KEY, "a", "b", "c", "@session")]
    if isinstance(reply, ErrorReply):
        assert "NOPERM" in str(reply) or "ACL failure" in str(reply)
        assert after == before
    else:
        assert reply == 1
        assert after != before
    stored: Any = client.hpttl(KEY, "a", "b", "c", "@session")
    assert client.pttl(KEY) > 0 or -1 not in stored


@pytest.mark.parametrize("damaged", ["2026-11-22", "", "12x", "inf", "nan", "-5", "9" * 20, "\n"])
def test_an_event_time_that_is_damaged_refuses_the_event_and_changes_nothing(
    writing: RedisStore, client: redis.Redis, damaged: str
) -> None:
    client.hset(KEY, mapping={"a": 0, "@session": damaged})
    [reply] = writing.run([KEY], [event({"a": 1}, writing.capabilities)])
    assert isinstance(reply, ErrorReply)
    assert str(reply).startswith("BADTIME field @session")
    assert client.hgetall(KEY) == {b"a": b"0", b"@session": damaged.encode()}
