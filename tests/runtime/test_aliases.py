"""The same view read twice in one request, under an alias and with other join keys."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from featurekit import FeatureStore
from featurekit.errors import FeatureKitError, RequestError, UnknownNameError
from featurekit.server.app import create_app
from featurekit.server.context import ServerContext
from tests.cli.running import run, run_json
from tests.promise.repos import applied, commands, names
from tests.servers import Server
from tests.testclient import TestClient

AIRPORTS = """
entities:
  - {name: airport, join_keys: {airport: string}}
  - {name: route, join_keys: {origin: string, dest: string}}
feature_views:
  - name: weather
    entity: airport
    batch: {refresh: 1h, ordering: event_time, ttl: 48h}
    fields: {wind: {type: float64, default: 0}, rain: float64}
  - name: traffic
    entity: airport
    stream: {refresh: 1m, ttl: 1h}
    fields: {departures: int64}
  - name: delays
    entity: route
    batch: {refresh: 24h}
    fields: {minutes: {type: int64, default: 0}}
feature_services:
  - name: flight_v1
    features:
      - delays
      - {view: weather, as: origin, join_keys: {airport: origin}}
      - {view: traffic, as: origin, join_keys: {airport: origin}}
      - {view: weather, as: dest, join_keys: {airport: dest}, fields: [wind]}
