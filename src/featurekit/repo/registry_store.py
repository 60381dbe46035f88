"""Homes of a registry: a file, or the online store itself. Its history lives beside it.

Saving compares with what the caller saw: of two `apply` at once one wins, and the other is told.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from typing_extensions import override

from featurekit.errors import RegistryConflictError, RegistryError, StoreError
from featurekit.ports import OnlineStore
from featurekit.registry import Registry
from featurekit.repo.files import locked, write
from featurekit.repo.history import FileHistory, History, OnlineHistory
from featurekit.wire import ErrorReply, Reply

_SWAP = """
local now = redis.call('GET', KEYS[1]) or ''
if now ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
return 1
"""


class RegistryStore(Protocol):
    """Where a registry is kept."""

    def text(self) -> str | None:
        """The applied registry as canonical JSON, or `None` before the first apply.

        Raises:
            RegistryError: It cannot be read.
        """

    def load(self) -> Registry | None:
        """The applied registry, or `None` before the first apply.

        Raises:
            RegistryError: What is there is no registry.
        """
        text = self.text()
        return None if text is None else Registry.from_json(text)

    def save(self, registry: Registry, expected: Registry | None) -> None:
        """Put `registry` in the place of `expected`.

        Raises:
            RegistryConflictError: Something else is there by now.
        """

    @property
    def history(self) -> History:
        """The loads and applies that were."""


def _conflict() -> RegistryConflictError:
    return RegistryConflictError(
        "somebody else applied in the meantime; nothing was changed",
        hint="run `featurekit plan` again to see what is left to do",
    )


class FileRegistryStore(RegistryStore):
    """A registry in a file, written whole and renamed into place."""

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
        with locked(self._path):
            found = self.load()
            if (found and found.fingerprint) != (expected and expected.fingerprint):
                raise _conflict()
            write(self._path, registry.to_json())


class OnlineRegistryStore(RegistryStore):
    """A registry in the online store, under keys that no entity can have."""

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
                f"the registry cannot be read: {error}", where=self._key
            ) from error

    @override
    def save(self, registry: Registry, expected: Registry | None) -> None:
        before = expected.to_json() if expected is not None else ""
        if self._call("EVAL", _SWAP, 1, self._key, before, registry.to_json()) != 1:
            raise _conflict()

    def _call(self, *args: str | int | bytes) -> Reply:
        reply = self._store.call(*args, key=self._key)
        if isinstance(reply, ErrorReply):
            raise StoreError(f"the registry cannot be used: {reply}", where=self._key)
        return reply
