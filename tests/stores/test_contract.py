"""The contract of `OnlineStore`, checked for every adapter."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Iterator
from itertools import accumulate

import pytest

from featurekit.ports import Chunk
from featurekit.stores.redis import RedisStore
from featurekit.wire import EXEC, MULTI, ErrorReply, Reply, command, text_command
from tests.stores.conftest import opened_async


def chunk_of(commands: dict[str, bytes]) -> Chunk:
    keys, n = [key.encode() for key in commands], len(commands)
    ends = list(accumulate(map(len, commands.values())))
    return Chunk(b"".join(commands.values()), n, n, n, lambda: (keys, ends))


def set_chunk(*keys: str) -> Chunk:
    return chunk_of({key: text_command("SET", key, "1") for key in keys})


def keys_in(store: RedisStore, pattern: str) -> set[bytes]:
    return {key for page in store.scan(pattern) for key in page}


def test_replies_have_the_order_of_the_requests(store: RedisStore) -> None:
    requests = [command(b"HSET", b"k", b"f", b"1"), command(b"HMGET", b"k", b"f", b"g")]
    assert store.run([b"k", b"k"], requests) == [1, [b"1", None]]


def test_a_request_may_be_several_commands(store: RedisStore) -> None:
    pair = command(b"INCR", b"n") + command(b"GET", b"n")
    assert store.run([b"n", b"n"], [pair, pair], replies_per_request=2) == [1, b"1", 2, b"2"]


def test_requests_may_have_different_numbers_of_replies(store: RedisStore) -> None:
    one, two = command(b"INCR", b"n"), command(b"INCR", b"n") + command(b"GET", b"n")
    assert store.run([b"n", b"n"], [two, one], replies_per_request=[2, 1]) == [1, b"1", 2]


def test_a_read_converts_each_reply(store: RedisStore) -> None:
    requests = [command(b"GET", b"k"), command(b"INCR", b"k")]
    assert store.read([b"k"] * 2, requests, repr) == ["None", "1"]
    assert store.read([], [], repr) == []


def test_a_call_without_requests_returns_an_empty_list(store: RedisStore) -> None:
    assert store.run([], []) == []


def test_a_server_error_is_a_reply(store: RedisStore) -> None:
    store.call("SET", "text", "1")
    requests = [command(b"HGET", b"text", b"f"), command(b"GET", b"text")]
    refused, fine = store.run([b"text"] * 2, requests)
    assert isinstance(refused, ErrorReply)
    assert (refused.code, fine) == ("WRONGTYPE", b"1")


def test_an_error_inside_a_transaction_is_a_reply_too(store: RedisStore) -> None:
    store.call("SET", "text", "1")
    request = MULTI + command(b"HSET", b"text", b"f", b"1") + EXEC
    [_, _, results] = store.run([b"text"], [request], replies_per_request=3)
    assert isinstance(results, list)
    assert isinstance(results[0], ErrorReply)


def test_a_rejected_command_discards_its_transaction(store: RedisStore) -> None:
    request = MULTI + command(b"NOPE") + command(b"SET", b"k", b"1") + EXEC
    replies = store.run([b"k"], [request], replies_per_request=4)
    codes = [reply.code for reply in replies if isinstance(reply, ErrorReply)]
    assert codes == ["ERR", "EXECABORT"]
    assert store.call("GET", "k") is None


def test_a_call_accepts_text_numbers_and_bytes(store: RedisStore) -> None:
    store.call("SET", "ключ", b"\x00\xff")
    assert store.call("GETRANGE", "ключ", 0, 0) == b"\x00"


def test_large_values_are_complete(store: RedisStore) -> None:
    value = bytes(range(256)) * 4096
    store.call("SET", "big", value)
    assert store.run([b"big"] * 3, [command(b"GET", b"big")] * 3) == [value] * 3


def test_scan_finds_every_key_that_matches(store: RedisStore) -> None:
    list(store.load([set_chunk(*(f"a:{i}" for i in range(2500)), "b:1")]))
    assert keys_in(store, "a:*") == {b"a:%d" % i for i in range(2500)}
    assert keys_in(store, "c:*") == set()


def test_a_load_yields_its_chunks_in_order(store: RedisStore) -> None:
    chunks = [set_chunk(f"{i}", f"{i}x") for i in range(10)]
    assert list(store.load(iter(chunks))) == [(chunk, None) for chunk in chunks]
    assert len(keys_in(store, "*")) == 20


def test_an_empty_load_yields_nothing(store: RedisStore) -> None:
    assert list(store.load([])) == []


def test_a_load_yields_the_replies_of_a_chunk_with_an_error(store: RedisStore) -> None:
    store.call("HSET", "hash", "f", "1")
    bad = chunk_of({key: text_command("INCR", key) for key in ("hash", "n")})
    chunks = [set_chunk("a"), bad, set_chunk("b")]
    before, (_, replies), after = store.load(chunks)
    assert (before[1], after[1]) == (None, None)
    assert replies is not None
    assert isinstance(replies[0], ErrorReply)
    assert replies[1] == 1


def test_a_load_does_not_wait_for_lines_of_a_discarded_transaction(store: RedisStore) -> None:
    unit = MULTI + command(b"NOPE") + command(b"SET", b"k", b"1") + EXEC
    chunks = [Chunk(unit * 2, 8, 12, 2), set_chunk("after")]
    (_, replies), (_, after) = store.load(chunks)
    assert replies is not None
    assert len(replies) == 8
    assert after is None


def test_a_load_counts_the_lines_inside_a_transaction(store: RedisStore) -> None:
    unit = MULTI + command(b"SET", b"k", b"1") + command(b"PEXPIRE", b"k", b"9999") + EXEC
    chunk = Chunk(memoryview(unit * 3), 12, 18, 3)
    assert [replies for _, replies in store.load([chunk, set_chunk("a")])] == [None, None]


def test_a_load_can_be_abandoned(store: RedisStore) -> None:
    results = store.load(set_chunk(f"{i}") for i in range(1000))
    next(results)
    del results
    assert store.call("PING") == b"PONG"


def test_an_error_of_a_load_source_propagates(store: RedisStore) -> None:
    def chunks() -> Iterator[Chunk]:
        yield set_chunk("a")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(store.load(chunks()))


def test_check_writable_leaves_no_keys(store: RedisStore) -> None:
    store.check_writable("fs")
    store.check_writable("fs")
    assert keys_in(store, "*") == set()


def test_capabilities_match_the_server(store: RedisStore) -> None:
    answer = store.call("HSETEX", "k", "PX", 1000, "FIELDS", 1, "f", "v")
    assert store.capabilities.hsetex == (answer == 1)
    assert store.capabilities.server.split()[0] in {"valkey", "redis", "fakeredis"}


def test_a_closed_store_reconnects(store: RedisStore) -> None:
    store.close()
    assert store.call("PING") == b"PONG"


def test_a_store_pickles_as_its_url(store: RedisStore) -> None:
    store.call("SET", "k", "1")
    copy = pickle.loads(pickle.dumps(store))
    assert (copy.url, copy.call("GET", "k")) == (store.url, b"1")
    copy.close()


def test_threads_get_their_own_replies(store: RedisStore) -> None:
    wrong: list[Reply] = []

    def work(number: int) -> None:
        value = b"%d" % number
        for _ in range(200):
            requests = [command(b"SET", value, value), command(b"GET", value)]
            replies = store.run([value] * 2, requests)
            if replies != [b"OK", value]:
                wrong.append(replies)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


async def test_the_asyncio_form_returns_the_same_replies(store: RedisStore, url: str) -> None:
    requests = [command(b"HSET", b"k", b"f", b"1"), command(b"HGET", b"k", b"f"), command(b"NOPE")]
    async_store = opened_async(url)
    answered = await async_store.run([b"k"] * 3, requests)
    assert await async_store.read([b"k"], requests[1:2], repr) == ["b'1'"]
    await async_store.close()
    assert answered[:2] == [1, b"1"]
    assert isinstance(answered[2], ErrorReply)
    assert store.call("HGET", "k", "f") == b"1"
