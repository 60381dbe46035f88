"""The status of each view: its last load, its age, and how fresh a stream view is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from featurekit.errors import RegistryError, StoreError, StoreUnavailableError
from featurekit.plan import RepoPlan, ViewPlan
from featurekit.ports import OnlineStore
from featurekit.repo.diagnostics.sampling import sample_keys
from featurekit.repo.history import History, LoadRecord
from featurekit.repo.registry_store import RegistryState
from featurekit.runtime.metrics import ViewAge
from featurekit.wire import Reply, text_command


@dataclass(frozen=True, slots=True)
class StreamFreshness:
    """How fresh a stream view is, in a sample of its entities.

    Attributes:
        sampled: Entities in the sample.
        live_share: The share of them that has a value of the view; `None` for an empty sample.
        newest_ttl_ms: The longest remaining TTL of any value; `None` if nothing is stored.
        oldest_ttl_ms: The shortest remaining TTL.
        lag: Events that the view's workers have not read yet; `None` if unknown.
    """

    sampled: int
    live_share: float | None
    newest_ttl_ms: int | None
    oldest_ttl_ms: int | None
    lag: int | None


@dataclass(frozen=True, slots=True)
class ViewStatus:
    """The status of one view.

    Attributes:
        view: The view's name.
        kind: `batch` or `stream`.
        refresh_ms: Expected interval between writes.
        last_run_ms: When the last load ended; `None` if the view was never loaded.
        rows: Rows that the last load wrote.
        seconds: Duration of the last load.
        error: Why the last load failed, or that it rejected all its rows; empty if it succeeded.
        age_ms: Time since the last successful load; `None` if there was none.
        rejected: Rows that the last load rejected.
        newest_event_ms: The newest event time that the last load read; `None` if it read none.
        late: Whether `age_ms` is `None` or exceeds `refresh_ms`. Always false for stream views, whose
            writes are not in the history.
        stream: The freshness of a stream view; `None` for batch views and if the store is away.
    """

    view: str
    kind: str
    refresh_ms: int
    last_run_ms: int | None
    rows: int
    seconds: float
    error: str
    age_ms: int | None
    late: bool
    stream: StreamFreshness | None = None
    rejected: int = 0
    newest_event_ms: int | None = None


def view_statuses(repo: RepoPlan, history: History, now_ms: int) -> list[ViewStatus]:
    """Return the status of each view according to the history of loads."""
    loads = history.last_loads([view.name for view in repo.views])
    return [_view_status(view, loads.get(view.name), now_ms) for view in repo.views]


def _view_status(view: ViewPlan, load: LoadRecord | None, now_ms: int) -> ViewStatus:
    load = load or LoadRecord(view.name)
    age_ms = now_ms - load.good_ms if load.good_ms else None
    return ViewStatus(
        view=view.name,
        kind=view.kind,
        refresh_ms=view.refresh_ms,
        last_run_ms=load.ended_ms or None,
        rows=load.rows_written,
        seconds=load.seconds,
        error=load.error or _all_rejected(load),
        age_ms=age_ms,
        late=view.kind == "batch" and (age_ms is None or age_ms > view.refresh_ms),
        rejected=load.rows_rejected,
        newest_event_ms=load.newest_event_ms,
    )


def _all_rejected(load: LoadRecord) -> str:
    if load.rows_written or not load.rows_rejected:
        return ""
    return f"no row was written: {load.rows_rejected} of {load.rows_read} were rejected"


def view_ages(registry: RegistryState, history: History, now_ms: int) -> dict[str, ViewAge]:
    """Return the age of each view; empty if the registry or the history cannot be read."""
    try:
        statuses = view_statuses(registry.plan, history, now_ms)
    except (RegistryError, StoreError):
        return {}
    return {s.view: ViewAge(s.kind, s.refresh_ms, s.age_ms, s.late) for s in statuses}


def with_stream_freshness(
    statuses: Sequence[ViewStatus],
    repo: RepoPlan,
    store: OnlineStore,
    lag: Callable[[ViewPlan], int | None],
) -> list[ViewStatus]:
    """Return the statuses with the freshness of stream views; unchanged if the store is away."""
    views = [view for view in repo.views if view.kind == "stream"]
    try:
        keys = {v.key.entity: sample_keys(store, v.key.scan_pattern()).keys for v in views}
        freshness = {
            view.name: _stream_freshness(store, view, keys[view.key.entity], lag(view))
            for view in views
        }
    except StoreUnavailableError:
        return list(statuses)
    return [replace(status, stream=freshness.get(status.view)) for status in statuses]


def _stream_freshness(
    store: OnlineStore, view: ViewPlan, keys: Sequence[bytes], lag: int | None
) -> StreamFreshness:
    names = [field.name for field in view.fields]
    requests = [text_command("HPTTL", key, "FIELDS", len(names), *names) for key in keys]
    rows = [_remaining_ttls(reply) for reply in store.run(keys, requests)]
    remaining = [ttl_ms for row in rows for ttl_ms in row]
    return StreamFreshness(
        sampled=len(keys),
        live_share=sum(map(bool, rows)) / len(keys) if keys else None,
        newest_ttl_ms=max(remaining, default=None),
        oldest_ttl_ms=min(remaining, default=None),
        lag=lag,
    )


def _remaining_ttls(reply: Reply) -> list[int]:
    """Return the TTLs of the fields that exist, in milliseconds."""
    ttls = reply if isinstance(reply, list) else []
    return [ttl for ttl in ttls if isinstance(ttl, int) and ttl >= 0]
