"""The demo on a cluster: its loads, ticks, reads and counts, over all nodes."""

from __future__ import annotations

from pathlib import Path

from tests.demo.plays import playing, until


async def test_the_demo_plays_on_a_cluster(url: str, tmp_path: Path) -> None:
    async with playing(tmp_path, url, users_per_tick=50) as play:
        assert (await play.post("/bulk-load", {"count": 200}))["loaded"] == 200
        play.tick(4)
        read = await play.post(
            "/batch-read", {"count": 200, "field": ["tx_count_5m", "tx_count_7d"]}
        )
        assert (read["statuses"], read["errors"]) == ({"present": 400}, {})
        assert (await play.get("/inspect?user=u0001"))["exists"]
        with play.service.store.streams.send_heartbeats([play.service.simulator.worker], "demo"):
            until(lambda: [w.written for w in play.service.store.streams.workers()] == [200])
        assert play.service.store.streams.workers() == []
        assert (await play.get("/state"))["entity_count"] == 200
        assert await play.post("/reset") == {"deleted": 200}
