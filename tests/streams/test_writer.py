"""The stream writer with `ordering: arrival`: complete events, and a TTL for each field."""

from __future__ import annotations

import asyncio
import pickle
import threading
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from featurekit import FeatureStore
from featurekit.errors import (
    BadEventError,
    FeatureKitError,
    RequestError,
    StoreError,
    UnknownNameError,
    ValueRefusedError,
)
from tests.promise.repos import near
from tests.servers import Server
from tests.streams.repositories import stored, ttl_ms

KEY = "fs:user:u1"
MINUTE = 60_000


def test_an_event_writes_its_fields_with_one_ttl(store: FeatureStore, server: Server) -> None:
    assert store.stream_writer("activity").write("u1", {"count": 3, "device": "d"})
    assert stored(server, KEY) == {b"count": b"3", b"device": b"d"}
    assert near(ttl_ms(server, KEY, "count"), 5 * MINUTE)
    assert near(ttl_ms(server, KEY, "device"), 5 * MINUTE)


def test_fields_with_different_ttls_keep_their_own(store: FeatureStore, server: Server) -> None:
    store.stream_writer("activity").write("u1", {"count": 3, "failed": 1})
    assert near(ttl_ms(server, KEY, "count"), 5 * MINUTE)
    assert near(ttl_ms(server, KEY, "failed"), 15 * MINUTE)


@pytest.mark.parametrize("ttl", [timedelta(minutes=2), 120])
def test_the_ttl_of_the_call_replaces_the_declared_ones(
    store: FeatureStore, server: Server, ttl: timedelta | int
) -> None:
    store.stream_writer("activity").write("u1", {"count": 3, "failed": 1}, ttl=ttl)
    assert near(ttl_ms(server, KEY, "count"), 2 * MINUTE)
    assert near(ttl_ms(server, KEY, "failed"), 2 * MINUTE)


@pytest.mark.parametrize("ttl", [0, -1, timedelta(0), 1.5, True, 2**60, "5m"])
def test_a_wrong_ttl_is_refused(store: FeatureStore, ttl: Any) -> None:
    with pytest.raises(ValueRefusedError, match="not a TTL"):
        store.stream_writer("activity").write("u1", {"count": 3}, ttl=ttl)


def test_a_write_renews_only_the_fields_it_writes(store: FeatureStore, server: Server) -> None:
    writer = store.stream_writer("activity")
    writer.write("u1", {"count": 1, "device": "d"}, ttl=60)
    writer.write("u1", {"count": 2})
    assert near(ttl_ms(server, KEY, "count"), 5 * MINUTE)
    assert near(ttl_ms(server, KEY, "device"), MINUTE)


def test_null_deletes_a_field_and_an_absent_one_stays(store: FeatureStore, server: Server) -> None:
    writer = store.stream_writer("activity")
    writer.write("u1", {"count": 1, "device": "d", "failed": 2})
    writer.write("u1", {"device": None, "failed": 3})
    assert stored(server, KEY) == {b"count": b"1", b"failed": b"3"}
    writer.write("u1", {"count": None})
    assert stored(server, KEY) == {b"failed": b"3"}


def test_an_event_without_fields_sends_nothing(store: FeatureStore, server: Server) -> None:
    assert not store.stream_writer("activity").write("u1", {})
    assert stored(server, KEY) == {}


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ({"count": "3"}, ValueRefusedError),
        ({"count": -1}, ValueRefusedError),
        ({"count": True}, ValueRefusedError),
        ({"kind": None}, ValueRefusedError),
        ({"country": "NO"}, UnknownNameError),
        ({"device": "\ud800"}, ValueRefusedError),
        ([("count", 1)], ValueRefusedError),
    ],
)
def test_an_event_that_does_not_fit_is_refused_before_anything_is_sent(
    store: FeatureStore, server: Server, values: Any, kind: type[FeatureKitError]
) -> None:
    with pytest.raises(kind):
        store.stream_writer("activity").write("u1", values)
    assert stored(server, KEY) == {}


@pytest.mark.parametrize("entity", ["", 5, None, ("u1",), "\ud800"])
def test_a_wrong_entity_is_refused(store: FeatureStore, entity: object) -> None:
    with pytest.raises(ValueRefusedError):
        store.stream_writer("activity").write(entity, {"count": 1})


def test_a_bad_event_stops_the_write_or_is_skipped(store: FeatureStore, server: Server) -> None:
    writer = store.stream_writer("activity")
    events: list[Any] = [("u1", {"count": 1}), ("u2", {"count": "x"}), ("u3", {"count": 3})]
    with pytest.raises(BadEventError, match="'x' is not an int64") as caught:
        writer.write_many(events)
    assert (caught.value.where, caught.value.index) == ("activity, event 1, count", 1)
    assert stored(server, KEY) == {}
    report = writer.write_many(events, on_bad_event="skip")
    assert (report.written, report.rejected) == (2, [(1, "count: 'x' is not an int64")])
    assert stored(server, "fs:user:u3") == {b"count": b"3"}


