"""The applied registry of one repository: where it is stored, and what `apply` changes.

A registry is a JSON document in the online store, or in a file. `RegistryState` holds the registry as
last read, compiled into a plan. A store in memory always holds its own registry, so that tests leave the
file alone.

Saving is a compare-and-swap: the caller passes the registry that it saw, and the save fails with
`RegistryConflictError` if another process has applied since. A file is compared under a lock and
replaced by renaming; the online store compares and sets in one script. Saving also writes the store's
identity, which `store_identity` describes.
"""

from __future__ import annotations

import getpass
import os
import socket
from abc import ABC, abstractmethod
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from typing_extensions import override

from featurekit.changes import Change, Changes, diff
from featurekit.compiler import compile_repo
from featurekit.errors import (
    BreakingChangeError,
    RegistryConflictError,
    RegistryError,
    StoreError,
)
from featurekit.models.config import ONLINE
from featurekit.models.definitions import LoadedRepo
from featurekit.plan import RepoPlan
from featurekit.registry import Registry
from featurekit.repo.atomic_files import exclusive_lock, write_atomically
from featurekit.repo.history import ApplyRecord, History, LogBounds
from featurekit.repo.store_handle import LazyStoreHandle
from featurekit.repo.store_identity import (
    StoreCheck,
    StoreIdentity,
    StoreState,
    claim_prefix,
    has_keys,
    identity_key,
    not_own_store,
    read_identity,
    refusal,
)
from featurekit.wire import ErrorReply, Reply

_COMPARE_AND_SET = """
local current = redis.call('GET', KEYS[1]) or ''
if current ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
redis.call('SET', KEYS[2], ARGV[3])
return 1
"""


class StoredRegistry(NamedTuple):
    """The applied registry as it is stored.

    Attributes:
        text: Its canonical JSON.
        store_id: The id of the online store that holds it; empty for a file, which is of no store.
    """

    text: str
    store_id: str = ""


class RegistryStore(ABC):
    """Where a registry is stored, and the online store that it describes.

    Attributes:
        handle: The online store.
        history: The history of loads and applies.
    """

    def __init__(
        self, handle: LazyStoreHandle, project: str, bounds: LogBounds | None = None
    ) -> None:
        self.handle = handle
        self.history = History(handle, project, bounds)
        self._project = project

    @abstractmethod
    def read(self) -> StoredRegistry | None:
        """Return the applied registry; `None` before the first apply.

        Raises:
            RegistryError: The registry cannot be read.
        """

    @abstractmethod
    def save(self, registry: Registry, expected: Registry | None, identity: StoreIdentity) -> None:
        """Replace `expected` with `registry`, and write the store's identity.

        Raises:
            RegistryConflictError: The stored registry is not `expected`.
        """

    @abstractmethod
    def is_in_store(self) -> bool:
        """Return whether the online store holds the registry."""

    def identity(self) -> StoreIdentity | None:
        """Return what `apply` wrote into the online store; `None` if it holds nothing."""
        return read_identity(self.handle.store, self._project)

    def _call(self, *args: str | int | bytes, key: str) -> Reply:
        reply = self.handle.store.call(*args, key=key)
        if isinstance(reply, ErrorReply):
            raise refusal("the registry", reply, self.handle.store, key)
        return reply


def open_registry_store(loaded: LoadedRepo, handle: LazyStoreHandle) -> RegistryStore:
    """Return the registry store that `registry:` in `featurerepo.yaml` selects."""
    config = loaded.config
    bounds = LogBounds(config.load_log.keep, config.load_log.max_bytes)
    if config.registry == ONLINE or handle.url.startswith("memory://"):
        return OnlineRegistryStore(handle, config.project, bounds)
    return FileRegistryStore(loaded.root / config.registry, handle, config.project, bounds)


def _conflict() -> RegistryConflictError:
    return RegistryConflictError(
        "another process has applied in the meantime; nothing was changed",
        hint="run `featurekit plan` again to see the remaining changes",
    )


