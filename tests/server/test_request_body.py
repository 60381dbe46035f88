"""Request bodies: their size, content type and JSON."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from starlette.requests import Request
from starlette.responses import Response

from featurekit import FeatureStore
from featurekit.server.app import create_app
from featurekit.server.context import Limits, ServerContext
from featurekit.server.request_body import read_json
from featurekit.server.responses import json_response
from featurekit.server.routing import route
from tests.testclient import TestClient


@pytest.fixture
def client(store: FeatureStore) -> TestClient:
    context = ServerContext(store, Limits(body_bytes=100))

    async def echo(request: Request) -> Response:
        return json_response(await read_json(request, context.limits))

    return TestClient(
        create_app(context, [route("/echo", echo, context=context, methods=["POST"])])
    )


def test_json_is_accepted_with_or_without_a_content_type(client: TestClient) -> None:
    for headers in (
        {},
        {"Content-Type": "application/json; charset=utf-8"},
        {"Content-Type": "application/ld+json"},
    ):
        assert client.post("/echo", content=b'{"a": 1}', headers=headers).json() == {"a": 1}


def test_a_body_of_another_type_is_refused(client: TestClient) -> None:
    result = client.post("/echo", content=b"{}", headers={"Content-Type": "text/plain"})
    assert (result.status_code, result.json()["error"]["type"]) == (415, "HTTPError")


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"nul", b"NaN", b"\xff", b'"\\ud800"', b"[" * 5000, b'{"a": 1}x'],
)
def test_invalid_json_is_refused(client: TestClient, body: bytes) -> None:
    result = client.post("/echo", content=body[:100])
    assert result.status_code == 400
    assert result.json()["error"]["message"].startswith("the body is not JSON")


def test_a_body_over_the_limit_is_refused_by_its_header_or_its_size(client: TestClient) -> None:
    def parts() -> Iterator[bytes]:
        yield from [b'"' + b"x" * 60] * 2

    assert client.post("/echo", content=b"x" * 101).status_code == 413
    assert client.post("/echo", content=parts()).status_code == 413


def test_an_unknown_path_and_a_wrong_method_return_json(client: TestClient) -> None:
    assert client.get("/nowhere").json()["error"]["message"] == "not found"
    result = client.get("/echo")
    assert (result.status_code, result.headers["allow"]) == (405, "POST")
    assert result.json()["error"]["message"] == "method not allowed"
