"""Loads whose process is killed, so that they never end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from unittest.mock import ANY

import pytest
import redis

from featurekit import FeatureStore
from featurekit.repo.history import NEVER_ENDED
from tests.cli.running import run
from tests.promise.repos import applied
from tests.servers import Server

YAML = """
entities:
  - {name: user, join_keys: {user_id: string}}
feature_views:
  - name: people
    entity: user
    batch:
      refresh: 24h
      source: {type: csv, path: rows.csv, timestamp_field: at}
    fields: {age: int64}
feature_services: [{name: model, features: [people]}]
"""
BEGUN = "featurekit:{shop}:begun:people"

KILLED = """
import os, signal, sys
from featurekit import FeatureStore

def kill(progress):
    os.kill(os.getpid(), signal.SIGKILL)

FeatureStore(sys.argv[1]).materialize("people", on_progress=kill)
"""


@pytest.fixture
def store(tmp_path: Path, valkey: Server) -> Iterator[FeatureStore]:
    write_rows(tmp_path, 1)
    with applied(tmp_path, valkey.url, YAML) as store:
        yield store


def write_rows(folder: Path, age: int) -> None:
    rows = "".join(f"u{i},2026-06-01T00:00:00Z,{age}\n" for i in range(20))
    (folder / "rows.csv").write_text(f"user_id,at,age\n{rows}")


def kill_a_load(store: FeatureStore) -> None:
    """Run a load in a process that is killed after its first rows."""
    process = subprocess.run(
        [sys.executable, "-c", KILLED, str(store.path)], env=os.environ, check=False
    )
    assert process.returncode == -signal.SIGKILL


@pytest.mark.slow
def test_a_killed_load_is_shown_recorded_and_not_counted(
    store: FeatureStore, tmp_path: Path, valkey: Server
) -> None:
    client: redis.Redis
    with valkey.client() as client:
        store.materialize()
        [before] = store.load_history()
        assert client.exists(BEGUN) == 0
        assert store.status()[0].error == ""
        write_rows(tmp_path, 2)
        kill_a_load(store)

        [status] = store.status()
        assert (status.state, status.error) == ("failed", NEVER_ENDED)
        assert status.age_ms is not None
        client.hset("fs:user:u3", "age", "9")
        report = store.verify("model", seed=1)
        assert (report.differences, report.examples[0].kind) == (0, "undecided")
        assert "never ended" in report.examples[0].reason

        store.materialize()
        assert client.exists(BEGUN) == 0
        last, killed, first = store.load_history()
        assert (killed.never_ended, killed.error, killed.good_ms) == (
            True,
            NEVER_ENDED,
            first.ended_ms,
        )
        assert first == before
        assert first.ended_ms <= killed.started_ms < killed.ended_ms <= last.ended_ms
        assert (last.error, last.rows_written, last.never_ended) == ("", 20, False)
        log = store._registry_store.history
        assert [load.written_ms for load in log.past_loads("people")] == [
            first.ended_ms,
            last.ended_ms,
        ]
        assert store.status()[0].error == ""
        client.hset("fs:user:u3", "age", "9")
        assert store.verify("model", seed=1).differences == 1


def test_a_killed_load_is_listed_before_the_next_load(store: FeatureStore, tmp_path: Path) -> None:
    store.materialize()
    [before] = store.load_history()
    kill_a_load(store)
    killed, first = store.load_history()
    assert (killed.never_ended, killed.error, first) == (True, NEVER_ENDED, before)
    assert store.load_history(since=before.started_ms) == [
        replace(killed, ended_ms=ANY),
        before,
    ]
    assert store.load_history(until=before.ended_ms) == [before]
    listed = run("--repo", str(tmp_path), "list", "loads").stdout.splitlines()
    assert listed[1].split()[:2] == ["people", "never"]


def test_a_note_that_cannot_be_read_or_written_stops_no_load(
    store: FeatureStore, valkey: Server
) -> None:
    with valkey.client() as client:
        for text in ("{", "[1]", '{"started_ms": "x"}', "\udcff".encode(errors="surrogateescape")):
            client.set(BEGUN, text)
            assert store.status()[0].error == ""
            store.materialize()
        client.lpush(BEGUN, "a list")
        assert store.status()[0].error == ""
        store.materialize()
        assert [load.error for load in store.load_history()] == [""] * 5
