"""`${VAR}` in the locations of sources: the same definitions in several environments."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featurekit import FeatureStore, StreamOptions
from featurekit.errors import DefinitionError, FeatureKitError, RequestError, SourceError
from tests.promise.repos import applied, commands, write_repo
from tests.servers import Server, patient, running, valkey_binary

DEFINITIONS = """
entities: [{name: user, join_keys: {user_id: string}}]
feature_views:
  - name: files
    entity: user
    batch: {refresh: 1h, source: {type: parquet, path: "${DATA}/users.parquet"}}
    fields: {city: string}
  - name: query
    entity: user
    batch:
      refresh: 1h
      expires: field
      source:
        type: sql
        query: select user_id, upper(city) || '${DATA}' as loud from read_parquet($users) where n >= $least -- all
        parameters: {users: "${DATA}/users.parquet", least: 2}
    fields: {loud: string}
  - name: events
    entity: user
    stream:
      refresh: 1m
      source: {type: redis_stream, stream: "${STAGE:-dev}-events", group: "${STAGE:-dev}"}
    fields: {count: int64}
"""


@pytest.fixture(scope="module")
def production() -> Iterator[Server]:
    with running(valkey_binary()) as server:
        yield server


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository whose store and sources are chosen by the environment."""
    for name in ("FEATUREKIT_ONLINE_URL", "DATA", "STAGE"):
        monkeypatch.delenv(name, raising=False)
    write_repo(tmp_path, "${ONLINE:-embedded://unused}", DEFINITIONS, registry="online")
    for stage, city in (("dev", "Oslo"), ("prod", "Bergen")):
        table = pa.table({"user_id": ["u1", "u2"], "city": [city, city], "n": [1, 2]})
        (tmp_path / stage).mkdir()
        pq.write_table(table, tmp_path / stage / "users.parquet")
    return tmp_path


