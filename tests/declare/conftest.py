from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from textwrap import dedent

import pytest

from featurekit.errors import DefinitionError
from featurekit.loader import load_repo
from featurekit.models import LoadedRepo

REPO = "project: fraud\ndefinitions: [f.yaml]\n"

Load = Callable[..., LoadedRepo]
Problems = Callable[..., list[str]]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Load a repository of one definition file."""

    def load(
        definitions: str | bytes = "", repo: str = REPO, env: Mapping[str, str] | None = None
    ) -> LoadedRepo:
        data = definitions if isinstance(definitions, bytes) else dedent(definitions).encode()
        (tmp_path / "featurerepo.yaml").write_text(dedent(repo))
        (tmp_path / "f.yaml").write_bytes(data)
        return load_repo(tmp_path, env or {})

    return load


@pytest.fixture
def problems(load: Load) -> Problems:
    """Return the problems of such a repository as printed, each in one line."""

    def problems(
        definitions: str | bytes = "", repo: str = REPO, env: Mapping[str, str] | None = None
    ) -> list[str]:
        with pytest.raises(DefinitionError) as caught:
            load(definitions, repo, env)
        return [str(p).replace("\n  hint: ", " | ") for p in caught.value.problems]

    return problems


@pytest.fixture
def fraud() -> str:
    """The definitions of the design's example."""
    return dedent(
        """\
        entities:
          - name: user
            join_keys: {user_id: string}
            description: A cardholder.
        feature_views:
          - name: user_profile
            entity: user
            batch:
              refresh: 24h
              ttl: 48h
              source: {type: parquet, path: data/users.parquet, timestamp_field: event_timestamp}
            fields:
              country_iso: string
              tx_count_7d: {type: int64, default: 0, min: 0, description: Transactions in 7 days}
            owner: risk@example.com
            tags: {tier: 1}
          - name: user_activity
            entity: user
            stream:
              refresh: 1m
              source: {type: redis_stream, stream: user-activity}
            fields:
              tx_count_5m: {type: int64, default: 0}
              failed_logins_15m: {type: int64, ttl: 15m}
        feature_services:
          - name: fraud_v1
            features: [user_profile:tx_count_7d, user_activity]
        """
    )
