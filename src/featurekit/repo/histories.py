"""The histories of views: what a store would have held at past moments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from featurekit.errors import RequestError
from featurekit.history_ports import AsOf, HistoricalRows, HistoryQuery, HistorySource, PastLoad
from featurekit.plan import RepoPlan, SourcePlan, ViewPlan
from featurekit.repo.source_access import SourceAccess

if TYPE_CHECKING:
    from featurekit.engines.spark_history import ViewHistory

T = TypeVar("T")
_OTHER_AS_OF = "pass another as_of, such as 'created' or 'schedule'"


@dataclass(frozen=True, slots=True)
class Histories:
    """Reads the histories that views declare.

    Attributes:
        repo: The compiled repository.
        sources: Which sources may be opened.
        root: The folder that their paths are relative to.
        as_of: When rows count; `None` for what each view declares.
        loads_of: Returns the loads of a view that are in the log.
        open: The sources that were read, by view: a Python function is called only once.
        opened: Called with each history before it is read, to interrupt it.
        skip_bad_rows: Whether events of windows that do not fit are left out.
    """

    repo: RepoPlan
    sources: SourceAccess
    root: Path
    as_of: AsOf | None
    loads_of: Callable[[ViewPlan], Sequence[PastLoad]]
    open: dict[str, HistorySource] = field(default_factory=dict)
    opened: Callable[[HistorySource], None] = lambda _: None
    skip_bad_rows: bool = False

    def check(self, view: ViewPlan) -> None:
        """Raise `RequestError` if a view has no history, or none for this `as_of`."""
        where = f"feature view {view.name}"
        plan = history_of(view)
        if plan is None:
            what, key = (
                ("events", "stream.batch_source")
                if view.kind == "stream"
                else ("rows, which programs write", "batch.batch_source")
            )
            log = ", or log the events with `stream.log`" if view.kind == "stream" else ""
            raise RequestError(
                f"the view has no history of its {what}, so its past values are not known",
                where=where,
                hint=f"declare the history as `{key}`{log}, or leave out the features of the view",
            )
        has_arrival = view.kind == "stream" and plan.created_timestamp_field
        if not (plan.timestamp_field or plan.static or has_arrival):
            raise RequestError(
                "the rows of the view's source have no times, so what was known when is not known",
                where=where,
                hint="add `timestamp_field:` to the source, or `static: true` if its rows hold for "
                "all times",
            )
        if (
            self.as_of == "schedule"
            and view.kind == "batch"
            and not (view.schedule or plan.static)
        ):
            raise RequestError(
                "the view has no schedule",
                where=where,
                hint="declare `batch.schedule`, or leave out as_of: each view then uses what it has",
            )

    def rows_at(self, view: ViewPlan, moments: Any) -> HistoricalRows:
        """Return the rows of a view at some moments. See `ports.HistorySource`."""
        ends = self._key_ends(view, moments) if _has_own_ttls(view) else None
        as_of, loads = self._checked_loads(view)
        query = HistoryQuery(moments, as_of, loads, ends, skip_bad_rows=self.skip_bad_rows)
        return replace(self._read(view, lambda history: history.rows_at(view, query)), loads=loads)

    def on_spark(self, view: ViewPlan, stack: ExitStack) -> ViewHistory:
        """Return how Spark reads the history of a view.

        Args:
            view: The view.
            stack: Holds what hides the values of variables in errors.
        """
        from featurekit.engines.spark_history import ViewHistory

        if view.windows:
            raise RequestError(
                "Spark does not compute the windows of events",
                where=f"feature view {view.name}",
                hint="use engine='duckdb', or leave out the features of the view",
            )

        def located(of: ViewPlan) -> SourcePlan:
            plan = history_of(of)
            assert plan is not None  # noqa: S101 - see `check`
            found = self.sources.locate(of, plan)
            stack.enter_context(found.hidden_values())
            return found.plan

        owner = self._expiring_owner(view) if _has_own_ttls(view) else None
        of_owner = None
        if owner is not None:
            as_of, loads = self._owner_as_of(owner), _without_older(owner, self._loads(owner))
            of_owner = ViewHistory(owner, located(owner), as_of, loads)
        as_of, loads = self._checked_loads(view)
        return ViewHistory(view, located(view), as_of, _without_older(view, loads), of_owner)

    def _checked_loads(self, view: ViewPlan) -> tuple[AsOf | None, Sequence[PastLoad]]:
        """Return when rows of a view count, and its loads if they are needed."""
        as_of, loads = self._as_of(view), self._loads(view)
        if as_of == "loads" and view.kind == "batch" and not loads:
            raise RequestError(
                "no load of the view is in the log",
                where=f"feature view {view.name}",
                hint="`featurekit materialize` logs its loads; until then, use another as_of",
            )
        return as_of, loads

    def sql(self, view: ViewPlan) -> str:
        """Return the SQL of a view. See `sources.history_sql`."""
        from featurekit.sources.history_sql import NO_MOMENTS, history_sql

        where = f"feature view {view.name}"
        if view.kind == "stream":
            raise RequestError(
                "to_sql() does not say what events left in a store",
                where=where,
                hint="use to_arrow(), or leave out the features of the view",
            )
        if self.as_of in ("schedule", "loads") or (self.as_of is None and view.schedule):
            raise RequestError(
                "to_sql() does not say when loads ran",
                where=where,
                hint="pass as_of='event_time' or as_of='created'",
            )
        if _has_own_ttls(view) and (owner := self._expiring_owner(view)) is not None:
            raise RequestError(
                f"to_sql() does not say when the keys expire that feature view {owner.name} renews",
                where=where,
                hint="use to_arrow(), or leave out the features of the view",
            )
        query = HistoryQuery(NO_MOMENTS, self.as_of)
        return self._read(view, lambda history: history_sql(history, view, query))

    def _key_ends(self, view: ViewPlan, moments: Any) -> Any:
        """Return when keys expired, which take the values of all views along; `None` if never."""
        owner = self._expiring_owner(view)
        if owner is None:
            return None
        as_of, loads = self._owner_as_of(owner), self._loads(owner)
        query = HistoryQuery(moments, as_of, loads, ends_keys=True)
        return self._read(owner, lambda history: history.key_ends(owner, query))

    def _expiring_owner(self, view: ViewPlan) -> ViewPlan | None:
        """Return the view that owns the TTL of the keys, if its loads let keys expire."""
        owners = (v for v in self.repo.views if v.key == view.key and not _has_own_ttls(v))
        owner = next(owners, None)
        plan = history_of(owner) if owner else None
        if owner is None or plan is None or not plan.timestamp_field:
            return None
        as_of = self._owner_as_of(owner)
        if (as_of == "loads" and not self._loads(owner)) or _renews_keys(owner, as_of):
            return None
        return owner

    def _owner_as_of(self, owner: ViewPlan) -> AsOf | None:
        """Return when the rows of the owner of the keys' TTL count, by what it declares."""
        as_of, plan = self._as_of(owner), history_of(owner)
        if as_of == "created" and not (plan and plan.created_timestamp_field):
            return "event_time"
        return None if as_of == "schedule" and owner.schedule is None else as_of

    def _as_of(self, view: ViewPlan) -> AsOf | None:
        """Return `as_of`, or `None` for the rows that no load writes: `static` ones, and those of programs."""
        is_loaded = view.source is not None and not view.source.static
        return (
            None
            if view.kind == "batch" and self.as_of == "loads" and not is_loaded
            else self.as_of
        )

    def _loads(self, view: ViewPlan) -> Sequence[PastLoad]:
        """Return the loads of a batch view, if they are needed."""
        if self._as_of(view) != "loads" or view.kind != "batch":
            return ()
        loads = self.loads_of(view)
        if view.event_time_field and has_older_loads(loads):
            raise RequestError(
                "loads took rows older than those of earlier loads, and the log does not say which "
                "of them `ordering: event_time` left out",
                where=f"feature view {view.name}",
                hint=_OTHER_AS_OF,
            )
        return loads

    def _read(self, view: ViewPlan, read: Callable[[HistorySource], T]) -> T:
        plan = history_of(view)
        assert plan is not None  # noqa: S101 - see `check`
        located = self.sources.locate(view, plan)
        with located.hidden_values():
            from featurekit.sources import open_source

            if view.name not in self.open:
                self.open[view.name] = open_source(located.plan, self.root)
            history = self.open[view.name]
            self.opened(history)
            return read(history)


