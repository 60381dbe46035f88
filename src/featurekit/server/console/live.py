"""Live: one stream of server-sent events for all pages, and one sampler behind it.

The sampler runs while somebody looks. A store that does not answer in time is told of as away,
whatever its client is still waiting for.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from featurekit.repo.store_handle import now_ms
from featurekit.server.answers import json_bytes
from featurekit.server.console.files import HEADERS
from featurekit.server.console.sampler import UNREACHED, Document, Sampler, away
from featurekit.server.shutdown import is_stopping

INTERVAL_S = 1.0
LATE_S = 1.5
"""How long a look may take before pages are told that the store does not answer."""

HISTORY = 300
"""Points kept for the plots of pages that come later."""


class Live:
    """The stream of what the sampler finds."""

    def __init__(self, sampler: Sampler) -> None:
        self._sampler = sampler
        self._history: deque[Document] = deque(maxlen=HISTORY)
        self._latest: Document = {}
        self._number = 0
        self._pages = 0
        self._changed: asyncio.Condition | None = None
        self._running: asyncio.Task[None] | None = None

    async def answer(self, request: Request) -> Response:
        """The stream, until the page goes away or the server ends."""
        headers = HEADERS | {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(
            self._events(request), headers=headers, media_type="text/event-stream"
        )

    async def _events(self, request: Request) -> AsyncIterator[bytes]:
        changed = self._join()
        seen = self._number
        try:
            yield _event({"history": list(self._history)})
            if self._latest:
                yield _event(self._latest)
            while not is_stopping(request):
                async with changed:
                    await changed.wait_for(lambda: self._number != seen)  # noqa: B023 - read at once
                seen = self._number
                yield _event(self._latest)
        finally:
            self._pages -= 1

    def _join(self) -> asyncio.Condition:
        """Count a page in, and start the sampler for the first of them."""
        self._pages += 1
        if self._running is None or self._running.done() or self._changed is None:
            self._changed, self._latest = asyncio.Condition(), {}
            self._running = asyncio.create_task(self._run(self._changed))
        return self._changed

    async def _run(self, changed: asyncio.Condition) -> None:
        look: asyncio.Task[Document] | None = None
        while self._pages:
            began = time.monotonic()
            look = look or asyncio.create_task(asyncio.to_thread(self._sampler.take))
            done, _ = await asyncio.wait({look}, timeout=LATE_S)
            self._keep(look.result() if done else _late())
            look = None if done else look
            async with changed:
                changed.notify_all()
            await asyncio.sleep(max(0.05, INTERVAL_S - (time.monotonic() - began)))

    def _keep(self, document: Document) -> None:
        self._number += 1
        self._latest = document
        if "views" in document:
            self._history.append(_point(document))


def _point(document: Document) -> Document:
    """What is kept of a look for plots: small, since there are many."""
    return {
        "at_ms": document["at_ms"],
        "live": {view["view"]: view["live"] for view in document["views"]},
        "present": {entity["entity"]: entity["present"] for entity in document["entities"]},
        "commands": document["server"]["commands_per_second"],
        "events": {feed["view"]: feed["events"] for feed in document["feeds"]},
        "rates": _rates(document["workers"]),
    }


def _rates(workers: Sequence[Document]) -> dict[str, float]:
    """Events a second of each view that has workers."""
    rates: dict[str, float] = {}
    for worker in workers:
        rates[worker["view"]] = rates.get(worker["view"], 0.0) + worker["events_per_second"]
    return rates


def _late() -> Document:
    return {"at_ms": now_ms()} | away(f"no answer within {LATE_S} s", UNREACHED)


def _event(document: Document) -> bytes:
    return b"data: " + json_bytes(document) + b"\n\n"
