"""The applied registry of one repository: where it is stored, and what `apply` changes.

A registry is a JSON document in a file or in the online store. The history of loads and applies is
stored beside it. `RegistryState` holds the registry as last read, compiled into a plan.

Saving is a compare-and-swap: the caller passes the registry that it saw, and the save fails with
`RegistryConflictError` if another process has applied since. A file is compared under a lock and
replaced by renaming; the online store compares and sets in one script.
"""

from __future__ import annotations

import getpass
import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Protocol

from typing_extensions import override

from featurekit.changes import Changes, diff
from featurekit.compiler import compile_repo
from featurekit.errors import (
    BreakingChangeError,
    RegistryConflictError,
    RegistryError,
    StoreError,
)
from featurekit.models.definitions import LoadedRepo
from featurekit.plan import RepoPlan
from featurekit.ports import OnlineStore
from featurekit.registry import Registry
from featurekit.repo.atomic_files import exclusive_lock, write_atomically
from featurekit.repo.history import ApplyRecord, FileHistory, History, OnlineHistory
from featurekit.repo.store_handle import LazyStoreHandle, now_ms
from featurekit.wire import ErrorReply, Reply

_COMPARE_AND_SET = """
local current = redis.call('GET', KEYS[1]) or ''
if current ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
return 1
"""


class RegistryStore(Protocol):
    """Where a registry is stored."""

    def text(self) -> str | None:
        """Return the applied registry as canonical JSON, or `None` before the first apply.

        Raises:
            RegistryError: The registry cannot be read.
        """

    def load(self) -> Registry | None:
        """Return the applied registry, or `None` before the first apply.

        Raises:
            RegistryError: The registry cannot be read, or is not valid.
        """
        text = self.text()
        return None if text is None else Registry.from_json(text)

    def save(self, registry: Registry, expected: Registry | None) -> None:
        """Replace `expected` with `registry`.

        Raises:
            RegistryConflictError: The stored registry is not `expected`.
        """

    @property
    def history(self) -> History:
        """The history of loads and applies."""


def open_registry_store(loaded: LoadedRepo, handle: LazyStoreHandle) -> RegistryStore:
    """Return the registry store that `registry:` in `featurerepo.yaml` selects."""
    if loaded.config.registry == "online":
        return OnlineRegistryStore(handle.store, loaded.config.project)
    return FileRegistryStore(loaded.root / loaded.config.registry)


def _conflict() -> RegistryConflictError:
    return RegistryConflictError(
        "another process has applied in the meantime; nothing was changed",
        hint="run `featurekit plan` again to see the remaining changes",
    )


class FileRegistryStore(RegistryStore):
    """A registry in a file, which is replaced by renaming."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._history = FileHistory(path)

    @property
    @override
    def history(self) -> History:
        return self._history

    @override
    def text(self) -> str | None:
        try:
            return self._path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise RegistryError(
                f"the registry cannot be read: {error}", where=str(self._path)
            ) from error

    @override
    def save(self, registry: Registry, expected: Registry | None) -> None:
        with exclusive_lock(self._path):
            current = self.load()
            if (current and current.fingerprint) != (expected and expected.fingerprint):
                raise _conflict()
            write_atomically(self._path, registry.to_json())


class OnlineRegistryStore(RegistryStore):
    """A registry in the online store, under a key that no entity can have."""

    def __init__(self, store: OnlineStore, project: str) -> None:
        self._store = store
        self._key = f"featurekit:{{{project}}}:registry"
        self._history = OnlineHistory(store, project)

    @property
    @override
    def history(self) -> History:
        return self._history

    @override
    def text(self) -> str | None:
        text = self._call("GET", self._key)
        if not isinstance(text, bytes):
            return None
        try:
            return text.decode()
        except UnicodeDecodeError as error:
            raise RegistryError(
                f"the registry cannot be read: {error}", where=self._where
            ) from error

    @override
    def save(self, registry: Registry, expected: Registry | None) -> None:
        before = expected.to_json() if expected is not None else ""
        if self._call("EVAL", _COMPARE_AND_SET, 1, self._key, before, registry.to_json()) != 1:
            raise _conflict()

    @property
    def _where(self) -> str:
        return f"{self._store.describe()}, {self._key}"

    def _call(self, *args: str | int | bytes) -> Reply:
        reply = self._store.call(*args, key=self._key)
        if isinstance(reply, ErrorReply):
            raise StoreError(f"the store refused the registry: {reply}", where=self._where)
        return reply


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
        current = self._current or self._load()
        if current is None:
            raise RegistryError("nothing is applied yet", hint="run `featurekit apply` first")
        return current.plan

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
        before, text = self._current, self._store.text()
        if text is None:
            if before is None:
                return False
            raise RegistryError("the registry was deleted", hint="run `featurekit apply`")
        if before is not None and before.text == text:
            return False
        self._current = _compile(text)
        return True

    def _load(self) -> _CompiledRegistry | None:
        current = self._current
        if current is None and (text := self._store.text()) is not None:
            current = self._current = _compile(text)
        return current

    def changes(self) -> Changes:
        """Return what `apply` would change."""
        text = self._store.text()
        self._current = before = _compile(text) if text is not None else None
        after = compile_repo(self.declared)
        return (
            diff(before.plan, after, self._loaded_ms(before.plan)) if before else diff(None, after)
        )

    def _loaded_ms(self, plan: RepoPlan) -> dict[str, int]:
        """Return when the last load of each view ended; empty if the history cannot be read."""
        views = [view.name for view in plan.views if view.expires == "key"]
        with suppress(StoreError, RegistryError):
            loads = self._store.history.last_loads(views)
            return {name: load.ended_ms for name, load in loads.items() if load.ended_ms > 0}
        return {}

    def apply(self, planned: Changes | None, *, allow_breaking: bool) -> Changes:
        """Save the declared registry. See `FeatureStore.apply`."""
        changes = self.changes()
        if planned is not None and planned != changes:
            raise RegistryConflictError(
                "the changes differ from the plan that was shown; nothing was changed",
                hint="another process applied, or a definition was edited: run plan again",
            )
        if changes.breaking and not allow_breaking:
            raise BreakingChangeError(
                "; ".join(f"{c.subject}: {c.detail}" for c in changes.breaking),
                hint="apply with --allow-breaking, then run `featurekit reset` and materialize again",
            )
        declared, before = self.declared, self.registry
        if before is None or declared.fingerprint != before.fingerprint:
            self._store.save(declared, before)
            self._record_apply(before, declared, changes)
        self.refresh()
        return changes

    def _record_apply(self, before: Registry | None, after: Registry, changes: Changes) -> None:
        record = ApplyRecord(
            at_ms=now_ms(),
            who=f"{_user_name()}@{socket.gethostname()}",
            before=before.fingerprint if before is not None else "",
            after=after.fingerprint,
            changes=changes.changes,
        )
        with suppress(StoreError, RegistryError):  # the apply itself has succeeded
            self._store.history.record_apply(record)


def _compile(text: str) -> _CompiledRegistry:
    registry = Registry.from_json(text)
    return _CompiledRegistry(text, registry, compile_repo(registry))


def _user_name() -> str:
    """Return the user's name, or the user id if the system has no name for it."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())
