"""Reload the registry while the server runs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from featurekit.errors import FeatureKitError
from featurekit.repo import FeatureStore

INTERVAL_S = 0.5
"""Seconds between two checks. A check reads a small file or sends one `GET`."""

_log = logging.getLogger("featurekit.server")


class RegistryReloader:
    """Loads a newly applied registry; serves the last good one if the new one cannot be read.

    Attributes:
        error: Why the last check failed; empty if it succeeded.
        reloads: How many new registries were loaded.
    """

    def __init__(self, store: FeatureStore) -> None:
        self._store = store
        self.error = ""
        self.reloads = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Check regularly while the block runs."""
        task = asyncio.create_task(self._run())
        task.add_done_callback(_log_failure)
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    def check(self) -> None:
        """Load the registry if it changed."""
        try:
            changed = self._store.reload()
        except FeatureKitError as error:
            if self.error != error.message:
                _log.warning("cannot load the new registry: %s", error)
            self.error = error.message
            return
        self.error = ""
        if changed:
            self.reloads += 1
            _log.info("serving registry %.16s", self._store.compiled.fingerprint)

    async def _run(self) -> None:
        while True:
            await asyncio.to_thread(self.check)
            await asyncio.sleep(INTERVAL_S)


def _log_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("checking for a new registry failed; it is no longer reloaded", exc_info=error)
