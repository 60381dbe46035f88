"""Locks: one load of a view at a time, whoever started it and wherever.

A lock is a key in the online store with a short TTL that its owner renews. If the owner dies,
the lock ends by itself; if it died on this machine, the next one need not even wait.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import threading
import time
from types import TracebackType
from typing import Self

from featurekit.errors import (
    LockedError,
    StoreError,
    StoreUnavailableError,
    StoreUnfitError,
)
from featurekit.ports import OnlineStore
from featurekit.wire import ErrorReply, Reply

TTL_MS = 10_000
"""How long a lock outlives its owner."""

_IF_MINE = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call({}) else return 0 end"
_RENEW = _IF_MINE.format("'PEXPIRE', KEYS[1], ARGV[2]")
_PROVE = _IF_MINE.format("'PTTL', KEYS[1]")
_RELEASE = _IF_MINE.format("'DEL', KEYS[1]")


_held: set[str] = set()
"""The tokens of this process' locks: one that is not among them is a leftover of a lost answer."""


class ViewLock:
    """The lock of one view, for a `with` block. `check` tells whether it still holds."""

    def __init__(self, store: OnlineStore, prefix: str, view: str, now_ms: int) -> None:
        self._store = store
        self._view = view
        self._key = _key(prefix, view)
        owner = {"host": socket.gethostname(), "pid": os.getpid(), "since_ms": now_ms}
        self._token = json.dumps(owner | {"token": secrets.token_hex(8)})
        self._stop = threading.Event()
        self._lost = False
        self._renewer = threading.Thread(target=self._renew, name=f"lock {view}", daemon=True)

    def __enter__(self) -> Self:
        _held.add(self._token)
        try:
            self._take()
            self._prove_renewable()
        except BaseException:
            _held.discard(self._token)
            raise
        self._renewer.start()
        return self

    def _take(self) -> None:
        deadline = time.monotonic() + TTL_MS / 1000 + 2
        while not self._taken():
            holder = self._call("GET", self._key)
            if holder == self._token.encode():
                break  # the answer to taking it was lost
            if isinstance(holder, bytes):
                alive = _is_alive(holder)
                if alive is False:
                    self._call("EVAL", _RELEASE, 1, self._key, holder)
                    continue
                if alive or self._is_renewed() or time.monotonic() > deadline:
                    raise self._locked(holder)
            time.sleep(0.2)

    def _prove_renewable(self) -> None:
        """Run a script on the lock, so that a user who may not is told before anything is loaded."""
        reply = self._call("EVAL", _PROVE, 1, self._key, self._token)
        if isinstance(reply, ErrorReply):
            self._call("UNLINK", self._key)
            raise StoreUnfitError(
                f"this user may not hold the lock of a load: {reply}",
                hint="it needs +set +get +del +pttl +eval; docs/wire-format.md lists all rights",
            )

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._renewer.join()
        _held.discard(self._token)
        send = self._call_twice if error is None else self._call
        try:
            send("EVAL", _RELEASE, 1, self._key, self._token)
        except StoreError:
            if error is None:
                raise

    def check(self) -> None:
        """Raise `LockedError` if the lock was lost, as after a long pause of this process."""
        if self._lost:
            raise LockedError(
                f"the lock of feature view '{self._view}' was lost while loading",
                hint="run the same command again; every row is written as one unit",
            )

    def _call(self, *args: str | int | bytes) -> Reply:
        return self._store.call(*args, key=self._key)

    def _call_twice(self, *args: str | int | bytes) -> Reply:
        """As `_call`, once more if the answer was lost: for what does no harm the second time."""
        try:
            return self._call(*args)
        except StoreUnavailableError:
            return self._call(*args)

    def _taken(self) -> bool:
        reply = self._call_twice("SET", self._key, self._token, "NX", "PX", TTL_MS)
        if isinstance(reply, ErrorReply):
            raise StoreError(f"the lock of '{self._view}' cannot be taken: {reply}")
        return reply is not None

    def _is_renewed(self) -> bool:
        """Whether the holder is alive elsewhere: the lock's TTL goes up when it renews."""
        before = self._call("PTTL", self._key)
        patience = time.monotonic() + TTL_MS / 1000 / 2
        while time.monotonic() < patience:
            time.sleep(0.2)
            after = self._call("PTTL", self._key)
            if not isinstance(after, int) or not isinstance(before, int) or after < 0:
                return False
            if after > before:
                return True
            before = after
        return False

    def _locked(self, holder: bytes) -> LockedError:
        owner = json.loads(holder)
        return LockedError(
            f"feature view '{self._view}' is being loaded by process {owner['pid']} on {owner['host']}",
            hint="wait for it to end; if it died, its lock ends within 10 seconds",
        )

    def _renew(self) -> None:
        while not self._stop.wait(TTL_MS / 1000 / 5):
            try:
                reply = self._call("EVAL", _RENEW, 1, self._key, self._token, TTL_MS)
            except StoreError:
                continue  # the server may come back; if the lock ends meanwhile, the next turn tells
            if reply != 1:
                self._lost = True
                return


def is_locked(store: OnlineStore, prefix: str, view: str) -> bool:
    """Whether somebody holds a view's lock, who is not known to be dead."""
    holder = store.call("GET", key := _key(prefix, view), key=key)
    return isinstance(holder, bytes) and _is_alive(holder) is not False


def _key(prefix: str, view: str) -> str:
    return f"{prefix}:@lock:{view}"


def _is_alive(holder: bytes) -> bool | None:
    """Whether the holder still has it; `None` if it is on another machine, which cannot be told."""
    owner = json.loads(holder)
    if owner["host"] != socket.gethostname():
        return None
    if owner["pid"] == os.getpid():
        return holder.decode() in _held
    try:
        os.kill(owner["pid"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
