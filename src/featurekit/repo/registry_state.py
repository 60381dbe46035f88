"""What is declared and what is applied: the registry of one repository, and how it moves on."""

from __future__ import annotations

import getpass
import os
import socket
from contextlib import suppress
from typing import NamedTuple

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
from featurekit.registry import Registry
from featurekit.repo.history import Apply
from featurekit.repo.registry_store import RegistryStore
from featurekit.repo.store_handle import now_ms


class _Read(NamedTuple):
    """The registry as it was read: its text, what that says, and what comes of it."""

    text: str
    registry: Registry
    plan: RepoPlan


class RegistryState:
    """The registry as applied, read once and compiled, beside the definitions as loaded.

    Thread-safe: what was read is put in the place of what was before as a whole, and only once
    it is compiled.
    """

    def __init__(self, home: RegistryStore, loaded: LoadedRepo | None) -> None:
        self._home = home
        self._loaded = loaded
        self._now: _Read | None = None

    @property
    def registry(self) -> Registry | None:
        """The registry as applied; `None` before the first `apply`."""
        now = self._known()
        return now.registry if now is not None else None

    @property
    def is_known(self) -> bool:
        """Whether it was read."""
        return self._now is not None

    @property
    def plan(self) -> RepoPlan:
        """The applied registry, compiled.

        Raises:
            RegistryError: Nothing is applied yet.
        """
        now = self._now or self._known()
        if now is None:
            raise RegistryError("nothing is applied yet", hint="run `featurekit apply` first")
        return now.plan

    @property
    def declared(self) -> Registry:
        """The registry as the definitions have it, with what was retired since the last apply."""
        if self._loaded is None:
            raise RegistryError("this store was opened from its registry and has no definitions")
        return Registry.from_loaded(self._loaded, self.registry)

    def declare(self, loaded: LoadedRepo) -> None:
        """Take these definitions in the place of those loaded before."""
        self._loaded = loaded

    def refresh(self) -> None:
        """Read the registry anew at the next call."""
        self._now = None

    def reload(self) -> bool:
        """Take over what was applied since it was read; whether there was anything.

        Raises:
            RegistryError: It cannot be read, or is gone; what was read before stays.
            StoreError: The online store, which keeps it, failed; likewise.
        """
        before, text = self._now, self._home.text()
        if text is None:
            if before is None:
                return False
            raise RegistryError("the registry is gone", hint="run `featurekit apply`")
        if before is not None and before.text == text:
            return False
        self._now = _read(text)
        return True

    def _known(self) -> _Read | None:
        now = self._now
        if now is None and (text := self._home.text()) is not None:
            now = self._now = _read(text)
        return now

    def changes(self) -> Changes:
        """What `apply` would change."""
        text = self._home.text()
        self._now = before = _read(text) if text is not None else None
        return diff(before.plan if before else None, compile_repo(self.declared))

    def apply(self, shown: Changes | None, *, allow_breaking: bool) -> Changes:
        """Make the definitions the registry. See `FeatureStore.apply`."""
        changes = self.changes()
        if shown is not None and shown != changes:
            raise RegistryConflictError(
                "the changes are not those that were shown; nothing was changed",
                hint="somebody else applied, or a definition was edited: look at the plan again",
            )
        if changes.breaking and not allow_breaking:
            raise BreakingChangeError(
                "; ".join(f"{c.subject}: {c.detail}" for c in changes.breaking),
                hint="apply it with --allow-breaking, then `featurekit reset` and materialize anew",
            )
        declared, before = self.declared, self.registry
        if before is None or declared.fingerprint != before.fingerprint:
            self._home.save(declared, before)
            self._remember(before, declared, changes)
        self.refresh()
        return changes

    def _remember(self, before: Registry | None, after: Registry, changes: Changes) -> None:
        apply = Apply(
            at_ms=now_ms(),
            who=f"{_user()}@{socket.gethostname()}",
            before=before.fingerprint if before is not None else "",
            after=after.fingerprint,
            changes=changes.changes,
        )
        with suppress(StoreError, RegistryError):  # it is applied, and that is what was asked for
            self._home.history.record_apply(apply)


def _read(text: str) -> _Read:
    registry = Registry.from_json(text)
    return _Read(text, registry, compile_repo(registry))


def _user() -> str:
    """Who runs this process; by number where the system knows no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())