def test_a_malformed_event_is_skipped(store: FeatureStore) -> None:
    events: list[Any] = [("u1", None), ("u2",), 7, ("u3", {"count": 1})]
    report = store.stream_writer("activity").write_many(events, on_bad_event="skip")
    assert (report.written, [index for index, _ in report.rejected]) == (1, [0, 1, 2])


def test_on_bad_event_must_be_fail_or_skip(store: FeatureStore) -> None:
    with pytest.raises(RequestError):
        store.stream_writer("activity").write_many([], on_bad_event="ignore")


def test_an_event_for_a_key_of_another_type_fails_alone(
    store: FeatureStore, server: Server
) -> None:
    with server.client() as client:
        client.set(KEY, "text")
    writer = store.stream_writer("activity")
    for values in ({"count": 1}, {"count": 1, "failed": 1}, {"count": None}):
        with pytest.raises(StoreError, match="WRONGTYPE"):
            writer.write("u1", values)
    report = writer.write_many([("u1", {"count": 1}), ("u2", {"count": 2})], on_bad_event="skip")
    assert (report.written, report.rejected[0][0], report.refusal) == (1, 0, "")


def test_events_of_one_entity_are_written_in_order(store: FeatureStore, server: Server) -> None:
    events = [
        (f"u{i % 3}", {"count": i, "failed": i} if i % 2 else {"count": i}) for i in range(3000)
    ]
    assert store.stream_writer("activity").write_many(events).written == 3000
    assert stored(server, "fs:user:u0")[b"count"] == b"2997"
    assert stored(server, "fs:user:u2") == {b"count": b"2999", b"failed": b"2999"}


def test_writing_no_events_is_allowed(store: FeatureStore) -> None:
    assert store.stream_writer("activity").write_many([]).written == 0


async def test_asyncio_writes_do_the_same(store: FeatureStore, server: Server) -> None:
    writer = store.stream_writer("activity")
    assert await writer.write_async("u1", {"count": 1, "failed": 2})
    events = [(f"u{i}", {"count": i}) for i in range(300)]
    report = await writer.write_many_async(events)
    assert report.written == 300
    with pytest.raises(ValueRefusedError):
        await writer.write_async("u1", {"count": -1})
    report = await writer.write_many_async([("u1", {"nope": 1})], on_bad_event="skip")
    assert len(report.rejected) == 1
    assert near(ttl_ms(server, KEY, "failed"), 15 * MINUTE)
    await asyncio.gather(*(writer.write_async("u1", {"count": i}) for i in range(50)))
    await store.close_async()


def test_an_entity_of_two_join_keys_is_a_tuple_or_a_dict(
    store: FeatureStore, server: Server
) -> None:
    writer = store.stream_writer("delays")
    writer.write(("JFK", "LAX"), {"minutes": 7.5})
    writer.write({"dest": "LAX", "origin": "EWR"}, {"minutes": 1.0})
    assert stored(server, "fs:route:JFK:LAX") == {b"minutes": b"7.5"}
    assert stored(server, "fs:route:EWR:LAX") == {b"minutes": b"1"}


def test_a_batch_view_has_no_stream_writer(store: FeatureStore) -> None:
    with pytest.raises(RequestError, match="batch view"):
        store.stream_writer("profile")


def test_a_writer_pickles_and_is_shared_by_threads(store: FeatureStore, server: Server) -> None:
    writer = pickle.loads(pickle.dumps(store.stream_writer("activity")))
    threads = [
        threading.Thread(target=partial(write_all, writer.write, f"u{number}"))
        for number in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(stored(server, f"fs:user:u{n}") == {b"count": b"99"} for n in range(8))
    writer.close()


def write_all(write: Callable[..., bool], user: str) -> None:
    for i in range(100):
        write(user, {"count": i})


def test_batch_and_stream_fields_expire_separately(store: FeatureStore, server: Server) -> None:
    store.write_batch("profile", {"u1": {"country": "NO", "tx_count_7d": 4}})
    store.stream_writer("activity").write("u1", {"count": 1}, ttl=timedelta(milliseconds=1))
    row = store.get_online_features(["profile", "activity:count"], [{"user_id": "u1"}])
    assert row.to_dict()["country"] == ["NO"]
    store.stream_writer("activity").write("u1", {"count": 1})
    store.write_batch("profile", {"u1": {"country": "SE"}})
    assert near(ttl_ms(server, KEY, "count"), 5 * MINUTE)
    assert stored(server, KEY) == {b"country": b"SE", b"count": b"1"}
