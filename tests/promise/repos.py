"""Repositories for tests: all types, every way to expire, and what can be seen from outside."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis

from featurekit import FeatureStore
from featurekit.types import SCALARS
from tests.servers import PATIENT_YAML, Server

TYPES = {
    **{f"a_{kind}": kind for kind in (*SCALARS, "json")},
    **{f"b_{kind}": f"array<{kind}>" for kind in SCALARS},
    "c_vector": "vector<float32, 3>",
}
"""A field of each type."""

ALL_TYPES = """
entities: [{name: user, join_keys: {user_id: string}}]
feature_views:
  - name: everything
    entity: user
    batch: {refresh: 12h, ttl: 24h, source: SOURCE}
    fields:
      FIELDS
feature_services: [{name: all, features: [everything]}]
""".replace(
    "FIELDS",
    "\n      ".join(
        f"{name}: {{type: '{dtype}'{', allow_nan: true' if dtype.startswith('float') else ''}}}"
        for name, dtype in TYPES.items()
    ),
)

FRAUD = """
entities:
  - {name: user, join_keys: {user_id: string}}
  - {name: merchant, join_keys: {merchant_id: int64}}
  - {name: route, join_keys: {origin: string, dest: string}}
feature_views:
  - name: profile
    entity: user
    batch: {refresh: 12h, ttl: 24h, source: {type: parquet, path: users.parquet, timestamp_field: t}}
    fields:
      country: string
      tx_count_7d: {type: int64, default: 0, min: 0}
      tags: {type: 'array<string>', default: []}
  - name: scores
    entity: user
    batch: {refresh: 30m, ttl: 1h, expires: field}
    fields:
      risk: {type: float64, ttl: 2h}
      model: string
  - name: activity
    entity: user
    stream: {refresh: 1m, ttl: 5m}
    fields:
      tx_count_5m: {type: int64, default: 0}
      device: string
  - name: shop
    entity: merchant
    batch: {refresh: 12h}
    fields:
      country: string
      sales: int64
  - name: delays
    entity: route
    batch: {refresh: 12h}
    fields: {minutes: float64}
feature_services:
  - {name: fraud_v1, features: [profile, activity]}
  - {name: both, features: ['profile:tx_count_7d', 'shop:sales', 'profile:country', 'shop:country']}
"""
"""Entities of one join key and of two; a key's owner, a view that expires by field, a stream."""


def write_repo(
    folder: Path, url: str, definitions: str, *, registry: str = "registry.json"
) -> Path:
    """Write a repository to a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    url = f"memory://{folder}" if url == "memory://" else url  # shared with no other test
    (folder / "featurerepo.yaml").write_text(
        f"project: shop\ndefinitions: [features.yaml]\nregistry: {registry}\n"
        f"online_store: {{url: '{url}', key_prefix: fs, {PATIENT_YAML}}}\n"
    )
    (folder / "features.yaml").write_text(definitions)
    return folder


@contextmanager
def applied(
    folder: Path, url: str, definitions: str = FRAUD, **options: Any
) -> Iterator[FeatureStore]:
    """Open a store and apply its definitions."""
    with FeatureStore(write_repo(folder, url, definitions, **options)) as store:
        store.apply(allow_breaking=True)
        yield store


def hashes(server: Server) -> dict[bytes, dict[bytes, bytes]]:
    """Return all hashes of entities with their raw fields."""
    with server.client() as client:
        keys = client.scan_iter(_type="hash")
        return {key: client.hgetall(key) for key in keys if not key.startswith(b"featurekit:")}


_IMMORTAL = """
local found = {}
for _, key in ipairs(redis.call('KEYS', '*')) do
  if redis.call('PTTL', key) == -1 and string.sub(key, 1, 11) ~= 'featurekit:' then
    local names = redis.call('TYPE', key).ok == 'hash' and redis.call('HKEYS', key) or {}
    local lives = #names > 0 and redis.call('HPTTL', key, 'FIELDS', #names, unpack(names)) or {-1}
    for _, life in ipairs(lives) do
      if life == -1 then found[#found + 1] = key break end
    end
  end
end
return found
"""


def immortal(client: redis.Redis) -> list[bytes]:
    """Return the keys with a value that never expires, other than those about the project."""
    return list(client.eval(_IMMORTAL, 0))


def near(ttl_ms: int, expected_ms: int) -> bool:
    """Return whether a TTL in minutes or hours was set during this test."""
    return 0 <= expected_ms - ttl_ms < 30_000


@contextmanager
def commands(server: Server) -> Iterator[list[list[str]]]:
    """Collect the commands that the server receives while the block runs, with `MONITOR`."""
    seen: list[list[str]] = []
    with server.client() as client, server.client() as marker:
        marker.ping()
        with client.monitor() as monitor:
            yield seen
            marker.echo("the end")
            for event in monitor.listen():
                parts = str(event["command"]).split()
                if parts[0] == "ECHO":
                    return
                seen.append(parts)


def names(seen: list[list[str]]) -> dict[str, int]:
    """Count the commands by name."""
    counts: dict[str, int] = {}
    for parts in seen:
        counts[parts[0].upper()] = counts.get(parts[0].upper(), 0) + 1
    return counts
