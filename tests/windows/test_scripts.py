"""Events in windows, on real servers: what is stored equals what all events say."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from featurekit.errors import BadEventError, RequestError, UnknownNameError, ValueRefusedError
from featurekit.plan import ViewPlan
from featurekit.runtime.window_writer import WriteAttempt
from featurekit.runtime.write_report import WriteReport
from featurekit.runtime.writer import StreamWriter
from tests.servers import Server
from tests.windows.simulation import (
    FEATURES,
    HOUR,
    MINUTE,
    TOPIC,
    Handle,
    Sent,
    brute_force,
    from_stored,
    is_close,
    positioned,
    random_log,
    windowed_view,
)


@pytest.fixture
def handle(server: Server) -> Iterator[Handle]:
    """The store of each kind of server."""
    handle = Handle(server.url)
    yield handle
    handle.close()


def write(
    writer: StreamWriter, entity: str, events: list[Sent], *, again: bool = False
) -> WriteReport:
    """Write events of one entity as a worker does."""
    batch = [positioned(entity, each, f"tx/0/{each.offset}") for each in events]
    return writer.write_read(batch, WriteAttempt(is_repeated=again))


def differences(handle: Handle, entity: str, events: list[Sent], now_ms: int) -> list[Any]:
    """The features of which the stored bytes say something else than all events."""
    found = []
    data: Any = handle.store.call("HMGET", f"fs:user:{entity}", *FEATURES, key=f"fs:user:{entity}")
    for name, stored in zip(FEATURES, data, strict=True):
        got, expected = from_stored(name, stored, now_ms), brute_force(name, events, now_ms)
        if not is_close(name, got, expected):
            found.append((name, got, expected, stored))
    return found


def test_random_logs_give_what_all_events_say(handle: Handle) -> None:
    for seed in range(8):
        check_random_log(handle, seed)


def check_random_log(handle: Handle, seed: int) -> None:
    """Write a random log in random batches, some of them again in other cuts, and read in between."""
    rng = random.Random(seed)
    base_ms = int(time.time() * 1000) + rng.randint(10_000, 90_000_000)
    log, entity = random_log(rng, base_ms, rng.randint(1, 80)), f"u{seed}"
    writer = StreamWriter(windowed_view(), handle)
    steps: list[tuple[int, list[Sent]]] = []
    rest = list(log)
    while rest:
        size = rng.randint(1, 6)
        steps.append((rest[:size][-1].arrived_ms, rest[:size]))
        rest = rest[size:]
    for _ in range(6):
        at_ms = rng.choice(log).arrived_ms + rng.choice([1, MINUTE, rng.randint(1, HOUR)])
        steps.append((at_ms, []))
    steps.sort(key=lambda step: (step[0], not step[1]))
    arrived: list[Sent] = []
    for now_ms, batch in steps:
        handle.clock_ms = now_ms  # reads see what happened in this millisecond, too
        if not batch:
            assert differences(handle, entity, arrived, now_ms + 1) == [], seed
            continue
        write(writer, entity, batch)
        arrived += batch
        while rng.random() < 0.25:  # a crash: the last events are delivered again, cut differently
            again = arrived[-rng.randint(1, 12) :]
            cut = rng.randint(0, len(again))
            for part in (again[:cut], again[cut:]):
                assert write(writer, entity, part).written == 0
    for event in arrived:
        assert write(writer, entity, [event]).written == 0
    assert differences(handle, entity, arrived, steps[-1][0] + 1) == []


def simple_view(once: str, **others: Any) -> ViewPlan:
    """A view with a count and a sum."""
    return windowed_view(
        once, {name: FEATURES[name] for name in ("count_24h", "sum_1h")}, **others
    )


def stored(handle: Handle, entity: str, field: str = "count_24h") -> Any:
    """The bytes of a field."""
    return handle.store.call("HGET", f"fs:user:{entity}", field, key=f"fs:user:{entity}")


def count(handle: Handle, entity: str) -> Any:
    """The events of the last day."""
    return from_stored("count_24h", stored(handle, entity), handle.now_ms() + 1)


def test_ids_identify_repeated_events(handle: Handle) -> None:
    writer = StreamWriter(simple_view("event_id"), handle)
    assert writer.write("u", {"amount": 2.5, "tx_id": "a"})
    assert not writer.write("u", {"amount": 2.5, "tx_id": "a"})
    assert writer.write("u", {"amount": 2.5, "tx_id": 7})
    report = writer.write_many(
        [
            ("u", {"tx_id": "b"}),
            ("v", {"tx_id": "b"}),
            ("u", {"tx_id": "b"}),
            ("u", {"tx_id": "7"}),
        ]
    )
    assert (report.written, report.repeated) == (2, 2)
    assert count(handle, "u") == 3
    assert writer.total.written == 4
    assert len(stored(handle, "u", "@tx")) == 3 * 8


def test_the_last_64_ids_of_an_entity_are_known(handle: Handle) -> None:
    writer = StreamWriter(simple_view("event_id"), handle)
    events = [("u", {"tx_id": number}) for number in range(70)]
    assert writer.write_many(events).written == 70
    assert writer.write_many(events[6:]).repeated == 64
    assert writer.write_many(events[:1]).written == 1


@pytest.mark.parametrize(
    "bad", [{}, {"tx_id": None}, {"tx_id": ""}, {"tx_id": 1.5}, {"tx_id": "\ud800"}]
)
def test_an_event_without_an_id_is_refused_where_ids_are_needed(
    valkey: Server, bad: dict[str, object]
) -> None:
    writer = StreamWriter(simple_view("event_id"), Handle(valkey.url))
    with pytest.raises(ValueRefusedError) as caught:
        writer.write("u", bad)
    assert caught.value.where == "tx_id"


def test_without_a_guard_every_event_counts(handle: Handle) -> None:
    writer = StreamWriter(simple_view("none"), handle)
    for _ in range(3):
        assert writer.write("u", {"amount": 1.0})
    assert count(handle, "u") == 3
    assert stored(handle, "u", "@tx") is None


def test_an_event_of_a_program_needs_no_position(handle: Handle) -> None:
    writer = StreamWriter(simple_view("offset"), handle)
    write(writer, "u", [Sent(0, handle.now_ms(), {}, offset=5)])
    assert writer.write("u", {"amount": 1.0})
    assert write(writer, "u", [Sent(0, handle.now_ms(), {}, offset=5)]).repeated == 1
    assert count(handle, "u") == 2


def test_offsets_of_another_topic_mean_nothing(handle: Handle) -> None:
    writer = StreamWriter(simple_view("offset"), handle)
    write(writer, "u", [Sent(0, handle.now_ms(), {}, offset=5)])
    other = StreamWriter(simple_view("offset", stream=replace(TOPIC, topic="tx2")), handle)
    assert write(other, "u", [Sent(0, handle.now_ms(), {}, offset=3)]).written == 1


def test_events_of_several_partitions_have_their_own_offsets(handle: Handle) -> None:
    writer = StreamWriter(simple_view("offset"), handle)
    event = Sent(0, handle.now_ms(), {})
    batch = [positioned("u", event, f"tx/{p}/{o}") for p, o in [(0, 3), (11, 3), (1, 9), (1, 8)]]
    assert writer.write_read(batch, WriteAttempt()).written == 3
    assert writer.write_read(batch, WriteAttempt()).repeated == 4
    assert writer.write_read(batch, WriteAttempt(is_repeated=True)).written == 4
    assert stored(handle, "u", "@tx").split()[1:] == [b"0:3", b"11:3", b"1:9"]


def test_the_guard_outlives_all_windows(handle: Handle) -> None:
    view = simple_view("offset")
    write(StreamWriter(view, handle), "u", [Sent(0, handle.now_ms(), {"amount": 1.0}, offset=1)])
    ahead = replace(view, fields=view.fields[1:])  # writes the shorter window only
    write(StreamWriter(ahead, handle), "u", [Sent(0, handle.now_ms(), {"amount": 1.0}, offset=2)])
    names = ("count_24h", "@tx")
    write(StreamWriter(view, handle), "u", [Sent(0, handle.now_ms(), {"amount": 1.0}, offset=3)])
    ttls: Any = handle.store.call("HPTTL", "fs:user:u", "FIELDS", 2, *names, key="fs:user:u")
    assert 24 * HOUR < ttls[0] < ttls[1] < 26 * HOUR


def test_a_guard_that_is_written_with_a_short_window_still_outlives_the_longest(
    handle: Handle,
) -> None:
    writer = StreamWriter(windowed_view(), handle)
    now_ms = handle.now_ms()
    write(writer, "u", [Sent(0, now_ms, {}, offset=1)])
    handle.store.call("HDEL", "fs:user:u", "count_5m", "count_1h", key="fs:user:u")
    view = windowed_view(features={"sum_1h": FEATURES["sum_1h"], "max_24h": FEATURES["max_24h"]})
    short = StreamWriter(view, handle)
    write(short, "u", [Sent(0, now_ms - 24 * HOUR, {"amount": 1.0}, offset=2)])
    write(short, "u", [Sent(0, now_ms, {"amount": 1.0}, offset=3)])
    names = ("max_24h", "@tx")
    ttls: Any = handle.store.call("HPTTL", "fs:user:u", "FIELDS", 2, *names, key="fs:user:u")
    assert ttls[0] < ttls[1]


def test_late_events_go_to_their_tile_or_are_counted(handle: Handle) -> None:
    writer = StreamWriter(simple_view("none"), handle)
    now_ms = handle.now_ms()
    report = writer.write_many(
        [("u", {"amount": 1.0}, now_ms - age) for age in (0, 3 * HOUR, 30 * HOUR, 23 * HOUR)]
    )
    assert (report.written, report.dropped_expired) == (3, 1)
    assert not writer.write("u", {"amount": 1.0}, event_timestamp=now_ms - 30 * HOUR)
    assert count(handle, "u") == 3


def test_events_too_far_ahead_are_refused(handle: Handle) -> None:
    writer = StreamWriter(simple_view("none"), handle)
    with pytest.raises(ValueRefusedError, match="in the future"):
        writer.write("u", {}, event_timestamp=handle.now_ms() + 2 * HOUR)


def test_an_event_that_no_feature_counts_is_written(handle: Handle) -> None:
    view = windowed_view("none", {"sum_1h": FEATURES["sum_1h"]})
    assert StreamWriter(view, handle).write("u", {"shop": "a"})
    assert handle.store.call("EXISTS", "fs:user:u", key="fs:user:u") == 0


def test_thirty_features_of_all_kinds_are_one_script(handle: Handle) -> None:
    shapes = [FEATURES[name] for name in FEATURES]
    features = {
        f"f{i}": (*shapes[i % len(shapes)][:3], (i + 2) * MINUTE * 10, MINUTE * (i + 2))
        for i in range(30)
    }
    view = windowed_view("offset", features)
    event = {"amount": 1.5, "points": 3, "shop": "a"}
    batch = [Sent(0, handle.now_ms() - age, event, offset=age) for age in range(20)]
    assert write(StreamWriter(view, handle), "u", batch).written == 20
    length: Any = handle.store.call("HLEN", "fs:user:u", key="fs:user:u")
    assert length == 31


def test_bad_inputs_are_refused_by_name(handle: Handle) -> None:
    writer = StreamWriter(simple_view("none"), handle)
    bad_values: list[tuple[dict[str, object], str]] = [
        ({"amount": "x"}, "amount"),
        ({"points": 1.5}, "points"),
    ]
    for values, where in bad_values:
        with pytest.raises(ValueRefusedError) as caught:
            writer.write("u", values)
        assert caught.value.where == where
    with pytest.raises(UnknownNameError, match="amont"):
        writer.write("u", {"amont": 1.0})
    with pytest.raises(RequestError, match="no TTL"):
        writer.write("u", {"amount": 1.0}, ttl=5)
    with pytest.raises(BadEventError) as bad:
        writer.write_many([("u", {}), ("u", {"amount": "x"})])
    assert bad.value.index == 1
    assert stored(handle, "u") is None
    report = writer.write_many([("u", {}), ("u", {"amount": "x"})], on_bad_event="skip")
    assert report.written == 1
    assert [index for index, _ in report.rejected] == [1]


def test_a_lost_script_is_loaded_again(handle: Handle) -> None:
    writer = StreamWriter(simple_view("none"), handle)
    for _ in range(2):
        handle.store.call("SCRIPT", "FLUSH")
        assert writer.write_many([(f"u{i}", {}) for i in range(200)]).written == 200
        handle.store.call("SCRIPT", "FLUSH")
        assert writer.write("u0", {})
    assert count(handle, "u0") == 4


@pytest.mark.asyncio
async def test_events_are_written_from_event_loops(handle: Handle) -> None:
    writer = StreamWriter(simple_view("event_id"), handle)
    assert await writer.write_async("u", {"tx_id": "a"})
    assert not await writer.write_async("u", {"tx_id": "a"})
    handle.store.call("SCRIPT", "FLUSH")
    report = await writer.write_many_async([(f"u{i % 7}", {"tx_id": i}) for i in range(300)])
    assert (report.written, report.repeated) == (300, 0)
    assert count(handle, "u") == 1
    await handle.async_store().close()


def test_what_is_refused_leaves_nothing_half(handle: Handle) -> None:
    writer = StreamWriter(windowed_view(), handle)
    event = Sent(0, handle.now_ms(), {"amount": 1.0, "shop": "a", "points": 1}, offset=1)
    handle.store.call("SET", "fs:user:w", "x", key="fs:user:w")
    report = write(writer, "w", [event])
    assert [index for index, _ in report.rejected] == [0]
    assert report.refusal == ""
    handle.store.call("CONFIG", "SET", "maxmemory-policy", "noeviction")
    handle.store.call("CONFIG", "SET", "maxmemory", "1")
    refused = write(writer, "u", [event])
    handle.store.call("CONFIG", "SET", "maxmemory", "0")
    assert "OOM" in refused.refusal
    assert handle.store.call("EXISTS", "fs:user:u", key="fs:user:u") == 0
    assert write(writer, "u", [event]).written == 1


def test_damaged_tiles_are_an_error_about_one_entity(handle: Handle) -> None:
    writer = StreamWriter(windowed_view(), handle)
    event = Sent(0, handle.now_ms(), {"amount": 1.0}, offset=1)
    write(writer, "u", [event])
    head = stored(handle, "u", "count_5m").partition(b":")[0]
    handle.store.call("HSET", "fs:user:u", "count_5m", head + b":x", key="fs:user:u")
    report = writer.write_read(
        [positioned(entity, event, "tx/0/2") for entity in ("u", "v")], WriteAttempt()
    )
    assert (report.written, report.refusal) == (1, "")
    assert "BADTILES" in report.rejected[0][1]


def test_other_bytes_in_a_field_are_overwritten(handle: Handle) -> None:
    writer = StreamWriter(windowed_view(), handle)
    handle.store.call("HSET", "fs:user:u", "count_24h", "nonsense", "@tx", "\x00", key="fs:user:u")
    write(writer, "u", [Sent(0, handle.now_ms(), {}, offset=1)])
    assert count(handle, "u") == 1


def test_missing_rights_leave_nothing_half(server: Server) -> None:
    admin = Handle(server.url)
    admin.store.call("ACL", "SETUSER", "w", "reset", "on", "nopass", "~*", "+@all")
    handle = Handle(server.url.replace("unix://", "unix://w:x@"))
    writer = StreamWriter(simple_view("none"), handle)
    writer.write("v", {})
    outcomes = set()
    for denied in ("hmget", "hsetex", "hset", "hpexpireat", "evalsha"):
        admin.store.call("ACL", "SETUSER", "w", "+@all", f"-{denied}")
        report = writer.write_read([("u", {"amount": 1.0})], WriteAttempt())
        outcomes.add(bool(report.refusal))
        assert (stored(admin, "u") is None) == bool(report.refusal)
        assert report.written == (not report.refusal)
        admin.store.call("UNLINK", "fs:user:u", key="fs:user:u")
    assert outcomes == {True, False}
    handle.close()
    admin.close()


def test_a_sum_of_ints_that_may_be_rounded_is_no_number(handle: Handle) -> None:
    view = windowed_view("none", {"points_1h": FEATURES["points_1h"]})
    writer = StreamWriter(view, handle)
    exact = [2**53 - 1, -(2**53 - 1), 7]
    writer.write_many([("exact", {"points": each}) for each in exact])
    assert from_stored("points_1h", stored(handle, "exact", "points_1h"), handle.now_ms() + 1) == 7
    for points in ((2**53,), (2**53 - 1, 1), (2**52, 2**52, -(2**53)), (-(2**53), 5)):
        entity = f"u{points}"
        writer.write_many([(entity, {"points": each}) for each in points])
        data = stored(handle, entity, "points_1h")
        assert data.endswith(b":nan")
        with pytest.raises(ValueError, match=r"literal|int"):
            from_stored("points_1h", data, handle.now_ms() + 1)
