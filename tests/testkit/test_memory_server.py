"""Random scripts of the commands that featurekit sends: fakeredis answers as Valkey or Redis do."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featurekit.repo.memory_stores import delete_memory_server, set_memory_clock
from featurekit.stores import open_store
from featurekit.wire import ErrorReply, Reply, text_command
from tests.conftest import KINDS, flushed
from tests.servers import PATIENT, Server

SECOND_MS = 1000
TOLERANCE_MS = 20 * SECOND_MS
KEYS, FIELDS = st.sampled_from(["a", "b"]), st.sampled_from(["f", "g", "@h"])
VALUES = st.sampled_from(["", "1", "x y", "22"])
MANY = st.lists(FIELDS, min_size=1, max_size=3, unique=True)
PAIRS = st.lists(st.tuples(FIELDS, VALUES), min_size=1, max_size=3, unique_by=lambda pair: pair[0])
TTLS = st.sampled_from([60 * SECOND_MS, 600 * SECOND_MS])
OFFSETS = st.sampled_from([-600, -1, 90, 900]).map(lambda seconds: ("at", seconds * SECOND_MS))
Part = Any


def flat(pairs: Sequence[tuple[str, str]]) -> list[str]:
    return [part for pair in pairs for part in pair]


def fields(names: Sequence[str]) -> list[Part]:
    return ["FIELDS", len(names), *names]


HASHES = st.one_of(
    st.builds(lambda k, p: ["HSET", k, *flat(p)], KEYS, PAIRS),
    st.builds(lambda k, f, v: ["HSETNX", k, f, v], KEYS, FIELDS, VALUES),
    st.builds(
        lambda k, t, p: ["HSETEX", k, "PX", t, "FIELDS", len(p), *flat(p)], KEYS, TTLS, PAIRS
    ),
    st.builds(
        lambda k, o, p: ["HSETEX", k, "PXAT", o, "FIELDS", len(p), *flat(p)], KEYS, OFFSETS, PAIRS
    ),
    st.builds(lambda k, n: ["HDEL", k, *n], KEYS, MANY),
    st.builds(lambda k, n: ["HMGET", k, *n], KEYS, MANY),
    st.builds(lambda k, f: ["HGET", k, f], KEYS, FIELDS),
    st.builds(lambda k, f: ["HEXISTS", k, f], KEYS, FIELDS),
    st.builds(lambda k: ["HGETALL", k], KEYS),
    st.builds(lambda k: ["HKEYS", k], KEYS),
    st.builds(lambda k: ["HLEN", k], KEYS),
    st.builds(lambda k, t, n: ["HPEXPIRE", k, t, *fields(n)], KEYS, TTLS, MANY),
    st.builds(lambda k, n: ["HPEXPIRE", k, 0, *fields(n)], KEYS, MANY),
    st.builds(lambda k, o, n: ["HPEXPIREAT", k, o, *fields(n)], KEYS, OFFSETS, MANY),
    st.builds(lambda k, n: ["HPTTL", k, *fields(n)], KEYS, MANY),
    st.builds(lambda k, n: ["HTTL", k, *fields(n)], KEYS, MANY),
    st.builds(lambda k, n: ["HPEXPIRETIME", k, *fields(n)], KEYS, MANY),
)
OPTION = st.sampled_from([[], [], ["NX"], ["XX"], ["GT"], ["LT"]])
ANY_KEYS = st.one_of(
    st.builds(lambda k, t, o: ["PEXPIRE", k, t, *o], KEYS, TTLS, OPTION),
    st.builds(lambda k, t, o: ["EXPIRE", k, t // SECOND_MS, *o], KEYS, TTLS, OPTION),
    st.builds(lambda k, o, more: ["PEXPIREAT", k, o, *more], KEYS, OFFSETS, OPTION),
    st.builds(lambda k: ["PTTL", k], KEYS),
    st.builds(lambda k: ["TTL", k], KEYS),
    st.builds(lambda k: ["PEXPIRETIME", k], KEYS),
    st.builds(lambda k: ["TYPE", k], KEYS),
    st.builds(lambda k: ["EXISTS", k], KEYS),
    st.builds(lambda k: ["UNLINK", k], KEYS),
    st.builds(lambda k: ["DEL", k], KEYS),
    st.just(["DBSIZE"]),
    st.just(["SCAN", 0, "COUNT", 100]),
    st.builds(lambda k, v: ["SET", k, v], KEYS, VALUES),
    st.builds(lambda k, v, t: ["SET", k, v, "NX", "PX", t], KEYS, VALUES, TTLS),
    st.builds(lambda k, v, t: ["SET", k, v, "XX", "PX", t], KEYS, VALUES, TTLS),
    st.builds(lambda k: ["GET", k], KEYS),
    st.just(["MGET", "a", "b"]),
    st.builds(lambda k, v: ["LPUSH", k, v], KEYS, VALUES),
    st.builds(lambda k: ["LTRIM", k, 0, 1], KEYS),
    st.builds(lambda k: ["LRANGE", k, 0, 9], KEYS),
)
STREAMS = st.one_of(
    st.builds(lambda v: ["XADD", "s", "*", "x", v], VALUES),
    st.builds(lambda n: ["XADD", "s", "MAXLEN", "~", 100, f"{n}-1", "x", "y"], st.integers(1, 3)),
    st.just(["XLEN", "s"]),
    st.just(["XGROUP", "CREATE", "s", "g", "0", "MKSTREAM"]),
    st.just(["XREADGROUP", "GROUP", "g", "c", "COUNT", 2, "STREAMS", "s", ">"]),
    st.just(["XREADGROUP", "GROUP", "g", "c", "COUNT", 2, "STREAMS", "s", "0"]),
    st.builds(lambda n: ["XACK", "s", "g", f"{n}-1"], st.integers(1, 3)),
    st.builds(lambda n: ["XDEL", "s", f"{n}-1"], st.integers(1, 3)),
    st.just(["XAUTOCLAIM", "s", "g", "d", 0, "0-0", "COUNT", 2]),
    st.just(["XPENDING", "s", "g"]),
    st.just(["XREVRANGE", "s", "+", "-", "COUNT", 2]),
    st.just(["XINFO", "GROUPS", "s"]),
)
COMMANDS = st.one_of(HASHES, HASHES, HASHES, ANY_KEYS, STREAMS)
SCRIPTS = st.lists(
    st.one_of(
        COMMANDS,
        st.lists(st.one_of(HASHES, ANY_KEYS), min_size=1, max_size=3).map(
            lambda inner: [["MULTI"], *inner, ["EXEC"]]
        ),
    ),
    min_size=2,
    max_size=12,
)
UNORDERED = {"HKEYS", "SCAN"}
"""Commands whose replies have no order."""


def run(store: Any, script: Sequence[Any]) -> list[tuple[Any, Any]]:
    """Run a script; return each command with its reply."""
    steps: list[Any] = []
    for each in script:
        steps += each if isinstance(each[0], list) else [each]
    now_ms = time.time_ns() // 1_000_000
    done: list[tuple[Any, Any]] = []
    queued: list[str] = []
    for parts in steps:
        sent = [now_ms + part[1] if isinstance(part, tuple) else part for part in parts]
        [reply] = store.run([b"a"], [text_command(*sent)])
        if parts[0] == "EXEC" and isinstance(reply, list):
            inner = zip(queued, reply, strict=True)
            done.append((parts, [comparable(name, each, now_ms) for name, each in inner]))
        else:
            done.append((parts, comparable(parts[0], reply, now_ms)))
        queued = [*queued, parts[0]] if reply == b"QUEUED" else []
    return done


def comparable(name: str, reply: Reply, now_ms: int) -> Any:
    """Return a reply without its times, the text of errors, and an order that means nothing."""
    if isinstance(reply, ErrorReply):
        return f"error {reply.code}"
    if isinstance(reply, list):
        items = [comparable(name, each, now_ms) for each in reply]
        if name == "HGETALL":
            return sorted(zip(items[::2], items[1::2], strict=True))
        return sorted(items, key=repr) if name in UNORDERED else items
    if isinstance(reply, bytes) and b"-" in reply and reply.split(b"-")[0].isdigit():
        ms = int(reply.split(b"-")[0])  # the id of an entry
        return "id of now" if ms > now_ms - TOLERANCE_MS else reply
    return comparable_number(name, reply, now_ms) if isinstance(reply, int) else reply


def comparable_number(name: str, number: int, now_ms: int) -> Any:
    """Return a number, or about how far from now it is if it is a time."""
    if name in {"TTL", "HTTL"} and number > 0:
        return round(number / 20)
    if number > SECOND_MS:
        return (
            "about",
            round((number - now_ms if number > now_ms / 2 else number) / TOLERANCE_MS),
        )
    return number


def check(started: dict[str, Server], script: Sequence[Any]) -> None:
    """Check that the store in memory answers a script as one of the servers does, as long as they agree."""
    kinds = [kind for kind in ("valkey", "redis8") if kind in KINDS]
    for kind in kinds:
        flushed(kind, started)
    now_ms = time.time_ns() // 1_000_000
    delete_memory_server("scripts")
    set_memory_clock("scripts", lambda: now_ms)
    urls = ["memory://scripts", *(started[kind].url for kind in kinds)]
    stores = [open_store(url, Path(), options=PATIENT) for url in urls]
    memory, *servers = [run(store, script) for store in stores]
    for store in stores:
        store.close()
    for step, (command, reply) in enumerate(memory):
        assert reply in [replies[step][1] for replies in servers], command
        if any(replies[step] != servers[0][step] for replies in servers):
            return


@settings(max_examples=25)
@given(SCRIPTS)
def test_a_random_script_is_answered_as_by_a_server(
    started: dict[str, Server], script: list[Any]
) -> None:
    check(started, script)


@pytest.mark.slow
@settings(max_examples=300)
@given(SCRIPTS)
def test_many_random_scripts_are_answered_as_by_a_server(
    started: dict[str, Server], script: list[Any]
) -> None:
    check(started, script)


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (("HSETEX", "a", "KEEPTTL", "FIELDS", 1, "f", "v"), "KEEPTTL of HSETEX is not supported"),
        (("CONFIG", "GET", "maxmemory"), "unknown command"),
        (("OBJECT", "ENCODING", "a"), "unknown command"),
    ],
)
def test_what_is_not_as_on_a_server_is_refused_by_name(command: tuple[Part], reason: str) -> None:
    reply = open_store("memory://refused", Path()).call(*command)
    assert isinstance(reply, ErrorReply)
    assert reason in str(reply)


@pytest.mark.parametrize(
    "command",
    [
        ("HPEXPIREAT", "a", 2**46, "FIELDS", 1, "f"),
        ("HSETEX", "a", "PXAT", 2**46, "FIELDS", 1, "f", "v"),
        ("PEXPIRE", "a", 2**63 - 1),
        ("HPEXPIRE", "a", -1, "FIELDS", 1, "f"),
    ],
)
def test_deadlines_that_redis_refuses_are_refused(command: tuple[Part]) -> None:
    store = open_store("memory://deadlines", Path())
    store.call("HSET", "a", "f", "v")
    reply = store.call(*command)
    assert isinstance(reply, ErrorReply)
    assert reply.code == "ERR"
