"""The commands `status` and `doctor`, which report the state of a store."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict

from featurekit.cli.context import CliContext, cli_command
from featurekit.cli.formatting import (
    format_age,
    format_count,
    format_ms,
    format_percent,
    format_seconds,
)
from featurekit.cli.output import DIM, GREEN, RED, YELLOW, Cell, Styled, print_line, print_table
from featurekit.errors import StoreError
from featurekit.repo import FeatureStore
from featurekit.repo.diagnostics import StreamFreshness, ViewStatus
from featurekit.repo.heartbeats import WorkerStatus

VIEW_HEADINGS = ("view", "kind", "refresh", "last run", "rows", "took", "state")
STREAM_HEADINGS = ("stream", "live", "sample", "newest", "oldest", "lag")
WORKER_HEADINGS = (
    "worker", "view", "events/s", "read", "dropped", "rejected", "lost", "lag", "heartbeat", "",
)  # fmt: skip
NOT_AVAILABLE = Styled("-", DIM)
LEVEL_STYLES = {"ok": GREEN, "warn": YELLOW, "fail": f"bold {RED}"}


@cli_command("status")
def status_command(context: CliContext) -> None:
    """Show when each view was last written, and which views are late.

    A batch view is late if no load ended successfully within its `refresh`. For a stream view, the
    command samples up to 1000 entities and shows the share with live fields, the remaining time to
    live of the newest and the oldest of these, and the number of unread events. For each running
    worker it shows counters since the worker's start.
    """
    with FeatureStore(context.repo) as store:
        views = store.status()
        workers = _running_workers(store)
    if context.json:
        context.print_json(
            [asdict(v) | {"workers": [w for w in workers if w.view == v.view]} for v in views]
        )
        return
    now_ms = time.time_ns() // 1_000_000
    _print_views(views, now_ms)
    streams = [(view.view, view.stream) for view in views if view.stream is not None]
    if streams:
        print_line()
        rows = [_stream_row(*stream) for stream in streams]
        print_table(STREAM_HEADINGS, rows, right=STREAM_HEADINGS[1:])
    if workers:
        print_line()
        rows = [_worker_row(worker) for worker in workers]
        print_table(WORKER_HEADINGS, rows, right=WORKER_HEADINGS[2:-2])
    for view in views:
        if view.error:
            print_line(Styled(f"{view.view}: ", RED), view.error)


def _print_views(views: Sequence[ViewStatus], now_ms: int) -> None:
    """Print the table of views, with the columns of some loads only if a view has values there."""
    rows = [_view_row(view, now_ms) for view in views]
    headings = list(VIEW_HEADINGS)
    optional: list[tuple[str, list[Cell], bool]] = [
        (
            "rejected",
            [Styled(format_count(v.rejected), RED if v.rejected else "") for v in views],
            any(v.rejected for v in views),
        ),
        (
            "newest row",
            [_age_of(v.newest_event_ms, now_ms) for v in views],
            any(v.newest_event_ms is not None for v in views),
        ),
    ]
    for heading, cells, is_useful in optional:
        if is_useful:
            headings.insert(-1, heading)
            for row, cell in zip(rows, cells, strict=True):
                row.insert(-1, cell)
    print_table(headings, rows, right=("rows", "took", "rejected"))


def _age_of(time_ms: int | None, now_ms: int) -> Cell:
    return NOT_AVAILABLE if time_ms is None else format_age(max(0, now_ms - time_ms))


def _running_workers(store: FeatureStore) -> list[WorkerStatus]:
    """Return the workers; none if the store is unavailable or refuses the command."""
    try:
        return store.streams.workers()
    except StoreError:
        return []


def _worker_row(worker: WorkerStatus) -> list[Cell]:
    return [
        worker.name,
        worker.view,
        format_count(worker.events_per_second),
        format_count(worker.read),
        format_count(worker.dropped_older + worker.dropped_expired),
        Styled(format_count(worker.rejected), RED if worker.rejected else ""),
        Styled(format_count(worker.lost), RED if worker.lost else ""),
        NOT_AVAILABLE if worker.lag is None else format_count(worker.lag),
        format_age(worker.age_ms),
        Styled(worker.trouble, YELLOW),
    ]


def _view_row(view: ViewStatus, now_ms: int) -> list[Cell]:
    age_ms = None if view.last_run_ms is None else now_ms - view.last_run_ms
    has_run = age_ms is not None
    return [
        view.view,
        view.kind,
        format_ms(view.refresh_ms),
        format_age(age_ms) if view.kind == "batch" else NOT_AVAILABLE,
        format_count(view.rows) if has_run else NOT_AVAILABLE,
        format_seconds(view.seconds) if has_run else NOT_AVAILABLE,
        _view_state(view),
    ]


def _stream_row(view: str, stream: StreamFreshness) -> list[Cell]:
    share, newest_ms, oldest_ms = stream.live_share, stream.newest_ttl_ms, stream.oldest_ttl_ms
    return [
        view,
        NOT_AVAILABLE if share is None else format_percent(share),
        format_count(stream.sampled),
        NOT_AVAILABLE if newest_ms is None else f"{format_ms(newest_ms)} left",
        NOT_AVAILABLE if oldest_ms is None else f"{format_ms(oldest_ms)} left",
        NOT_AVAILABLE if stream.lag is None else format_count(stream.lag),
    ]


def _view_state(view: ViewStatus) -> Cell:
    if view.error:
        return Styled("failed", RED)
    if view.kind == "stream":
        return NOT_AVAILABLE
    return Styled("late", YELLOW) if view.late else Styled("on time", GREEN)


@cli_command("doctor")
def doctor_command(context: CliContext) -> int:
    """Check the definitions, the store, the registry and stored data.

    Checks the definitions, the server and its settings, the registry, the loads, and a sample of
    the hashes. Exits with 1 if a check fails.
    """
    with FeatureStore(context.repo) as store:
        findings = store.doctor()
    levels = [finding.level for finding in findings]
    if context.json:
        context.print_json({"ok": "fail" not in levels, "findings": findings})
    else:
        rows = [
            (
                Styled(finding.level, LEVEL_STYLES[finding.level]),
                finding.subject,
                finding.message + (f"\n→ {finding.hint}" if finding.hint else ""),
            )
            for finding in findings
        ]
        print_table(("", "", ""), rows)
        print_line(
            ", ".join(
                f"{levels.count(level)} {level}" for level in LEVEL_STYLES if level in levels
            )
        )
    return 1 if "fail" in levels else 0
