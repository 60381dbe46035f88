"""Loads of rows that are older than what earlier loads wrote."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from featurekit import FeatureStore
from featurekit.errors import OlderRowsError, RequestError
from tests.cli.running import run
from tests.servers import PATIENT_YAML, Server

REPO = "project: shop\ndefinitions: [f.yaml]\nonline_store: {{url: '{url}', key_prefix: fs, {options}}}\n"
DEFINITIONS = """
entities: [{name: user, join_keys: {user_id: string}}]
feature_views:
  - name: profile
    entity: user
    batch:
      refresh: 1h
      expires: EXPIRES
      source: {type: jsonl, path: rows.jsonl, timestamp_field: at}
    fields: {age: int64, country: string}
"""
NEW = "2026-11-20T00:00:00Z"
OLD = "2026-11-13T00:00:00Z"
ON_VALKEY = pytest.mark.parametrize("server", ["valkey"], indirect=True)


@pytest.fixture(params=["key", "field"])
def store(
    request: pytest.FixtureRequest, tmp_path: Path, server: Server
) -> Iterator[FeatureStore]:
    (tmp_path / "featurerepo.yaml").write_text(REPO.format(url=server.url, options=PATIENT_YAML))
    (tmp_path / "f.yaml").write_text(DEFINITIONS.replace("EXPIRES", request.param))
    with FeatureStore(tmp_path) as store:
        store.apply()
        yield store


def write_rows(store: FeatureStore, *rows: tuple[str, int | None, str]) -> None:
    lines = [
        json.dumps({"user_id": u, "age": age, "country": "NO", "at": at}) for u, age, at in rows
    ]
    (store.path / "rows.jsonl").write_text("\n".join(lines))


def ages(store: FeatureStore, *users: str) -> list[Any]:
    rows = [{"user_id": user} for user in users]
    return store.get_online_features(["profile:age"], rows).to_dict()["age"]


@ON_VALKEY
def test_an_older_load_is_refused_with_both_times(store: FeatureStore) -> None:
    write_rows(store, ("u1", 2, NEW))
    store.materialize()
    write_rows(store, ("u1", 1, OLD), ("u2", 1, OLD))
    with pytest.raises(OlderRowsError) as caught:
        store.materialize()
    assert OLD in caught.value.message
    assert NEW in caught.value.message
    assert ages(store, "u1", "u2") == [2, None]


@ON_VALKEY
def test_a_backfill_of_an_older_window_is_refused(store: FeatureStore) -> None:
    write_rows(store, ("u1", 1, OLD), ("u1", 2, NEW))
    store.materialize()
    with pytest.raises(OlderRowsError):
        store.materialize(start="2026-11-12", end="2026-11-14")
    assert ages(store, "u1") == [2]


@ON_VALKEY
def test_rows_of_the_same_age_are_loaded_again(store: FeatureStore) -> None:
    write_rows(store, ("u1", 1, NEW))
    store.materialize()
    write_rows(store, ("u1", 2, NEW))
    store.materialize()
    assert ages(store, "u1") == [2]


@ON_VALKEY
def test_a_refused_or_empty_load_does_not_change_what_counts_as_older(store: FeatureStore) -> None:
    write_rows(store, ("u1", 2, NEW))
    store.materialize()
    store.write_batch("profile", {"u3": {"age": 3}})
    for _ in range(2):
        write_rows(store, ("u1", 1, OLD))
        with pytest.raises(OlderRowsError):
            store.materialize()


@ON_VALKEY
def test_allow_older_overwrites(store: FeatureStore) -> None:
    write_rows(store, ("u1", 2, NEW))
    store.materialize()
    write_rows(store, ("u1", 1, OLD))
    store.materialize(allow_older=True)
    assert ages(store, "u1") == [1]
    store.materialize()


@ON_VALKEY
def test_a_window_that_was_allowed_does_not_lower_what_counts_as_older(
    store: FeatureStore,
) -> None:
    write_rows(store, ("u1", 1, OLD), ("u1", 2, NEW))
    store.materialize()
    store.materialize(end="2026-11-14", allow_older=True)
    with pytest.raises(OlderRowsError):
        store.materialize(end="2026-11-14")


def test_missing_only_writes_entities_without_values(store: FeatureStore, server: Server) -> None:
    write_rows(store, ("u1", 2, NEW))
    store.materialize()
    with server.client() as client:
        client.hset("fs:user:u4", "other", "kept")
    write_rows(store, ("u1", 1, OLD), ("u2", 1, OLD), ("u3", None, OLD), ("u4", 4, OLD))
    [report] = store.materialize(missing_only=True)
    assert (report.rows_written, report.rows_kept, report.rows_superseded) == (3, 1, 0)
    assert ages(store, "u1", "u2", "u3", "u4") == [2, 1, None, 4]
    [again] = store.materialize(missing_only=True)
    assert (again.rows_written, again.rows_kept) == (0, 4)
    with server.client() as client:
        left: Any = client.pttl("fs:user:u3")
        if left == -1:
            [left] = client.hpttl("fs:user:u3", "country")
    assert 0 < left <= 7_200_000


def test_missing_only_survives_a_server_that_lost_its_scripts(
    store: FeatureStore, server: Server
) -> None:
    with server.client() as client:
        client.script_flush()
    write_rows(store, *[(f"u{i}", i, OLD) for i in range(3000)])
    [report] = store.materialize(missing_only=True)
    assert report.rows_written == 3000


@ON_VALKEY
def test_allow_older_and_missing_only_exclude_each_other(store: FeatureStore) -> None:
    with pytest.raises(RequestError, match="exclude each other"):
        store.materialize(allow_older=True, missing_only=True)


def test_the_command_has_both_options(store: FeatureStore) -> None:
    write_rows(store, ("u1", 2, NEW))
    store.materialize()
    write_rows(store, ("u1", 1, OLD), ("u2", 1, OLD))
    command = ["materialize", "--repo", str(store.path)]
    assert run(*command).exit_code == 1
    assert run(*command, "--missing-only").exit_code == 0
    assert ages(store, "u1", "u2") == [2, 1]
    assert run(*command, "--allow-older").exit_code == 0
    assert ages(store, "u1") == [1]