def history_of(view: ViewPlan) -> SourcePlan | None:
    """Return the source of a view's history; `None` if it declares none."""
    return view.history or view.source or (view.log.events if view.log else None)


def default_as_of(view: ViewPlan) -> str | None:
    """Return when rows of a view count by default; `None` if it has no history with times."""
    plan = history_of(view)
    if plan is None or not (plan.static or plan.timestamp_field or plan.created_timestamp_field):
        return None
    if plan.static:
        return "static"
    if view.schedule is not None:
        return "schedule"
    return "created" if plan.created_timestamp_field else "event_time"


def _without_older(view: ViewPlan, loads: Sequence[PastLoad]) -> Sequence[PastLoad]:
    """Return loads, none of which wrote older rows over newer ones."""
    if has_older_loads(loads):
        raise RequestError(
            "Spark does not compute what loads of older rows wrote over newer ones",
            where=f"feature view {view.name}",
            hint=f"use engine='duckdb', or {_OTHER_AS_OF}",
        )
    return loads


def has_older_loads(loads: Sequence[PastLoad]) -> bool:
    """Return whether a load's window ends before that of an earlier one."""
    if len(loads) < 2:  # noqa: PLR2004 - one before another
        return False
    from featurekit.sources.load_times import writes_over_newer

    return writes_over_newer(loads)


def _renews_keys(view: ViewPlan, as_of: AsOf | None) -> bool:
    """Return whether loads always renew the keys of all entities in the source before they expire."""
    if as_of == "loads" or view.lookback_ms is not None:
        return False
    has_schedule = as_of in (None, "schedule") and view.schedule is not None
    return not has_schedule or (
        view.schedule is not None and view.schedule.every_ms <= view.ttl_ms
    )


def _has_own_ttls(view: ViewPlan) -> bool:
    """Return whether the values of a view expire by themselves, and also with their key."""
    return view.kind == "stream" or view.expires == "field"