def test_two_environments_share_one_set_of_definitions(
    repo: Path, valkey: Server, production: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    fingerprints = set()
    for stage, server, city in (("dev", valkey, "Oslo"), ("prod", production, "Bergen")):
        for name, value in (("ONLINE", server.url), ("DATA", stage), ("STAGE", stage)):
            monkeypatch.setenv(name, value)
        with server.client() as client, FeatureStore(repo) as store:
            client.xadd(f"{stage}-events", {"user_id": "u1", "count": "7"})
            store.apply()
            assert [report.rows_written for report in store.materialize()] == [2, 1]
            assert store.diagnostics.stream_lag()[0].length == 1
            [report] = store.streams.run(options=StreamOptions(once=True))
            assert report.written == 1
            assert store.status()[0].stream is not None
            assert store.diagnostics.stream_lag()[0].lag == 0
            rows = store.get_online_features(
                ["files", "query", "events"], {"user_id": ["u1", "u2"]}
            )
            assert rows.to_dict() == {
                "user_id": ["u1", "u2"],
                "city": [city, city],
                "loud": [None, f"{city.upper()}${{DATA}}"],
                "count": [7, None],
            }
            assert client.xinfo_groups(f"{stage}-events")[0]["name"] == stage.encode()
            assert store.registry is not None
            assert "${DATA}/users.parquet" in store.registry.to_json()
            fingerprints.add(store.registry.fingerprint)
            assert not store.plan()
    assert len(fingerprints) == 1


def test_an_unset_variable_is_an_error_of_the_load_and_not_of_validate(
    repo: Path, valkey: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FeatureStore(repo, url=valkey.url) as store:
        store.apply()
        with pytest.raises(SourceError, match="environment variable DATA is not set") as caught:
            store.materialize(["files"])
        assert caught.value.where == "feature view files"
        assert "DATA is not set" in store.load_history("files")[0].error
        monkeypatch.setenv("DATA", "dev")
        store.materialize(["files"])


def test_values_of_variables_show_in_no_error_and_no_history(
    repo: Path, valkey: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATA", "s3cret-folder")
    with FeatureStore(repo, url=valkey.url) as store:
        store.apply()
        for view in ("files", "query"):
            with pytest.raises(SourceError, match=r"\$\{DATA\}/users.parquet") as caught:
                store.materialize([view])
            assert caught.value.__cause__ is None
            shown = [str(caught.value), repr(caught.value), str(caught.value.reports)]
            shown += [json.dumps(caught.value.to_dict()), store.load_history(view)[0].error]
            assert not any("s3cret" in text for text in shown)


def test_a_stored_registry_does_not_read_the_environment_unless_it_may(
    repo: Path, valkey: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATA", str(repo / "dev"))
    monkeypatch.setenv("STAGE", "s3cret")
    with FeatureStore(repo, url=valkey.url) as store:
        store.apply()
    with (
        FeatureStore.from_registry(patient(valkey.url), "shop") as served,
        commands(valkey) as sent,
    ):
        for read in (
            lambda: served.materialize(["files"]),
            lambda: served.streams.run(options=StreamOptions(once=True)),
            lambda: served.streams.dead_letters("events"),
        ):
            with pytest.raises(RequestError, match="does not open the sources"):
                read()
        assert served.diagnostics.stream_lag()[0].lag is None
        served.status()
    assert not any("s3cret" in part for command in sent for part in command)
    with FeatureStore.from_registry(patient(valkey.url), "shop", allow_sources=True) as served:
        assert served.materialize(["files"])[0].rows_written == 2


def test_a_changed_registry_does_not_read_the_environment_of_a_repository(
    repo: Path, valkey: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "s3cret")
    with FeatureStore(repo, url=valkey.url) as store, valkey.client() as client:
        store.apply()
        key = "featurekit:{shop}:registry"
        client.set(key, client.get(key).replace(b"${STAGE:-dev}-events", b"${SECRET}"))
        store.refresh()
        with commands(valkey) as sent:
            store.diagnostics.stream_lag()
            store.status()
            with pytest.raises(FeatureKitError, match="another source"):
                store.streams.dead_letters("events")
    assert not any("s3cret" in part for command in sent for part in command)


def test_an_escaped_reference_is_literal(repo: Path, valkey: Server) -> None:
    (repo / "${DATA}").mkdir()
    (repo / "dev" / "users.parquet").rename(repo / "${DATA}" / "users.parquet")
    definitions = DEFINITIONS.replace('path: "${DATA}', 'path: "$${DATA}')
    with applied(repo, valkey.url, definitions) as store:
        assert store.materialize(["files"])[0].rows_written == 2


def test_a_wrong_reference_is_reported_by_file_line_and_column(repo: Path) -> None:
    definitions = (
        DEFINITIONS.replace('path: "${DATA}/users.parquet"', 'path: [a, "${DATA/b"]')
        .replace('users: "${DATA}/', 'users: "${}/')
        .replace('"${STAGE:-dev}-events"', '"${1}"')
    )
    write_repo(repo, "memory://", definitions)
    with pytest.raises(DefinitionError) as caught:
        FeatureStore(repo)
    assert [problem.where for problem in caught.value.problems] == [
        "features.yaml:6:60", "features.yaml:16:29", "features.yaml:22:44",
    ]  # fmt: skip
    assert all("'${' is not followed by a name" in p.message for p in caught.value.problems)


def test_a_reference_in_a_query_is_a_warning(repo: Path) -> None:
    [warning] = FeatureStore(repo).warnings
    assert "${DATA} is not expanded in a query" in warning.message
    assert "parameters: {data: ${DATA}}" in warning.hint


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        (", least: 2", "", r"parameters without a value: \$least"),
        (", least: 2", ", least: 2, most: 3", r"does not use these parameters: \$most"),
        (", least: 2", ", least: two", "two"),
    ],
)
def test_parameters_are_checked(
    repo: Path, valkey: Server, monkeypatch: pytest.MonkeyPatch, old: str, new: str, error: str
) -> None:
    monkeypatch.setenv("DATA", "dev")
    with (
        applied(repo, valkey.url, DEFINITIONS.replace(old, new)) as store,
        pytest.raises(SourceError, match=error),
    ):
        store.materialize(["query"])


def test_a_change_of_parameters_shows_in_a_plan(repo: Path, valkey: Server) -> None:
    with applied(repo, valkey.url, DEFINITIONS) as store:
        write_repo(repo, valkey.url, DEFINITIONS.replace("least: 2", "least: 1"))
        store.reload_definitions()
        assert [(c.subject, c.detail) for c in store.plan()] == [
            ("feature view query", "another source")
        ]
