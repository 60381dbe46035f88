"""The demo's endpoints answer recorded requests of the guide's demo."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from featurekit.demo.synthetic_users import profile
from tests.demo.demo_app import DemoApp, demo_app
from tests.servers import Server

BATCH = ["country_iso", "risk_segment", "account_age_days", "tx_count_7d", "avg_amount_30d",
         "chargeback_count_180d"]  # fmt: skip
STREAM = ["last_login_ts", "last_device_id", "tx_count_5m", "failed_logins_15m",
          "session_country"]  # fmt: skip


@pytest.fixture
async def app(valkey: Server, tmp_path: Path) -> AsyncIterator[DemoApp]:
    async with demo_app(tmp_path, valkey.url) as app:
        yield app


@pytest.fixture
async def filled(app: DemoApp) -> DemoApp:
    """A demo with five users, all with stream features."""
    await app.post("/bulk-load", {"count": 5})
    app.tick()
    return app


async def test_state_has_the_keys_of_the_guides_demo(filled: DemoApp) -> None:
    state = await filled.get("/state")
    assert state["key_prefix"] == "fs:user:"
    assert (state["batch_ttl_seconds"], state["streaming_ttl_seconds"]) == (86_400, 300)
    assert (state["entity_count"], state["entity_ids"]) == (5, ["u0001", "u0002", "u0003", "u0004", "u0005"])  # fmt: skip
    assert state["stats"] == {
        "batch_writes_total": 5,
        "streaming_writes_total": 25,
        "reads_total": 0,
        "read_fields_total": 0,
    }
    assert (
        state["worker"].items() >= {"paused": False, "tick_count": 1, "writes_count": 25}.items()
    )


async def test_bulk_load_writes_users_with_the_ttl(app: DemoApp, valkey: Server) -> None:
    answer = await app.post("/bulk-load", {"count": 3, "ttl": 60})
    assert answer.keys() == {"loaded", "ttl_seconds", "elapsed_ms"}
    assert (answer["loaded"], answer["ttl_seconds"]) == (3, 60)
    with valkey.client() as client:
        assert sorted(client.keys("fs:user:*")) == [b"fs:user:u0001", b"fs:user:u0002", b"fs:user:u0003"]  # fmt: skip
        assert 58 <= client.ttl("fs:user:u0003") <= 60
        assert {*client.hgetall("fs:user:u0001")} == {name.encode() for name in BATCH}
    assert (await app.post("/bulk-load"))["loaded"] == 200
    assert (await app.get("/state"))["entity_count"] == 200


async def test_another_ttl_is_declared_and_applied(app: DemoApp) -> None:
    await app.post("/bulk-load", {"count": 1, "ttl": 60})
    newest, _ = app.service.store.apply_history()
    assert newest.changes[0].detail == "ttl 1d -> 1m"
    assert (await app.get("/state"))["store"]["batch_ttl_seconds"] == 60
    levels = {finding.subject: finding.level for finding in app.service.store.doctor()}
    for view in ("user_activity", "user_tx"):
        assert levels.pop(f"view {view}") == "warn"  # nothing was written to it
    assert {*levels.values()} == {"ok"}
    assert (await app.post("/bulk-load", {"count": 1}))["ttl_seconds"] == 86_400


async def test_toggle_pauses_and_resumes(app: DemoApp) -> None:
    assert (await app.post("/worker/toggle")).items() >= {"paused": True}.items()
    assert (await app.post("/worker/toggle", {})).items() >= {"paused": False}.items()


async def test_read_returns_texts_ttls_and_typed_values(filled: DemoApp) -> None:
    names = ["tx_count_5m", "avg_amount_30d"]
    answer = await filled.post("/read", {"user": "u0002", "field": names})
    amount = profile(2)["avg_amount_30d"]
    assert answer["requested"] == names
    assert answer["values"]["avg_amount_30d"] == str(amount)
    assert answer["typed"]["avg_amount_30d"] == amount
    assert answer["typed"]["tx_count_5m"] == int(answer["values"]["tx_count_5m"])
    assert answer["ttls"]["avg_amount_30d"] == -1
    assert 298 <= answer["ttls"]["tx_count_5m"] <= 300
    assert 86_300 <= answer["key_ttl_seconds"] <= 86_400
    assert (answer["returned_count"], answer["found"]) == (2, True)
    assert 0 < answer["elapsed_ms"] < 60_000


async def test_batch_read_counts_the_fields_of_all_users(filled: DemoApp) -> None:
    answer = await filled.post("/batch-read", {"count": 3, "field": ["tx_count_5m", "nope"]})
    assert (answer["entity_count"], answer["field_count"]) == (3, 2)
    assert [each["field_count"] for each in answer["sample"]] == [1, 1, 1]
    assert answer["entities"] == answer["sample"]
    assert answer["statuses"] == {"present": 3, "unknown": 3}
    stats = (await filled.get("/state"))["stats"]
    assert (stats["reads_total"], stats["read_fields_total"]) == (3, 3)


async def test_batch_read_without_fields_reads_the_stream_fields_and_the_segment(
    filled: DemoApp,
) -> None:
    answer = await filled.post("/batch-read")
    assert (answer["entity_count"], answer["field_count"]) == (5, 6)
    assert {each["field_count"] for each in answer["entities"]} == {6}


async def test_batch_read_of_an_empty_store_is_empty(app: DemoApp) -> None:
    answer = await app.post("/batch-read")
    assert (answer["entity_count"], answer["sample"]) == (0, [])


async def test_inspect_shows_the_whole_hash_sorted(filled: DemoApp, valkey: Server) -> None:
    with valkey.client() as client:
        client.hset("fs:user:u0001", "stray", "x")
    answer = await filled.get("/inspect?user=u0001")
    assert (answer["exists"], answer["key_ttl_seconds"] > 86_000) == (True, True)
    names = [field["name"] for field in answer["fields"]]
    assert names == sorted([*BATCH, *STREAM, "stray"])
    result = {field["name"]: field for field in answer["fields"]}
    assert (
        result["stray"].items() >= {"value": "x", "ttl_seconds": -1, "status": "unknown"}.items()
    )
    assert result["tx_count_7d"]["value"] == str(result["tx_count_7d"]["typed"])
    assert result["tx_count_5m"]["ttl_seconds"] >= 240


async def test_inspect_returns_declared_fields_that_are_missing(app: DemoApp) -> None:
    await app.post("/bulk-load", {"count": 1})
    fields = (await app.get("/inspect?user=u0001"))["fields"]
    gone = {field["name"] for field in fields if field["ttl_seconds"] == -2}
    assert gone == {*STREAM}
    assert await app.get("/inspect?user=nobody") == {"exists": False, "key_ttl_seconds": -2}


async def test_reset_deletes_only_the_users_and_the_counters(
    filled: DemoApp, valkey: Server
) -> None:
    with valkey.client() as client:
        client.set("fs:user:odd", "text")
        client.set("fs:users:other", "text")
        await filled.post("/worker/toggle")
        assert await filled.post("/reset") == {"deleted": 5}
        assert sorted(client.keys("fs:*")) == [b"fs:user:odd", b"fs:users:other"]
    state = await filled.get("/state")
    assert (state["entity_count"], state["entity_ids"]) == (1, ["odd"])
    assert {*state["stats"].values()} == {0}
    assert (state["worker"]["tick_count"], state["worker"]["paused"]) == (0, True)


GONE: dict[str, Any] = {"values": {}, "returned_count": 0}
ODD_READS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"user": "nobody", "field": ["tx_count_5m", "tx_count_7d"]},
     GONE | {"ttls": {"tx_count_5m": -2, "tx_count_7d": -2}, "key_ttl_seconds": -2, "found": False,
             "statuses": {"tx_count_5m": "default", "tx_count_7d": "missing"}}),
    ({"user": "u0001", "field": "nope"},
     GONE | {"ttls": {"nope": -2}, "statuses": {"nope": "unknown"}, "typed": {"nope": None}}),
    ({"user": "u0001", "field": "__proto__"}, GONE | {"ttls": {"__proto__": -2}}),
    ({"user": "u0001"}, GONE | {"requested": [], "ttls": {}, "found": True}),
    ({"user": "u0001", "field": ["", " "]}, GONE | {"requested": [], "ttls": {}}),
    ({"user": " u0001 ", "field": ["country_iso", "country_iso"]},
     {"requested": ["country_iso", "country_iso"], "values": {"country_iso": profile(1)["country_iso"]},
      "returned_count": 1}),
]  # fmt: skip


@pytest.mark.parametrize(("form", "expected"), ODD_READS)
async def test_odd_reads_are_answered(
    filled: DemoApp, form: dict[str, Any], expected: dict[str, Any]
) -> None:
    answer = await filled.post("/read", form)
    assert answer.items() >= expected.items()


BAD: list[tuple[str, str, dict[str, Any]]] = [
    *[("/read", "user", form) for form in ({}, {"user": ""}, {"user": "  "}, {"user": ["a", "b"]})],
    *[("/bulk-load", "count", {"count": n}) for n in ("0", "-5", "20001", "1.5", "0x10", "abc", "1e3", "٣", "9" * 30)],
    *[("/bulk-load", "ttl", {"count": "3", "ttl": n}) for n in ("0", "-1", "10.5", "abc", "1e18", "999999999999")],
    *[("/batch-read", "count", {"count": n}) for n in ("0", "-1", "2001", "2.7", "abc")],
    ("/bulk-load", "cuont", {"cuont": "3"}),
    ("/worker/toggle", "on", {"on": "1"}),
    ("/reset", "user", {"user": "u0001"}),
]  # fmt: skip


@pytest.mark.parametrize(("path", "field", "form"), BAD)
async def test_bad_input_is_refused_by_name_and_changes_nothing(
    app: DemoApp, valkey: Server, path: str, field: str, form: dict[str, Any]
) -> None:
    response = await app.client.post(path, data=form)
    assert response.status_code == 400
    assert response.json()["field"] == field
    assert field in response.json()["error"]
    with valkey.client() as client:
        assert client.keys("fs:*") == []


@pytest.mark.parametrize("query", ["", "?user=", "?user=%20", "?user=a&user=b", "?id=u0001"])
async def test_inspect_without_a_user_is_refused(app: DemoApp, query: str) -> None:
    response = await app.client.get(f"/inspect{query}")
    assert (response.status_code, response.json().keys()) == (400, {"error", "field"})


JSON: list[tuple[str, str, int]] = [
    ("/read", '{"user": "u0001", "field": ["tx_count_7d"]}', 200),
    ("/read", '{"user": "u0001", "field": "tx_count_7d"}', 200),
    ("/bulk-load", '{"count": 3, "ttl": null}', 200),
    ("/bulk-load", "", 200),
    ("/bulk-load", '{"count": "3"}', 200),
    ("/bulk-load", '{"count": 3.0}', 400),
    ("/bulk-load", '{"count": true}', 400),
    ("/read", '{"user": 7}', 400),
    ("/read", '{"user": "u0001", "field": [7]}', 400),
    ("/read", '{"user": ', 400),
    ("/read", '["u0001"]', 400),
]


@pytest.mark.parametrize(("path", "body", "status"), JSON)
async def test_bodies_may_be_json(filled: DemoApp, path: str, body: str, status: int) -> None:
    headers = {"content-type": "application/json; charset=utf-8"}
    response = await filled.client.post(path, content=body, headers=headers)
    assert response.status_code == status, response.text
    assert ("error" in response.json()) == (status == 400)


async def test_parameters_in_the_wrong_place_are_refused(app: DemoApp) -> None:
    assert (await app.client.post("/bulk-load?count=3")).status_code == 400
    multipart = await app.client.post("/bulk-load", files={"count": b"3"})
    assert "multipart" in multipart.json()["error"]
    odd = await app.client.post("/read", content=b"user=%ff")
    assert odd.status_code == 400
    large = await app.client.post("/read", content=b"user=" + b"x" * 5_000_000)
    assert (large.status_code, large.json().keys()) == (413, {"error"})


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/bulk-load", 405), ("POST", "/state", 405), ("DELETE", "/reset", 405), ("GET", "/x", 404)],
)  # fmt: skip
async def test_wrong_methods_and_paths_are_refused(
    app: DemoApp, method: str, path: str, status: int
) -> None:
    assert (await app.client.request(method, path)).status_code == status


async def test_a_page_of_another_site_may_not_write(app: DemoApp) -> None:
    response = await app.client.post("/reset", headers={"origin": "http://evil.example"})
    assert response.status_code == 403


async def test_tokens_are_required_if_any_are_set(
    valkey: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEATUREKIT_SERVER_TOKENS", "read:r,write:w")
    async with demo_app(tmp_path, valkey.url) as app:
        for token, state, reset in (("", 401, 401), ("r", 200, 403), ("w", 200, 200)):
            headers = {"authorization": f"Bearer {token}"} if token else {}
            assert (await app.client.get("/state", headers=headers)).status_code == state
            assert (await app.client.post("/reset", headers=headers)).status_code == reset


async def test_a_key_of_another_type_is_named_and_affects_only_its_own_row(
    filled: DemoApp, valkey: Server
) -> None:
    with valkey.client() as client:
        client.delete("fs:user:u0002")
        client.set("fs:user:u0002", "text")
    for response in (
        await filled.client.post("/read", data={"user": "u0002", "field": "tx_count_7d"}),
        await filled.client.get("/inspect?user=u0002"),
    ):
        assert response.status_code == 409
        assert "fs:user:u0002: " in response.json()["error"]
        assert "WRONGTYPE" in response.json()["error"]
    batch = await filled.post("/batch-read", {"field": "tx_count_7d"})
    assert [each["field_count"] for each in batch["entities"]] == [1, 0, 1, 1, 1]
    assert "WRONGTYPE" in batch["errors"]["u0002"]
    loaded = await filled.post("/bulk-load", {"count": 5})
    assert (loaded["loaded"], loaded["rejected"]) == (4, 1)
    assert "fs:user:u0002: WRONGTYPE" in loaded["reasons"][0]


async def test_only_a_value_that_does_not_decode_is_invalid(
    filled: DemoApp, valkey: Server
) -> None:
    with valkey.client() as client:
        client.hset("fs:user:u0001", "tx_count_7d", "many")
    answer = await filled.post("/read", {"user": "u0001", "field": ["tx_count_7d", "country_iso"]})
    assert answer["statuses"] == {"tx_count_7d": "invalid", "country_iso": "present"}
    assert (answer["values"].keys(), answer["typed"]["tx_count_7d"]) == ({"country_iso"}, None)


async def test_data_of_the_guides_demo_is_read_with_types(app: DemoApp, valkey: Server) -> None:
    wrote = {"country_iso": "DE", "risk_segment": "low", "account_age_days": "1389",
             "tx_count_7d": "18", "avg_amount_30d": "92.4", "chargeback_count_180d": "0"}  # fmt: skip
    with valkey.client() as client:
        client.hset("fs:user:u0001", mapping=wrote)
        client.expire("fs:user:u0001", 86_400)
        client.hset("fs:user:u0001", "last_login_ts", "1732500000000")
        client.hexpire("fs:user:u0001", 300, "last_login_ts")
    answer = await app.post("/read", {"user": "u0001", "field": [*wrote, "last_login_ts"]})
    assert answer["values"] == wrote | {"last_login_ts": "1732500000000"}
    assert answer["typed"]["avg_amount_30d"] == 92.4
    assert answer["typed"]["tx_count_7d"] == 18
    assert answer["typed"]["last_login_ts"] == 1_732_500_000_000
