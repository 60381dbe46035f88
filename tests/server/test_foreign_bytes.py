"""Bytes that another program stored, which no value has: only that value is invalid, everywhere."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from featurekit import FeatureStore
from tests.cli.running import run, run_json
from tests.console.conftest import console
from tests.promise.repos import applied
from tests.servers import Server

REPO = """
entities: [{name: user, join_keys: {user_id: string}}]
feature_views:
  - name: v
    entity: user
    batch: {refresh: 1h}
    fields:
      country: string
      j: json
      names: array<string>
      e: vector<float32, 2>
"""
FOREIGN: list[tuple[str, bytes]] = [
    ("j", b"1e400"),
    ("j", b'{"a":"\\ud800"}'),
    ("names", b'["\\udfff"]'),
    ("e", struct.pack("<2f", float("nan"), 1)),
    ("e", struct.pack("<2f", float("inf"), 1)),
]


VALUES = {"country": "NO", "j": [1], "names": ["a"], "e": [1.0, 2.0]}


@pytest.fixture(params=FOREIGN)
def foreign(request: pytest.FixtureRequest, store: FeatureStore, valkey: Server) -> dict[str, str]:
    """The statuses of the entity `u1` of `store`, whose one field has foreign bytes."""
    del store  # it is written
    field, data = request.param
    with valkey.client() as client:
        client.hset("fs:user:u1", field, data)
    return dict.fromkeys(VALUES, "present") | {field: "invalid"}


@pytest.fixture
def store(tmp_path: Path, valkey: Server) -> Iterator[FeatureStore]:
    with applied(tmp_path / "repo", valkey.url, REPO) as store:
        store.write_batch("v", {"u1": VALUES, "u2": VALUES})
        yield store


async def test_bytes_without_a_value_are_invalid_alone(
    store: FeatureStore, foreign: dict[str, str]
) -> None:
    reader = store.online_reader(["v"])
    assert reader.read("u1").statuses == foreign
    assert (await reader.read_async("u1")).statuses == foreign
    response = reader.get({"user_id": ["u1", "u2"]})
    assert {name: each[0] for name, each in response.statuses.items()} == foreign
    row = response.to_arrow().to_pylist()[0]
    assert [name for name in VALUES if row[name] is None] == [
        name for name in VALUES if foreign[name] == "invalid"
    ]
    assert response.to_pandas()["country"].tolist() == ["NO", "NO"]
    fields = {each.name: each.status for each in store.inspect("user", "u1").fields}
    assert fields == foreign
    await store.close_async()


@pytest.mark.usefixtures("store")
def test_commands_show_the_other_values(tmp_path: Path, foreign: dict[str, str]) -> None:
    repo = ("--repo", str(tmp_path / "repo"))
    get = (*repo, "get", "v", "--entity", "user_id=u1")
    assert "NO" in run(*get).stdout
    document = run_json(*get)
    assert {name: each[0] for name, each in document["statuses"].items()} == foreign
    assert "NO" in run(*repo, "inspect", "user", "u1").stdout
    fields = run_json(*repo, "inspect", "user", "u1")["fields"]
    assert {field["name"]: field["status"] for field in fields} == foreign


def test_the_server_and_its_console_show_the_other_values(
    store: FeatureStore, foreign: dict[str, str]
) -> None:
    with console(store) as http:
        body = {"features": ["v"], "entities": [{"user_id": "u1"}]}
        [row] = http.post("/v1/features/read", json=body).json()["rows"]
        assert {name: cell["status"] for name, cell in row["features"].items()} == foreign
        body = {"features": ["v"], "entities": {"user_id": ["u1"]}}
        results = http.post("/get-online-features", json=body).json()["results"][1:]
        statuses = [result["statuses"][0].lower() for result in results]
        assert statuses == list(foreign.values())
        read = {"features": ["v"], "ids": {"user": ["u1"]}}
        cells = http.post("/console/api/read", json=read).json()["rows"][0]["cells"]
        assert [cell["status"] for cell in cells] == list(foreign.values())
        answer = http.get("/console/api/inspect", params={"entity": "user", "id": "u1"})
        assert {each["name"]: each["status"] for each in answer.json()["fields"]} == foreign