class FileRegistryStore(RegistryStore):
    """A registry in a file, which is replaced by renaming."""

    def __init__(
        self, path: Path, handle: LazyStoreHandle, project: str, bounds: LogBounds | None = None
    ) -> None:
        super().__init__(handle, project, bounds)
        self._path = path

    @override
    def read(self) -> StoredRegistry | None:
        try:
            return StoredRegistry(self._path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise RegistryError(
                f"the registry cannot be read: {error}", where=str(self._path)
            ) from error

    @override
    def save(self, registry: Registry, expected: Registry | None, identity: StoreIdentity) -> None:
        if self.read() != StoredRegistry(registry.to_json()):  # it may be on a read-only disk
            with exclusive_lock(self._path):
                stored = self.read()
                current = Registry.from_json(stored.text) if stored else None
                if (current and current.fingerprint) != (expected and expected.fingerprint):
                    raise _conflict()
                write_atomically(self._path, registry.to_json())
        key = identity_key(self._project)
        self._call("SET", key, identity.to_json(), key=key)

    @override
    def is_in_store(self) -> bool:
        return False


class OnlineRegistryStore(RegistryStore):
    """A registry in the online store, under a key that no entity can have."""

    @override
    def read(self) -> StoredRegistry | None:
        replies = self._call("MGET", self._key, identity_key(self._project), key=self._key)
        text, own = replies if isinstance(replies, list) else (None, None)
        if not isinstance(text, bytes):
            return None
        identity = StoreIdentity.from_reply(own)
        try:
            return StoredRegistry(text.decode(), identity.id if identity else "")
        except UnicodeDecodeError as error:
            where = f"{self.handle.store.describe()}, {self._key}"
            raise RegistryError(f"the registry cannot be read: {error}", where=where) from error

    @override
    def save(self, registry: Registry, expected: Registry | None, identity: StoreIdentity) -> None:
        keys = (self._key, identity_key(self._project))
        before = expected.to_json() if expected is not None else ""
        values = (before, registry.to_json(), identity.to_json())
        if self._call("EVAL", _COMPARE_AND_SET, 2, *keys, *values, key=self._key) != 1:
            raise _conflict()

    @override
    def is_in_store(self) -> bool:
        return self.read() is not None

    @property
    def _key(self) -> str:
        return f"featurekit:{{{self._project}}}:registry"


class _CompiledRegistry(NamedTuple):
    """One version of the registry: its JSON text, the parsed form, and the plan."""

    text: str
    registry: Registry
    plan: RepoPlan


class RegistryState:
    """The applied registry, read once and compiled, and the loaded definitions.

    Thread-safe: a new version is compiled first and then replaces the old one in one assignment.

    Args:
        store: Where the registry is stored.
        loaded: The definitions; `None` if the store was opened without YAML.
    """

    def __init__(self, store: RegistryStore, loaded: LoadedRepo | None) -> None:
        self._store = store
        self._loaded = loaded
        self._current: _CompiledRegistry | None = None
        self._store_id = ""
        store.handle.store_check = StoreCheck(self.require_own_store)

    @property
    def registry(self) -> Registry | None:
        """The applied registry; `None` before the first `apply`."""
        current = self._load()
        return current.registry if current is not None else None

    @property
    def is_loaded(self) -> bool:
        """Whether the registry is in memory, so that `registry` and `plan` do no I/O."""
        return self._current is not None

    @property
    def plan(self) -> RepoPlan:
        """The applied registry, compiled.

        Raises:
            RegistryError: Nothing is applied yet.
        """
        return self._require().plan

    @property
    def applied(self) -> Registry:
        """The applied registry.

        Raises:
            RegistryError: Nothing is applied yet.
        """
        return self._require().registry

    def _require(self) -> _CompiledRegistry:
        current = self._current or self._load()
        if current is None:
            raise RegistryError(
                "nothing is applied yet",
                where=self._store.handle.address,
                hint="run `featurekit apply` first",
            )
        return current

    @property
    def declared(self) -> Registry:
        """The registry that the definitions declare, with the fields retired since the last apply."""
        if self._loaded is None:
            raise RegistryError("this store was opened from its registry and has no definitions")
        return Registry.from_loaded(self._loaded, self.registry)

    def set_definitions(self, loaded: LoadedRepo) -> None:
        """Replace the loaded definitions."""
        self._loaded = loaded

    def refresh(self) -> None:
        """Read the registry again at the next call."""
        self._current = None

    def reload(self) -> bool:
        """Read the registry again; return whether it changed.

        Raises:
            RegistryError: The registry cannot be read, or was deleted. The old version stays.
            StoreError: The online store holds the registry and failed. The old version stays.
        """
        before, stored = self._current, self._store.read()
        if stored is None:
            if before is None:
                return False
            raise RegistryError("the registry was deleted", hint="run `featurekit apply`")
        if before is not None and before.text == stored.text:
            return False
        self._compile(stored)
        return True

    def _load(self) -> _CompiledRegistry | None:
        current = self._current
        if current is None and (stored := self._store.read()) is not None:
            current = self._compile(stored)
        return current

    def _compile(self, stored: StoredRegistry) -> _CompiledRegistry:
        registry = Registry.from_json(stored.text)
        compiled = _CompiledRegistry(stored.text, registry, compile_repo(registry))
        self._current, self._store_id = compiled, stored.store_id
        return compiled

    def store_state(self) -> StoreState:
        """Return whether the online store is the one that the registry was applied to.

        Raises:
            StoreError: The store is unavailable.
        """
        return self._state_of(self._load(), self._store.identity())

    def _state_of(
        self, current: _CompiledRegistry | None, identity: StoreIdentity | None
    ) -> StoreState:
        if current is None:
            return StoreState.NEVER_APPLIED
        if identity is not None:
            if self._store_id != identity.id and identity.registry != current.registry.fingerprint:
                return StoreState.REPLACED
            self._store_id = identity.id
            return StoreState.SAME
        store, prefix = self._store.handle.store, current.plan.prefix
        is_lost = self._store.is_in_store() or has_keys(store, prefix)
        return StoreState.LOST if is_lost else StoreState.REPLACED

    def require_own_store(self) -> None:
        """Raise `RegistryError` unless the online store is the one that the registry was applied to."""
        current, identity = self._load(), self._store.identity()
        state = self._state_of(current, identity)
        if current is not None and state is not StoreState.SAME:
            raise not_own_store(state, self._store.handle.address, identity)

    def changes(self) -> Changes:
        """Return what `apply` would change."""
        return self._compare()[0]

    def _compare(self) -> tuple[Changes, StoreIdentity | None]:
        """Return what `apply` would change, and the store's identity if that stays."""
        self.refresh()
        before, after = self._load(), compile_repo(self.declared)
        identity = self._store.identity()
        state = self._state_of(before, identity)
        if before is None or (state is StoreState.REPLACED and identity is None):
            return diff(None, after), None
        changes = diff(before.plan, after, self._loaded_ms(before.plan))
        if state is StoreState.SAME:
            return changes, identity
        detail = "its id is missing, probably evicted: apply renews it"
        if identity is not None:
            detail = (
                f"another registry was applied to it, {identity.registry[:16]}: apply replaces it"
            )
        changed = (Change("compatible", "store", detail), *changes)
        to_load = changes if identity is None else diff(None, after)
        return Changes(changed, to_load.views_to_load), None

    def _loaded_ms(self, plan: RepoPlan) -> dict[str, int]:
        """Return when the last load of each view ended; empty if the history cannot be read."""
        views = [view.name for view in plan.views if view.expires == "key"]
        with suppress(StoreError, RegistryError):
            loads = self._store.history.last_loads(views)
            return {name: load.ended_ms for name, load in loads.items() if load.ended_ms > 0}
        return {}

    def apply(
        self, planned: Changes | None, *, allow_breaking: bool, take_prefix: bool
    ) -> Changes:
        """Save the declared registry. See `FeatureStore.apply`."""
        changes, identity = self._compare()
        if planned is not None and planned != changes:
            raise RegistryConflictError(
                "the changes differ from the plan that was shown; nothing was changed",
                hint="another process applied, or a definition was edited: run plan again",
            )
        if changes.breaking and not allow_breaking:
            raise BreakingChangeError(
                "; ".join(f"{c.subject}: {c.detail}" for c in changes.breaking),
                hint=changes.after_breaking,
            )
        declared, before = self.declared, self.registry
        store = self._store.handle.store
        claim_prefix(store, declared.key_prefix, declared.project, take_over=take_prefix)
        fingerprint = declared.fingerprint
        if identity is None or before is None or fingerprint != before.fingerprint:
            renewed = replace(identity, registry=fingerprint) if identity else None
            with suppress(StoreError):  # the history is not needed to serve or load
                self._store.history.keep_registry(declared)
            self._store.save(declared, before, renewed or StoreIdentity.new(fingerprint))
            self._record_apply(before, declared, changes)
        with suppress(StoreError):
            self._store.history.keep_bounds()
        self.refresh()
        return changes

    def keep(self) -> None:
        """Add the applied registry to the history.

        Raises:
            StoreError: The store is unavailable, or refuses the command.
        """
        self._store.history.keep_registry(self.applied)

    def _record_apply(self, before: Registry | None, after: Registry, changes: Changes) -> None:
        record = ApplyRecord(
            at_ms=self._store.handle.now_ms(),
            who=f"{_user_name()}@{socket.gethostname()}",
            before=before.fingerprint if before is not None else "",
            after=after.fingerprint,
            changes=changes.changes,
        )
        with suppress(StoreError, RegistryError):  # the apply itself has succeeded
            self._store.history.record_apply(record)


def _user_name() -> str:
    """Return the user's name, or the user id if the system has no name for it."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())
