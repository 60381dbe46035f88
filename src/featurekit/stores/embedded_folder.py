"""The folder of an embedded server: its lock, its socket, and proof that a server belongs to it.

A folder is what its inode says, not its path: it may be moved, and a copy of it is another folder.

- The lock is on the folder itself, so that files which go missing, or are copied, change nothing.
  `FOLDER/lock` is locked as well, for file systems that do not lock folders.
- The socket is `FOLDER/valkey.sock`. If that path is too long for the kernel, it is reached through
  the open folder (`/proc/self/fd`). Rejected alternative: a socket in a temporary folder, which a copy
  of the folder would share, and other users could prepare.
- A server belongs to the folder if its process runs as a trusted user, and if its data directory is
  the folder.

A forked child closes the lock's files before it does anything else; otherwise it would keep the lock
of a server that has ended.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from featurekit.errors import StoreError
from featurekit.wire import Reply, text_command

SERVER_NAME = "valkey-server"
SOCKET_NAME = "valkey.sock"
MAX_SOCKET_PATH_BYTES = 100
GET_DIRECTORY = text_command("CONFIG", "GET", "dir")
_OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_PROCESSES = Path("/proc")
_OPEN_FILES = _PROCESSES / "self" / "fd"

_lock_files: set[int] = set()
_opening = threading.RLock()  # a signal handler may fork while it is held


class ServerFolder:
    """The folder that a server keeps its data and its socket in."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def socket_path(self) -> Iterator[str]:
        """Yield a path of the socket that is short enough for the kernel.

        Raises:
            OSError: The folder does not exist.
            StoreError: The path is too long, and this system offers no other.
        """
        path = self.path / SOCKET_NAME
        if len(os.fsencode(path)) <= MAX_SOCKET_PATH_BYTES:
            yield str(path)
            return
        if not _OPEN_FILES.is_dir():
            raise StoreError(
                f"the path {self.path} is too long for a socket",
                hint=f"use a folder whose path has at most {MAX_SOCKET_PATH_BYTES - 12} bytes",
            )
        folder = os.open(self.path, _OPEN_FOLDER)
        try:
            yield f"{_OPEN_FILES}/{folder}/{SOCKET_NAME}"
        finally:
            os.close(folder)

    @contextmanager
    def try_lock(self) -> Iterator[tuple[int, ...]]:
        """Yield the locked files; nothing if a server or a starting process holds the lock.

        Raises:
            StoreError: The folder or the file `lock` cannot be opened or locked.
        """
        files: list[int] = []
        try:
            try:
                self._open_lock_files(files)
                is_locked = all(map(_is_locked, files))
            except OSError as error:
                raise StoreError(
                    f"the folder {self.path} cannot be locked: {error.strerror}",
                    hint=f"it must be a folder that you can write to, and {self.path / 'lock'} a file",
                ) from error
            yield tuple(files) if is_locked else ()
        finally:
            with _opening:
                for file in _lock_files.intersection(files):  # a forked child has closed them
                    _lock_files.discard(file)
                    os.close(file)

    def _open_lock_files(self, files: list[int]) -> None:
        with _opening:
            for path, flags in (
                (self.path, _OPEN_FOLDER),
                (self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC),
            ):
                files.append(os.open(path, flags, 0o600))
                _lock_files.add(files[-1])

    def lock_holders(self) -> list[int]:
        """Return the process ids of the server that holds the lock, and of its children, if any.

        A process id in a file proves nothing. So the processes of this user are examined: the server
        runs in the folder and has it open.
        """
        found = []
        for process in _PROCESSES.glob("[0-9]*"):
            # Processes end meanwhile, and those of other users cannot be examined.
            with suppress(OSError):
                if self._is_server(process):
                    found.append(int(process.name))
        return sorted(found)

    def _is_server(self, process: Path) -> bool:
        """Return whether a process is a server, not one that starts it, and has the lock open."""
        if not (process / "comm").read_text().startswith(SERVER_NAME):
            return False
        if not (process / "cwd").samefile(self.path):
            return False
        targets = (file for file in (process / "fd").iterdir() if file.exists())
        return any(file.samefile(self.path) for file in targets)

    def is_data_directory(self, reply: Reply) -> bool:
        """Return whether a server's reply to `GET_DIRECTORY` names this folder."""
        if not isinstance(reply, list) or len(reply) != 2 or not isinstance(reply[1], bytes):  # noqa: PLR2004 - name and value
            return False
        try:
            return self.path.samefile(os.fsdecode(reply[1]))
        except OSError:
            return False

    def check_peer(self, sock: socket.socket) -> None:
        """Check who runs the server at the other end of a connected socket.

        Raises:
            StoreError: Another user does.
        """
        uid, trusted = self._peer_uid(sock), {0, os.geteuid()}
        if os.geteuid() == 0:
            trusted.add(self.path.stat().st_uid)
        if uid not in trusted:
            raise StoreError(
                f"the server in {self.path} runs as another user ({uid})",
                hint="use a folder that only you can write to",
            )

    def _peer_uid(self, sock: socket.socket) -> int:
        if hasattr(socket, "SO_PEERCRED"):
            size = struct.calcsize("3i")
            credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
            _pid, uid, _gid = struct.unpack("3i", credentials)
            return int(uid)
        return (self.path / SOCKET_NAME).lstat().st_uid


def _is_locked(file: int) -> bool:
    """Lock an open file or folder; return whether nothing else has it locked."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        if os.path.isdir(file):  # noqa: PTH112 - an open file; some file systems lock no folders
            return True
        raise
    return True


def _close_lock_files() -> None:
    """Close what a forked child inherited, which leaves the lock to the parent."""
    _opening.release()
    for file in _lock_files:
        with suppress(OSError):
            os.close(file)
    _lock_files.clear()


os.register_at_fork(
    before=_opening.acquire,
    after_in_parent=_opening.release,
    after_in_child=_close_lock_files,
)
