"""Small requests cannot cost much time or memory, and large ones let others through."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import httpx2
import pytest

from featurekit import FeatureStore
from featurekit.server import reader_cache
from featurekit.server.app import create_app
from featurekit.server.context import Limits, ServerContext
from tests.testclient import TestClient

WRITE, FEAST_WRITE = "/v1/views/profile/write", "/write-to-online-store"
READ, FEAST_READ = "/v1/features/read", "/get-online-features"
FEATURES = ["profile", "activity"]


@pytest.fixture
def client(store: FeatureStore) -> TestClient:
    return TestClient(create_app(ServerContext(store, Limits(cells=1000))))


def timed(client: TestClient, path: str, body: str) -> tuple[int, str]:
    """Post a body; return the status and the text of the response, which must come soon."""
    start = time.process_time()
    result = client.post(path, content=body, headers={"Content-Type": "application/json"})
    assert time.process_time() - start < 10
    return result.status_code, result.text


@pytest.mark.parametrize(
    "body",
    [
        "{" + ",".join(f'"n{i}": 1' for i in range(100_000)) + ', "n99999": 1}',
        '{"rows": [{"a": {' + ",".join(f'"n{i}": 1' for i in range(100_000)) + ',"n7":1}}]}',
        '{"rows": [' + '{"a":1,"a":1},' * 50_000 + "{}]}",
    ],
)
def test_repeated_members_are_found_in_linear_time(client: TestClient, body: str) -> None:
    status, text = timed(client, WRITE, body)
    assert (status, "is repeated" in text[:1000]) == (400, True)


@pytest.mark.parametrize(
    "path", [WRITE, FEAST_WRITE, "/push", READ, FEAST_READ, "/v1/materialize"]
)
@pytest.mark.parametrize(("start", "end"), [("[", "]"), ('{"a":', "}")])
def test_deep_json_is_a_client_error(client: TestClient, path: str, start: str, end: str) -> None:
    for depth in (90, 200, 300, 900, 990, 1010, 5000, 200_000):
        nested = start * depth + "1" + end * depth
        rows = f'[{{"user_id": {nested}, "country": {nested}}}]'
        columns = f'{{"user_id": [{nested}], "country": [{nested}]}}'
        for body in (
            nested,
            f'{{"rows": {rows}}}',
            f'{{"features": ["profile"], "entities": {rows}}}',
            f'{{"features": ["profile"], "entities": {columns}}}',
            f'{{"feature_view_name": "profile", "push_source_name": "profile", "df": {columns}}}',
            f'{{"views": {nested}, "start": {nested}}}',
        ):
            assert timed(client, path, body)[0] in {400, 413, 422}, (depth, body[:60])


NAME = "n" * 3_000_000


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (READ, {NAME: 1}),
        (READ, {"features": [NAME], "entities": []}),
        (READ, {"features": [f"profile:{NAME}"], "entities": []}),
        (READ, {"features": FEATURES, "entities": [{NAME: 1}]}),
        (READ, {"features": FEATURES, "entities": [], "max_age": {NAME: "1m"}}),
        (READ, {"features": FEATURES, "entities": [], "max_age": {"profile": NAME}}),
        (FEAST_READ, {"features": [NAME], "entities": {}}),
        (FEAST_READ, {"feature_service": NAME, "entities": {}}),
        (FEAST_READ, {"features": FEATURES, "entities": {NAME: []}}),
        (WRITE, {"rows": [{NAME: 1}]}),
        (WRITE, {"rows": [{"user_id": "u", f"n{i}": 1} for i in range(9000)]}),
        (WRITE, {"rows": [{"user_id": "u"} | {f"n{i}": 1 for i in range(90_000)}]}),
        ("/v1/views/activity/write", {"rows": [{NAME: 1}]}),
        ("/v1/views/activity/write", {"rows": [{"user_id": "u", "n": 1}] * 9000}),
        ("/push", {"push_source_name": NAME, "df": {}}),
        (FEAST_WRITE, {"feature_view_name": "profile", "df": {NAME: [1], "user_id": ["u"]}}),
        ("/v1/materialize", {"views": [NAME]}),
        ("/materialize", {"feature_views": [NAME]}),
    ],
)
def test_unknown_names_are_refused_soon_and_shown_shortened(
    client: TestClient, path: str, body: dict[str, Any]
) -> None:
    status, text = timed(client, path, json.dumps(body))
    assert status in {404, 413, 422}
    size = len(text)
    assert size < 10_000


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (READ, {"features": FEATURES, "entities": [{"user_id": "u"}] * 300}),
        (FEAST_READ, {"features": FEATURES, "entities": {"user_id": ["u"] * 300}}),
        (
            FEAST_WRITE,
            {"feature_view_name": "profile", "df": {f"c{i}": [1] * 10 for i in range(101)}},
        ),
    ],
)
def test_too_many_values_are_refused(client: TestClient, path: str, body: dict[str, Any]) -> None:
    result = client.post(path, json=body)
    assert result.status_code == 413
    assert "at most 1000 values" in result.json()["error"]["message"]
    assert "--max-cells" in result.json()["error"]["message"]


@pytest.fixture
def filled(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> FeatureStore:
    """A store with some users, read two at a time."""
    store.write_batch("profile", {f"u{i}": {"country": "NO"} for i in range(0, 7, 2)})
    store.stream_writer("activity").write("u3", {"device": "x"})
    monkeypatch.setattr(reader_cache, "LARGE_CELLS", 10)
    monkeypatch.setattr(reader_cache, "SLICE_CELLS", 10)
    return store


def test_an_answer_in_slices_is_the_same(filled: FeatureStore) -> None:
    client = TestClient(create_app(ServerContext(filled)))
    rows = [{"user_id": f"u{i}"} for i in range(7)]
    columns = {"user_id": [f"u{i}" for i in range(7)]}
    v1 = {"features": FEATURES, "entities": rows, "freshness": False}
    feast = {"features": FEATURES, "entities": columns}
    sliced = client.post(READ, json=v1).json(), client.post(FEAST_READ, json=feast).json()
    assert client.post(READ, json=v1 | {"freshness": True}).json()["rows"][6]["features"]
    reader_cache.LARGE_CELLS = 1000
    whole = client.post(READ, json=v1).json(), client.post(FEAST_READ, json=feast).json()
    assert sliced == whole
    assert [row["found"] for row in whole[0]["rows"]] == [1, 0, 1, 1, 1, 0, 1]


def test_a_bad_entity_of_a_later_slice_is_named_by_its_index(filled: FeatureStore) -> None:
    client = TestClient(create_app(ServerContext(filled)))
    rows: list[dict[str, Any]] = [{"user_id": f"u{i}"} for i in range(7)]
    rows[5] = {"user": "u5"}
    body = {"features": FEATURES, "entities": rows}
    sliced = client.post(READ, json=body)
    reader_cache.LARGE_CELLS = 1000
    whole = client.post(READ, json=body)
    assert (sliced.status_code, sliced.json()) == (422, whole.json())
    assert "row 5" in whole.text


def test_a_timeout_counts_for_all_slices(filled: FeatureStore) -> None:
    client = TestClient(create_app(ServerContext(filled)))
    body = {"features": FEATURES, "entities": [{"user_id": "u"}] * 5000, "timeout_s": 0.05}
    assert client.post(READ, json=body).status_code == 503


async def test_other_requests_are_served_while_a_large_answer_is_built(
    filled: FeatureStore,
) -> None:
    transport = httpx2.ASGITransport(create_app(ServerContext(filled)))
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
        body = {"features": FEATURES, "entities": [{"user_id": "u"}] * 500}
        large = asyncio.create_task(client.post(READ, json=body))
        served = 0
        while not large.done():
            assert (await client.get("/health")).status_code == 200
            served += 1
            await asyncio.sleep(0)
        assert large.result().status_code == 200
        assert served > 20
    await filled.close_async()
