"""A load on two executors, one of which dies; prints what happened as JSON.

    python -m tests.engines.local_cluster REPOSITORY SECRET

After some rows are written, a Python worker of one executor and the other executor are killed. Then
everything that Spark has logged and shows is searched for the secret.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

from featurekit import FeatureStore
from tests.engines.connect import training_set


def processes() -> dict[int, tuple[int, str]]:
    """Return the parent and the command line of each process."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            found[int(folder.name)] = parent, (folder / "cmdline").read_text()
        except (OSError, ValueError):
            continue
    return found


def ancestors(process: int) -> list[int]:
    """Return the processes that started a process, the last one first."""
    found, line = processes(), []
    while process in found:
        process = found[process][0]
        line.append(process)
    return line


def own(kind: str) -> list[int]:
    """Return the executors, or the Python workers, of this process."""
    found = processes()

    def is_own(process: int) -> bool:
        while process in found and process != os.getpid():
            process = found[process][0]
        return process == os.getpid()

    def is_worker(parent: int, command: str) -> bool:
        return "pyspark.daemon" in command and "pyspark.daemon" in found.get(parent, (0, ""))[1]

    return [
        process
        for process, (parent, command) in found.items()
        if (is_worker(parent, command) if kind == "worker" else "ExecutorBackend" in command)
        and is_own(process)
    ]


def load(store: FeatureStore) -> dict[str, Any]:
    """Load while the server pauses in the middle, and two processes are killed."""
    killed: list[int] = []
    call = store.handle.store.call

    def kill(_: Any) -> None:
        if killed:
            return
        deadline = time.monotonic() + 300
        while not call("EVAL", "return #redis.call('KEYS', 'fs:user:*')", 0):
            assert time.monotonic() < deadline, "no row was written"
            time.sleep(0.002)
        call("CLIENT", "PAUSE", 60_000, "WRITE")
        worker = own("worker")[0]
        used = ancestors(worker)
        killed.extend([worker, next(e for e in own("executor") if e not in used)])
        for process in killed:
            os.kill(process, signal.SIGKILL)
        call("CLIENT", "UNPAUSE")

    (report,) = store.materialize(engine="spark", on_progress=kill)
    return {"written": report.rows_written, "read": report.rows_read, "killed": len(killed)}


def places_with(secret: str, session: Any, folder: Path) -> list[str]:
    """Return where Spark shows a secret: its logs, its pages, the settings."""
    context = session.sparkContext
    home = Path(os.environ.get("SPARK_HOME") or Path(sys.modules["pyspark"].__file__ or "").parent)
    logs = [*(folder / "events").rglob("*"), *(home / "work" / context.applicationId).rglob("*")]
    texts = {str(path): path.read_bytes() for path in logs if path.is_file()}
    pages = f"{context.uiWebUrl}/api/v1/applications/{context.applicationId}"
    for name in ("environment", "sql?details=true", "stages"):
        with urllib.request.urlopen(f"{pages}/{name}") as page:
            texts[name] = page.read()
    assert len(texts) > 5
    return [name for name, data in texts.items() if secret.encode() in data]


def main() -> None:
    folder, secret = Path(sys.argv[1]), sys.argv[2]
    result: dict[str, Any] = {}
    with FeatureStore(folder) as store:
        result["load"] = load(store)
        result["training"] = training_set(store, "spark")
        result["training_here"] = training_set(store, "duckdb")
    from pyspark.sql import SparkSession

    session = SparkSession.getActiveSession()
    result["opened"] = {
        "master": session.sparkContext.master,
        "partitions": session.conf.get("spark.sql.shuffle.partitions"),
    }
    result["shown"] = places_with(secret, session, folder)
    session.stop()
    sys.stdout.write(f"RESULT {json.dumps(result)}\n")


if __name__ == "__main__":
    main()
