"""The console's JSON endpoints and their access rules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from featurekit import FeatureStore
from featurekit.server.static_files import static_files
from tests.console.conftest import console, fill
from tests.promise.repos import applied
from tests.runtime.test_aliases import AIRPORTS, SERVED
from tests.runtime.test_aliases import fill as fill_airports
from tests.servers import Server
from tests.testclient import TestClient


def ask(client: TestClient, path: str, body: object) -> Any:
    return client.post(f"/console/api/{path}", json=body).json()


def test_the_page_allows_no_inline_script_and_no_other_origin(
    client: TestClient,
) -> None:
    for path in ("", *(f"static/{name}" for name in static_files("featurekit.server.console"))):
        answer = client.get(f"/console/{path}")
        assert answer.status_code == 200, path
        assert "default-src 'self'" in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_an_unchanged_file_is_not_sent_again(client: TestClient) -> None:
    first = client.get("/console/static/js/app.js")
    again = client.get(
        "/console/static/js/app.js", headers={"If-None-Match": first.headers["etag"]}
    )
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize("path", ["static/nothing.js", "static/../api.py", "static/%2e%2e/api.py"])
def test_only_the_consoles_own_files_are_served(client: TestClient, path: str) -> None:
    assert client.get(f"/console/{path}").status_code == 404


def test_the_address_without_a_slash_redirects_to_the_page(client: TestClient) -> None:
    assert b"<title>" in client.get("/console").content


def test_no_file_of_the_page_loads_another_origin_or_parses_html() -> None:
    scripts = {
        n: f.data.decode()
        for n, f in static_files("featurekit.server.console").items()
        if n.startswith("js/")
    }
    assert scripts
    for name, text in scripts.items():
        assert "innerHTML" not in text, name
        assert "://" not in text.replace("http://www.w3.org/2000/svg", ""), name
        assert text.count("\n") < 400, name


def test_the_registry_is_returned_as_a_whole(client: TestClient) -> None:
    result = client.get("/console/api/registry").json()
    route = next(entity for entity in result["entities"] if entity["name"] == "route")
    profile = next(view for view in result["views"] if view["name"] == "profile")
    assert route["key"] == "fs:route:<origin>:<dest>"
    assert profile["expires"] == "1d, the whole entity"
    assert [field["default"] for field in profile["fields"]] == ["", "0", ""]
    assert result["history"][0]["changes"][0]["kind"] == "add"


def test_a_read_returns_text_type_status_and_remaining_ttl(client: TestClient) -> None:
    result = ask(client, "read", {"features": "fraud_v1", "ids": {"user": ["u1", "nobody"]}})
    names = [feature["name"] for feature in result["features"]]
    here, gone = (dict(zip(names, row["cells"], strict=True)) for row in result["rows"])
    assert (here["tx_count_7d"]["text"], here["tx_count_7d"]["status"]) == ("7", "present")
    assert 290_000 < here["tx_count_5m"]["ttl_ms"] <= 300_000
    assert (gone["country"]["text"], gone["country"]["status"]) == (None, "missing")
    assert [row["found_by"] for row in result["rows"]] == [{"user": True}, {"user": False}]


def test_a_read_returns_the_same_read_in_python_curl_and_shell(
    client: TestClient, store: FeatureStore
) -> None:
    result = ask(client, "read", {"features": "fraud_v1", "ids": {"user": ["it's"]}})
    lines = result["lines"]
    assert "http://127.0.0.1/get-online-features" in lines["curl"]
    assert lines["shell"] == """featurekit get fraud_v1 --entity 'user_id=it'"'"'s'"""
    call = lines["python"].partition("response = ")[2].partition("\n")[0]
    assert eval(call, {"store": store}).found == [False]


def test_a_read_of_two_entities_takes_ids_of_both(client: TestClient) -> None:
    body = {"features": "both", "ids": {"user": ["u1", "u2"], "merchant": ["42"]}}
    rows = ask(client, "read", body)["rows"]
    assert [row["keys"] for row in rows] == [
        {"user_id": "u1", "merchant_id": "42"},
        {"user_id": "u2", "merchant_id": "42"},
    ]
    assert [cell["text"] for cell in rows[0]["cells"]] == ["7", "9", "NO", "SE"]


def test_composite_ids_are_written_as_in_keys(client: TestClient) -> None:
    assert client.get("/console/api/ids?entity=route").json()["ids"] == ["JFK:L%3AA"]
    result = ask(client, "read", {"features": ["delays"], "ids": {"route": ["JFK:L%3AA"]}})
    assert result["rows"][0]["keys"] == {"origin": "JFK", "dest": "L:A"}
    assert result["rows"][0]["cells"][0]["text"] == "2.5"


def test_reads_of_pages_are_not_counted_as_reads_of_users(
    client: TestClient, store: FeatureStore
) -> None:
    ask(client, "read", {"features": "fraud_v1", "ids": {"user": ["u1"]}})
    ask(client, "batch-read", {"features": "fraud_v1", "runs": 2})
    client.get("/console/api/ids?entity=user&view=activity")
    metrics = store.metrics()
    assert (metrics.reads, metrics.features) == ({}, {})
    store.get_online_features("fraud_v1", [{"user_id": "u1"}])
    assert store.metrics().reads["fraud_v1"].calls == 1


def test_ids_are_those_with_a_value_of_a_view(client: TestClient) -> None:
    def ids(view: str) -> object:
        return client.get(f"/console/api/ids?entity=user&view={view}").json().get("ids")

    assert ids("activity") == ["u1"]
    assert ids("profile") == ["u1", "u2", "u3"]
    assert ids("scores") == []
    assert client.get("/console/api/ids?entity=user&view=shop").status_code == 422


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("read", {"features": "fraud_v1", "ids": {"user": []}}, 422, "0 ids of user"),
        ("read", {"features": "fraud_v1", "ids": ["u1"]}, 422, "expected an object"),
        ("read", {"features": "fraud", "ids": {"user": ["u1"]}}, 404, "fraud"),
        ("read", {"features": [], "ids": {}}, 422, "expected a feature service"),
        ("read", {"features": ["shop"], "ids": {"merchant": ["x"]}}, 422, "merchant id 'x'"),
        ("read", {"features": "fraud_v1", "ids": {"user": ["u"] * 101}}, 422, "at most 100"),
        ("read", ["fraud_v1"], 422, "JSON object"),
        ("batch-read", {"features": "fraud_v1", "entities": 1001}, 422, "from 0 to 1000"),
        ("batch-read", {"features": "fraud_v1", "runs": True}, 422, "from 0 to 100"),
    ],
)
def test_an_invalid_request_is_one_message(
    client: TestClient, path: str, body: object, status: int, message: str
) -> None:
    answer = client.post(f"/console/api/{path}", json=body)
    error = answer.json()["error"]
    assert answer.status_code == status
    assert message in f"{error['where']}: {error['message']}"


def test_a_batch_read_returns_times_statuses_and_ttl_histograms(client: TestClient) -> None:
    result = ask(client, "batch-read", {"features": "fraud_v1", "entities": 10, "runs": 4})
    counts = dict(zip([f["name"] for f in result["features"]], result["statuses"], strict=True))
    assert (result["entities"], len(result["runs_ms"])) == (3, 4)
    assert counts["tx_count_5m"] == {"present": 1, "default": 2}
    assert counts["country"] == {"present": 3}
    assert sum(result["left"]["stream"]) == 1


def test_a_batch_read_ignores_keys_of_other_programs(client: TestClient, valkey: Server) -> None:
    with valkey.client() as other:
        other.hset("fs:merchant:no-number", "sales", 1)
    result = ask(client, "batch-read", {"features": ["shop"], "runs": 1})
    assert result["entities"] == 1


def test_a_batch_read_of_an_empty_store_measures_nothing(store: FeatureStore) -> None:
    with console(store) as client:
        result = ask(client, "batch-read", {"features": "fraud_v1"})
    assert (result["entities"], result["runs_ms"]) == (0, [])


def test_an_inspection_returns_bytes_values_and_reasons_for_missing_fields(
    client: TestClient, valkey: Server
) -> None:
    with valkey.client() as other:
        other.hset("fs:user:u2", mapping={"mine": b"\xff<b>", "tx_count_7d": "many"})
    result = client.get("/console/api/inspect?entity=user&id=u2").json()
    fields = {field["name"]: field for field in result["fields"]}
    assert (fields["country"]["raw"], fields["country"]["text"]) == ("'NO'", "NO")
    assert (fields["mine"]["status"], fields["mine"]["raw"]) == ("unknown", "'\\xff<b>'")
    assert "int64" in fields["tx_count_7d"]["why"]
    assert "for at least 5m" in fields["device"]["why"]


def test_an_inspection_of_a_missing_entity_is_not_found(client: TestClient) -> None:
    result = client.get("/console/api/inspect?entity=route&id=A:B").json()
    assert (result["key"], result["found"]) == ("fs:route:A:B", False)


def test_loads_are_returned_newest_first(client: TestClient) -> None:
    history = client.get("/console/api/loads").json()["history"]
    assert [run["view"] for run in history] == ["delays", "shop", "profile"]


def test_a_reset_needs_allow_writes(client: TestClient, valkey: Server) -> None:
    answer = client.post("/console/api/reset", json={})
    assert answer.status_code == 422
    assert "--allow-writes" in answer.json()["error"]["hint"]
    with valkey.client() as other:
        assert other.exists("fs:user:u1")


def test_a_reset_of_one_entity_leaves_the_others(store: FeatureStore, valkey: Server) -> None:
    fill(store)
    with console(store, writes=True) as client:
        assert ask(client, "reset", {"entity": "user"}) == {"deleted": 3}
        assert client.get("/console/api/ids?entity=user").json()["ids"] == []
    with valkey.client() as other:
        assert not other.exists("fs:user:u1")
        assert other.exists("fs:merchant:42")


@pytest.mark.parametrize(
    ("token", "scope", "registry", "reset"),
    [("", None, 401, 401), ("one", "read", 200, 403), ("two", "write", 200, 200)],
)
def test_token_scopes_apply_to_the_console(
    store: FeatureStore, token: str, scope: str | None, registry: int, reset: int
) -> None:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    with console(store, tokens="read:one,write:two", writes=True) as client:
        session = client.get("/console/api/session", headers=headers).json()
        assert (session["tokens"], session["scope"]) == (True, scope)
        assert session["writes"] is (scope == "write")
        assert client.get("/console/api/registry", headers=headers).status_code == registry
        assert client.post("/console/api/reset", headers=headers, json={}).status_code == reset
        assert client.get("/console/").status_code == 200


def test_responses_are_not_cached(client: TestClient) -> None:
    for path in ("session", "registry", "loads", "letters", "ids?entity=user"):
        assert client.get(f"/console/api/{path}").headers["cache-control"] == "no-store", path


def test_a_service_with_aliases_is_shown_and_read(valkey: Server, tmp_path: Path) -> None:
    with applied(tmp_path, valkey.url, AIRPORTS) as store:
        fill_airports(store)
        client = console(store)
        [service] = client.get("/console/api/registry").json()["services"]
        assert service["features"][-1] == "weather:wind as dest (airport: dest)"
        assert [group["name"] for group in service["groups"]] == ["route"]
        body = {"features": "flight_v1", "ids": {"route": ["JFK:LAX"]}}
        result = ask(client, "read", body)
        names = [feature["name"] for feature in result["features"]]
        assert names == ["minutes", *[*SERVED][3:]]
        assert result["rows"][0]["found_by"] == {"route": True, "origin": True, "dest": True}
        assert ask(client, "batch-read", {"features": "flight_v1"})["entities"] == 1


def test_derived_features_are_read_and_needed_request_data_is_named(
    tmp_path: Path, valkey: Server
) -> None:
    with applied(tmp_path, valkey.url, COMPUTED) as store, console(store) as client:
        store.stream_writer("activity").write("u1", {"clicks": 3})
        read = ask(client, "read", {"features": "plain", "ids": {"user": ["u1"]}})
        assert [cell["text"] for cell in read["rows"][0]["cells"]] == ["6", "web/web", "3"]
        assert [each["kind"] for each in read["features"]] == ["derived", "derived", "stream"]
        measured = ask(
            client, "batch-read", {"features": ["risk:twice"], "entities": 1, "runs": 1}
        )
        assert measured["features"][0]["view"] == "risk"
        error = ask(client, "read", {"features": "needy", "ids": {"user": ["u1"]}})["error"]
    assert error["message"] == "needs request data, which the console does not send: amount"
    assert error["hint"] == "use `featurekit get needy --entity ... --request amount=...`"


COMPUTED = """
entities: [{name: user, join_keys: {user_id: string}}]
requests: [{name: payment, fields: {amount: float64, channel: {type: string, default: web}}}]
feature_views:
  - {name: activity, entity: user, stream: {refresh: 1m}, fields: {clicks: int64}}
  - name: risk
    derived: {from: [activity, payment]}
    fields:
      twice: {type: int64, expr: clicks * 2}
      text: {type: string, expr: "channel || '/' || channel"}
      ratio: {type: float64, expr: amount / clicks}
feature_services:
  - {name: plain, features: ["risk:twice", "risk:text", "activity:clicks"]}
  - {name: needy, features: [risk]}
"""
