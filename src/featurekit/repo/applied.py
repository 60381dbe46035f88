"""What is declared and what is applied: the registry of one repository, and how it moves on."""

from __future__ import annotations

import getpass
import os
import socket
from contextlib import suppress

from featurekit.changes import Changes, diff
from featurekit.compiler import compile_repo
from featurekit.errors import (
    BreakingChangeError,
    RegistryConflictError,
    RegistryError,
    StoreError,
)
from featurekit.models.loaded import LoadedRepo
from featurekit.plan import RepoPlan
from featurekit.registry import Registry
from featurekit.repo.door import now_ms
from featurekit.repo.history import Apply
from featurekit.repo.home import Home


class Applied:
    """The registry as applied, read once and compiled, beside the definitions as loaded."""

    def __init__(self, home: Home, loaded: LoadedRepo | None) -> None:
        self._home = home
        self._loaded = loaded
        self._now: tuple[Registry, RepoPlan] | None = None

    @property
    def registry(self) -> Registry | None:
        """The registry as applied; `None` before the first `apply`."""
        if self._now is None and (registry := self._home.load()) is not None:
            self._now = (registry, compile_repo(registry))
        return self._now[0] if self._now is not None else None

    @property
    def plan(self) -> RepoPlan:
        """The applied registry, compiled.

        Raises:
            RegistryError: Nothing is applied yet.
        """
        if self.registry is None or self._now is None:
            raise RegistryError("nothing is applied yet", hint="run `featurekit apply` first")
        return self._now[1]

    @property
    def declared(self) -> Registry:
        """The registry as the definitions have it, with what was retired since the last apply."""
        if self._loaded is None:
            raise RegistryError("this store was opened from its registry and has no definitions")
        return Registry.from_loaded(self._loaded, self.registry)

    def refresh(self) -> None:
        """Read the registry anew at the next call."""
        self._now = None

    def changes(self) -> Changes:
        """What `apply` would change."""
        self.refresh()
        before = self.plan if self.registry is not None else None
        return diff(before, compile_repo(self.declared))

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


def _user() -> str:
    """Who runs this process; by number where the system knows no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())
