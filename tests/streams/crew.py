"""Workers in processes of their own, and events for them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import redis


@contextmanager
def worker(folder: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A running `featurekit stream run`; killed at the end if it lives."""
    process = subprocess.Popen(
        [sys.executable, "-m", "featurekit", "stream", "run", *arguments],
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


@contextmanager
def forked(work: Callable[[], None]) -> Iterator[int]:
    """A child of this process that works while the block runs, and is then killed."""
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
    """The exit code and output of a process that was sent a signal."""
    os.kill(process.pid, number)
    out, err = process.communicate(timeout=10)
    return process.returncode, out, err


def until(holds: Callable[[], object], *, seconds: float = 15.0) -> None:
    """Wait for something to become true."""
    late = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < late, "it did not come true"
        time.sleep(0.02)


def emit(client: redis.Redis, first: int, count: int, *, users: int = 100) -> None:
    """Put events into the stream of the view `activity`; the count of a user goes up."""
    pipe = client.pipeline(transaction=False)
    for i in range(first, first + count):
        pipe.xadd("activity-events", {"user_id": f"u{i % users}", "count": i, "device": "d"})
    pipe.execute()


def counts(client: redis.Redis, users: int = 100) -> list[int]:
    """The counts stored, by user; -1 for none."""
    pipe = client.pipeline(transaction=False)
    for user in range(users):
        pipe.hget(f"fs:user:u{user}", "count")
    return [int(data) if data is not None else -1 for data in pipe.execute()]


def newest(total: int, users: int = 100) -> list[int]:
    """The counts that `total` events end in."""
    return [total - 1 - (total - 1 - user) % users for user in range(users)]
