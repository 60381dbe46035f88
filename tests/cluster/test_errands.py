"""What is sent where, and again, decided without a server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from featurekit.errors import StoreUnavailableError
from featurekit.lower.scripts import SCRIPTS
from featurekit.stores.cluster.retry import Failure, FanOutResult, RetryState
from featurekit.stores.cluster.routed_requests import (
    ASKING,
    TEACH,
    NodeBatch,
    RoutedRequests,
    refusal,
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
    """A cluster of two, of which the first has the lower half of the slots."""
    owners = [0] * (SLOTS // 2) + [1] * (SLOTS // 2)
    return Topology([Shard(A), Shard(B)], owners)


def at_a() -> Topology:
    return Topology([Shard(A), Shard(B)], [0] * SLOTS)


def parcels(errand: RoutedRequests, topology: Topology) -> list[NodeBatch]:
    found, lost = errand.parcels(topology, topology.primary_of)
    assert lost == []
    return found


def told(
    errand: RoutedRequests, topology: Topology, replies: Sequence[Any], parcel: NodeBatch
) -> None:
    again = errand.settle(parcel, list(replies))
    errand.resend([(parcel.address, place, redirect) for place, redirect in again], [], topology)


def test_requests_go_to_the_owners_of_their_slots() -> None:
    topology = halves()
    for parcel in parcels(RoutedRequests(KEYS, GETS), topology):
        assert parcel.data == b"".join(GETS[place] for place in parcel.places)
        owner = topology.owners[slot_of(KEYS[parcel.places[0]])]
        assert parcel.address == (A, B)[owner]


def test_a_write_that_goes_again_takes_the_later_ones_of_its_key_with_it() -> None:
    errand, topology = RoutedRequests(KEYS, GETS, ordered=True), at_a()
    [parcel] = parcels(errand, topology)
    moved = refusal(f"MOVED {slot_of(b'k1')} b:2")
    told(errand, topology, [b"0", moved, b"2", b"3"], parcel)
    assert errand.todo == [1, 3]
    [parcel] = parcels(errand, topology)
    assert (parcel.address, parcel.places) == (B, [1, 3])
    assert errand.settle(parcel, [b"1", b"3"]) == []
    assert errand.replies == [b"0", b"1", b"2", b"3"]


def test_a_read_that_goes_again_goes_alone() -> None:
    errand, topology = RoutedRequests(KEYS, GETS), at_a()
    [parcel] = parcels(errand, topology)
    told(errand, topology, [b"0", b"1", b"2", refusal("TRYAGAIN later")], parcel)
    assert errand.todo == [3]
    assert [str(redirect) for _, redirect in errand.passing.values()] == ["TRYAGAIN later"]


def test_asking_goes_before_each_command_of_a_request() -> None:
    wide = [get + command(b"PTTL", key) for key, get in zip(KEYS, GETS, strict=True)]
    errand, topology = RoutedRequests(KEYS, wide, 2, repr), at_a()
    [parcel] = parcels(errand, topology)
    ask = refusal(f"ASK {slot_of(b'k1')} :3")
    told(errand, topology, ["'0'", "1", ask, ask, "'2'", "1", "'3'", "1"], parcel)
    [parcel] = parcels(errand, topology)
    assert parcel.address == ("a", 3)
    assert parcel.data == b"".join(ASKING + each for each in split_commands(wide[1]))
    assert errand.settle(parcel, [b"OK", b"1", b"OK", -1]) == []
    assert errand.replies[2:4] == ["b'1'", "-1"]


def test_a_server_that_knows_no_script_is_taught_before_the_rows_go_again() -> None:
    errand, topology = RoutedRequests(KEYS[:1], [command(b"EVALSHA", b"x")]), at_a()
    [parcel] = parcels(errand, topology)
    told(errand, topology, [refusal("NOSCRIPT none")], parcel)
    [parcel] = parcels(errand, topology)
    assert parcel.data.startswith(TEACH)
    assert errand.settle(parcel, [*(script.sha for script in SCRIPTS), 1]) == []
    assert errand.replies == [1]


def test_one_who_may_not_teach_is_told() -> None:
    errand, topology = RoutedRequests(KEYS[:1], [command(b"EVALSHA", b"x")]), at_a()
    [parcel] = parcels(errand, topology)
    told(errand, topology, [refusal("NOSCRIPT none")], parcel)
    [parcel] = parcels(errand, topology)
    refused = ErrorReply("NOPERM no script|load")
    assert errand.settle(parcel, [refused, refused, refusal("NOSCRIPT none")]) == []
    assert errand.replies == [refused]


def test_two_servers_that_point_at_each_other_are_given_up_in_time() -> None:
    errand, topology = RoutedRequests(KEYS[:1], GETS[:1]), at_a()
    course = RetryState(URL, errand, Deadline(0.05))
    pauses = []

    def send() -> None:
        while errand.todo:
            [parcel] = parcels(errand, topology)
            target = "b:2" if parcel.address == A else "a:1"
            outcome = FanOutResult()
            moved = refusal(f"MOVED {slot_of(KEYS[0])} {target}")
            outcome.take_in(errand, parcel, [moved])
            pauses.append(course.next(outcome, [], topology))

    with pytest.raises(StoreUnavailableError, match="point at each other"):
        send()
    assert pauses[0] == 0
    assert pauses[-1] > 0


def test_what_was_sent_once_and_not_answered_is_not_sent_again() -> None:
    errand, topology = RoutedRequests(KEYS[:1], GETS[:1]), at_a()
    away = StoreUnavailableError("away")
    for sent in (False, True):
        course = RetryState(URL, errand, Deadline(9), once=True)
        [parcel] = parcels(errand, topology)
        outcome = FanOutResult(failures=[Failure(parcel, away, sent=sent)])
        if sent:
            with pytest.raises(StoreUnavailableError, match="away"):
                course.next(outcome, [], topology)
        else:
            assert course.next(outcome, [], topology) > 0
            assert course.refresh


def test_of_a_partial_read_only_what_is_away_is_given_up() -> None:
    errand, topology = RoutedRequests(KEYS[:2], GETS[:2], on_reply=repr), at_a()
    course = RetryState(URL, errand, Deadline(9), partial=True)
    for _ in range(2):
        [parcel] = parcels(errand, topology)
        outcome = FanOutResult()
        down = refusal("CLUSTERDOWN gone")
        outcome.take_in(errand, parcel, [down] * len(parcel.places))
        course.next(outcome, [], topology)
    assert errand.todo == []
    assert all(
        "UNAVAILABLE redis://a:1 answers CLUSTERDOWN gone" in each for each in errand.replies
    )