"""
WEATHER = {"view": "weather", "as": "origin", "join_keys": {"airport": "origin"}}
TWICE: list[Any] = [WEATHER, "weather:wind"]
ROWS = [
    {"origin": "JFK", "dest": "LAX"},
    {"origin": "LAX", "dest": "LAX"},
    {"origin": "SFO", "dest": "JFK"},
]
SERVED: dict[str, list[Any]] = {
    "origin": ["JFK", "LAX", "SFO"],
    "dest": ["LAX", "LAX", "JFK"],
    "minutes": [7, 0, 0],
    "origin__wind": [1.5, 2.5, 0.0],
    "origin__rain": [0.5, None, None],
    "origin__departures": [3, None, None],
    "dest__wind": [2.5, 2.5, 1.5],
}
FOUND = {
    "route": [True, False, False],
    "origin": [True, True, False],
    "dest": [True, True, True],
}


def fill(store: FeatureStore) -> None:
    now = datetime.now(UTC)
    rows = [
        {"airport": "JFK", "wind": 1.5, "rain": 0.5, "event_timestamp": now.isoformat()},
        {"airport": "LAX", "wind": 2.5, "event_timestamp": (now - timedelta(hours=2)).isoformat()},
    ]
    store.write_jsonl("weather", map(json.dumps, rows))
    store.write_batch("delays", {("JFK", "LAX"): {"minutes": 7}})
    store.stream_writer("traffic").write("JFK", {"departures": 3})


@pytest.fixture
def flights(valkey: Server, tmp_path: Path) -> Iterator[FeatureStore]:
    with applied(tmp_path, valkey.url, AIRPORTS) as store:
        fill(store)
        yield store


def test_a_view_is_read_twice_under_its_aliases(flights: FeatureStore) -> None:
    response = flights.get_online_features("flight_v1", ROWS)
    assert response.to_dict() == SERVED
    assert response.found_by == FOUND
    assert response.found == [True, False, False]
    assert response.statuses["origin__rain"] == ["present", "missing", "missing"]
    assert response.statuses["origin__wind"] == ["present", "present", "default"]
    assert response.to_arrow().to_pydict() == SERVED
    assert response.to_json()[0] == {name: values[0] for name, values in SERVED.items()}


def test_a_row_has_the_aliased_features_as_attributes(flights: FeatureStore) -> None:
    reader = flights.online_reader("flight_v1")
    assert reader.plan.join_keys == ("origin", "dest")
    row = reader.read(("JFK", "LAX"))
    assert (row.origin__wind, row.dest__wind, row.minutes) == (1.5, 2.5, 7)
    assert row.found_by == {"route": True, "origin": True, "dest": True}
    again = pickle.loads(pickle.dumps(reader)).read({"dest": "JFK", "origin": "SFO"})
    assert (again.origin__wind, again.dest__wind) == (0.0, 1.5)
    assert again.found_by == {"route": False, "origin": False, "dest": True}


async def test_asyncio_reads_are_the_same(flights: FeatureStore) -> None:
    response = await flights.get_online_features_async("flight_v1", ROWS)
    assert (response.to_dict(), response.found_by) == (SERVED, FOUND)
    row = await flights.online_reader("flight_v1").read_async(("JFK", "LAX"))
    assert row.dest__wind == 2.5


def test_all_aliases_are_read_in_one_round_trip(flights: FeatureStore, valkey: Server) -> None:
    reader = flights.online_reader("flight_v1")
    reader.get(ROWS)
    before = flights.handle.connection_stats.round_trips
    with commands(valkey) as seen:
        reader.get(ROWS)
    assert flights.handle.connection_stats.round_trips == before + 1
    assert names(seen) == {"HMGET": 9}


@pytest.mark.parametrize("full", [False, True])
def test_a_list_takes_mappings_and_an_alias_always_begins_the_name(
    flights: FeatureStore,
    full: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    entities = {"airport": ["LAX"], "origin": ["JFK"]}
    response = flights.get_online_features(TWICE, entities, full_feature_names=full)
    other = "weather__wind" if full else "wind"
    assert response.to_dict() == {
        "origin": ["JFK"],
        "airport": ["LAX"],
        "origin__wind": [1.5],
        "origin__rain": [0.5],
        other: [2.5],
    }
    assert response.found_by == {"origin": [True], "airport": [True]}
    assert flights.online_reader(TWICE) is flights.online_reader(TWICE)


def test_an_alias_may_have_the_join_keys_of_the_view(flights: FeatureStore) -> None:
    items: list[Any] = ["traffic", {"view": "weather", "as": "now", "fields": ["wind"]}]
    response = flights.get_online_features(items, {"airport": ["JFK", "LAX"]})
    assert response.to_dict()["now__wind"] == [1.5, 2.5]
    assert response.found_by == {"airport": [True, False], "now": [True, True]}
    assert response.found == [True, False]


def test_join_keys_may_be_renamed_without_an_alias_and_swapped(flights: FeatureStore) -> None:
    back = {"view": "delays", "as": "back", "join_keys": {"origin": "dest", "dest": "origin"}}
    items: list[Any] = ["delays", back, {"view": "traffic", "join_keys": {"airport": "origin"}}]
    response = flights.get_online_features(items, [{"origin": "LAX", "dest": "JFK"}])
    assert response.to_rows() == [
        {"origin": "LAX", "dest": "JFK", "minutes": 0, "back__minutes": 7, "departures": None}
    ]
    assert response.found_by == {"route": [False], "back": [True], "airport": [False]}


def test_a_mapping_without_alias_and_join_keys_selects_fields(flights: FeatureStore) -> None:
    items: list[Any] = [{"view": "weather", "fields": ["rain", "wind"]}, "weather:wind"]
    assert flights.online_reader(items).get({"airport": ["JFK"]}).feature_names == ["rain", "wind"]


def test_a_limit_on_the_age_names_a_view_or_an_alias(flights: FeatureStore) -> None:
    def stale(**max_age: str) -> set[str]:
        response = flights.get_online_features("flight_v1", ROWS[1:2], max_age=max_age)
        return {name for name, [status] in response.statuses.items() if status == "stale"}

    assert stale(weather="1h") == {"origin__wind", "dest__wind"}
    assert stale(dest="1h") == {"dest__wind"}
    assert stale(weather="1h", dest="3h") == {"origin__wind"}
    assert flights.get_online_features(
        "flight_v1", ROWS[1:2], max_age={"weather": "1h"}
    ).found_by == {name: found[1:2] for name, found in FOUND.items()}
    with pytest.raises(RequestError, match="'traffic' is not among the features"):
        flights.online_reader(TWICE, max_age={"traffic": "1h"})


def test_freshness_is_that_of_each_alias(flights: FeatureStore) -> None:
    response = flights.get_online_features("flight_v1", ROWS[:1], freshness=True)
    ages = {name: age or 0 for name, [age] in response.ages.items()}
    assert ages["origin__wind"] < 3600 < ages["dest__wind"]
    assert 0 < (response.freshness["origin__departures"][0] or 0) <= 3600


@pytest.mark.parametrize(
    ("items", "error", "message"),
    [
        ([WEATHER, WEATHER | {"join_keys": {"airport": "dest"}}], RequestError, "two entities"),
        (["weather", {"view": "weather", "join_keys": {"airport": "o"}}], RequestError, "two ent"),
        ([WEATHER | {"as": "route"}, "delays"], RequestError, "'route' would stand for two"),
        ([WEATHER | {"as": "weather"}, "weather:wind"], RequestError, "name of another view"),
        ([WEATHER | {"view": "winds"}], UnknownNameError, "unknown feature view 'winds'"),
        ([WEATHER | {"fields": ["wnd"]}], UnknownNameError, "unknown field 'wnd'"),
        ([WEATHER | {"join_keys": {"airprt": "origin"}}], RequestError, "unknown join key"),
        ([WEATHER | {"as": "s.x = 1#"}], RequestError, "expected a name of lower-case"),
        ([WEATHER | {"as": 5}], RequestError, "'as' is 5"),
        ([WEATHER | {"fields": []}], RequestError, "expected a list of names"),
        ([WEATHER | {"fields": "wind"}], RequestError, "expected a list of names"),
        ([WEATHER | {"join_keys": ["airport"]}], RequestError, "expected a mapping of join keys"),
        ([WEATHER | {"join_keys": {"airport": 1}}], RequestError, "expected a mapping of join"),
        ([WEATHER | {"alias": "o"}], RequestError, "unknown key 'alias'"),
        ([{"as": "origin"}], RequestError, "'view' must be the name"),
        ([{"view": "delays", "join_keys": {"origin": "dest"}}], RequestError, "two join keys"),
    ],
)
def test_a_wrong_item_is_refused(
    flights: FeatureStore, items: list[Any], error: type[FeatureKitError], message: str
) -> None:
    with pytest.raises(error, match=message):
        flights.online_reader(items)


def test_join_keys_of_one_name_must_have_one_type(valkey: Server, tmp_path: Path) -> None:
    definitions = """
