"""What the demo is for: stream fields go one by one, batch fields stay until their key goes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.demo.plays import Play, playing, until
from tests.servers import Server, running, valkey_binary


@pytest.fixture
async def play(valkey: Server, tmp_path: Path) -> AsyncIterator[Play]:
    async with playing(tmp_path, valkey.url, streaming_ttl_s=1) as play:
        yield play


async def test_a_paused_stream_goes_and_the_batch_stays(play: Play, valkey: Server) -> None:
    await play.post("/bulk-load", {"count": 5})
    play.tick()
    with valkey.client() as client:
        before = client.ttl("fs:user:u0003")
        assert client.hlen("fs:user:u0003") == 11
        until(lambda: len(client.hgetall("fs:user:u0003")) == 6)
        assert client.ttl("fs:user:u0003") >= before - 2
    told = {f["name"]: f for f in (await play.get("/inspect?user=u0003"))["fields"]}
    assert (told["tx_count_5m"]["ttl_seconds"], told["tx_count_5m"]["status"]) == (-2, "default")
    assert (told["tx_count_7d"]["ttl_seconds"], told["tx_count_7d"]["status"]) == (-1, "present")


async def test_a_store_whose_loads_stop_empties_by_itself(play: Play) -> None:
    await play.post("/bulk-load", {"count": 5, "ttl": 1})
    play.tick()
    assert (await play.get("/state"))["entity_count"] == 5
    while (await play.get("/state"))["entity_count"]:
        await asyncio.sleep(0.05)
    ticks = play.service.simulator.users.stats.tick_count
    play.tick()
    assert play.service.simulator.users.stats.tick_count == ticks
    assert (await play.get("/state"))["entity_count"] == 0


async def test_a_user_that_expired_is_not_brought_back_by_a_tick(
    play: Play, valkey: Server
) -> None:
    await play.post("/bulk-load", {"count": 20})
    play.tick()
    with valkey.client() as client:
        for number in range(1, 20):
            client.delete(f"fs:user:u{number:04}")
        play.tick()
        assert client.keys("fs:user:*") == [b"fs:user:u0020"]


async def test_a_load_leaves_stream_fields_and_their_ttls(valkey: Server, tmp_path: Path) -> None:
    async with playing(tmp_path, valkey.url) as play:
        await play.post("/bulk-load", {"count": 5})
        play.tick()
        with valkey.client() as client:
            before = client.hpttl("fs:user:u0001", "tx_count_5m")
            await play.post("/bulk-load", {"count": 5})
            after = client.hpttl("fs:user:u0001", "tx_count_5m")
            assert 0 < after[0] <= before[0]


async def test_ticks_reach_every_user_before_anyone_twice(valkey: Server, tmp_path: Path) -> None:
    async with playing(tmp_path, valkey.url, users_per_tick=300) as play:
        await play.post("/bulk-load", {"count": 2000})
        play.tick(6)
        assert play.service.simulator.users.stats.writes_count == 6 * 300 * 5
        play.tick()
        with valkey.client() as client:
            acted = [client.hexists(key, "tx_count_5m") for key in client.keys("fs:user:*")]
        assert acted == [True] * 2000


async def test_the_ticker_ticks_each_second_rests_and_goes_on(
    valkey: Server, tmp_path: Path
) -> None:
    async with playing(tmp_path, valkey.url, tick_s=0.02) as play:
        await play.post("/bulk-load", {"count": 5})
        simulator = play.service.simulator
        simulator.start()
        until(lambda: simulator.users.stats.tick_count > 2)
        await play.post("/worker/toggle")
        await asyncio.sleep(0.1)
        paused = simulator.users.stats.tick_count
        await asyncio.sleep(0.1)
        assert (await play.get("/state"))["worker"]["tick_count"] == paused
        await play.post("/worker/toggle")
        until(lambda: simulator.users.stats.tick_count > paused)
        assert (await play.get("/state"))["worker"]["running"]
        simulator.stop()
        assert not (await play.get("/state"))["worker"]["running"]


async def test_a_tick_that_is_given_up_holds_up_no_other(play: Play) -> None:
    await play.post("/bulk-load", {"count": 5})
    users = play.service.simulator.users
    users.schedule_tick(0)
    assert len(users.read(users.per_tick, 0)) == 5
    users.end_tick()
    play.tick()
    assert (await play.get("/state"))["worker"]["tick_count"] == 1
    assert await play.post("/reset") == {"deleted": 5}


@pytest.mark.parametrize("keys", ["a[b]c:", "x*:user:", "<b>?^-:user:"])
async def test_a_prefix_is_no_pattern(valkey: Server, tmp_path: Path, keys: str) -> None:
    async with playing(tmp_path, valkey.url, keys) as play:
        with valkey.client() as client:
            for name in ("ab:user:u1", "xy:user:u1", "<b>x-:user:u1"):
                client.set(name, "other")
            await play.post("/bulk-load", {"count": 3})
            state = await play.get("/state")
            assert (state["entity_count"], state["key_prefix"]) == (
                3,
                f"{keys.split(':')[0]}:user:",
            )
            assert client.exists(f"{keys.split(':')[0]}:user:u0002")
            assert await play.post("/reset") == {"deleted": 3}
            assert client.dbsize() == 3


async def test_while_the_store_is_away_everything_says_so_and_then_recovers(
    tmp_path: Path,
) -> None:
    with running(valkey_binary()) as server:
        url = f"{server.url}?load_timeout=300ms&timeout=100ms"
        async with playing(tmp_path, url, tick_s=0.05) as play:
            await play.post("/bulk-load", {"count": 5})
            server.stop()
            for method, path, data in (
                ("POST", "/read", {"user": "u0001", "field": "tx_count_7d"}),
                ("GET", "/inspect?user=u0001", None),
                ("POST", "/batch-read", None),
                ("POST", "/bulk-load", {"count": "3"}),
                ("POST", "/reset", None),
            ):
                async with asyncio.timeout(3):
                    response = await play.client.request(method, path, data=data)
                assert response.status_code == 503, path
                assert response.json()["error"]
            play.service.simulator.start()
            async with asyncio.timeout(5):
                while not (state := await play.get("/state"))["worker"]["error"]:
                    await asyncio.sleep(0.02)
                while (state := await play.get("/state"))["store"]["available"]:
                    await asyncio.sleep(0.02)
            assert state["store"]["error"]
            assert state["worker"]["failed_count"] > 0
            assert state["worker"]["error_ms"] > 0
            assert state["worker"]["tick_count"] == 0
            async with asyncio.timeout(3):
                assert (await play.client.post("/reset")).status_code == 503
            server.start()
            await play.post("/bulk-load", {"count": 5})
            async with asyncio.timeout(5):
                while not (state := await play.get("/state"))["worker"]["tick_count"]:
                    await asyncio.sleep(0.02)
            assert state["store"]["available"]
            assert state["worker"]["error"] == ""
            play.service.simulator.stop()


async def test_a_store_that_is_silent_delays_nobody_for_long(tmp_path: Path) -> None:
    with running(valkey_binary()) as server:
        url = f"{server.url}?load_timeout=300ms&timeout=100ms&retries=0"
        async with playing(tmp_path, url) as play:
            await play.post("/bulk-load", {"count": 5})
            with server.client() as client:
                client.execute_command("CLIENT", "PAUSE", 1500)
            async with asyncio.timeout(3):
                await asyncio.sleep(0.3)
                state = await play.get("/state")
                read = await play.client.post("/read", data={"user": "u0001"})
            assert (state["store"]["available"], read.status_code) == (False, 503)
            while not (await play.get("/state"))["store"]["available"]:
                await asyncio.sleep(0.1)
