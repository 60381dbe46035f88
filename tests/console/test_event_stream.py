"""The event stream: one sampler for all pages, which stops when no page is open."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import StreamingResponse
from typing_extensions import override

from featurekit import FeatureStore
from featurekit.server.console.event_stream import HISTORY_MS, EventStream
from featurekit.server.console.sampler import Sampler
from featurekit.server.context import mark_shutting_down
from tests.console.conftest import fill
from tests.promise.repos import applied
from tests.servers import Server


class Counting(Sampler):
    """A sampler that counts its samples."""

    looks = 0

    @override
    def sample(self) -> dict[str, Any]:
        self.looks += 1
        return super().sample()


def request() -> Request:
    return Request({"type": "http"})


@asynccontextmanager
async def page(live: EventStream, of: Request | None = None) -> AsyncIterator[AsyncIterator[Any]]:
    """Yield the events that one page receives."""
    response = await live.respond(of or request())
    assert isinstance(response, StreamingResponse)
    body: Any = response.body_iterator

    async def events() -> AsyncIterator[Any]:
        async for event in body:
            yield json.loads(event.removeprefix(b"data: "))

    try:
        yield events()
    finally:
        await body.aclose()


async def test_a_page_receives_the_state_of_the_store(store: FeatureStore) -> None:
    fill(store)
    async with page(EventStream(Sampler(store))) as events:
        assert await anext(events) == {"history": []}
        result = await anext(events)
    views = {view["view"]: view for view in result["views"]}
    assert result["store"] == {"up": True, "state": "same"}
    assert {e["entity"]: e["present"] for e in result["entities"]} == {
        "merchant": 1,
        "route": 1,
        "user": 3,
    }
    assert (views["profile"]["live"], views["activity"]["live"]) == (3, 1)
    assert views["activity"]["fields"] == {"tx_count_5m": 1, "device": 0}


class Old(Sampler):
    """A sampler whose samples are of more than five minutes ago."""

    @override
    def sample(self) -> dict[str, Any]:
        document = super().sample()
        return document | {"at_ms": document["at_ms"] - HISTORY_MS - 1}


async def test_a_page_receives_no_points_that_are_older_than_its_charts(
    store: FeatureStore,
) -> None:
    live = EventStream(Old(store))
    async with page(live) as one, page(live) as other:
        assert await anext(one) == {"history": []}
        assert "views" in await anext(one)
        assert await anext(other) == {"history": []}


async def test_pages_share_one_sampler_that_stops_with_the_last_page(
    store: FeatureStore,
) -> None:
    sampler = Counting(store)
    live = EventStream(sampler)
    async with page(live) as one, page(live) as other:
        first, second = [[await anext(events) for _ in range(2)][1] for events in (one, other)]
        assert first == second
    looks = sampler.looks
    await asyncio.sleep(1.3)
    assert sampler.looks - looks <= 1


@pytest.mark.slow
async def test_an_outage_of_the_store_and_its_end_are_reported(
    store: FeatureStore, valkey: Server
) -> None:
    async with page(EventStream(Sampler(store))) as events:
        await anext(events)
        assert (await anext(events))["store"]["up"]
        valkey.stop()
        assert not (await anext(events))["store"]["up"]
        valkey.start()
        result = [(await anext(events))["store"]["up"] for _ in range(2)]
    assert result[-1]


async def test_the_stream_ends_at_shutdown(store: FeatureStore) -> None:
    of = request()
    async with page(EventStream(Sampler(store)), of) as events:
        await anext(events)
        await anext(events)
        mark_shutting_down(of.scope)
        assert [event async for event in events if "history" in event] == []


def test_a_missing_registry_is_reported(store: FeatureStore) -> None:
    (store.path / "registry.json").unlink()
    store.refresh()
    result = Sampler(store).sample()
    assert result["store"] == {"up": True}
    assert result["hint"] == "run `featurekit apply` first"


def test_a_store_that_lost_its_data_is_reported(store: FeatureStore, valkey: Server) -> None:
    with valkey.client() as other:
        other.flushall()
    assert Sampler(store).sample()["store"] == {"up": True, "state": "replaced"}
    store.apply()
    assert Sampler(store).sample()["store"] == {"up": True, "state": "same"}


def test_a_user_who_may_not_read_the_stores_id_sees_the_rest(
    tmp_path: Path, valkey: Server
) -> None:
    with applied(tmp_path / "whole", valkey.url), valkey.client() as client:
        client.acl_setuser(
            "part", enabled=True, passwords=["+x"], commands=["+@all"], keys=["fs:*"]
        )
        url = valkey.url.replace("unix://", "unix://part:x@")
        with FeatureStore(tmp_path / "whole", url=url) as store:
            state = Sampler(store)._store_state()
        client.acl_deluser("part")
    assert state == ""


def test_a_store_that_refuses_a_command_is_not_reported_as_unavailable(
    tmp_path: Path, valkey: Server
) -> None:
    with valkey.client() as client:
        client.acl_setuser(
            "blind", enabled=True, passwords=["+x"], commands=["+@all", "-scan"], keys=["*"]
        )
        url = valkey.url.replace("unix://", "unix://blind:x@")
        with applied(tmp_path / "blind", url) as store:
            result = Sampler(store).sample()["store"]
        client.acl_deluser("blind")
    assert (result["up"], result["refused"]) == (False, True)
    assert "SCAN" in result["message"]
