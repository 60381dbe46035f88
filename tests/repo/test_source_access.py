"""Sources of a registry in the online store run nothing on this machine unless it is allowed."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from typing import Any

import pytest

from featurekit import FeatureStore
from featurekit.errors import RequestError
from featurekit.repo.source_access import SourceAccess
from featurekit.server.app import create_app
from featurekit.server.context import ServerContext
from tests.promise.repos import applied, write_repo
from tests.servers import Server, patient
from tests.testclient import TestClient

VIEWS = """
entities: [{name: user, join_keys: {user_id: string}}]
feature_views:
  - name: profile
    entity: user
    batch: {refresh: 12h, source: SOURCE}
    fields: {country: string}
  - name: activity
    entity: user
    stream: {refresh: 1m, source: {type: kafka, topic: t, bootstrap_servers: "SERVER:9"}}
    fields: {clicks: int64}
feature_services: [{name: all, features: [profile]}]
"""
PYTHON = "{type: python, callable: 'MODULE:rows'}"
SQL = "{type: sql, query: \"copy (select 1) to 'stolen.csv'; select 'u1' user_id, 'NO' country\"}"
CODE = """
from pathlib import Path
import pyarrow as pa
Path(__file__).with_name("imported").touch()
def rows(): return pa.table({"user_id": ["u1"], "country": ["NO"]})
"""


def views(source: str, server: str = "localhost") -> str:
    return VIEWS.replace("SOURCE", source).replace("SERVER", server)


@pytest.fixture
def here(tmp_path: Path, valkey: Server, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a module; the registry in the store declares it as a source."""
    name = f"module_{tmp_path.name.replace('-', '_')}"
    here = tmp_path / "here"
    here.mkdir()
    (here / f"{name}.py").write_text(CODE)
    monkeypatch.chdir(here)
    with applied(
        tmp_path / "there", valkey.url, views(PYTHON.replace("MODULE", name)), registry="online"
    ):
        pass
    return here


def was_run(here: Path) -> bool:
    return (here / "imported").exists() or bool(
        [name for name in sys.modules if name == next(here.glob("module_*.py")).stem]
    )


def test_a_store_without_yaml_does_not_open_the_sources_of_its_registry(
    here: Path, valkey: Server
) -> None:
    with FeatureStore.from_registry(patient(valkey.url), "shop", root=here) as store:
        for views in (None, ["profile"]):
            with pytest.raises(RequestError, match="does not open the sources"):
                store.materialize(views)
        with pytest.raises(RequestError, match="does not open the sources"):
            store.streams.run(["activity"])
        with pytest.raises(RequestError, match="does not open the sources"):
            store.streams.dead_letters("activity")
        client = TestClient(create_app(ServerContext(store)))
        bodies: dict[str, dict[str, Any]] = {
            "/v1/materialize": {"views": ["profile"]},
            "/materialize": {"start_ts": "2020-01-01", "end_ts": "2030-01-01"},
            "/materialize?async=true": {},
            "/materialize-incremental": {"end_ts": "2030-01-01"},
        }
        for path, body in bodies.items():
            result = client.post(path, json=body)
            assert result.status_code == 422, path
            assert "--allow-sources" in result.text
        assert client.post("/v1/materialize", json={"wait": False}).status_code == 422
        assert store.write_batch("profile", {"u1": {"country": "SE"}}).rows_written == 1
        assert client.post("/v1/services/all/read", json={"entities": []}).status_code == 200
        store.doctor()
    assert not was_run(here)


def test_a_caller_may_allow_the_sources(here: Path, valkey: Server) -> None:
    with (
        FeatureStore.from_registry(
            patient(valkey.url), "shop", root=here, allow_sources=True
        ) as store,
        pickle.loads(pickle.dumps(store)) as copy,
    ):
        assert copy.materialize(["profile"])[0].rows_written == 1
    assert was_run(here)


@pytest.mark.parametrize("source", [PYTHON, SQL, "{type: csv, path: /etc/passwd}"])
def test_yaml_opens_only_sources_that_it_declares_itself(
    tmp_path: Path, valkey: Server, source: str
) -> None:
    own = write_repo(
        tmp_path / "own", valkey.url, views("{type: csv, path: users.csv}"), registry="online"
    )
    (own / "users.csv").write_text("user_id,country\nu1,NO\n")
    with FeatureStore(own) as store:
        store.apply()
        assert store.materialize(["profile"])[0].rows_written == 1
        with applied(tmp_path / "other", valkey.url, views(source, "evil"), registry="online"):
            store.refresh()
            with pytest.raises(RequestError, match="another source in the registry"):
                store.materialize(["profile"])
            with pytest.raises(RequestError, match="another source in the registry"):
                store.streams.run(["activity"])
    assert not list(tmp_path.rglob("stolen.csv"))


HISTORIES = """
entities: [{name: user, join_keys: {user_id: string}}]
feature_views:
  - name: activity
    entity: user
    stream:
      refresh: 1m
      log: {path: LOG}
      batch_source: {type: parquet, path: EVENTS, timestamp_field: at}
    fields: {clicks: int64}
feature_services: [{name: all, features: [activity], logging: {path: SERVED}}]
"""


def histories(events: str = "events", log: str = "log", served: str = "served") -> str:
    paths = {"EVENTS": events, "LOG": log, "SERVED": served}
    text = HISTORIES
    for name, path in paths.items():
        text = text.replace(name, path)
    return text


@pytest.mark.parametrize("changed", ["events", "log", "served"])
def test_yaml_opens_only_histories_and_logs_that_it_declares_itself(
    tmp_path: Path, valkey: Server, changed: str
) -> None:
    own = write_repo(tmp_path / "own", valkey.url, histories(), registry="online")
    definitions = histories(**{changed: "/etc/evil"})
    with FeatureStore(own) as store:
        store.apply()
        view, service = store.compiled.view("activity"), store.compiled.service("all")
        access = SourceAccess(store._loaded)
        access.check([view])
        for owner, path in ((view, "log"), (service, "served")):
            located = access.locate_log(owner)
            assert located is not None
            assert located.plan.path == path
        with applied(tmp_path / "other", valkey.url, definitions, registry="online"):
            store.refresh()
            view, service = store.compiled.view("activity"), store.compiled.service("all")
        what = "source" if changed == "events" else "log"
        with pytest.raises(RequestError, match=f"another {what} in the registry"):
            access.locate_log(service if changed == "served" else view)
    for owner in (view, service):
        with pytest.raises(RequestError, match="does not open the sources and logs"):
            SourceAccess(None).locate_log(owner)
        assert SourceAccess(None, allow_sources=True).locate_log(owner) is not None
