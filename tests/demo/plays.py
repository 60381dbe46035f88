"""The demo in this process: its service and its application, asked as a browser would ask."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx2

from featurekit import FeatureStore
from featurekit.demo.repository import declare
from featurekit.demo.run import application
from featurekit.demo.service import DemoService
from featurekit.demo.settings import Keys, Settings


@dataclass(frozen=True, slots=True)
class Play:
    """A demo that is asked things; its ticker is not started."""

    service: DemoService
    client: httpx2.AsyncClient

    async def get(self, path: str) -> Any:
        """The answer to a request that is well."""
        response = await self.client.get(path)
        assert response.status_code == 200, response.text
        return response.json()

    async def post(self, path: str, data: Any = None) -> Any:
        """The answer to a form that is well; a list of values is given many times."""
        response = await self.client.post(path, data=data)
        assert response.status_code == 200, response.text
        return response.json()

    def tick(self, times: int = 1) -> None:
        """What the ticker does each second."""
        users, worker = self.service.simulator.users, self.service.simulator.worker
        for _ in range(times):
            users.schedule_tick(0)
            if events := users.read(users.per_tick, 0):
                worker.process(events)


@asynccontextmanager
async def playing(
    folder: Path, url: str, keys: str = "fs:user:", **more: Any
) -> AsyncIterator[Play]:
    """A demo on an empty store, until the block ends."""
    settings = replace(Settings(url=url, folder=folder, keys=Keys.parse(keys)), **more)
    declare(settings, settings.batch_ttl_s)
    with FeatureStore(folder) as store:
        store.apply(allow_breaking=True)
        service = DemoService(settings, store)
        transport = httpx2.ASGITransport(application(service))
        async with httpx2.AsyncClient(transport=transport, base_url="http://demo") as client:
            yield Play(service, client)
        await store.close_async()


def until(holds: Callable[[], object], seconds: float = 10.0) -> None:
    """Wait for something to become true."""
    late = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < late, "it did not come true"
        time.sleep(0.02)
