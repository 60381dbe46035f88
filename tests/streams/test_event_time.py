"""The stream writer with `ordering: event_time`: older events change nothing, in any order of arrival."""

from __future__ import annotations

import random
import threading
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest

from featurekit import FeatureStore, StreamWriter
from featurekit.errors import BadEventError, ValueRefusedError
from tests.promise.repos import near
from tests.servers import Server
from tests.streams.repositories import stored, ttl_ms

KEY = "fs:user:u1"
MINUTE = 60_000


@pytest.fixture
def now_ms() -> int:
    return time.time_ns() // 1_000_000


@pytest.fixture
def writer(store: FeatureStore) -> StreamWriter:
    return store.stream_writer("session")


def test_an_older_event_is_dropped_and_an_equal_one_wins(
    writer: StreamWriter, server: Server, now_ms: int
) -> None:
    assert writer.write("u1", {"step": 1}, event_timestamp=now_ms)
    assert not writer.write("u1", {"step": 0, "score": 1.0}, event_timestamp=now_ms - 1)
    assert writer.write("u1", {"step": 2}, event_timestamp=now_ms)
    assert stored(server, KEY) == {b"step": b"2", b"@session": b"%d" % now_ms}
    assert (writer.total.written, writer.total.dropped_older) == (2, 1)


def test_the_ttl_counts_from_the_event_and_covers_its_time(
    writer: StreamWriter, server: Server, now_ms: int
) -> None:
    writer.write("u1", {"step": 1, "page": "a"}, event_timestamp=now_ms - 4 * MINUTE)
    assert near(ttl_ms(server, KEY, "step"), MINUTE)
    assert near(ttl_ms(server, KEY, "page"), 11 * MINUTE)
    assert near(ttl_ms(server, KEY, "@session"), 11 * MINUTE)


def test_an_event_at_an_equal_time_sets_the_same_deadline(
    writer: StreamWriter, server: Server, now_ms: int
) -> None:
    for _ in range(2):
        writer.write("u1", {"step": 1}, event_timestamp=now_ms - MINUTE)
        assert near(ttl_ms(server, KEY, "step"), 4 * MINUTE)


def test_an_event_past_its_deadline_is_not_sent(
    writer: StreamWriter, server: Server, now_ms: int
) -> None:
    writer.write("u1", {"step": 1}, event_timestamp=now_ms)
    report = writer.write_many([("u1", {"step": 9}, now_ms - 6 * MINUTE)])
    assert (report.written, report.dropped_expired) == (0, 1)
    assert not writer.write("u1", {"page": "a"}, event_timestamp=now_ms - 16 * MINUTE)
    assert stored(server, KEY)[b"step"] == b"1"


def test_an_expired_field_of_a_newer_event_deletes_the_older_value(
    writer: StreamWriter, server: Server, now_ms: int
) -> None:
    hour = timedelta(hours=1)
    writer.write("u1", {"step": 1, "page": "a"}, ttl=hour, event_timestamp=now_ms - 20 * MINUTE)
    writer.write("u1", {"step": 2, "page": "b"}, event_timestamp=now_ms - 10 * MINUTE)
    assert stored(server, KEY) == {b"page": b"b", b"@session": b"%d" % (now_ms - 10 * MINUTE)}


def test_null_deletes_unless_it_is_older(
    writer: StreamWriter, server: Server, now_ms: int
) -> None:
    writer.write("u1", {"step": 1, "score": 0.5}, event_timestamp=now_ms)
    writer.write("u1", {"step": None}, event_timestamp=now_ms - 1)
    assert b"step" in stored(server, KEY)
    writer.write("u1", {"step": None, "page": "a"}, event_timestamp=now_ms + 1)
    assert stored(server, KEY).keys() == {b"score", b"page", b"@session"}
    writer.write("u1", {"score": None}, event_timestamp=now_ms + 2)
    assert stored(server, KEY)[b"@session"] == b"%d" % (now_ms + 2)


@pytest.mark.parametrize(
    "at",
    [None, datetime(2026, 1, 1), "yesterday", "2026-11-22T10:00:00", -1, True, 1.5, 2**53],  # noqa: DTZ001
)
def test_a_wrong_time_is_refused(writer: StreamWriter, at: Any) -> None:
    with pytest.raises(ValueRefusedError) as caught:
        writer.write("u1", {"step": 1}, event_timestamp=at)
    assert caught.value.where == "event_timestamp"
    with pytest.raises(BadEventError):
        writer.write_many([("u1", {"step": 1}, at)])


def test_a_time_may_be_a_datetime_or_text(
    writer: StreamWriter, server: Server, now_ms: int
) -> None:
    at = datetime.fromtimestamp(now_ms / 1000, UTC)
    for form in (at, at.isoformat(), at.isoformat().replace("+00:00", "Z")):
        assert writer.write("u1", {"step": 1}, event_timestamp=form)
    assert stored(server, KEY)[b"@session"] == b"%d" % now_ms


def test_a_log_in_any_order_ends_in_the_same_state(
    store: FeatureStore, writer: StreamWriter, server: Server, now_ms: int
) -> None:
    rng = random.Random(7)
    log = [
        (f"u{rng.randrange(20)}", {"step": i, "score": i / 2, "page": f"p{i}"}, now_ms - 500 + i)
        for i in range(500)
    ]
    newest = {user: (values, at) for user, values, at in log}
    for _ in range(3):
        rng.shuffle(log)
        writer.write_many(log + rng.sample(log, 100))
        for user, (values, at) in newest.items():
            expected = {"@session": at, **values}
            assert stored(server, f"fs:user:{user}") == {
                name.encode(): f"{value:g}".encode() if name == "score" else str(value).encode()
                for name, value in expected.items()
            }
            assert near(ttl_ms(server, f"fs:user:{user}", "step"), 5 * MINUTE)
        store.reset("user")


