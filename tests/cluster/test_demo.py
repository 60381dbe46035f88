"""The demo on a cluster: its loads, ticks, reads and counts, over all nodes."""

from __future__ import annotations

from pathlib import Path

from tests.demo.demo_app import demo_app, until


async def test_the_demo_runs_on_a_cluster(url: str, tmp_path: Path) -> None:
    async with demo_app(tmp_path, url, users_per_tick=50) as app:
        assert (await app.post("/bulk-load", {"count": 200}))["loaded"] == 200
        app.tick(4)
        read = await app.post(
            "/batch-read", {"count": 200, "field": ["tx_count_5m", "tx_count_7d"]}
        )
        assert (read["statuses"], read["errors"]) == ({"present": 400}, {})
        assert (await app.get("/inspect?user=u0001"))["exists"]
        with app.service.store.streams.send_heartbeats([app.service.simulator.worker], "demo"):
            until(lambda: [w.written for w in app.service.store.streams.workers()] == [200])
        assert app.service.store.streams.workers() == []
        assert (await app.get("/state"))["entity_count"] == 200
        assert await app.post("/reset") == {"deleted": 200}
