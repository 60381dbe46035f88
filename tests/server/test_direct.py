"""Reads that are answered without Starlette's router get what its router would give them."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.types import Receive, Scope, Send

from featurekit import FeatureStore
from featurekit.server.app import create_app
from featurekit.server.context import ServerContext
from featurekit.server.direct import DirectApp
from tests.testclient import TestClient

ROWS = {"entities": [{"user_id": "u1"}]}
FEAST = {"entities": {"user_id": ["u1"]}, "feature_service": "fraud_v1"}


def answers(client: TestClient, method: str, path: str, body: object) -> list[Any]:
    response = client.request(method, path, json=body, follow_redirects=False)
    headers = {name: text for name, text in response.headers.items() if name != "date"}
    return [response.status_code, headers, response.content]


def test_both_ways_give_the_same_answers(store: FeatureStore) -> None:
    store.write_batch("profile", {"u1": {"country": "NO"}})
    app = create_app(ServerContext(store))
    direct = TestClient(app)

    async def routed_app(scope: Scope, receive: Receive, send: Send) -> None:
        await Starlette.__call__(app, scope, receive, send)

    routed = TestClient(routed_app)
    for client in (direct, routed):
        client.headers["host"] = "localhost"
    requests: list[tuple[str, str, object]] = [
        ("POST", "/v1/services/fraud_v1/read", ROWS),
        ("POST", "/v1/services/fraud%5Fv1/read", ROWS),
        ("POST", "/v1/services/unknown/read", ROWS),
        ("POST", "/v1/services/a/b/read", ROWS),
        ("POST", "/v1/services/a%2Fb/read", ROWS),
        ("POST", "/v1/services//read", ROWS),
        ("POST", "/v1/services/read", ROWS),
        ("POST", "/v1/services/fraud_v1/read/", ROWS),
        ("GET", "/v1/services/fraud_v1/read", None),
        ("POST", "/v1/features/read", {**ROWS, "features": ["profile:country"]}),
        ("POST", "/v1/features/read", {"entities": 1}),
        ("POST", "/get-online-features", FEAST),
        ("POST", "/get-online-features/", FEAST),
        ("PUT", "/get-online-features", FEAST),
    ]
    for method, path, body in requests:
        assert answers(direct, method, path, body) == answers(routed, method, path, body), path


def test_a_bug_in_a_handler_is_an_internal_error_that_is_raised_again(store: FeatureStore) -> None:
    app = create_app(ServerContext(store))
    assert isinstance(app, DirectApp)

    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        raise ZeroDivisionError

    [read] = [each for each in app.routes if getattr(each, "path", "") == "/get-online-features"]
    read.endpoint = broken  # type: ignore[attr-defined]
    app.answer_directly([read], app.exception_handlers[Exception])  # type: ignore[list-item]
    client = TestClient(app)
    with pytest.raises(ZeroDivisionError):
        client.post("/get-online-features", json=FEAST)