def test_eight_concurrent_writers_leave_the_newest_values(
    store: FeatureStore, server: Server, now_ms: int
) -> None:
    log = [
        (f"u{i % 5}", {"step": i, "score": 1.0, "page": f"{i}"}, now_ms + i) for i in range(1000)
    ]
    threads = []
    for number in range(8):
        mixed = random.Random(number).sample(log, len(log))
        writer = store.stream_writer("session")
        threads.append(threading.Thread(target=partial(writer.write_many, mixed)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for user in range(5):
        found = stored(server, f"fs:user:u{user}")
        assert (found[b"step"], found[b"page"]) == (b"%d" % (995 + user),) * 2
        assert found[b"@session"] == b"%d" % (now_ms + 995 + user)


async def test_asyncio_writes_are_ordered_by_time_too(
    store: FeatureStore, writer: StreamWriter, server: Server, now_ms: int
) -> None:
    report = await writer.write_many_async(
        [("u1", {"step": 2}, now_ms), ("u1", {"step": 1}, now_ms - 1), ("u2", {"step": 3}, 0)]
    )
    assert (report.written, report.dropped_older, report.dropped_expired) == (1, 1, 1)
    await store.close_async()


def test_a_script_flushed_during_writes_is_loaded_again(
    store: FeatureStore, writer: StreamWriter, server: Server, now_ms: int
) -> None:
    def events(count: int) -> Any:
        with server.client() as client:
            for i in range(count):
                if i % 300 == 0:
                    client.script_flush()
                yield (f"u{i % 7}", {"step": i}, now_ms + i)

    # An event that has to be sent again may find a newer one there, and is dropped by right.
    report = writer.write_many(events(1500), on_bad_event="skip")
    assert report.written + report.dropped_older == 1500
    assert not report.rejected
    assert [stored(server, f"fs:user:u{u}")[b"step"] for u in range(7)] == [
        b"%d" % max(i for i in range(1500) if i % 7 == u) for u in range(7)
    ]
    with server.client() as client:
        client.script_flush()
    assert writer.write("u1", {"step": 9999}, event_timestamp=now_ms + 5000)


def test_views_with_either_ordering_share_a_hash(
    store: FeatureStore, writer: StreamWriter, server: Server, now_ms: int
) -> None:
    store.stream_writer("activity").write("u1", {"count": 1})
    writer.write("u1", {"step": 1}, event_timestamp=now_ms - MINUTE)
    assert near(ttl_ms(server, KEY, "count"), 5 * MINUTE)
    assert near(ttl_ms(server, KEY, "step"), 4 * MINUTE)


def test_the_event_time_outlives_values_with_a_ttl_of_their_own(
    writer: StreamWriter, server: Server, now_ms: int
) -> None:
    writer.write("u1", {"score": 0.5}, ttl=timedelta(hours=1), event_timestamp=now_ms - MINUTE)
    assert writer.write("u1", {"step": 2}, event_timestamp=now_ms)
    assert near(ttl_ms(server, KEY, "score"), 59 * MINUTE)
    assert near(ttl_ms(server, KEY, "@session"), 59 * MINUTE)
    assert stored(server, KEY)[b"@session"] == b"%d" % now_ms


def test_the_event_time_expires_with_the_values_of_an_event_that_replaces_all(
    writer: StreamWriter, server: Server, now_ms: int
) -> None:
    writer.write("u1", {"score": 0.5}, ttl=timedelta(hours=1), event_timestamp=now_ms - MINUTE)
    writer.write("u1", {"step": 2, "score": None, "page": "a"}, event_timestamp=now_ms)
    assert near(ttl_ms(server, KEY, "@session"), 15 * MINUTE)


def test_an_event_further_ahead_than_max_ahead_is_refused(
    writer: StreamWriter, server: Server, now_ms: int
) -> None:
    with pytest.raises(ValueRefusedError, match=r"seconds in the future, above max_ahead") as got:
        writer.write("u1", {"step": 1}, event_timestamp=now_ms + 6 * MINUTE)
    assert got.value.where == "event_timestamp"
    assert writer.write("u1", {"step": 2}, event_timestamp=now_ms + 4 * MINUTE)
    assert stored(server, KEY)[b"step"] == b"2"


def test_the_age_of_an_event_ahead_of_the_clock_is_zero(
    store: FeatureStore, writer: StreamWriter, now_ms: int
) -> None:
    writer.write("u1", {"step": 1}, event_timestamp=now_ms + 4 * MINUTE)
    response = store.get_online_features(["session:step"], [{"user_id": "u1"}], freshness=True)
    assert response.ages["step"] == [0]


def test_an_event_time_in_seconds_is_refused_with_the_unit(
    writer: StreamWriter, now_ms: int
) -> None:
    with pytest.raises(ValueRefusedError, match="in the first months of 1970") as caught:
        writer.write("u1", {"step": 1}, event_timestamp=now_ms // 1000)
    assert "not seconds" in caught.value.hint
