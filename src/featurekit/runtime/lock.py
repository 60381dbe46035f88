"""A lock that lets one load of a view run at a time, on any machine.

The lock is a key in the online store whose value names its owner: host, process and a random token.
The key is a lease of `TTL_MS`; a thread of the owner renews it after every fifth of that.

    free    -> held     `SET NX PX` with the token.
    held    -> held     A script renews the TTL if the token is still the owner's.
    held    -> free     A script deletes the key if the token is still the owner's.
    held    -> expired  The owner died, paused or lost the server for longer than `TTL_MS`.

Invariant: only the process whose token is in the key renews or deletes it. An owner whose token is
gone has lost the lock for good: `check`, called after each chunk, and `confirm` raise `LockedError`.

A paused owner (a stopped process, a frozen container, a suspended machine) may have lost the lock
without noticing. `confirm`, called before every piece of data is sent, compares the time since the
last renewal with the lease less `MARGIN_S`, by the monotonic and by the wall clock, since each of
them may stand still in some kind of pause. If the lease may be over, it asks the server before
anything is sent. So what can slip through is one call of `send`, which is at most one chunk: if the
pause begins between the comparison and that call. On a cluster, also the rows of a failed server
that are sent again.

Takeover: a load that finds the lock held waits only for an owner that may be dead. In the same pid
namespace of the same boot, the process id and its start time show that; the lock of a process that
is known to be dead is deleted at once, so that a restart does not wait for the TTL. Anywhere else
the TTL shows it: it rises when the owner renews it.

A reply to `SET` may get lost, so a key that contains this token counts as taken. A lock of this
process whose token is not in `_held` is left over from such a lost reply and counts as dead.

Rejected: a lock without a TTL (a crash would block the view until an operator deletes the key), and a
token that the server checks with every write (1.9 times the server's work for each row, and
impossible on a cluster, where the lock is on another server).
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Self

from featurekit.errors import (
    LockedError,
    StoreError,
    StoreUnavailableError,
    StoreUnfitError,
)
from featurekit.ports import KeyedCommand, OnlineStore
from featurekit.runtime.partition import FENCE_S, LockToken, lost_lock_error
from featurekit.runtime.processes import is_running, process_identity
from featurekit.wire import ErrorReply, Reply

TTL_MS = 10_000
"""How long a lock outlives its owner."""

MARGIN_S = 3.0
"""How long before its end a lease is not relied on any more."""

_LEASE_S = TTL_MS / 1000 - MARGIN_S
_POLL_S = 0.2
_IF_OWNER = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call({}) else return 0 end"
_RENEW = _IF_OWNER.format("'PEXPIRE', KEYS[1], ARGV[2]")
_PROBE = _IF_OWNER.format("'PTTL', KEYS[1]")
_RELEASE = _IF_OWNER.format("'DEL', KEYS[1]")
_REPLACE = _IF_OWNER.format("'SET', KEYS[1], ARGV[2], 'PX', ARGV[3]")

_held: set[str] = set()
"""The tokens of the locks that this process holds or is taking."""

os.register_at_fork(after_in_child=_held.clear)


class ViewLock:
    """The lock of one view, as a context manager.

    Entering raises `LockedError` if another load holds the lock, and `StoreUnfitError` if the user
    has no permission for the commands of the lock.

    Args:
        store: The online store.
        prefix: The prefix of all keys.
        view: The view.
        now_ms: Returns the time.
        beside: Reading commands to send in the round trip that takes the lock, after it is taken.

    Attributes:
        replies: The replies to `beside`.
    """

    def __init__(
        self,
        store: OnlineStore,
        prefix: str,
        view: str,
        now_ms: Callable[[], int],
        beside: Sequence[KeyedCommand] = (),
    ) -> None:
        self.replies: list[Any] = []
        self._beside = beside
        self._store = store
        self._view = view
        self._now_ms = now_ms
        self._key = _lock_key(prefix, view)
        owner = {"host": socket.gethostname(), "since_ms": now_ms(), **process_identity()}
        self._token = json.dumps(owner | {"token": secrets.token_hex(8)})
        self._granted = self._clocks()
        self._stop = threading.Event()
        self._lost = False
        self._renewer = threading.Thread(target=self._renew, name=f"lock {view}", daemon=True)

    def __enter__(self) -> Self:
        _held.add(self._token)
        try:
            self._acquire()
        except BaseException:
            _held.discard(self._token)
            raise
        self._renewer.start()
        return self

    def __exit__(self, *_: object) -> None:
        if not self._stop.is_set():
            with suppress(StoreError):  # the load has failed; the lock expires by itself
                self.release(())

    def release(self, last: Sequence[KeyedCommand]) -> list[Any]:
        """Send the last commands under the lock, and release it in the same round trip.

        Returns:
            The replies to these commands.

        Raises:
            StoreError: The store does not answer. The lock expires by itself.
        """
        self._stop.set()
        self._renewer.join()
        _held.discard(self._token)
        release = (self._key, ("EVAL", _RELEASE, 1, self._key, self._token))
        return self._store.call_many([*last, release])[:-1]

    @property
    def token(self) -> LockToken:
        """The value by which tasks know that this process holds the lock."""
        return LockToken(self._key, self._token)

    @property
    def is_lost(self) -> bool:
        """Whether another load is known to hold the lock."""
        return self._lost

    def fence_off_tasks(self) -> None:
        """Stop tasks that have the token, and return when none of them can write any more.

        The lock stays held, with another token, so that no other load starts meanwhile.
        """
        before = self._token
        self._token = json.dumps(_owner(before.encode()) | {"token": secrets.token_hex(8)})
        _held.add(self._token)
        with suppress(StoreError):  # tasks do not get an answer either, and stop
            self._call("EVAL", _REPLACE, 1, self._key, before, self._token, TTL_MS)
        _held.discard(before)
        time.sleep(2 * FENCE_S)

    def check(self) -> None:
        """Raise `LockedError` if the lock was lost, for example while this process was paused."""
        if self._lost:
            raise lost_lock_error(self._view)

    def confirm(self) -> None:
        """Check that the lock is still held; ask the server if the lease may have ended.

        Raises:
            LockedError: The lock was lost.
            StoreUnavailableError: The server does not answer.
        """
        self.check()
        if self._elapsed_s() > _LEASE_S:
            self._extend(self._call_twice)
            self.check()

    def _acquire(self) -> None:
        deadline = time.monotonic() + TTL_MS / 1000 + 2
        while not self._set_if_free():
            holder = self._call("GET", self._key)
            if holder == self._token.encode():
                break  # the reply to `SET` was lost
            is_late = time.monotonic() > deadline
            if isinstance(holder, bytes):
                alive = _is_alive(holder)
                if alive or is_late or (alive is None and self._is_renewed()):
                    raise self._locked_error(holder)
                if alive is False:
                    self._call("EVAL", _RELEASE, 1, self._key, holder)
                    continue
            elif is_late:
                raise StoreError(
                    f"could not take the lock of '{self._view}': the server refuses `SET` with `NX`, "
                    f"and answers `GET` with {holder!r}",
                    where=self._key,
                )
            time.sleep(_POLL_S)

    def _set_if_free(self) -> bool:
        self._granted = self._clocks()
        take = ("SET", self._key, self._token, "NX", "PX", TTL_MS)
        # A script runs on the lock, so that a missing permission shows before the load starts.
        probe = ("EVAL", _PROBE, 1, self._key, self._token)
        commands = [(self._key, take), (self._key, probe), *self._beside]
        try:
            taken, probed, *self.replies = self._store.call_many(commands)
        except StoreUnavailableError:  # all of them are safe to repeat
            taken, probed, *self.replies = self._store.call_many(commands)
        if isinstance(taken, ErrorReply):
            raise StoreError(f"could not take the lock of '{self._view}': {taken}")
        if isinstance(probed, ErrorReply):
            if taken is not None:
                self._call("UNLINK", self._key)
            raise StoreUnfitError(
                f"this user has no permission to hold the lock of a load: {probed}",
                hint="it needs +set +get +del +pttl +eval; docs/wire-format.md lists all rights",
            )
        return taken is not None

    def _is_renewed(self) -> bool:
        """Return whether an owner on another host renews the lock: whether its TTL rises."""
        before = self._call("PTTL", self._key)
        deadline = time.monotonic() + TTL_MS / 1000 / 2
        while time.monotonic() < deadline:
            time.sleep(_POLL_S)
            after = self._call("PTTL", self._key)
            if not isinstance(after, int) or not isinstance(before, int) or after < 0:
                return False
            if after > before:
                return True
            before = after
        return False

    def _locked_error(self, holder: bytes) -> LockedError:
        owner = _owner(holder)
        return LockedError(
            f"process {owner.get('pid')} on {owner.get('host')} is loading feature view '{self._view}'",
            hint="wait until it ends; if it has died, its lock expires within 10 seconds",
        )

    def _renew(self) -> None:
        while not self._stop.wait(TTL_MS / 1000 / 5):
            # If the lock has expired when an absent server returns, the next try finds out.
            with suppress(StoreError):
                self._extend(self._call)
            if self._lost:
                return

    def _extend(self, call: Callable[..., Reply]) -> None:
        """Renew the lease, which then counts from the time before the request."""
        before = self._clocks()
        if call("EVAL", _RENEW, 1, self._key, self._token, TTL_MS) == 1:
            self._granted = before
        else:
            self._lost = True

    def _clocks(self) -> tuple[float, float]:
        return time.monotonic(), self._now_ms() / 1000

    def _elapsed_s(self) -> float:
        """Return the seconds since the lease was granted, by the clock that advanced more."""
        return max(now - then for now, then in zip(self._clocks(), self._granted, strict=True))

    def _call(self, *args: str | int | bytes) -> Reply:
        return self._store.call(*args, key=self._key)

    def _call_twice(self, *args: str | int | bytes) -> Reply:
        """Repeat a call whose reply was lost. Only for commands that are safe to repeat."""
        try:
            return self._call(*args)
        except StoreUnavailableError:
            return self._call(*args)


def is_locked(store: OnlineStore, prefix: str, view: str) -> bool:
    """Return whether a view's lock is held by a process that is not known to be dead."""
    holder = store.call("GET", key := _lock_key(prefix, view), key=key)
    return isinstance(holder, bytes) and _is_alive(holder) is not False


def _lock_key(prefix: str, view: str) -> str:
    return f"{prefix}:@lock:{view}"


def _owner(holder: bytes) -> dict[str, object]:
    """Return the owner of a lock; empty if something else wrote the key."""
    try:
        owner = json.loads(holder)
    except ValueError:
        return {}
    return owner if isinstance(owner, dict) else {}


def _is_alive(holder: bytes) -> bool | None:
    """Return whether the owner of a lock is alive; `None` if that cannot be known from here."""
    owner = _owner(holder)
    own = process_identity()
    if own["pid_namespace"] and owner.items() >= own.items():
        return holder.decode() in _held
    return is_running(owner)
