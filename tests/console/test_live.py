"""The live stream: one sampler for all pages, which ends when nobody looks."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import StreamingResponse
from typing_extensions import override

from featurekit import FeatureStore
from featurekit.server.console.event_stream import EventStream
from featurekit.server.console.sampler import Sampler
from featurekit.server.context import mark_shutting_down
from tests.console.conftest import fill
from tests.promise.repos import applied
from tests.servers import Server


class Counting(Sampler):
    """A sampler that knows how often it looked."""

    looks = 0

    @override
    def sample(self) -> dict[str, Any]:
        self.looks += 1
        return super().sample()


def request() -> Request:
    return Request({"type": "http"})


@asynccontextmanager
async def page(live: EventStream, of: Request | None = None) -> AsyncIterator[AsyncIterator[Any]]:
    """What one page is sent, event by event."""
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


async def test_a_page_is_told_how_the_store_does(store: FeatureStore) -> None:
    fill(store)
    async with page(EventStream(Sampler(store))) as events:
        assert await anext(events) == {"history": []}
        told = await anext(events)
    views = {view["view"]: view for view in told["views"]}
    assert told["store"] == {"up": True}
    assert {e["entity"]: e["present"] for e in told["entities"]} == {
        "merchant": 1,
        "route": 1,
        "user": 3,
    }
    assert (views["profile"]["live"], views["activity"]["live"]) == (3, 1)
    assert views["activity"]["fields"] == {"tx_count_5m": 1, "device": 0}


async def test_pages_share_one_sampler_which_ends_with_the_last_of_them(
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


async def test_a_store_that_stops_is_told_of_and_so_is_its_return(
    store: FeatureStore, valkey: Server
) -> None:
    async with page(EventStream(Sampler(store))) as events:
        await anext(events)
        assert (await anext(events))["store"]["up"]
        valkey.stop()
        assert not (await anext(events))["store"]["up"]
        valkey.start()
        told = [(await anext(events))["store"]["up"] for _ in range(2)]
    assert told[-1]


async def test_the_stream_ends_when_the_server_is_asked_to(store: FeatureStore) -> None:
    of = request()
    async with page(EventStream(Sampler(store)), of) as events:
        await anext(events)
        await anext(events)
        mark_shutting_down(of.scope)
        assert [event async for event in events if "history" in event] == []


def test_what_is_not_applied_yet_is_said(store: FeatureStore) -> None:
    (store.path / "registry.json").unlink()
    store.refresh()
    told = Sampler(store).sample()
    assert told["store"] == {"up": True}
    assert told["hint"] == "run `featurekit apply` first"


def test_a_store_that_refuses_to_tell_is_not_said_to_be_away(
    tmp_path: Path, valkey: Server
) -> None:
    with valkey.client() as client:
        client.acl_setuser(
            "blind", enabled=True, passwords=["+x"], commands=["+@all", "-scan"], keys=["*"]
        )
        url = valkey.url.replace("unix://", "unix://blind:x@")
        with applied(tmp_path / "blind", url) as store:
            told = Sampler(store).sample()["store"]
        client.acl_deluser("blind")
    assert (told["up"], told["refused"]) == (False, True)
    assert "SCAN" in told["message"]
