"""Whether the online store is the one that a registry was applied to.

`apply` writes the key `featurekit:{project}:store`: an id, and the fingerprint of the applied registry.

    same      The id is the one that this process has seen, or the fingerprint is that of the registry.
    replaced  The key is missing, and nothing else of the project is stored: the store was flushed, lost
              its data, or is another one. Or the key names another registry.
    lost      The key is missing beside other keys of the project: the server has evicted it, or was
              flushed while something wrote.

A process remembers the id, so that an `apply` elsewhere does not look like another store. A registry in a
file has no id of its own: the file may be in version control, and is the same for all stores.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from enum import StrEnum
from itertools import islice
from typing import Self

from featurekit.errors import (
    RegistryConflictError,
    RegistryError,
    StoreError,
    StoreUnavailableError,
)
from featurekit.keys import escape_glob
from featurekit.ports import OnlineStore
from featurekit.stores.probe import CLUSTER_HINT
from featurekit.wire import ErrorReply, Reply, text_command

CHECK_INTERVAL_S = 1.0
"""How long a store that passed the check is not checked again."""

_MAX_PAGES = 20
"""Pages of keys to look at for keys of the project."""


class StoreState(StrEnum):
    """Whether the online store is the registry's own."""

    SAME = "same"
    NEVER_APPLIED = "never applied"
    REPLACED = "replaced"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class StoreIdentity:
    """What `apply` wrote into a store.

    Attributes:
        id: A random id.
        registry: The fingerprint of the registry that was applied last.
    """

    id: str
    registry: str

    @classmethod
    def new(cls, registry: str) -> Self:
        """Return an identity with a new id."""
        return cls(secrets.token_hex(8), registry)

    @classmethod
    def from_reply(cls, reply: Reply) -> Self | None:
        """Return the identity in the value of the key; `None` if there is none."""
        try:
            document = json.loads(reply) if isinstance(reply, bytes) else None
        except ValueError:
            return None
        values = document if isinstance(document, dict) else {}
        own = [values.get("id"), values.get("registry")]
        return cls(*map(str, own)) if all(own) else None

    def to_json(self) -> str:
        """Return the value of the key."""
        return json.dumps(asdict(self))


def identity_key(project: str) -> str:
    """Return the key of a project's identity, in the slot of its registry."""
    return f"featurekit:{{{project}}}:store"


def read_identity(store: OnlineStore, project: str) -> StoreIdentity | None:
    """Return what `apply` wrote into the store; `None` if it holds nothing.

    Raises:
        StoreError: The store is unavailable, or refuses the command.
    """
    key = identity_key(project)
    [reply] = store.run([key.encode()], [text_command("GET", key)])
    if isinstance(reply, ErrorReply):
        raise refusal("to say which registry was applied to it", reply, store, key)
    return StoreIdentity.from_reply(reply)


def refusal(what: str, reply: ErrorReply, store: OnlineStore, key: str) -> StoreError:
    """Return the error for a refused command about the registry."""
    hint = ""
    if reply.code in {"MOVED", "CLUSTERDOWN"}:
        hint = CLUSTER_HINT
    elif reply.code == "NOPERM":
        hint = "grant the user the rights on ~featurekit:* that docs/wire-format.md lists"
    where = f"{store.describe()}, {key}"
    return StoreError(f"the store refused {what}: {reply}", where=where, hint=hint)


def has_keys(store: OnlineStore, prefix: str) -> bool:
    """Return whether a bounded scan finds a key of an entity under the prefix."""
    own = f"{prefix}:@".encode()  # locks and probes
    try:
        pages = islice(store.scan(f"{escape_glob(prefix)}:*"), _MAX_PAGES)
        return any(not key.startswith(own) for page in pages for key in page)
    except StoreError:
        return False


def claim_prefix(store: OnlineStore, prefix: str, project: str, *, take_over: bool) -> None:
    """Record that the keys under a prefix belong to a project.

    Args:
        store: The online store.
        prefix: The key prefix.
        project: The project.
        take_over: Take the prefix from another project, which has to apply again before it writes.

    Raises:
        RegistryConflictError: The prefix belongs to another project.
    """
    key = f"featurekit:prefix:{prefix}"
    options = ("GET",) if take_over else ("NX", "GET")
    owner = store.call("SET", key, project, *options, key=key)
    if isinstance(owner, ErrorReply):
        raise refusal("to record the key prefix", owner, store, key)
    other = owner.decode(errors="replace") if isinstance(owner, bytes) else project
    if other == project:
        return
    if not take_over:
        raise RegistryConflictError(
            f"the key prefix '{prefix}' belongs to project '{other}'; nothing was changed",
            where=store.describe(),
            hint="choose another key_prefix; if that project is gone, take the prefix over with "
            "--take-prefix (from Python: take_prefix=True)",
        )
    store.call("DEL", identity_key(other), key=identity_key(other))


def not_own_store(
    state: StoreState, address: str, identity: StoreIdentity | None
) -> RegistryError:
    """Return the error of a write to a store that is not the registry's own."""
    hint = "run `featurekit apply`, then load the views again"
    if state is StoreState.LOST:
        message = "the store has lost the project's id, by eviction or a flush during writes"
        hint = "run `featurekit apply` to renew it; set maxmemory-policy noeviction"
    elif identity is None:
        message = "the store was flushed or replaced: the registry was not applied to it"
    else:
        message = f"another registry was applied to the store: {identity.registry[:16]}"
        hint = "run `featurekit plan` to see the difference, and `featurekit apply`"
    return RegistryError(f"{message}; nothing was written", where=address, hint=hint)


class StoreCheck:
    """Checks at most once a second that writes go to the registry's own store. Thread-safe."""

    def __init__(self, check: Callable[[], None]) -> None:
        self._check = check
        self._due_s = 0.0

    def is_due(self) -> bool:
        """Return whether the next `check` asks the store."""
        return time.monotonic() >= self._due_s

    def check(self) -> None:
        """Raise `RegistryError` if the store is not the registry's own.

        A store that does not answer passes: the write itself reports that.
        """
        if self.is_due():
            with suppress(StoreUnavailableError):
                self._check()
            self._due_s = time.monotonic() + CHECK_INTERVAL_S
