"""RegistryReloader: a registry that is applied while the server runs is served without a restart."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from featurekit.errors import FeatureKitError
from featurekit.repo import FeatureStore

LOOK_S = 0.5
"""Seconds between two looks at the registry: a small file, or one `GET`."""

_log = logging.getLogger("featurekit.server")


class RegistryReloader:
    """Takes over what is applied. What cannot be read is told, and the last good one is served.

    Attributes:
        error: Why the registry could not be read at the last look; empty if it could.
        reloads: How often another registry was taken over.
    """

    def __init__(self, store: FeatureStore) -> None:
        self._store = store
        self.error = ""
        self.reloads = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Diagnostics again and again while the block runs."""
        task = asyncio.create_task(self._run())
        task.add_done_callback(_tell)
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    def look(self) -> None:
        """Diagnostics once."""
        try:
            changed = self._store.reload()
        except FeatureKitError as error:
            if self.error != error.message:
                _log.warning("the registry cannot be taken over: %s", error)
            self.error = error.message
            return
        self.error = ""
        if changed:
            self.reloads += 1
            _log.info("registry %.16s is served", self._store.compiled.fingerprint)

    async def _run(self) -> None:
        while True:
            await asyncio.to_thread(self.look)
            await asyncio.sleep(LOOK_S)


def _tell(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("the registry is followed no more", exc_info=error)
