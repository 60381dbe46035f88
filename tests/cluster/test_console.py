"""The console on a cluster: it looks at all nodes, and reads from all of them."""

from __future__ import annotations

from pathlib import Path

from featurekit.server.app import create_app
from featurekit.server.console import console_routes
from featurekit.server.console.sampler import Sampler
from featurekit.server.context import ServerContext
from tests.promise.repos import applied
from tests.testclient import TestClient


def test_the_console_shows_a_cluster(url: str, tmp_path: Path) -> None:
    with applied(tmp_path, url) as store:
        store.write_batch("profile", {f"u{n}": {"country": "NO"} for n in range(50)})
        store.stream_writer("activity").write_many([(f"u{n}", {"device": "x"}) for n in range(9)])
        seen = Sampler(store).sample()
        [user] = [entity for entity in seen["entities"] if entity["entity"] == "user"]
        [activity] = [view for view in seen["views"] if view["view"] == "activity"]
        assert (user["present"], user["whole"], activity["live"]) == (50, True, 9)
        assert (seen["server"]["servers"], seen["server"]["keys"]) == (3, 55)  # 5 of the project

        client = TestClient(create_app(ServerContext(store), console_routes(ServerContext(store))))
        body = {"features": "fraud_v1", "entities": 50, "runs": 1}
        result = client.post("/console/api/batch-read", json=body).json()
        assert (result["entities"], result["statuses"][0]) == (50, {"present": 50})
        one = client.get("/console/api/inspect?entity=user&id=u3").json()
        assert one["found"]
