"""What the console's page is told, and on which terms."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.testclient import TestClient

from featurekit import FeatureStore
from featurekit.server.static_files import static_files
from tests.console.conftest import console, fill
from tests.servers import Server


def ask(client: TestClient, path: str, body: object) -> Any:
    return client.post(f"/console/api/{path}", json=body).json()


def test_the_page_and_its_files_allow_nothing_inline_and_nothing_from_elsewhere(
    client: TestClient,
) -> None:
    for path in ("", *(f"static/{name}" for name in static_files("featurekit.server.console"))):
        answer = client.get(f"/console/{path}")
        assert answer.status_code == 200, path
        assert "default-src 'self'" in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_file_that_did_not_change_is_not_sent_again(client: TestClient) -> None:
    first = client.get("/console/static/js/app.js")
    again = client.get(
        "/console/static/js/app.js", headers={"If-None-Match": first.headers["etag"]}
    )
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize("path", ["static/nothing.js", "static/../api.py", "static/%2e%2e/api.py"])
def test_nothing_but_the_console_s_own_files_is_served(client: TestClient, path: str) -> None:
    assert client.get(f"/console/{path}").status_code == 404


def test_the_address_without_its_slash_leads_to_the_page(client: TestClient) -> None:
    assert b"<title>" in client.get("/console").content


def test_no_file_of_the_page_reaches_outside_or_parses_html() -> None:
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


def test_the_registry_is_told_whole(client: TestClient) -> None:
    told = client.get("/console/api/registry").json()
    route = next(entity for entity in told["entities"] if entity["name"] == "route")
    profile = next(view for view in told["views"] if view["name"] == "profile")
    assert route["key"] == "fs:route:<origin>:<dest>"
    assert profile["expires"] == "1d, the whole entity"
    assert [field["default"] for field in profile["fields"]] == ["", "0", ""]
    assert told["history"][0]["changes"][0]["kind"] == "add"


def test_a_read_gives_text_type_status_and_what_is_left(client: TestClient) -> None:
    told = ask(client, "read", {"features": "fraud_v1", "ids": {"user": ["u1", "nobody"]}})
    names = [feature["name"] for feature in told["features"]]
    here, gone = (dict(zip(names, row["cells"], strict=True)) for row in told["rows"])
    assert (here["tx_count_7d"]["text"], here["tx_count_7d"]["status"]) == ("7", "present")
    assert 290_000 < here["tx_count_5m"]["ttl_ms"] <= 300_000
    assert (gone["country"]["text"], gone["country"]["status"]) == (None, "missing")
    assert [row["found"] for row in told["rows"]] == [True, False]


def test_a_read_tells_the_lines_that_ask_for_the_same(
    client: TestClient, store: FeatureStore
) -> None:
    told = ask(client, "read", {"features": "fraud_v1", "ids": {"user": ["it's"]}})
    lines = told["lines"]
    assert "http://127.0.0.1/get-online-features" in lines["curl"]
    assert lines["shell"] == """featurekit get fraud_v1 --entity 'user_id=it'"'"'s'"""
    call = lines["python"].partition("response = ")[2].partition("\n")[0]
    assert eval(call, {"store": store}).found == [False]


def test_a_read_over_two_entities_takes_ids_of_both(client: TestClient) -> None:
    body = {"features": "both", "ids": {"user": ["u1", "u2"], "merchant": ["42"]}}
    rows = ask(client, "read", body)["rows"]
    assert [row["keys"] for row in rows] == [
        {"user_id": "u1", "merchant_id": "42"},
        {"user_id": "u2", "merchant_id": "42"},
    ]
    assert [cell["text"] for cell in rows[0]["cells"]] == ["7", "9", "NO", "SE"]


def test_composite_ids_are_given_as_they_stand_in_keys(client: TestClient) -> None:
    assert client.get("/console/api/ids?entity=route").json()["ids"] == ["JFK:L%3AA"]
    told = ask(client, "read", {"features": ["delays"], "ids": {"route": ["JFK:L%3AA"]}})
    assert told["rows"][0]["keys"] == {"origin": "JFK", "dest": "L:A"}
    assert told["rows"][0]["cells"][0]["text"] == "2.5"


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
def test_what_cannot_be_asked_gets_one_message(
    client: TestClient, path: str, body: object, status: int, message: str
) -> None:
    answer = client.post(f"/console/api/{path}", json=body)
    error = answer.json()["error"]
    assert answer.status_code == status
    assert message in f"{error['where']}: {error['message']}"


def test_a_batch_read_tells_times_statuses_and_what_is_left(client: TestClient) -> None:
    told = ask(client, "batch-read", {"features": "fraud_v1", "entities": 10, "runs": 4})
    counts = dict(zip([f["name"] for f in told["features"]], told["statuses"], strict=True))
    assert (told["entities"], len(told["runs_ms"])) == (3, 4)
    assert counts["tx_count_5m"] == {"present": 1, "default": 2}
    assert counts["country"] == {"present": 3}
    assert sum(told["left"]["stream"]) == 1


def test_a_batch_read_passes_over_keys_that_are_none_of_ours(
    client: TestClient, valkey: Server
) -> None:
    with valkey.client() as other:
        other.hset("fs:merchant:no-number", "sales", 1)
    told = ask(client, "batch-read", {"features": ["shop"], "runs": 1})
    assert told["entities"] == 1


def test_a_batch_read_of_an_empty_store_measures_nothing(store: FeatureStore) -> None:
    with console(store) as client:
        told = ask(client, "batch-read", {"features": "fraud_v1"})
    assert (told["entities"], told["runs_ms"]) == (0, [])


def test_an_inspection_shows_bytes_beside_values_and_says_why_others_miss(
    client: TestClient, valkey: Server
) -> None:
    with valkey.client() as other:
        other.hset("fs:user:u2", mapping={"mine": b"\xff<b>", "tx_count_7d": "many"})
    told = client.get("/console/api/inspect?entity=user&id=u2").json()
    fields = {field["name"]: field for field in told["fields"]}
    assert (fields["country"]["raw"], fields["country"]["text"]) == ("'NO'", "NO")
    assert (fields["mine"]["status"], fields["mine"]["raw"]) == ("unknown", "'\\xff<b>'")
    assert "int64" in fields["tx_count_7d"]["why"]
    assert "for at least 5m" in fields["device"]["why"]


def test_an_inspection_of_nothing_says_so(client: TestClient) -> None:
    told = client.get("/console/api/inspect?entity=route&id=A:B").json()
    assert (told["key"], told["found"]) == ("fs:route:A:B", False)


def test_loads_are_told_newest_first(client: TestClient) -> None:
    history = client.get("/console/api/loads").json()["history"]
    assert [run["view"] for run in history] == ["delays", "shop", "profile"]


def test_a_reset_is_off_unless_writes_are_allowed(client: TestClient, valkey: Server) -> None:
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
def test_the_scopes_of_tokens_hold(
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


def test_answers_are_never_kept(client: TestClient) -> None:
    for path in ("session", "registry", "loads", "letters", "ids?entity=user"):
        assert client.get(f"/console/api/{path}").headers["cache-control"] == "no-store", path
