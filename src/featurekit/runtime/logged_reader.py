"""A reader that logs what it serves. A class of its own, so that other readers pay nothing for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from typing_extensions import override

from featurekit.lower.records import Record
from featurekit.plan import ReadPlan
from featurekit.ports import ReadOptions, StoreHandle
from featurekit.runtime.counters import Counters
from featurekit.runtime.reader import Call, CellRows, EntityT, OnlineReader, RowT
from featurekit.runtime.response import OnlineResponse
from featurekit.runtime.row_log import ServedLog

T = TypeVar("T")


class LoggedReader(OnlineReader[RowT, EntityT]):
    """A reader of a feature service that logs what it serves. See `OnlineReader`."""

    def __init__(
        self,
        plan: ReadPlan,
        handle: StoreHandle,
        counters: Counters | None,
        log: ServedLog,
        *,
        freshness: bool = False,
        row: type[Record] = Record,
    ) -> None:
        super().__init__(plan, handle, counters, freshness=freshness, row=row)
        self._log = log
        self._layout = log.layout(plan)

    @override
    def __reduce__(self) -> tuple[object, ...]:
        arguments = (self.plan, self._handle, self._log, self._freshness, self._row)
        return _new_logged_reader, arguments

    @override
    def _run(self, call: Call[T], options: ReadOptions) -> T:
        result = OnlineReader._run(self, call, options)  # noqa: SLF001 - faster than super()
        self._log.add(call.keys, _rows_of(result), self._layout)
        return result

    @override
    async def _run_async(self, call: Call[T], options: ReadOptions) -> T:
        result = await OnlineReader._run_async(self, call, options)  # noqa: SLF001
        self._log.add(call.keys, _rows_of(result), self._layout)
        return result


def _rows_of(result: Any) -> Sequence[Any]:
    """Return the rows of a read: records, or tuples that end with the cells."""
    if isinstance(result, OnlineResponse):
        return result._rows  # noqa: SLF001
    return [(cells,) for cells in result] if isinstance(result, CellRows) else result


def _new_logged_reader(
    plan: ReadPlan, handle: StoreHandle, log: ServedLog, freshness: object, row: type[Record]
) -> LoggedReader:
    return LoggedReader(plan, handle, None, log, freshness=bool(freshness), row=row)
