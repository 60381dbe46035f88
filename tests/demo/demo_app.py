"""Run the demo's application in this process and send requests as a browser does."""

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
from tests.servers import patient


@dataclass(frozen=True, slots=True)
class DemoApp:
    """A demo whose simulator is not started."""

    service: DemoService
    client: httpx2.AsyncClient

    async def get(self, path: str) -> Any:
        """Return the document of a successful request."""
        response = await self.client.get(path)
        assert response.status_code == 200, response.text
        return response.json()

    async def post(self, path: str, data: Any = None) -> Any:
        """Return the document of a successful form request; a list repeats its parameter."""
        response = await self.client.post(path, data=data)
        assert response.status_code == 200, response.text
        return response.json()

    def tick(self, times: int = 1) -> None:
        """Run a number of ticks."""
        users, worker = self.service.simulator.users, self.service.simulator.worker
        for _ in range(times):
            users.schedule_tick(0)
            if events := users.read(users.per_tick, 0):
                worker.process(events)


@asynccontextmanager
async def demo_app(
    folder: Path, url: str, keys: str = "fs:user:", **more: Any
) -> AsyncIterator[DemoApp]:
    """Run a demo on an empty store while the block runs."""
    settings = replace(Settings(url=patient(url), folder=folder, keys=Keys.parse(keys)), **more)
    declare(settings, settings.batch_ttl_s)
    with FeatureStore(folder) as store:
        store.apply(allow_breaking=True)
        service = DemoService(settings, store)
        transport = httpx2.ASGITransport(application(service))
        async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
            yield DemoApp(service, client)
        service.transactions.close()
        await store.close_async()


def until(holds: Callable[[], object], seconds: float = 60.0) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "the condition did not hold"
        time.sleep(0.02)
