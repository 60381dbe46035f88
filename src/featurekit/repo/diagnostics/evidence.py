"""What explanations of missing values are based on: loads, rejected rows, applies, dead letters."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property

from featurekit.errors import FeatureKitError, RegistryError, StoreError
from featurekit.plan import RedisStreamPlan, RepoPlan, ViewPlan
from featurekit.ports import DeadLetter
from featurekit.repo.diagnostics.view_status import ViewStatus
from featurekit.repo.history import History, LoadRecord
from featurekit.repo.store_identity import StoreState

MAX_LETTERS = 1000
"""Dead letters of a stream that are searched for an entity, newest first."""


_LOST = {
    StoreState.REPLACED: "The store was flushed or replaced since the registry was applied.",
    StoreState.LOST: "The server has evicted keys of the project, or was flushed, since the last apply.",
}


@dataclass(frozen=True, slots=True)
class Rejection:
    """A load that rejected an entity's row.

    Attributes:
        load: The load.
        is_certain: Whether the row is known to be among its rejected rows; otherwise the load rejected
            more rows than it recorded.
        is_last: Whether no later load of the view was recorded.
    """

    load: LoadRecord
    is_certain: bool
    is_last: bool


class Evidence:
    """Facts about a repository, each read at its first use and then kept.

    Args:
        plan: The applied registry, compiled.
        history: The history of loads and applies.
        statuses: Returns the status of all views.
        dead_letters: Returns the newest dead letters of a view about an entity; takes the view, how many
            letters to search, and the entity's key.
        store_state: Returns whether the store is the one that the registry was applied to.
        now_ms: The current time.
    """

    def __init__(
        self,
        plan: RepoPlan,
        history: History,
        statuses: Callable[[], Sequence[ViewStatus]],
        dead_letters: Callable[[ViewPlan, int, bytes], Sequence[DeadLetter]],
        store_state: Callable[[], StoreState],
        now_ms: int,
    ) -> None:
        self._plan = plan
        self._history = history
        self._statuses = statuses
        self._dead_letters = dead_letters
        self._store_state = store_state
        self._found_letters: dict[tuple[str, bytes], DeadLetter | None] = {}
        self.now_ms = now_ms

    @cached_property
    def _loads(self) -> Mapping[str, Sequence[LoadRecord]] | None:
        names = [view.name for view in self._plan.views if view.kind == "batch"]
        try:
            records = self._history.loads(names)
        except (RegistryError, StoreError):
            return None
        return {name: [each for each in records if each.view == name] for name in names}

    @cached_property
    def _added_ms(self) -> Mapping[str, int]:
        """When each view and field was added, by the subject of the change; the last time counts."""
        added: dict[str, int] = {}
        try:
            applies = self._history.applies()
        except (RegistryError, StoreError):
            return {}
        for apply in applies:
            for change in apply.changes:
                if change.kind == "add":
                    added.setdefault(change.subject, apply.at_ms)
        return added

    @cached_property
    def _status_by_view(self) -> Mapping[str, ViewStatus]:
        try:
            return {status.view: status for status in self._statuses()}
        except FeatureKitError:
            return {}

    @cached_property
    def lost_text(self) -> str:
        """A sentence about a store that lost its data since the last apply; empty if it did not."""
        try:
            return _LOST.get(self._store_state(), "")
        except (RegistryError, StoreError):
            return ""

    def loads(self, view: str) -> Sequence[LoadRecord] | None:
        """Return the loads of a batch view, newest first; `None` if the history cannot be read."""
        return None if self._loads is None else self._loads[view]

    def status(self, view: str) -> ViewStatus | None:
        """Return the status of a view; `None` if it cannot be read."""
        return self._status_by_view.get(view)

    def added_ms(self, view: str, field: str) -> int | None:
        """Return when a field of an existing view was added; `None` if that is not known."""
        return self._added_ms.get(f"field {view}:{field}")

    def rejection(self, view: str, key: bytes) -> Rejection | None:
        """Return the newest load that rejected the row of an entity, or may have."""
        loads = [load for load in self.loads(view) or () if load.rows_rejected or load.error]
        if not loads:
            return None
        try:
            recorded = self._history.rejected_keys(view)
        except (RegistryError, StoreError):
            recorded = {}
        last = (self.loads(view) or loads)[0]
        for load in loads:
            keys = recorded.get(load.started_ms)
            is_certain = keys is not None and key in keys
            is_possible = keys.is_full if keys is not None else load.rows_rejected > 0
            if is_certain or is_possible:
                return Rejection(load, is_certain, load is last)
        return None

    def dead_letter(self, view: ViewPlan, key: bytes) -> DeadLetter | None:
        """Return the newest dead letter about an entity; `None` if there is none or they cannot be read."""
        if not isinstance(view.stream, RedisStreamPlan):
            return None
        place = (view.name, key)
        if place not in self._found_letters:
            letters: Sequence[DeadLetter] = ()
            with suppress(FeatureKitError):  # also if this machine may not open the stream
                letters = self._dead_letters(view, MAX_LETTERS, key)
            self._found_letters[place] = next(iter(letters), None)
        return self._found_letters[place]
