"""A Valkey server without persistence, and a repository that uses it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from featurekit import FeatureStore
from featurekit.bench.workload import FIELDS
from tests.clusters import free_port
from tests.servers import running, valkey_binary

LOADED = ("country", "segment", "account_age_days", "tx_count_7d", "avg_amount_30d", "risk")
"""The fields of the view that is loaded from Parquet."""


@dataclass(frozen=True, slots=True)
class BenchRepo:
    """A running server, and a repository on it.

    Attributes:
        root: The repository's folder.
        url: The server's URL.
        store: The applied store, with the views `ten`, `six` and `live` and the service `all_ten`.
    """

    root: Path
    url: str
    store: FeatureStore


@contextmanager
def bench_repo(transport: str) -> Iterator[BenchRepo]:
    """Run a server on a `unix` socket or on loopback `tcp`, with a repository, during the block."""
    port = free_port() if transport == "tcp" else 0
    with running(valkey_binary(), "--port", str(port)) as server, _folder() as root:
        url = f"redis://127.0.0.1:{port}" if port else server.url
        # A long timeout: a busy machine must not end a benchmark.
        write_definitions(root, f"{url}?timeout=10s")
        with FeatureStore(root) as store:
            store.apply()
            yield BenchRepo(root, url, store)


def write_definitions(root: Path, url: str) -> None:
    """Write the repository of the benchmarks into a folder."""
    (root / "featurerepo.yaml").write_text(
        "project: benchmarks\ndefinitions: [views.yaml]\nregistry: registry.json\n"
        f"online_store: {{url: '{url}', key_prefix: b}}\n"
    )
    ten = ", ".join(f"{name}: {kind}" for name, kind in FIELDS.items())
    six = ", ".join(f"{name}: {FIELDS[name]}" for name in LOADED)
    (root / "views.yaml").write_text(
        f"""
entities:
  - {{name: user, join_keys: {{user_id: string}}}}
  - {{name: holder, join_keys: {{user_id: string}}}}
  - {{name: visitor, join_keys: {{user_id: string}}}}
feature_views:
  - {{name: ten, entity: user, batch: {{refresh: 12h}}, fields: {{{ten}}}}}
  - name: six
    entity: holder
    batch:
      refresh: 12h
      source: {{type: parquet, path: rows.parquet, timestamp_field: event_timestamp}}
    fields: {{{six}}}
  - name: live
    entity: visitor
    stream: {{refresh: 1m, ttl: 5m, source: {{type: redis_stream, stream: events}}}}
    fields:
      last_login_ts: int64
      last_device_id: string
      tx_count_5m: int64
      amount_5m: float64
      session_country: string
feature_services:
  - {{name: all_ten, features: [ten]}}
"""
    )


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="fk") as folder:
        yield Path(folder)
