"""Homes of a registry: a file, or the online store itself. The history of loads lives beside it.

Saving compares with what the caller saw: of two `apply` at once one wins, and the other is told.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Protocol

from typing_extensions import override

from featurekit.errors import RegistryConflictError, RegistryError, StoreError
from featurekit.ports import OnlineStore
from featurekit.registry import Registry
from featurekit.wire import ErrorReply, Reply

_SWAP = """
local now = redis.call('GET', KEYS[1]) or ''
if now ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
return 1
"""


@dataclass(frozen=True, slots=True)
class Run:
    """The last load of a view.

    Attributes:
        view: The view.
        ended_ms: When it ended.
        rows: Rows written.
        seconds: How long it took.
        error: Why it failed; empty if it did not.
        good_ms: When a load last ended well; 0 for never.
    """

    view: str
    ended_ms: int
    rows: int
    seconds: float
    error: str = ""
    good_ms: int = 0


class Home(Protocol):
    """Where a registry is kept."""

    def load(self) -> Registry | None:
        """The applied registry, or `None` before the first apply.

        Raises:
            RegistryError: What is there is no registry.
        """

    def save(self, registry: Registry, expected: Registry | None) -> None:
        """Put `registry` in the place of `expected`.

        Raises:
            RegistryConflictError: Something else is there by now.
        """

    def record(self, run: Run) -> None:
        """Remember a load as the last one of its view."""

    def runs(self) -> dict[str, Run]:
        """The last load of each view."""


def _history(runs: Iterable[object]) -> dict[str, Run]:
    """Runs by their views; what is damaged is forgotten, since the next load writes it anew."""
    names = {field.name for field in fields(Run)}
    return {
        str(run["view"]): Run(**run)
        for run in runs
        if isinstance(run, dict) and run.keys() == names
    }


def _conflict() -> RegistryConflictError:
    return RegistryConflictError(
        "somebody else applied in the meantime; nothing was changed",
        hint="run `featurekit plan` again to see what is left to do",
    )


class FileHome(Home):
    """A registry in a file, written whole and renamed into place."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._runs = path.with_suffix(".runs.json")

    @override
    def load(self) -> Registry | None:
        try:
            return Registry.from_json(self._path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise RegistryError(
                f"the registry cannot be read: {error}", where=str(self._path)
            ) from error

    @override
    def save(self, registry: Registry, expected: Registry | None) -> None:
        with self._locked():
            found = self.load()
            if (found and found.fingerprint) != (expected and expected.fingerprint):
                raise _conflict()
            _write(self._path, registry.to_json())

    @override
    def record(self, run: Run) -> None:
        with self._locked():
            runs = self.runs() | {run.view: run}
            _write(
                self._runs,
                json.dumps({name: asdict(r) for name, r in sorted(runs.items())}, indent=1),
            )

    @override
    def runs(self) -> dict[str, Run]:
        try:
            found = json.loads(self._runs.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return {}
        return _history(found.values() if isinstance(found, dict) else ())

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(self._path.with_suffix(".lock"), os.O_CREAT | os.O_RDWR, 0o644)
        except OSError as error:
            raise RegistryError(
                f"the registry cannot be written: {error}", where=str(self._path)
            ) from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)


def _write(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    new = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        with new.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except OSError as error:
        new.unlink(missing_ok=True)
        raise RegistryError(f"it cannot be written: {error}", where=str(path)) from error


class OnlineHome(Home):
    """A registry in the online store, under keys that no entity can have."""

    def __init__(self, store: OnlineStore, project: str) -> None:
        self._store = store
        self._key = f"featurekit:{{{project}}}:registry"
        self._runs = f"featurekit:{{{project}}}:runs"

    @override
    def load(self) -> Registry | None:
        text = self._call("GET", self._key)
        if not isinstance(text, bytes):
            return None
        try:
            return Registry.from_json(text.decode())
        except UnicodeDecodeError as error:
            raise RegistryError(
                f"the registry cannot be read: {error}", where=self._key
            ) from error

    @override
    def save(self, registry: Registry, expected: Registry | None) -> None:
        before = expected.to_json() if expected is not None else ""
        if self._call("EVAL", _SWAP, 1, self._key, before, registry.to_json()) != 1:
            raise _conflict()

    @override
    def record(self, run: Run) -> None:
        self._call("HSET", self._runs, run.view, json.dumps(asdict(run)))

    @override
    def runs(self) -> dict[str, Run]:
        reply = self._call("HGETALL", self._runs)
        if not isinstance(reply, list):
            return {}
        return _history(json.loads(run) for run in reply[1::2] if isinstance(run, bytes))

    def _call(self, *args: str | int | bytes) -> Reply:
        reply = self._store.call(*args)
        if isinstance(reply, ErrorReply):
            raise StoreError(f"the registry cannot be used: {reply}", where=self._key)
        return reply