entities: [{name: a, join_keys: {k: string}}, {name: b, join_keys: {n: int64}}]
feature_views:
  - {name: one, entity: a, batch: {refresh: 1h}, fields: {x: int64}}
  - {name: two, entity: b, batch: {refresh: 1h}, fields: {y: int64}}
"""
    with applied(tmp_path, valkey.url, definitions) as store:
        items: list[Any] = ["one", {"view": "two", "join_keys": {"n": "k"}}]
        with pytest.raises(RequestError, match="join key 'k' has different types"):
            store.online_reader(items)


def test_metrics_count_the_view_of_each_alias(flights: FeatureStore) -> None:
    flights.get_online_features("flight_v1", ROWS)
    counts = flights.metrics().features["weather"]
    assert {status: n for status, n in counts.items() if n} == {
        "present": 6,
        "missing": 2,
        "default": 1,
    }


def test_http_reads_aliases_in_both_forms(flights: FeatureStore) -> None:
    client = TestClient(create_app(ServerContext(flights)))
    body: dict[str, Any] = {"features": TWICE, "entities": [{"airport": "LAX", "origin": "JFK"}]}
    [row] = client.post("/v1/features/read", json=body).json()["rows"]
    assert row["found_by"] == {"origin": True, "airport": True}
    assert {name: cell["value"] for name, cell in row["features"].items()} == {
        "origin__wind": 1.5,
        "origin__rain": 0.5,
        "wind": 2.5,
    }
    body = {"entities": ROWS, "max_age": {"dest": "1h"}}
    rows = client.post("/v1/services/flight_v1/read", json=body).json()["rows"]
    assert [row["features"]["dest__wind"]["status"] for row in rows] == ["stale"] * 2 + ["present"]
    body = {"features": TWICE, "entities": {"airport": ["LAX"], "origin": ["JFK"]}}
    document = client.post("/get-online-features", json=body).json()
    columns = document["metadata"]["feature_names"]
    assert columns == ["origin", "airport", "origin__wind", "origin__rain", "wind"]
    assert [result["values"][0] for result in document["results"]] == ["JFK", "LAX", 1.5, 0.5, 2.5]
    times = [result["event_timestamps"][0] for result in document["results"]]
    assert times[2] == times[3] > times[4] > times[0]
    for features, status in (
        ([WEATHER | {"view": "winds"}], 404),
        ([WEATHER | {"fields": 5}], 422),
        ([WEATHER, 5], 422),
        ([WEATHER | {"as": f"a{i}"} for i in range(101)], 422),
    ):
        body = {"features": features, "entities": []}
        assert client.post("/v1/features/read", json=body).status_code == status
        body = {"features": features, "entities": {}}
        assert client.post("/get-online-features", json=body).status_code == status


def test_the_openapi_document_has_the_names_of_aliases(flights: FeatureStore) -> None:
    document = TestClient(create_app(ServerContext(flights))).get("/openapi.json").json()
    schemas = document["components"]["schemas"]
    request, row = schemas["flight_v1_request"], schemas["flight_v1_row"]
    assert list(request["properties"]["entities"]["items"]["properties"]) == ["origin", "dest"]
    ages = request["properties"]["max_age"]["properties"]
    assert [*ages] == ["delays", "weather", "origin", "traffic", "dest"]
    assert [*row["properties"]["features"]["properties"]] == [*SERVED][2:]
    assert document["paths"]["/v1/features/read"]["post"]["requestBody"]["content"][
        "application/json"
    ]["schema"]["properties"]["features"]["items"]["anyOf"][1]["required"] == ["view"]


def test_commands_read_and_describe_aliases(flights: FeatureStore) -> None:
    repo = ["--repo", str(flights.path)]
    pair = ["--entity", "origin=JFK,dest=LAX"]
    document = run_json(*repo, "get", "flight_v1", *pair)
    assert document["features"] == {name: values[:1] for name, values in SERVED.items()}
    assert document["found_by"] == {name: found[:1] for name, found in FOUND.items()}
    item = "{view: weather, as: dest, join_keys: {airport: dest}, fields: [wind]}"
    document = run_json(*repo, "get", "delays", item, *pair)
    assert document["features"] | {"minutes": [7]} == document["features"]
    assert document["features"]["dest__wind"] == [2.5]
    assert "dest__wind" in run(*repo, "get", "flight_v1", *pair).output
    for wrong in ("{view: weather, as", "{}", "{view: weather, like: dest}"):
        assert run(*repo, "get", wrong, *pair).exit_code in (1, 2)
    described = run_json(*repo, "describe", "flight_v1")
    assert described["entities"] == ["route", "airport"]
    assert described["features"][0] == "delays:minutes"
    assert described["features"][-1] == {
        "view": "weather",
        "as": "dest",
        "join_keys": {"airport": "dest"},
        "fields": ["wind"],
    }
    assert flights.get_online_features(described["features"], ROWS).to_dict() == SERVED
    assert "weather:wind as dest (airport: dest)" in run(*repo, "describe", "flight_v1").output
    assert run_json(*repo, "describe", "weather:wind")["services"] == ["flight_v1"]
    assert "weather as origin" in run(*repo, "list", "services").output
    service = flights.get_feature_service("flight_v1")
    assert service.features[-1] == "weather:wind as dest (airport: dest)"


def test_plan_shows_what_changes_about_an_alias(flights: FeatureStore) -> None:
    file = flights.path / "features.yaml"
    file.write_text(file.read_text().replace("as: dest", "as: to"))
    with FeatureStore(flights.path) as store:
        [change] = store.plan()
    assert change.kind == "compatible"
    assert change.detail == (
        "+weather:wind as to (airport: dest), -weather:wind as dest (airport: dest)"
    )
