"""The status of each view: its state, its last load, and how fresh what it stores is.

A state is the first of these that holds:

- `never`: no value of the view was ever written, as far as is known;
- `expired`: a batch view of which nothing is stored any more;
- `failed`: the last load failed or rejected all its rows, even if older values are still stored;
- `silent`: a stream view with unread events and no worker, without any stored value, or whose newest
  event is older than twice its `refresh`;
- `late`: not written within its `refresh`;
- `on time`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from featurekit.lower.marks import MAX_AHEAD_MS
from featurekit.models import format_duration
from featurekit.plan import RepoPlan, ViewPlan
from featurekit.repo.diagnostics.observation import Observation
from featurekit.repo.diagnostics.overview import ViewCount
from featurekit.repo.history import ApplyRecord, LoadRecord
from featurekit.repo.time_arguments import format_time_ms
from featurekit.runtime.marks import Mark
from featurekit.runtime.metrics import ViewMetrics

ViewState = Literal["never", "expired", "failed", "silent", "late", "on time"]

_SILENT_REFRESHES = 2
"""A stream whose newest event is older than this many intervals of `refresh` is silent."""

_STORE_AWAY = "the store does not answer, so that nothing is known about its values"


@dataclass(frozen=True, slots=True)
class StreamFreshness:
    """How fresh a stream view is.

    Attributes:
        newest_ttl_ms: The longest remaining TTL of any value in the sample; `None` if nothing is stored.
        oldest_ttl_ms: The shortest remaining TTL.
        newest_age_ms: The age of the newest event that is known; `None` if none is.
        lag: Events that the view's workers have not read yet; `None` if unknown.
        dead_letters: Events in the stream of dead letters; `None` if unknown.
        workers: Running workers; `None` if unknown.
        mark_age_ms: The time since all events of a view with windows were applied; `None` if the view
            has no mark, or a part of its events was never applied. Negative if the mark is more than a
            minute ahead of the clock, which makes the windows stale.
        mark_ahead_ms: How far a part of the mark is ahead of the clock, if more than a minute: then the
            clock of its worker is wrong, or this one. `None` if none is.
        emptied_ms: When a reset emptied the windows; `None` if all of them begin after it.
        warming_until_ms: When the windows that a change or a reset emptied, or a new view, have all
            events of their length, unless a replay filled them; `None` if they have.
    """

    newest_ttl_ms: int | None = None
    oldest_ttl_ms: int | None = None
    newest_age_ms: int | None = None
    lag: int | None = None
    dead_letters: int | None = None
    workers: int | None = None
    mark_age_ms: int | None = None
    mark_ahead_ms: int | None = None
    emptied_ms: int | None = None
    warming_until_ms: int | None = None


@dataclass(frozen=True, slots=True)
class ViewStatus:
    """The status of one view.

    Attributes:
        view: The view's name.
        kind: `batch` or `stream`.
        state: `never`, `expired`, `failed`, `silent`, `late` or `on time`: the first that holds.
        reason: Why the state is not `on time`, in one sentence; empty otherwise.
        refresh_ms: Expected interval between writes.
        last_run_ms: When the last load ended; `None` if the view was never loaded.
        rows: Rows that the last load wrote.
        rejected: Rows that the last load rejected.
        seconds: Duration of the last load.
        error: Why the last load failed, or that it rejected all its rows; empty if it succeeded.
        age_ms: Time since the last successful load; `None` if there was none.
        newest_event_ms: The newest event time that the last load read; `None` if it read none.
        sampled: Entities in the sample; `None` if the store does not answer.
        live_share: The share of them that has a value of the view; `None` for an empty sample.
        stream: The freshness of a stream view; `None` for batch views and if the store does not answer.
    """

    view: str
    kind: str
    state: ViewState
    reason: str
    refresh_ms: int
    last_run_ms: int | None
    rows: int
    rejected: int
    seconds: float
    error: str
    age_ms: int | None
    newest_event_ms: int | None = None
    sampled: int | None = None
    live_share: float | None = None
    stream: StreamFreshness | None = None


def view_statuses(
    repo: RepoPlan,
    loads: Mapping[str, LoadRecord],
    observation: Observation | None,
    now_ms: int,
    applies: Sequence[ApplyRecord] = (),
) -> list[ViewStatus]:
    """Return the status of each view.

    Args:
        repo: The applied registry, compiled.
        loads: The last load of each view that was loaded.
        observation: What the store holds; `None` if it does not answer.
        now_ms: The current time.
        applies: The last applies, newest first, if a view has windows.
    """
    statuses = [
        _view_status(view, loads.get(view.name, LoadRecord(view.name)), observation, now_ms)
        for view in repo.views
    ]
    return [
        _with_warming(view, status, applies, now_ms) if view.windows else status
        for view, status in zip(repo.views, statuses, strict=True)
    ]


def _with_warming(
    view: ViewPlan, status: ViewStatus, applies: Sequence[ApplyRecord], now_ms: int
) -> ViewStatus:
    """Add until when windows have fewer events than their length, since they were emptied."""
    ends, reset_ms = [0], status.stream.emptied_ms if status.stream else None
    for field in view.fields:
        subjects = {f"feature view {view.name}", f"field {view.name}:{field.name}"}
        emptied_ms = next(
            (
                apply.at_ms
                for apply in applies
                for change in apply.changes
                if change.subject in subjects and change.kind in ("add", "breaking")
            ),
            None,
        )
        emptied_ms = max(emptied_ms or 0, reset_ms or 0)
        if field.aggregate is not None and emptied_ms:
            ends.append(emptied_ms + field.aggregate.window_ms)
    if max(ends) <= now_ms or status.stream is None:
        return status
    return replace(status, stream=replace(status.stream, warming_until_ms=max(ends)))


def _view_status(
    view: ViewPlan, load: LoadRecord, observation: Observation | None, now_ms: int
) -> ViewStatus:
    count = observation.counts.get(view.name) if observation is not None else None
    freshness = None
    if view.kind == "batch":
        states = _batch_states(view, load, count, now_ms)
    elif observation is None:
        states = iter([("silent", _STORE_AWAY)])
    else:
        freshness = _freshness(view, observation, now_ms)
        states = _stream_states(view, observation, freshness)
    state, reason = next(states, ("on time", ""))
    return ViewStatus(
        view=view.name,
        kind=view.kind,
        state=state,
        reason=reason,
        refresh_ms=view.refresh_ms,
        last_run_ms=load.ended_ms or None,
        rows=load.rows_written,
        rejected=load.rows_rejected,
        seconds=load.seconds,
        error=_load_error(load),
        age_ms=now_ms - load.good_ms if load.good_ms else None,
        newest_event_ms=load.newest_event_ms,
        sampled=count.sampled if count is not None else None,
        live_share=count.live_share if count is not None else None,
        stream=freshness,
    )


def _load_error(load: LoadRecord) -> str:
    if load.error or load.rows_written or not load.rows_rejected:
        return load.error
    return f"no row was written: {load.rows_rejected} of {load.rows_read} were rejected"


def _batch_states(
    view: ViewPlan, load: LoadRecord, count: ViewCount | None, now_ms: int
) -> Iterator[tuple[ViewState, str]]:
    """Yield the states that hold for a batch view, with their reasons, in order."""
    error = _load_error(load)
    failure = f"; the last load failed: {error}" if error else ""
    if not load.good_ms:
        yield "never", f"no load has succeeded yet{failure}" if load.ended_ms else "never loaded"
    elif load.expires_ms == 0:
        yield "never", f"no load has written a row yet{failure}"
    expires_ms = load.expires_ms or load.good_ms + view.longest_ttl_ms
    if expires_ms < now_ms:
        text = f"the values of the last successful load expired at {format_time_ms(expires_ms)}"
        yield "expired", text + failure
    if count is not None and count.whole and not count.live:
        text = f"no value is stored, although the last load was at {format_time_ms(load.good_ms)}"
        yield "expired", f"{text}: values were deleted, evicted or all null{failure}"
    if error:
        yield "failed", f"the last load failed: {error}"
    age_ms = now_ms - load.good_ms
    if age_ms > view.refresh_ms:
        text = f"loaded {_ago(age_ms)}, expected every {format_duration(view.refresh_ms)}"
        yield "late", text + _kept_text(load)


def _kept_text(load: LoadRecord) -> str:
    """Return that a load since the last successful one had nothing to write; empty if it had."""
    if load.error or load.rows_written or not load.rows_kept:
        return ""
    return f"; the last load left out all {load.rows_kept} rows, whose entities have newer or other values"


def _freshness(view: ViewPlan, observation: Observation, now_ms: int) -> StreamFreshness:
    count, feed = observation.counts[view.name], observation.streams.get(view.name)
    workers = (observation.workers or {}).get(view.name, ())
    ages = [count.newest_age_ms]
    if not count.whole:  # the newest event may be of an entity outside the sample
        ages += [w.newest_age_ms + w.age_ms for w in workers if w.newest_age_ms is not None]
        if view.name in observation.last_writes:
            ages.append(max(0, now_ms - observation.last_writes[view.name]))
    lags = [w.lag for w in workers if w.lag is not None]
    mark = observation.marks.get(view.name, Mark())
    return StreamFreshness(
        newest_ttl_ms=count.newest_ttl_ms,
        oldest_ttl_ms=count.oldest_ttl_ms,
        newest_age_ms=min((age for age in ages if age is not None), default=None),
        lag=feed.lag if feed is not None and feed.lag is not None else max(lags, default=None),
        dead_letters=feed.dead if feed is not None else None,
        workers=None if observation.workers is None else len(workers),
        mark_age_ms=_age_of_mark(now_ms - mark.time_ms) if mark.time_ms else None,
        mark_ahead_ms=-age_ms if (age_ms := _age_of_mark(now_ms - mark.latest_ms)) < 0 else None,
        emptied_ms=mark.emptied_ms or None,
    )


def _stream_states(
    view: ViewPlan, observation: Observation, freshness: StreamFreshness
) -> Iterator[tuple[ViewState, str]]:
    """Yield the states that hold for a stream view, with their reasons, in order."""
    count, feed = observation.counts[view.name], observation.streams.get(view.name)
    workers = (observation.workers or {}).get(view.name, ())
    was_written = any(worker.written for worker in workers) or view.name in observation.last_writes
    was_read = feed is not None and bool(feed.events)
    if count.whole and not (count.live or was_written or was_read):
        yield "never", "no write of it is known"
    if freshness.lag and freshness.workers == 0:
        yield "silent", f"{freshness.lag:,} unread events and no running worker"
    if view.mark_key is not None:
        yield from _mark_states(view, freshness)
        return
    # A sample of many entities may miss the few that have values; a worker knows better.
    if not count.live and (count.whole or not workers or freshness.newest_age_ms is None):
        yield "silent", f"none of {count.sampled:,} sampled entities has a value"
    age_ms = freshness.newest_age_ms
    if age_ms is not None and age_ms > view.refresh_ms:
        expected = format_duration(view.refresh_ms)
        is_silent = age_ms > _SILENT_REFRESHES * view.refresh_ms
        reason = f"the newest event is of {_ago(age_ms)}, expected every {expected}"
        yield "silent" if is_silent else "late", reason


def _age_of_mark(age_ms: int) -> int:
    """Return an age; 0 for a mark that is ahead of the clock by as much as readers allow."""
    return 0 if -MAX_AHEAD_MS <= age_ms < 0 else age_ms


def _mark_states(view: ViewPlan, freshness: StreamFreshness) -> Iterator[tuple[ViewState, str]]:
    """Yield the states of a view whose worker marks up to when all events are applied."""
    most_ms = view.windows.max_mark_age_ms if view.windows else 0
    age_ms, ahead_ms = freshness.mark_age_ms, freshness.mark_ahead_ms
    ahead = f"{format_duration((ahead_ms or 0) // 1000 * 1000)} ahead of this machine's clock"
    if age_ms is None:
        cause = "no worker has said of all its events that they are applied, or a replay or reset has not ended"
        yield "silent", f"{cause}: its windows are stale"
    elif age_ms < 0:
        yield "silent", f"its mark is {ahead}: its windows are stale"
    elif age_ms > most_ms:
        text = f"its events are applied up to {_ago(age_ms)}, expected {format_duration(most_ms)}"
        yield "silent", f"{text}: its windows are stale"
    elif ahead_ms is not None:
        yield (
            "late",
            f"a part of its mark is {ahead}, so that a delay of its events would not show",
        )
    elif age_ms > view.refresh_ms:
        expected = format_duration(view.refresh_ms)
        yield "late", f"its events are applied up to {_ago(age_ms)}, expected every {expected}"
    elif freshness.emptied_ms is not None:
        at = format_time_ms(freshness.emptied_ms)
        yield "late", f"a reset at {at} emptied its windows: those that begin before it are stale"


def _ago(age_ms: int) -> str:
    return f"{format_duration(max(1000, age_ms // 1000 * 1000))} ago"


def view_metrics(statuses: list[ViewStatus], now_ms: int) -> dict[str, ViewMetrics]:
    """Return the statuses as numbers, by view."""
    return {status.view: _view_metrics(status, now_ms) for status in statuses}


def _view_metrics(status: ViewStatus, now_ms: int) -> ViewMetrics:
    stream = status.stream or StreamFreshness()
    last_ms = status.last_run_ms
    return ViewMetrics(
        kind=status.kind,
        state=status.state,
        refresh_ms=status.refresh_ms,
        age_ms=status.age_ms,
        last_load_age_ms=None if last_ms is None else max(0, now_ms - last_ms),
        last_load_seconds=None if last_ms is None else status.seconds,
        rows_written=None if last_ms is None else status.rows,
        rows_rejected=None if last_ms is None else status.rejected,
        live_share=status.live_share,
        newest_event_age_ms=stream.newest_age_ms,
        lag=stream.lag,
        dead_letters=stream.dead_letters,
        workers=stream.workers,
        mark_age_ms=stream.mark_age_ms,
    )
