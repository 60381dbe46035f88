"""Identify a process, so that another process can find out whether it is still running.

A process id alone proves nothing: it may belong to another machine or container (even of the same
host name), and it is used again later. An identity therefore also names the namespace in which the
id is valid, and when the process started. Both come from `/proc`; without it, nothing is certain.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

_PROC = Path("/proc")


def process_identity() -> dict[str, object]:
    """Return the identity of this process as plain data: `pid`, `pid_namespace` and `start`.

    `pid_namespace` is the boot of the machine and the namespaces that give `pid` and `start` their
    meaning. It is `None` if it cannot be found out.
    """
    pid = os.getpid()
    return {"pid": pid, "pid_namespace": _namespace(pid), "start": _start(pid)}


def is_running(identity: Mapping[str, object]) -> bool | None:
    """Return whether a process is running; `None` if that cannot be known from here."""
    pid, start, namespace = (identity.get(name) for name in ("pid", "start", "pid_namespace"))
    if not (type(pid) is int and pid > 0 and type(start) is int and isinstance(namespace, str)):
        return None
    if namespace != _namespace(os.getpid()):
        return None
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass  # it belongs to another user
    found = _start(pid)
    return None if found is None else found == start


def _namespace(pid: int) -> str | None:
    try:
        if _PROC.joinpath("self").readlink().name != str(pid):
            return None  # /proc belongs to another pid namespace
        boot = _PROC.joinpath("sys/kernel/random/boot_id").read_text().strip()
        namespaces = _PROC / "self" / "ns"
        names = [namespaces.joinpath(kind).readlink().name for kind in ("pid", "time")]
    except OSError:
        return None
    return " ".join([boot, *names])


def _start(pid: int) -> int | None:
    """Return when a process started, in ticks since the boot; `None` if it is not known."""
    try:
        status = _PROC.joinpath(str(pid), "stat").read_bytes()
    except OSError:
        return None
    state, *rest = status.rpartition(b")")[2].split()
    return None if state in (b"Z", b"X") else int(rest[18])
