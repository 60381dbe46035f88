"""What `featurekit doctor --engine spark` asks the tasks of a session: their versions and the store."""

from __future__ import annotations

import pickle
import platform
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from featurekit.engines.spark_session import is_connect, spark_errors, without_pandas_warning
from featurekit.errors import FeatureKitError
from featurekit.ports import OnlineStore, StoreHandle

PACKAGES = ("featurekit", "pyarrow", "duckdb")
"""What tasks need."""

_TASKS_ON_CONNECT = 8


@dataclass(frozen=True, slots=True)
class TaskFacts:
    """What a task has found.

    Attributes:
        host: Its machine.
        versions: The version of Python and of each package; empty for a package that it lacks.
        servers: The run ids of the store's servers; empty if this user may not ask for them.
        ping_ms: How long a `PING` took.
        error: Why the store does not answer; empty if it does.
    """

    host: str
    versions: dict[str, str]
    servers: frozenset[str] = frozenset()
    ping_ms: float = 0.0
    error: str = ""


def versions() -> dict[str, str]:
    """Return the version of Python, without its last part, and of each package."""
    found = {"Python": ".".join(platform.python_version_tuple()[:2])}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = ""
    return found


def server_ids(store: OnlineStore) -> frozenset[str]:
    """Return the run ids of the servers of a store."""
    return frozenset(info["run_id"] for info in store.info("server") if "run_id" in info)


def check_tasks(session: Any, handle: StoreHandle) -> list[TaskFacts]:
    """Run a task for each core of a session, which tries to reach the store.

    Raises:
        SourceError: Spark failed.
    """
    is_remote = is_connect(session)
    tasks = _TASKS_ON_CONNECT if is_remote else session.sparkContext.defaultParallelism
    with spark_errors("spark"), without_pandas_warning():
        frame = session.range(0, tasks, 1, tasks).mapInArrow(_task(handle), "facts binary")
        return [pickle.loads(row[0]) for row in frame.collect()]  # noqa: S301


def _task(handle: StoreHandle) -> Callable[[Iterable[Any]], Iterator[Any]]:
    def run(batches: Iterable[Any]) -> Iterator[Any]:
        import pyarrow as pa

        for _ in batches:
            pass
        yield pa.record_batch({"facts": pa.array([pickle.dumps(_facts(handle))], pa.binary())})

    return run


def _facts(handle: StoreHandle) -> TaskFacts:
    host, found = socket.gethostname(), versions()
    try:
        handle.store.call("PING")  # connects
        start = time.perf_counter()
        handle.store.call("PING")
        ping_ms = (time.perf_counter() - start) * 1000
        return TaskFacts(host, found, server_ids(handle.store), ping_ms)
    except FeatureKitError as error:
        return TaskFacts(host, found, error=error.message)
    finally:
        handle.close()
