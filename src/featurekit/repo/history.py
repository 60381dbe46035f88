"""History: the loads and the applies that were, the newest of them, beside the registry.

It is the state of one deployment and never part of the registry. What is damaged in it is
forgotten, since nothing but looking depends on it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Protocol, TypeVar

from typing_extensions import override

from featurekit.changes import Change
from featurekit.errors import StoreError
from featurekit.ports import OnlineStore
from featurekit.repo.files import locked, write
from featurekit.wire import ErrorReply, Reply, text_command

LOADS = 50
"""Loads of each view that are remembered."""

APPLIES = 100
"""Applies that are remembered."""

_LONGEST_ERROR = 2000


@dataclass(frozen=True, slots=True)
class Run:
    """One load of a view.

    Attributes:
        view: The view.
        started_ms: When it began.
        ended_ms: When it ended.
        rows_read: Rows read from the source.
        rows_written: Rows written, one for each entity.
        rows_rejected: Rows that did not fit.
        rows_superseded: Rows that a newer one of the same entity took the place of.
        size_bytes: Bytes sent.
        seconds: How long it took.
        server_seconds: CPU time of the store's server; 0 if it does not tell.
        error: Why it failed; empty if it did not.
        rejects_path: The file of refused rows; empty if there is none.
        good_ms: When a load of the view last ended well, this one included; 0 for never.
    """

    view: str
    started_ms: int = 0
    ended_ms: int = 0
    rows_read: int = 0
    rows_written: int = 0
    rows_rejected: int = 0
    rows_superseded: int = 0
    size_bytes: int = 0
    seconds: float = 0.0
    server_seconds: float = 0.0
    error: str = ""
    rejects_path: str = ""
    good_ms: int = 0


@dataclass(frozen=True, slots=True)
class Apply:
    """One `apply` that made another registry of the one before.

    Attributes:
        at_ms: When.
        who: By whom, as `user@host`.
        before: The fingerprint of the registry before; empty for none.
        after: That of the registry since.
        changes: What changed; nothing where descriptions did and plans did not.
    """

    at_ms: int
    who: str = ""
    before: str = ""
    after: str = ""
    changes: tuple[Change, ...] = ()


class History(Protocol):
    """Where loads and applies are remembered, so many of each."""

    def record(self, run: Run) -> None:
        """Remember a load as the newest one of its view."""

    def last(self, views: Sequence[str]) -> dict[str, Run]:
        """The newest load of each of these views that has one."""

    def loads(self, views: Sequence[str]) -> list[Run]:
        """The loads of these views, newest first."""

    def record_apply(self, apply: Apply) -> None:
        """Remember an apply."""

    def applies(self) -> list[Apply]:
        """The applies, newest first."""


T = TypeVar("T", Run, Apply)


class FileHistory(History):
    """The history beside a registry in a file: `registry.runs.json`, `registry.applies.json`."""

    def __init__(self, registry: Path) -> None:
        self._registry = registry
        self._runs = registry.with_suffix(".runs.json")
        self._applies = registry.with_suffix(".applies.json")

    @override
    def record(self, run: Run) -> None:
        with locked(self._registry):
            views = self._views()
            views[run.view] = [_document(run), *views.get(run.view, [])][:LOADS]
            write(self._runs, json.dumps(dict(sorted(views.items())), indent=1))

    @override
    def last(self, views: Sequence[str]) -> dict[str, Run]:
        found = self._views()
        runs = {view: _newest(_all(Run, found.get(view, ()))) for view in views}
        return {view: run for view, run in runs.items() if run is not None}

    @override
    def loads(self, views: Sequence[str]) -> list[Run]:
        found = self._views()
        return _sorted(run for view in views for run in _all(Run, found.get(view, ())))

    @override
    def record_apply(self, apply: Apply) -> None:
        with locked(self._registry):
            before = _listed(_read(self._applies))
            write(self._applies, json.dumps([asdict(apply), *before][:APPLIES], indent=1))

    @override
    def applies(self) -> list[Apply]:
        return list(_all(Apply, _listed(_read(self._applies))))

    def _views(self) -> dict[str, list[object]]:
        found = _read(self._runs)
        views = found if isinstance(found, dict) else {}
        return {view: _listed(runs) for view, runs in views.items()}


class OnlineHistory(History):
    """The history in the online store: a list for each view, and one of applies."""

    def __init__(self, store: OnlineStore, project: str) -> None:
        self._store = store
        self._runs = f"featurekit:{{{project}}}:runs:"
        self._applies = f"featurekit:{{{project}}}:applies"

    @override
    def record(self, run: Run) -> None:
        self._push(self._runs + run.view, _document(run), LOADS)

    @override
    def last(self, views: Sequence[str]) -> dict[str, Run]:
        # A snapshot of metrics asks this, and is wanted most when the store is away: a read has the
        # timeout of reads.
        keys = [(self._runs + view).encode() for view in views]
        replies = self._store.read(keys, [text_command("LRANGE", key, 0, 0) for key in keys])
        told = zip(views, replies, strict=True)
        runs = {view: _newest(_all(Run, self._items(reply, view))) for view, reply in told}
        return {view: run for view, run in runs.items() if run is not None}

    @override
    def loads(self, views: Sequence[str]) -> list[Run]:
        return _sorted(run for view in views for run in self._of(view, LOADS))

    @override
    def record_apply(self, apply: Apply) -> None:
        self._push(self._applies, asdict(apply), APPLIES)

    @override
    def applies(self) -> list[Apply]:
        return list(_all(Apply, self._range(self._applies, APPLIES)))

    def _of(self, view: str, most: int) -> Iterable[Run]:
        return _all(Run, self._range(self._runs + view, most))

    def _range(self, key: str, most: int) -> list[object]:
        return self._items(self._call("LRANGE", key, 0, most - 1), key)

    def _items(self, reply: Reply, key: str) -> list[object]:
        if isinstance(reply, ErrorReply):
            raise _unusable(reply, key)
        return [_parsed(item) for item in reply] if isinstance(reply, list) else []

    def _push(self, key: str, document: Mapping[str, object], most: int) -> None:
        self._call("LPUSH", key, json.dumps(document))
        self._call("LTRIM", key, 0, most - 1)

    def _call(self, *args: str | int) -> Reply:
        reply = self._store.call(*args, key=str(args[1]))
        if isinstance(reply, ErrorReply):
            raise _unusable(reply, str(args[1]))
        return reply


def _unusable(reply: ErrorReply, key: str) -> StoreError:
    return StoreError(f"the history cannot be used: {reply}", where=key)


def _document(run: Run) -> dict[str, object]:
    return asdict(run) | {"error": run.error[:_LONGEST_ERROR]}


def _sorted(runs: Iterable[Run]) -> list[Run]:
    return sorted(runs, key=lambda run: run.ended_ms, reverse=True)


def _newest(runs: Iterable[Run]) -> Run | None:
    return next(iter(runs), None)


def _read(path: Path) -> object:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _parsed(item: Reply) -> object:
    try:
        return json.loads(item) if isinstance(item, bytes) else None
    except ValueError:
        return None


def _listed(found: object) -> list[object]:
    return found if isinstance(found, list) else []


def _all(kind: type[T], found: Iterable[object]) -> Iterable[T]:
    """What can be made of these documents; the rest is damaged, or from another version."""
    for document in found:
        if isinstance(document, dict) and (made := _made(kind, document)) is not None:
            yield made


def _made(kind: type[T], document: dict[str, Any]) -> T | None:
    names = {field.name for field in fields(kind)}
    known = {name: value for name, value in document.items() if name in names}
    if isinstance(known.get("changes"), list):
        known["changes"] = tuple(_changes(known["changes"]))
    try:
        made: T = kind(**known)
    except TypeError:
        return None
    whole = all(type(getattr(made, name)) is told for name, told in _TYPES[kind].items())
    return made if whole else None


def _changes(found: Sequence[Any]) -> Iterable[Change]:
    for change in found:
        if isinstance(change, dict) and {*change} == {"kind", "subject", "detail"}:
            yield Change(change["kind"], str(change["subject"]), str(change["detail"]))


_TYPES: dict[type, dict[str, type]] = {
    kind: {field.name: type(getattr(example, field.name)) for field in fields(kind)}
    for kind, example in ((Run, Run("")), (Apply, Apply(0)))
}
