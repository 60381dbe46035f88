"""Expiry in the demo: stream fields expire one by one, batch fields with their key."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.demo.demo_app import DemoApp, demo_app, until
from tests.servers import Server, running, valkey_binary


@pytest.fixture
async def app(valkey: Server, tmp_path: Path) -> AsyncIterator[DemoApp]:
    async with demo_app(tmp_path, valkey.url, streaming_ttl_s=1) as app:
        yield app


async def test_stream_fields_expire_after_a_pause_and_batch_fields_stay(
    app: DemoApp, valkey: Server
) -> None:
    await app.post("/bulk-load", {"count": 5})
    app.tick()
    with valkey.client() as client:
        before = client.ttl("fs:user:u0003")
        assert client.hlen("fs:user:u0003") == 11
        until(lambda: len(client.hgetall("fs:user:u0003")) == 6)
        assert client.ttl("fs:user:u0003") >= before - 2
    result = {f["name"]: f for f in (await app.get("/inspect?user=u0003"))["fields"]}
    assert (result["tx_count_5m"]["ttl_seconds"], result["tx_count_5m"]["status"]) == (
        -2,
        "default",
    )
    assert (result["tx_count_7d"]["ttl_seconds"], result["tx_count_7d"]["status"]) == (
        -1,
        "present",
    )


async def test_a_window_of_the_demo_slides_and_a_reset_makes_it_stale(app: DemoApp) -> None:
    async def windows() -> tuple[object, str]:
        shown = (await app.get("/state"))["windows"]
        assert shown["user"] == "u0001"
        return shown["values"]["tx_count_20s"], shown["statuses"]["tx_count_20s"]

    assert await windows() == (None, "stale")
    await app.post("/bulk-load", {"count": 5})
    app.tick(3)
    await asyncio.sleep(0.01)  # an event is in the windows of the next millisecond
    count, status = await windows()
    assert isinstance(count, int)
    assert (3 <= count <= 9, status) == (True, "present")
    assert app.service.transactions.worker.snapshot().written == count
    await app.post("/reset")
    assert await windows() == (None, "stale")


async def test_activity_goes_on_if_the_store_refuses_transactions(
    app: DemoApp, valkey: Server
) -> None:
    await app.post("/bulk-load", {"count": 5})
    with valkey.client() as client:
        client.set("featurekit:demo:fs:user:transactions", "not a stream")
    app.tick(2)
    worker = (await app.get("/state"))["worker"]
    assert (worker["tick_count"], worker["writes_count"], worker["failed_count"]) == (2, 50, 2)
    assert "WRONGTYPE" in worker["error"]


async def test_users_expire_if_loads_stop(app: DemoApp) -> None:
    while (await app.get("/state"))["entity_count"] != 5:
        await app.post("/bulk-load", {"count": 5, "ttl": 1})
        app.tick()
    while (await app.get("/state"))["entity_count"]:
        await asyncio.sleep(0.05)
    ticks = app.service.simulator.users.stats.tick_count
    app.tick()
    assert app.service.simulator.users.stats.tick_count == ticks
    assert (await app.get("/state"))["entity_count"] == 0


async def test_a_tick_does_not_write_to_an_expired_user(app: DemoApp, valkey: Server) -> None:
    await app.post("/bulk-load", {"count": 20})
    app.tick()
    with valkey.client() as client:
        for number in range(1, 20):
            client.delete(f"fs:user:u{number:04}")
        app.tick()
        assert client.keys("fs:user:*") == [b"fs:user:u0020"]


async def test_a_load_leaves_stream_fields_and_their_ttls(valkey: Server, tmp_path: Path) -> None:
    async with demo_app(tmp_path, valkey.url) as app:
        await app.post("/bulk-load", {"count": 5})
        app.tick()
        with valkey.client() as client:
            before = client.hpttl("fs:user:u0001", "tx_count_5m")
            await app.post("/bulk-load", {"count": 5})
            after = client.hpttl("fs:user:u0001", "tx_count_5m")
            assert 0 < after[0] <= before[0]


async def test_every_user_has_a_turn_before_a_second_one(valkey: Server, tmp_path: Path) -> None:
    async with demo_app(tmp_path, valkey.url, users_per_tick=300) as app:
        await app.post("/bulk-load", {"count": 2000})
        app.tick(6)
        assert app.service.simulator.users.stats.writes_count == 6 * 300 * 5
        app.tick()
        with valkey.client() as client:
            acted = [client.hexists(key, "tx_count_5m") for key in client.keys("fs:user:*")]
        assert acted == [True] * 2000


async def test_the_simulator_ticks_pauses_and_resumes(valkey: Server, tmp_path: Path) -> None:
    async with demo_app(tmp_path, valkey.url, tick_s=0.02) as app:
        await app.post("/bulk-load", {"count": 5})
        simulator = app.service.simulator
        simulator.start()
        until(lambda: simulator.users.stats.tick_count > 2)
        await app.post("/worker/toggle")
        await asyncio.sleep(0.1)
        paused = simulator.users.stats.tick_count
        await asyncio.sleep(0.1)
        assert (await app.get("/state"))["worker"]["tick_count"] == paused
        await app.post("/worker/toggle")
        until(lambda: simulator.users.stats.tick_count > paused)
        assert (await app.get("/state"))["worker"]["running"]
        simulator.stop()
        assert not (await app.get("/state"))["worker"]["running"]


async def test_a_tick_that_is_given_up_does_not_block_the_next(app: DemoApp) -> None:
    await app.post("/bulk-load", {"count": 5})
    users = app.service.simulator.users
    users.schedule_tick(0)
    assert len(users.read(users.per_tick, 0)) == 5
    users.end_tick()
    app.tick()
    assert (await app.get("/state"))["worker"]["tick_count"] == 1
    assert await app.post("/reset") == {"deleted": 5}


@pytest.mark.parametrize("keys", ["a[b]c:", "x*:user:", "<b>?^-:user:"])
async def test_glob_characters_of_a_prefix_are_literal(
    valkey: Server, tmp_path: Path, keys: str
) -> None:
    async with demo_app(tmp_path, valkey.url, keys) as app:
        with valkey.client() as client:
            for name in ("ab:user:u1", "xy:user:u1", "<b>x-:user:u1"):
                client.set(name, "other")
            await app.post("/bulk-load", {"count": 3})
            state = await app.get("/state")
            assert (state["entity_count"], state["key_prefix"]) == (
                3,
                f"{keys.split(':')[0]}:user:",
            )
            assert client.exists(f"{keys.split(':')[0]}:user:u0002")
            assert await app.post("/reset") == {"deleted": 3}
            left = [key for key in client.keys("*") if not key.startswith(b"featurekit:")]
            assert len(left) == 3


async def test_an_outage_is_reported_by_every_endpoint_and_ends(
    tmp_path: Path,
) -> None:
    with running(valkey_binary()) as server:
        url = f"{server.url}?load_timeout=1s&timeout=1s"
        async with demo_app(tmp_path, url, tick_s=0.05) as app:
            await app.post("/bulk-load", {"count": 5})
            server.stop()
            for method, path, data in (
                ("POST", "/read", {"user": "u0001", "field": "tx_count_7d"}),
                ("GET", "/inspect?user=u0001", None),
                ("POST", "/batch-read", None),
                ("POST", "/bulk-load", {"count": "3"}),
                ("POST", "/reset", None),
            ):
                async with asyncio.timeout(30):
                    response = await app.client.request(method, path, data=data)
                assert response.status_code == 503, path
                assert response.json()["error"]
            app.service.simulator.start()
            async with asyncio.timeout(60):
                while not (state := await app.get("/state"))["worker"]["error"]:
                    await asyncio.sleep(0.02)
                while (state := await app.get("/state"))["store"]["available"]:
                    await asyncio.sleep(0.02)
            assert state["store"]["error"]
            assert state["worker"]["failed_count"] > 0
            assert state["worker"]["error_ms"] > 0
            assert state["worker"]["tick_count"] == 0
            async with asyncio.timeout(30):
                assert (await app.client.post("/reset")).status_code == 503
            server.start()
            await app.post("/bulk-load", {"count": 5})
            async with asyncio.timeout(60):
                while not (state := await app.get("/state"))["worker"]["tick_count"]:
                    await asyncio.sleep(0.02)
            assert state["store"]["available"]
            assert state["worker"]["error"] == ""
            app.service.simulator.stop()


@pytest.mark.slow
async def test_a_silent_store_delays_requests_only_briefly(tmp_path: Path) -> None:
    with running(valkey_binary()) as server:
        url = f"{server.url}?load_timeout=400ms&timeout=400ms&connect_timeout=1s&retries=0"
        async with demo_app(tmp_path, url) as app:
            await app.post("/bulk-load", {"count": 5})
            server.process.send_signal(signal.SIGSTOP)
            async with asyncio.timeout(30):
                while (await app.get("/state"))["store"]["available"]:
                    await asyncio.sleep(0.1)
                read = await app.client.post("/read", data={"user": "u0001"})
            assert read.status_code == 503
            server.process.send_signal(signal.SIGCONT)
            while not (await app.get("/state"))["store"]["available"]:
                await asyncio.sleep(0.1)
