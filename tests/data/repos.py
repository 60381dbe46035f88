"""A repository with batch sources, some of whose rows are wrong."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq

from tests.servers import PATIENT_YAML

CONFIG = """
project: {name}
definitions: [features.yaml]
online_store: {{url: "{url}", key_prefix: {name}, {options}}}
"""
ENTITY = "entities: [{name: user, join_keys: {user_id: string}}]\nfeature_views:\n"
NOW = datetime.now(UTC)
SCHEMA = pa.schema(
    [
        ("user_id", pa.string()),
        ("at", pa.timestamp("us", "UTC")),
        ("made", pa.timestamp("us", "UTC")),
        ("age", pa.int64()),
        ("segment", pa.string()),
        ("score", pa.float64()),
    ]
)
PROFILE = """
  - name: profile
    entity: user
    batch:
      refresh: 12h
      {more}
      source: {{type: parquet, path: users.parquet, timestamp_field: at, created_timestamp_field: made}}
    fields: {{age: {{type: int64, min: 0}}, segment: {{type: string, one_of: [low, high]}}, score: float64}}
"""


def row(number: int, **values: Any) -> dict[str, Any]:
    """Return a row that a load takes, unless the values are wrong."""
    at = NOW - timedelta(hours=1, minutes=number)
    return {
        "user_id": f"u{number:03}",
        "at": at,
        "made": (values.get("at") or at) + timedelta(minutes=1),
        "age": 20 + number,
        "segment": "low",
        "score": number / 2,
        **values,
    }


def write_repo(folder: Path, views: str, url: str = "memory://") -> Path:
    """Write the definitions of a repository, whose keys no other one has."""
    name = f"p{uuid4().hex[:12]}"
    (folder / "featurerepo.yaml").write_text(
        CONFIG.format(name=name, url=url, options=PATIENT_YAML)
    )
    (folder / "features.yaml").write_text(ENTITY + views)
    return folder


def write_users(folder: Path, rows: list[dict[str, Any]]) -> None:
    """Write the file of the view `profile`."""
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), folder / "users.parquet")


def profile(more: str = "") -> str:
    """Return the view `profile` with further keys."""
    return PROFILE.format(more=more)


def by_check(findings: list[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Return findings by what was checked; of several, the last."""
    return {finding["check"]: finding for finding in findings}
