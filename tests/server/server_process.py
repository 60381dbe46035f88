"""Start `featurekit serve` in its own process."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import uvicorn

from featurekit.server.app import create_app
from featurekit.server.context import ServerContext
from featurekit.server.run import Options, uvicorn_config
from featurekit.server.write_jobs import JOB_THREAD

_COMMAND = (sys.executable, "-m", "featurekit", "serve")


class Served:
    """A running server.

    Attributes:
        url: Its address.
        started: The JSON document that it printed at the start.
        process: Its process.
    """

    def __init__(self, folder: Path, *arguments: str, **environment: str) -> None:
        self.folder = folder
        self._log = folder / "serve.log"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [*_COMMAND, "--repo", str(folder), "--port", "0", "--json", *arguments],
                stdout=subprocess.PIPE,
                stderr=log,
                env=os.environ | environment,
            )
        self.started = self._read_start()
        self.url = str(self.started["url"])
        self.client = httpx2.Client(base_url=self.url, verify=False, timeout=60)

    def _read_start(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        text = ""
        while not text.endswith("}\n"):
            line = self.process.stdout.readline().decode()
            if not line:
                raise AssertionError(self.log)
            text += line
        document: dict[str, Any] = json.loads(text)
        return document

    @property
    def log(self) -> str:
        """Its standard error."""
        return self._log.read_text()

    def connect(self) -> socket.socket:
        """Return a plain connection to the server."""
        place = urlsplit(self.url)
        return socket.create_connection((place.hostname or "", place.port or 0), timeout=60)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(60)


@contextmanager
def listening(context: ServerContext) -> Iterator[tuple[str, int]]:
    """Serve a context with uvicorn in a thread while the block runs; yield its address."""
    with socket.create_server(("127.0.0.1", 0)) as place:
        server = uvicorn.Server(uvicorn_config(Options(), lambda: create_app(context)))
        thread = threading.Thread(target=server.run, args=([place],))
        thread.start()
        try:
            wait_until(lambda: server.started)
            yield place.getsockname()
        finally:
            server.should_exit = True
            thread.join()


@contextmanager
def served(folder: Path, *arguments: str, **environment: str) -> Iterator[Served]:
    """Run a server while the block runs."""
    server = Served(folder, *arguments, **environment)
    try:
        yield server
    finally:
        server.client.close()
        if server.process.poll() is None:
            server.stop(signal.SIGTERM)
        if server.process.stdout is not None:
            server.process.stdout.close()


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not hold in time"
        time.sleep(0.02)


def await_jobs() -> None:
    """Wait for background loads, because they use the store's connections."""
    wait_until(lambda: not [t for t in threading.enumerate() if t.name == JOB_THREAD])
