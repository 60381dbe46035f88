from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from featurekit import FeatureStore
from tests.promise.repos import applied
from tests.servers import Server


@pytest.fixture
def shop(valkey: Server, tmp_path: Path) -> Iterator[FeatureStore]:
    """The shop, applied on Valkey, with some users, merchants and routes."""
    with applied(tmp_path / "repo", valkey.url) as store:
        users = {f"u{i}": {"country": "NO", "tx_count_7d": i, "tags": ["a"]} for i in range(20)}
        store.write_batch("profile", users | {"thin": {"country": "SE"}})
        store.write_batch("shop", {7: {"country": "DK", "sales": 70}})
        store.write_batch("delays", {("a:b", "%"): {"minutes": 1.5}})
        yield store
