"""Server-sent events for the console's pages; all pages share one sampler.

The sampler runs only while a page is open. If the store does not answer in time, the pages receive
a document that says so, even while the store's client still waits.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from featurekit.repo.store_handle import now_ms
from featurekit.server.console.sampler import (
    UNREACHABLE_HINT,
    Document,
    Sampler,
    unavailable_document,
)
from featurekit.server.context import is_shutting_down
from featurekit.server.responses import json_bytes
from featurekit.server.static_files import SECURITY_HEADERS

INTERVAL_S = 1.0
SAMPLE_TIMEOUT_S = 1.5
"""Seconds before a pending sample is reported as an unavailable store."""

HISTORY_MS = 300_000
"""How long points are kept for the charts of pages that open later."""


class EventStream:
    """The stream of samples."""

    def __init__(self, sampler: Sampler) -> None:
        self._sampler = sampler
        self._history: deque[Document] = deque()
        self._latest: Document = {}
        self._number = 0
        self._pages = 0
        self._changed: asyncio.Condition | None = None
        self._running: asyncio.Task[None] | None = None

    async def respond(self, request: Request) -> Response:
        """Stream events until the page closes or the server shuts down."""
        headers = SECURITY_HEADERS | {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(
            self._events(request), headers=headers, media_type="text/event-stream"
        )

    async def _events(self, request: Request) -> AsyncIterator[bytes]:
        changed = self._add_page()
        seen = self._number
        try:
            self._drop_old_points()
            yield _event({"history": list(self._history)})
            if self._latest:
                yield _event(self._latest)
            while not is_shutting_down(request):
                async with changed:
                    await changed.wait_for(lambda: self._number != seen)  # noqa: B023 - called at once
                seen = self._number
                yield _event(self._latest)
        finally:
            self._pages -= 1

    def _add_page(self) -> asyncio.Condition:
        """Count a page; start the sampler for the first one."""
        self._pages += 1
        if self._running is None or self._running.done() or self._changed is None:
            self._changed, self._latest = asyncio.Condition(), {}
            self._running = asyncio.create_task(self._run(self._changed))
        return self._changed

    async def _run(self, changed: asyncio.Condition) -> None:
        pending: asyncio.Task[Document] | None = None
        while self._pages:
            start = time.monotonic()
            pending = pending or asyncio.create_task(asyncio.to_thread(self._sampler.sample))
            done, _ = await asyncio.wait({pending}, timeout=SAMPLE_TIMEOUT_S)
            self._publish(pending.result() if done else _timeout_document())
            pending = None if done else pending
            async with changed:
                changed.notify_all()
            await asyncio.sleep(max(0.05, INTERVAL_S - (time.monotonic() - start)))

    def _publish(self, document: Document) -> None:
        self._number += 1
        self._latest = document
        if "views" in document:
            self._history.append(_chart_point(document))
            self._drop_old_points()

    def _drop_old_points(self) -> None:
        oldest_ms = now_ms() - HISTORY_MS
        while self._history and self._history[0]["at_ms"] < oldest_ms:
            self._history.popleft()


def _chart_point(document: Document) -> Document:
    """Return the part of a sample that the charts need."""
    return {
        "at_ms": document["at_ms"],
        "live": {view["view"]: view["live"] for view in document["views"]},
        "present": {entity["entity"]: entity["present"] for entity in document["entities"]},
        "commands": document["server"]["commands_per_second"],
        "events": {feed["view"]: feed["events"] for feed in document["feeds"]},
        "rates": _events_per_second(document["workers"]),
    }


def _events_per_second(workers: Sequence[Document]) -> dict[str, float]:
    """Return the event rate of each view that has workers."""
    rates: dict[str, float] = {}
    for worker in workers:
        rates[worker["view"]] = rates.get(worker["view"], 0.0) + worker["events_per_second"]
    return rates


def _timeout_document() -> Document:
    message = f"no answer within {SAMPLE_TIMEOUT_S} s"
    return {"at_ms": now_ms()} | unavailable_document(message, UNREACHABLE_HINT)


def _event(document: Document) -> bytes:
    return b"data: " + json_bytes(document) + b"\n\n"
