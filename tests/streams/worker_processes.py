"""Worker processes, and events for them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import redis


@contextmanager
def command(folder: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A running `featurekit` with these arguments, killed at the end."""
    process = subprocess.Popen(
        [sys.executable, "-m", "featurekit", *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def worker(folder: Path, *arguments: str) -> AbstractContextManager[subprocess.Popen[str]]:
    """A running `featurekit stream run`, killed at the end."""
    return command(folder, "stream", "run", *arguments)


@contextmanager
def forked(work: Callable[[], None]) -> Iterator[int]:
    """Run `work` in a child process until the block ends; then kill it."""
    if not (pid := os.fork()):
        try:
            work()
        finally:
            os._exit(1)
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def ended(process: subprocess.Popen[str], number: int = signal.SIGTERM) -> tuple[int, str, str]:
    """Send a signal to a process; return its exit code and output."""
    os.kill(process.pid, number)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def until(holds: Callable[[], object], *, seconds: float = 60.0) -> None:
    """Wait until `holds()` is true."""
    late = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < late, "it did not come true"
        time.sleep(0.02)


def emit(client: redis.Redis, first: int, count: int, *, users: int = 100) -> None:
    """Add events to the stream of the view `activity`; a user's count rises with each."""
    pipe = client.pipeline(transaction=False)
    for i in range(first, first + count):
        pipe.xadd("activity-events", {"user_id": f"u{i % users}", "count": i, "device": "d"})
    pipe.execute()


def counts(client: redis.Redis, users: int = 100) -> list[int]:
    """Return the stored counts by user; -1 without one."""
    pipe = client.pipeline(transaction=False)
    for user in range(users):
        pipe.hget(f"fs:user:u{user}", "count")
    return [int(data) if data is not None else -1 for data in pipe.execute()]


def newest(total: int, users: int = 100) -> list[int]:
    """Return the counts after `total` events."""
    return [total - 1 - (total - 1 - user) % users for user in range(users)]
