"""Reads by a reader that counts for the metrics, compared with one that does not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from sys import modules
from typing import Any

from typing_extensions import override

from featurekit.bench.timing import time_in_turns
from featurekit.bench.workload import entity_ids, sample_table
from featurekit.lower.records import record_function
from featurekit.lower.row_decoder import row_function
from featurekit.plan import ReadPlan
from featurekit.ports import StoreHandle
from featurekit.runtime.reader import OnlineReader
from featurekit.runtime.tracing import API, tracing_enabled
from tests.benchmarks.environment import bench_repo
from tests.benchmarks.results import Measurement, measurements

SIZES = (1, 100)


class Uncounted(OnlineReader):
    """A reader without counters, which looks for OpenTelemetry as the counting one does."""

    def __init__(self, plan: ReadPlan, handle: StoreHandle) -> None:
        super().__init__(plan, handle)
        self._decoder.row = row_function(plan, self._decoder.row_by_cell)
        self._decoder.record = record_function(plan, self._decoder.record_by_cell)

    @override
    def _count_read(self, requests: int, seconds: float, replies: Sequence[Any]) -> None:
        if API in modules and tracing_enabled():
            self._record_span(requests, seconds, "ok")


def measure(seconds: float) -> Iterator[Measurement]:
    """Measure reads of entities with all fields present, and of entities that do not exist."""
    with bench_repo("unix") as repo:
        repo.store.write_batch("ten", sample_table(max(SIZES)))
        counted = repo.store.online_reader("all_ten")
        uncounted = Uncounted(counted.plan, repo.store.handle)
        for size in SIZES:
            for what, ids in (
                ("present", entity_ids(size)),
                ("absent", [f"unknown{i}" for i in range(size)]),
            ):
                result = time_in_turns(
                    {
                        "without metrics": lambda ids=ids: uncounted.read_many(ids),  # type: ignore[misc]
                        "with metrics": lambda ids=ids: counted.read_many(ids),  # type: ignore[misc]
                    },
                    seconds,
                )
                yield from measurements(f"read {size} {what}", result, "without metrics", "")
