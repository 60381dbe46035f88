"""Repositories with stream views for tests, and checks of what they stored."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis

from featurekit import FeatureStore
from tests.servers import PATIENT_YAML, Server

DEFINITIONS = """
entities:
  - {name: user, join_keys: {user_id: string}}
  - {name: route, join_keys: {origin: string, dest: string}}
feature_views:
  - name: profile
    entity: user
    batch: {refresh: 12h, ttl: 24h}
    fields: {country: string, tx_count_7d: int64}
  - name: activity
    entity: user
    stream:
      refresh: 1m
      ttl: 5m
      source: {type: redis_stream, stream: activity-events}
    fields:
      count: {type: int64, default: 0, min: 0}
      device: string
      failed: {type: int64, ttl: 15m}
      kind: {type: string, required: true}
  - name: session
    entity: user
    stream:
      refresh: 1m
      ttl: 5m
      ordering: event_time
      source:
        type: redis_stream
        stream: session-events
        format: json
        field: body
        columns: {user_id: uid}
        where: {type: session}
        event_timestamp_field: at
    fields:
      step: int64
      score: float64
      page: {type: string, ttl: 15m}
  - name: delays
    entity: route
    stream: {refresh: 1m}
    fields: {minutes: float64}
"""

STREAM_FIELDS = ("count", "device", "failed", "kind", "step", "score", "page", "@session")


@contextmanager
def repository(folder: Path, url: str, definitions: str = DEFINITIONS) -> Iterator[FeatureStore]:
    """An applied repository in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "featurerepo.yaml").write_text(
        "project: shop\ndefinitions: [features.yaml]\n"
        f"online_store: {{url: '{url}', key_prefix: fs, {PATIENT_YAML}}}\n"
    )
    (folder / "features.yaml").write_text(definitions)
    with FeatureStore(folder) as store:
        store.apply()
        yield store


def fields_without_ttl(client: redis.Redis) -> list[tuple[bytes, str]]:
    """Return stream fields without a TTL. There must never be any."""
    found = []
    for key in client.scan_iter("fs:*", count=1000):
        if client.type(key) == b"hash":
            ttls: Any = client.hpttl(key, *STREAM_FIELDS)
            found += [(key, n) for n, t in zip(STREAM_FIELDS, ttls or [], strict=False) if t == -1]
    return found


def ttl_ms(server: Server, key: str, field: str) -> int:
    """Return the remaining TTL of a field."""
    with server.client() as client:
        left: Any = client.hpttl(key, field)
        return int(left[0])


def stored(server: Server, key: str) -> dict[bytes, bytes]:
    """Return a stored hash."""
    with server.client() as client:
        return dict(client.hgetall(key))
