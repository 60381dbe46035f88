"""`featurekit status`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict

from featurekit.cli.context import Session, session_command
from featurekit.cli.formatting import ago, count, percent, seconds, span
from featurekit.cli.output import (
    BAD,
    DIM,
    GOOD,
    ODD,
    Piece,
    Styled,
    show_json,
    show_line,
    show_table,
)
from featurekit.errors import StoreError
from featurekit.repo import FeatureStore
from featurekit.repo.diagnostics import StreamFreshness, ViewStatus
from featurekit.repo.heartbeats import WorkerStatus

WORKERS = ("worker", "of", "events/s", "read", "dropped", "rejected", "lag", "told", "")
STREAM = ("stream", "live", "of", "newest", "oldest", "lag")


@session_command("status")
def command(session: Session) -> None:
    """Show when each view was last written, and which are late.

    A batch view is late if no load of it ended well within its `refresh`. Of stream views it tells
    the share of entities that have live fields, how long the newest and the oldest of these still
    live, from a sample of up to 1000 entities, and how many events wait for a worker; and of the
    workers that live what they did since they started.
    """
    with FeatureStore(session.repo) as store:
        states = store.status()
        crew = _crew(store)
    if session.json:
        show_json([asdict(s) | {"workers": _of(crew, s.view)} for s in states])
        return
    now_ms = time.time_ns() // 1_000_000
    headings = ("view", "kind", "every", "last run", "rows", "took", "state")
    show_table(headings, [_row(state, now_ms) for state in states], right=("rows", "took"))
    streams = [(state.view, state.stream) for state in states if state.stream is not None]
    if streams:
        show_line()
        show_table(STREAM, [_stream_row(*stream) for stream in streams], right=STREAM[1:])
    if crew:
        show_line()
        show_table(WORKERS, [_worker_row(worker) for worker in crew], right=WORKERS[2:-2])
    for state in states:
        if state.error:
            show_line(Styled(f"{state.view}: ", BAD), state.error)


def _crew(store: FeatureStore) -> list[WorkerStatus]:
    """The workers; none if the store is away, or does not tell this user."""
    try:
        return store.streams.workers()
    except StoreError:
        return []


def _of(crew: Sequence[WorkerStatus], view: str) -> list[WorkerStatus]:
    return [worker for worker in crew if worker.view == view]


def _worker_row(worker: WorkerStatus) -> list[Piece]:
    return [
        worker.name,
        worker.view,
        count(worker.events_per_second),
        count(worker.read),
        count(worker.dropped_older + worker.dropped_expired),
        Styled(count(worker.rejected), BAD if worker.rejected else ""),
        Styled("-", DIM) if worker.lag is None else count(worker.lag),
        ago(worker.age_ms),
        Styled(worker.trouble, ODD),
    ]


def _row(state: ViewStatus, now_ms: int) -> list[Piece]:
    last = None if state.last_run_ms is None else now_ms - state.last_run_ms
    ran = last is not None
    batch = state.kind == "batch"
    return [
        state.view,
        state.kind,
        span(state.refresh_ms),
        ago(last) if batch else Styled("-", DIM),
        count(state.rows) if ran else Styled("-", DIM),
        seconds(state.seconds) if ran else Styled("-", DIM),
        _state(state),
    ]


def _stream_row(view: str, stream: StreamFreshness) -> list[Piece]:
    share, newest, oldest = stream.live_share, stream.newest_ttl_ms, stream.oldest_ttl_ms
    return [
        view,
        Styled("-", DIM) if share is None else percent(share),
        count(stream.sampled),
        Styled("-", DIM) if newest is None else f"{span(newest)} left",
        Styled("-", DIM) if oldest is None else f"{span(oldest)} left",
        Styled("-", DIM) if stream.lag is None else count(stream.lag),
    ]


def _state(state: ViewStatus) -> Piece:
    if state.error:
        return Styled("failed", BAD)
    if state.kind == "stream":
        return Styled("-", DIM)
    return Styled("late", ODD) if state.late else Styled("on time", GOOD)
