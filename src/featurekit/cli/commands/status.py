"""`featurekit status`."""

from __future__ import annotations

import time

from featurekit.cli.screen import (
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
from featurekit.cli.session import Session, session_command
from featurekit.cli.words import ago, count, seconds, span
from featurekit.repo import FeatureStore
from featurekit.repo.inspection import ViewStatus


@session_command("status")
def command(session: Session) -> None:
    """Show when each view was last written, and which are late.

    A batch view is late if no load of it ended well within its `refresh`. Streams are written past
    this history: ask `inspect` how fresh their fields are.
    """
    with FeatureStore(session.repo) as store:
        states = store.status()
    if session.json:
        show_json(states)
        return
    now_ms = time.time_ns() // 1_000_000
    headings = ("view", "kind", "every", "last run", "rows", "took", "state")
    show_table(headings, [_row(state, now_ms) for state in states], right=("rows", "took"))
    for state in states:
        if state.error:
            show_line(Styled(f"{state.view}: ", BAD), state.error)


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


def _state(state: ViewStatus) -> Piece:
    if state.error:
        return Styled("failed", BAD)
    if state.kind == "stream":
        return Styled("-", DIM)
    return Styled("late", ODD) if state.late else Styled("on time", GOOD)
