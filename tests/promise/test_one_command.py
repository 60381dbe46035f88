"""Rows written by one command each, as on a cluster: atomic, and never without expiry."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import redis

from featurekit.lower.scripts import ROW
from featurekit.lower.write_group import row_command
from featurekit.stores.redis import RedisStore
from featurekit.wire import ErrorReply, Reply
from tests.promise.repos import immortal
from tests.servers import Server
from tests.stores.conftest import opened

KEY = b"fs:user:u1"
HOUR = 3_600_000
Groups = Mapping[int, list[tuple[bytes, bytes]]]


@pytest.fixture
def writing(server: Server) -> Iterator[RedisStore]:
    """A store with the script loaded."""
    store = opened(server.url)
    store.run([KEY], [ROW.load])
    yield store
    store.close()


def write(store: RedisStore, groups: Groups, *deletes: bytes, key_ttl_ms: int = 0) -> Reply:
    hsetex = store.capabilities.hsetex
    return store.run([KEY], [row_command(KEY, groups, deletes, key_ttl_ms, hsetex=hsetex)])[0]


def remaining_ms(client: redis.Redis, *names: str) -> list[int]:
    return list(client.hpttl(KEY, *names))


def near(ttl_ms: int, expected_ms: int) -> bool:
    return 0 <= expected_ms - ttl_ms < 5000


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
