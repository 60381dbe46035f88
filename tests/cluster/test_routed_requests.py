"""Where requests are sent, and when they are sent again, decided without a server."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import pytest

from featurekit.errors import StoreUnavailableError
from featurekit.lower.scripts import loaded_scripts
from featurekit.stores.cluster.retry import CallOptions, Failure, FanOutResult, RetryState
from featurekit.stores.cluster.routed_requests import (
    ASKING,
    NodeBatch,
    RoutedRequests,
    to_error_reply,
)
from featurekit.stores.cluster.topology import SLOTS, Shard, Topology, slot_of
from featurekit.stores.deadline import Deadline
from featurekit.stores.url import StoreUrl
from featurekit.wire import ErrorReply, command, split_commands

A, B, C = ("a", 1), ("b", 2), ("c", 3)
URL = StoreUrl.parse("redis+cluster://a:1,b:2")
KEYS = [b"k0", b"k1", b"k2", b"k1"]
GETS = [command(b"GET", key) for key in KEYS]


def halves() -> Topology:
    """A cluster of two primaries; the first serves the lower half of the slots."""
    owners = [0] * (SLOTS // 2) + [1] * (SLOTS // 2)
    return Topology([Shard(A), Shard(B)], owners)


def all_at_a() -> Topology:
    return Topology([Shard(A), Shard(B)], [0] * SLOTS)


def batches(requests: RoutedRequests, topology: Topology) -> list[NodeBatch]:
    result, unserved = requests.batches(topology, topology.primary_of)
    assert unserved == []
    return result


def answer(
    requests: RoutedRequests, topology: Topology, replies: Sequence[Any], batch: NodeBatch
) -> None:
    result = FanOutResult()
    result.add(requests, batch, list(replies))
    requests.plan_retry(result.redirected, [], topology)


def test_requests_go_to_the_owners_of_their_slots() -> None:
    topology = halves()
    for batch in batches(RoutedRequests(KEYS, GETS), topology):
        assert batch.data == b"".join(GETS[index] for index in batch.indices)
        owner = topology.owners[slot_of(KEYS[batch.indices[0]])]
        assert batch.address == (A, B)[owner]


def test_a_write_that_is_sent_again_takes_later_writes_of_its_key_along() -> None:
    requests, topology = RoutedRequests(KEYS, GETS, ordered=True), all_at_a()
    [batch] = batches(requests, topology)
    moved = to_error_reply(f"MOVED {slot_of(b'k1')} b:2")
    answer(requests, topology, [b"0", moved, b"2", b"3"], batch)
    assert requests.todo == [1, 3]
    [batch] = batches(requests, topology)
    assert (batch.address, batch.indices) == (B, [1, 3])
    assert requests.apply_replies(batch, [b"1", b"3"]) == []
    assert requests.replies == [b"0", b"1", b"2", b"3"]


def test_a_read_that_is_sent_again_goes_alone() -> None:
    requests, topology = RoutedRequests(KEYS, GETS), all_at_a()
    [batch] = batches(requests, topology)
    answer(requests, topology, [b"0", b"1", b"2", to_error_reply("TRYAGAIN later")], batch)
    assert requests.todo == [3]
    assert [str(reply) for _, reply in requests.transient.values()] == ["TRYAGAIN later"]


def test_asking_precedes_each_command_of_a_request() -> None:
    wide = [get + command(b"PTTL", key) for key, get in zip(KEYS, GETS, strict=True)]
    requests, topology = RoutedRequests(KEYS, wide, 2, repr), all_at_a()
    [batch] = batches(requests, topology)
    ask = to_error_reply(f"ASK {slot_of(b'k1')} :3")
    answer(requests, topology, ["'0'", "1", ask, ask, "'2'", "1", "'3'", "1"], batch)
    [batch] = batches(requests, topology)
    assert batch.address == ("a", 3)
    assert batch.data == b"".join(ASKING + each for each in split_commands(wide[1]))
    assert requests.apply_replies(batch, [b"OK", b"1", b"OK", -1]) == []
    assert requests.replies[2:4] == ["b'1'", "-1"]


def test_scripts_are_loaded_before_rows_are_sent_again() -> None:
    requests, topology = RoutedRequests(KEYS[:1], [command(b"EVALSHA", b"x")]), all_at_a()
    [batch] = batches(requests, topology)
    answer(requests, topology, [to_error_reply("NOSCRIPT none")], batch)
    [batch] = batches(requests, topology)
    assert batch.data.startswith(b"".join(script.load for script in loaded_scripts()))
    assert requests.apply_replies(batch, [*(script.sha for script in loaded_scripts()), 1]) == []
    assert requests.replies == [1]


def test_a_user_who_may_not_load_scripts_gets_that_error() -> None:
    requests, topology = RoutedRequests(KEYS[:1], [command(b"EVALSHA", b"x")]), all_at_a()
    [batch] = batches(requests, topology)
    answer(requests, topology, [to_error_reply("NOSCRIPT none")], batch)
    [batch] = batches(requests, topology)
    refused = ErrorReply("NOPERM no script|load")
    replies = [refused] * len(loaded_scripts()) + [to_error_reply("NOSCRIPT none")]
    assert requests.apply_replies(batch, replies) == []
    assert requests.replies == [refused]


def test_two_servers_that_point_at_each_other_are_given_up_in_time() -> None:
    requests, topology = RoutedRequests(KEYS[:1], GETS[:1]), all_at_a()
    retry = RetryState(URL, requests, Deadline(0.05))
    pauses = []

    def send() -> None:
        while requests.todo:
            [batch] = batches(requests, topology)
            target = "b:2" if batch.address == A else "a:1"
            result = FanOutResult()
            moved = to_error_reply(f"MOVED {slot_of(KEYS[0])} {target}")
            result.add(requests, batch, [moved])
            pauses.append(retry.after_fan_out(result, [], topology))

    with pytest.raises(StoreUnavailableError, match="point at each other"):
        send()
    assert pauses[0] == 0
    assert pauses[-1] > 0


def test_a_redirection_is_followed_although_decoding_took_long() -> None:
    requests, topology = RoutedRequests(KEYS[:1], GETS[:1]), all_at_a()
    retry = RetryState(URL, requests, Deadline(0.05))
    assert retry.timeout_s() > 0.04
    [batch] = batches(requests, topology)
    result = FanOutResult()
    result.add(requests, batch, [to_error_reply(f"MOVED {slot_of(KEYS[0])} b:2")])
    time.sleep(0.15)
    assert retry.after_fan_out(result, [], topology) == 0
    assert retry.timeout_s() > 0.02


def test_a_call_that_must_not_run_twice_is_not_sent_again() -> None:
    requests, topology = RoutedRequests(KEYS[:1], GETS[:1]), all_at_a()
    unavailable = StoreUnavailableError("unavailable")
    for sent in (False, True):
        retry = RetryState(URL, requests, Deadline(9), CallOptions(once=True))
        [batch] = batches(requests, topology)
        result = FanOutResult(failures=[Failure(batch, unavailable, sent=sent)])
        if sent:
            with pytest.raises(StoreUnavailableError, match="unavailable"):
                retry.after_fan_out(result, [], topology)
        else:
            assert retry.after_fan_out(result, [], topology) > 0
            assert retry.refresh


def test_a_partial_read_gives_up_only_what_is_unavailable() -> None:
    requests, topology = RoutedRequests(KEYS[:2], GETS[:2], on_reply=repr), all_at_a()
    retry = RetryState(URL, requests, Deadline(9), CallOptions(partial=True))
    for _ in range(2):
        [batch] = batches(requests, topology)
        result = FanOutResult()
        down = to_error_reply("CLUSTERDOWN gone")
        result.add(requests, batch, [down] * len(batch.indices))
        retry.after_fan_out(result, [], topology)
    assert requests.todo == []
    assert all(
        "UNAVAILABLE redis://a:1 answers CLUSTERDOWN gone" in each for each in requests.replies
    )
