"""Which hosts, sites and origins a server answers."""

from __future__ import annotations

import pytest
from starlette.requests import Request
from starlette.responses import Response

from featurekit import FeatureStore
from featurekit.errors import RequestError
from featurekit.server.access import is_loopback, is_safe_host, parse_host_names, parse_origins
from featurekit.server.app import create_app
from featurekit.server.auth import Tokens
from featurekit.server.console import console_routes
from featurekit.server.context import ServerContext
from featurekit.server.responses import json_response
from featurekit.server.routing import route
from tests.testclient import TestClient

APP = "https://app.example"
NAMES = parse_host_names("My-Box", ["Features.example."])


async def answer(_request: Request) -> Response:
    return json_response("done")


def client_of(context: ServerContext) -> TestClient:
    routes = [
        route("/read", answer, context=context, methods=["GET", "POST"]),
        route("/write", answer, context=context, scope="write", methods=["POST"]),
        route("/page", answer, context=context, scope=None),
    ]
    return TestClient(create_app(context, [*routes, *console_routes(context)]))


@pytest.fixture
def client(store: FeatureStore) -> TestClient:
    """A client of a server without tokens, which is also called `features.example`."""
    return client_of(ServerContext(store, allowed_hosts=NAMES, cors_origins=frozenset([APP])))


@pytest.mark.parametrize(
    "host",
    [
        *(
            "localhost",
            "LocalHost:6566",
            "localhost.",
            "localhost.:80",
            "a.localhost",
            "127.0.0.1",
        ),
        *("127.0.0.1:6566", "10.1.2.3", "0.0.0.0:6566", "[::1]", "[::1]:6566", "[fe80::A]:1"),
        *("features.example", "FEATURES.example:8080", "features.example.", "my-box:6566"),
    ],
)
def test_a_name_that_cannot_be_rebound_is_accepted(host: str) -> None:
    assert is_safe_host(host.encode(), NAMES)


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "evil.example:6566", "localhost.evil.example", "127.0.0.1.evil.example"),
        *("127.0.0.1..", "evil-localhost", "features.example.evil", "x.features.example", ":80"),
        *("localhost:80:80", "evil@localhost", "localhost@evil", "localhost/evil", "[evil]:6566"),
        *("[::1].evil", "::1", "0x7f.1", "2130706433", "localhost..", "localhost,evil.example"),
        *("localhost evil", "my_box", "xn--lcalhost-54a", "", ".", "localhost\x00.evil"),
    ],
)
def test_another_name_is_not_accepted(host: str) -> None:
    assert not is_safe_host(host.encode(), NAMES)


def test_a_request_for_another_name_is_refused_on_every_path(client: TestClient) -> None:
    for path in ("/read", "/page", "/ready", "/docs", "/console/", "/console/api/session", "/"):
        result = client.get(path, headers={"Host": "evil.example:6566"})
        assert result.status_code == 403
        assert "--allowed-host" in result.json()["error"]["hint"]


def test_two_hosts_or_none_are_refused(client: TestClient) -> None:
    two = client.get("/read", headers=[("Host", "localhost"), ("Host", "evil.example")])
    assert two.status_code == 403


def test_health_answers_any_host_and_any_site(client: TestClient) -> None:
    headers = {"Host": "10.0.0.7.probe", "Origin": "https://evil.example"}
    assert client.get("/health", headers=headers).status_code == 200


def test_with_tokens_any_host_is_accepted(store: FeatureStore) -> None:
    client = client_of(ServerContext(store, tokens=Tokens.parse("read:abc")))
    headers = {"Host": "evil.example"}
    assert client.get("/read", headers=headers).status_code == 401
    headers["Authorization"] = "Bearer abc"
    assert client.get("/read", headers=headers).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:3000"},
        {"Origin": "http://localhost", "Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
        {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors"},
        {
            "Sec-Fetch-Site": "cross-site",
            "Sec-Fetch-Mode": "navigate",
            "Sec-Fetch-Dest": "document",
        },
    ],
)
def test_a_request_from_a_page_of_another_site_is_refused_before_any_work(
    store: FeatureStore, headers: dict[str, str]
) -> None:
    store.refresh()
    client = client_of(ServerContext(store))
    for method, path in (("GET", "/read"), ("POST", "/read"), ("POST", "/write")):
        result = client.request(
            method, path, headers=headers | {"Content-Type": "text/plain"}, content=b"{}"
        )
        assert result.status_code == 403
    assert not store.is_registry_loaded


def test_a_link_to_a_page_may_be_followed(client: TestClient) -> None:
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert client.get("/page", headers=link | {"Sec-Fetch-Dest": "document"}).status_code == 200
    assert client.get("/page", headers=link | {"Sec-Fetch-Dest": "iframe"}).status_code == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://localhost"},
        {"Origin": "http://features.internal", "Sec-Fetch-Site": "same-origin"},  # behind a proxy
        {"Sec-Fetch-Site": "none"},
        {"Origin": APP, "Sec-Fetch-Site": "cross-site"},
    ],
)
def test_own_pages_and_allowed_origins_may_read_and_write(
    client: TestClient, headers: dict[str, str]
) -> None:
    assert client.post("/read", headers=headers).status_code == 200
    assert client.post("/write", headers=headers).status_code == 200


def test_a_page_of_an_allowed_origin_may_read_the_response(client: TestClient) -> None:
    ours, other = (
        client.post("/read", headers={"Origin": APP}),
        client.get("/read", headers={"Sec-Fetch-Site": "none"}),
    )
    assert ours.headers["access-control-allow-origin"] == APP
    assert ours.headers["vary"] == other.headers["vary"] == "Origin"
    assert "access-control-allow-origin" not in other.headers
    missing = client.get("/nowhere", headers={"Origin": APP})
    assert (missing.status_code, missing.headers["access-control-allow-origin"]) == (404, APP)


def test_a_preflight_request_is_answered_for_allowed_origins_only(client: TestClient) -> None:
    asked = {"Access-Control-Request-Method": "POST", "Origin": APP}
    result = client.options("/read", headers=asked)
    assert result.status_code == 204
    assert result.headers["access-control-allow-origin"] == APP
    assert "POST" in result.headers["access-control-allow-methods"]
    assert "authorization" in result.headers["access-control-allow-headers"]
    refused = client.options("/read", headers=asked | {"Origin": "https://evil.example"})
    assert refused.status_code == 405
    assert "access-control-allow-origin" not in refused.headers


@pytest.mark.parametrize("origin", ["*", "null", "app.example", "https://a/b", "https://u@a", ""])
def test_a_malformed_origin_is_refused_at_the_start(origin: str) -> None:
    with pytest.raises(RequestError, match="is not an origin"):
        parse_origins([origin])


@pytest.mark.parametrize("name", ["*", "http://a", "a:80", "*.example", "", "a b"])
def test_a_malformed_host_name_is_refused_at_the_start(name: str) -> None:
    with pytest.raises(RequestError, match="is not a host name"):
        parse_host_names("127.0.0.1", [name])


def test_only_names_of_this_machine_are_loopback() -> None:
    assert all(map(is_loopback, ["localhost", "127.0.0.9", "::1", "LOCALHOST."]))
    names = ["127.evil.example", "localhost.evil.example", "0.0.0.0", "", "10.0.0.1"]
    assert not any(map(is_loopback, names))
