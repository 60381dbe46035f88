"""Writing: what feature views are written by over HTTP, made once for a registry."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta

from featurekit.errors import RequestError
from featurekit.plan import RepoPlan
from featurekit.repo.row_writer import RowsReport, RowWriter
from featurekit.server.context import ServerContext


class Writings:
    """The writers of the views that were written, and the way to them off the event loop."""

    def __init__(self, site: ServerContext) -> None:
        self._store = site.store
        self._most = site.limits.entities
        self._made: dict[str, tuple[RepoPlan, RowWriter]] = {}

    async def write(
        self, view: str, rows: Sequence[object], *, ttl: timedelta | None = None
    ) -> RowsReport:
        """Write rows into a view, all or none. Raises as `RowWriter.write`.

        Raises:
            UnknownNameError: There is no such view.
            RequestError: There are more rows than a request may have.
        """
        if len(rows) > self._most:
            raise RequestError(
                f"{len(rows)} rows are more than the {self._most} of one request",
                hint="write in several requests, or raise --max-entities",
            )
        return await asyncio.to_thread(self._write, view, rows, ttl)

    def _write(self, view: str, rows: Sequence[object], ttl: timedelta | None) -> RowsReport:
        repo = self._store.compiled
        made = self._made.get(view)
        if made is None or made[0] is not repo:
            made = self._made[view] = (repo, self._store.row_writer(view))
        return made[1].write(rows, ttl=ttl)
