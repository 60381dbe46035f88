"""What is promised of windows, held against clusters."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from featurekit.errors import RequestError
from featurekit.ports import Progress
from featurekit.runtime.marks import write_mark
from featurekit.runtime.writer import StreamWriter
from tests.clusters import Cluster
from tests.windows import test_scripts, test_workers
from tests.windows.simulation import Handle, windowed_view

pytestmark = pytest.mark.slow

ONE_SERVER = {
    "test_a_lost_script_is_loaded_again",
    "test_events_are_written_from_event_loops",
    "test_missing_rights_leave_nothing_half",
    "test_what_is_refused_leaves_nothing_half",
    "test_an_event_without_an_id_is_refused_where_ids_are_needed",
}
"""They change settings of the only server."""

globals().update(
    {
        name: test
        for name, test in vars(test_scripts).items()
        if name.startswith("test_") and name not in ONE_SERVER
    }
)
test_consumers_count_once = test_workers.test_consumers_of_partitions_count_every_message_once


@pytest.fixture
def handle(cluster: Cluster) -> Iterator[Handle]:
    handle = Handle(cluster.url)
    yield handle
    handle.close()


def flush_scripts(cluster: Cluster) -> None:
    """Drop the scripts of all servers."""
    with cluster.client() as client:
        client.script_flush()


def test_lost_scripts_are_loaded_again(handle: Handle, cluster: Cluster) -> None:
    writer = StreamWriter(windowed_view("none"), handle)
    for _ in range(2):
        flush_scripts(cluster)
        assert writer.write_many([(f"u{i}", {}) for i in range(200)]).written == 200
        flush_scripts(cluster)
        assert writer.write("u0", {})
    assert test_scripts.count(handle, "u0") == 4


async def test_event_loops_write_to_clusters(handle: Handle, cluster: Cluster) -> None:
    writer = StreamWriter(windowed_view("event_id"), handle)
    assert await writer.write_async("u", {"tx_id": "a"})
    flush_scripts(cluster)
    report = await writer.write_many_async([(f"u{i % 70}", {"tx_id": i}) for i in range(300)])
    assert (report.written, report.repeated) == (300, 0)
    await handle.async_store().close()


def test_the_group_of_a_stream_is_no_guard_on_a_cluster(handle: Handle) -> None:
    with pytest.raises(RequestError, match="on different servers"):
        StreamWriter(test_workers.view_of_stream(), handle).write("u", {})


def test_marks_are_written_to_clusters(handle: Handle) -> None:
    view = windowed_view()
    write_mark(handle.store, view.mark_key or b"", Progress({"1": 50}, frozenset({"0", "1"})))
    assert test_workers.mark(handle, view) == {"0": 0, "1": 50}
