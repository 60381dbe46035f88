"""Tokens and their scopes."""

from __future__ import annotations

from pathlib import Path

import pytest
from starlette.requests import Request
from starlette.responses import Response

from featurekit import FeatureStore
from featurekit.errors import RequestError
from featurekit.server.app import create_app
from featurekit.server.auth import Tokens
from featurekit.server.context import ServerContext
from featurekit.server.responses import json_response
from featurekit.server.routing import route
from tests.promise.repos import FRAUD, write_repo
from tests.testclient import TestClient

TOKENS = "read:r3ad,write:wr1te,read:other"


async def answer(_request: Request) -> Response:
    return json_response("done")


@pytest.fixture
def client(store: FeatureStore) -> TestClient:
    context = ServerContext(store, tokens=Tokens.parse(TOKENS))
    routes = [
        route("/read", answer, context=context),
        route("/write", answer, context=context, scope="write", methods=["POST"]),
        route("/open", answer, context=context, scope=None),
    ]
    return TestClient(create_app(context, routes))


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.mark.parametrize("headers", [{}, bearer("wrong"), bearer(""), {"Authorization": "r3ad"}])
def test_a_request_without_a_valid_token_gets_a_challenge(
    client: TestClient, headers: dict[str, str]
) -> None:
    result = client.get("/read", headers=headers)
    assert (result.status_code, result.headers["www-authenticate"]) == (401, "Bearer")


@pytest.mark.parametrize("token", ["r3ad", "wr1te", "other"])
def test_every_token_may_read(client: TestClient, token: str) -> None:
    assert client.get("/read", headers=bearer(token)).json() == "done"


def test_a_read_token_may_not_write(client: TestClient) -> None:
    result = client.post("/write", headers=bearer("r3ad"))
    assert result.status_code == 403
    assert "insufficient_scope" in result.headers["www-authenticate"]
    assert client.post("/write", headers=bearer("wr1te")).status_code == 200


def test_a_public_route_needs_no_token(client: TestClient) -> None:
    assert client.get("/open").status_code == client.get("/health").status_code == 200


@pytest.mark.parametrize("origin", ["https://elsewhere.example", "null", "http://[", ""])
def test_a_page_of_another_site_may_not_write(client: TestClient, origin: str) -> None:
    there = {**bearer("wr1te"), "Origin": origin}
    here = {**bearer("wr1te"), "Origin": "http://localhost"}
    assert client.post("/write", headers=there).status_code == 403
    assert client.post("/write", headers=here).status_code == 200


@pytest.mark.parametrize("text", ["s3cret", "admin:s3cret", "read:", "read:s3 cret", "read:é"])
def test_malformed_tokens_are_refused_without_being_shown(text: str) -> None:
    with pytest.raises(RequestError) as refused:
        Tokens.parse(text)
    assert "cret" not in str(refused.value)


@pytest.mark.parametrize("text", ["", " ", ",", " , ,"])
def test_an_empty_variable_does_not_open_the_server(text: str) -> None:
    with pytest.raises(RequestError, match="contains no token"):
        Tokens.from_environment({"FEATUREKIT_SERVER_TOKENS": text})
    assert not Tokens.from_environment({})


def test_tokens_are_not_shown() -> None:
    assert "r3ad" not in repr(Tokens.parse(TOKENS))


def test_a_token_with_both_scopes_may_write() -> None:
    for text in ("read:a,write:a", "write:a,read:a"):
        assert Tokens.parse(text).scope_of("Bearer a") == "write"


def test_the_address_of_an_unavailable_store_is_shown_with_a_token_only(tmp_path: Path) -> None:
    url = "redis://ann:pw@127.0.0.1:1"
    write_repo(tmp_path, url, FRAUD, registry="online")
    with FeatureStore(tmp_path) as store:
        client = TestClient(create_app(ServerContext(store, tokens=Tokens.parse(TOKENS))))
        for path, status in (("/ready", 503), ("/v1/registry", 401), ("/metrics", 401)):
            result = client.get(path)
            assert result.status_code == status
            assert not any(part in result.text for part in ("ann", "127.0.0.1", "pw"))
        told = client.get("/ready", headers=bearer("r3ad"))
        assert "127.0.0.1:1" in told.text
        assert client.get("/v1/registry", headers=bearer("r3ad")).status_code == 503
