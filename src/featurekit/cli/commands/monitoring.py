"""The commands `status` and `doctor`, which report the state of a store."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict

import click

from featurekit.cli.context import CliContext, cli_command
from featurekit.cli.formatting import (
    format_age,
    format_count,
    format_ms,
    format_percent,
    format_seconds,
)
from featurekit.cli.output import (
    DIM,
    GREEN,
    RED,
    YELLOW,
    Cell,
    Styled,
    print_line,
    print_note,
    print_table,
)
from featurekit.errors import RegistryError, StoreError
from featurekit.repo import FeatureStore
from featurekit.repo.diagnostics import StreamFreshness, ViewState, ViewStatus
from featurekit.repo.heartbeats import WorkerStatus
from featurekit.repo.time_arguments import format_time_ms

VIEW_HEADINGS = ("view", "kind", "refresh", "last run", "rows", "took", "state")
STREAM_HEADINGS = (
    "stream", "live", "sample", "newest", "oldest", "lag", "dead letters", "workers",
)  # fmt: skip
WORKER_HEADINGS = (
    "worker", "view", "events/s", "read", "dropped", "rejected", "lost", "lag", "heartbeat", "",
)  # fmt: skip
NOT_AVAILABLE = Styled("-", DIM)
STATE_STYLES: dict[ViewState, str] = {
    "never": YELLOW,
    "expired": RED,
    "failed": RED,
    "silent": RED,
    "late": YELLOW,
    "on time": GREEN,
}
LEVEL_STYLES = {"ok": GREEN, "warn": YELLOW, "fail": f"bold {RED}"}


@cli_command("status")
@click.argument("views", metavar="[VIEW]...", nargs=-1)
@click.option(
    "--check",
    is_flag=True,
    help="Exit with 1 unless all shown views are on time, and the registry was applied to the store.",
)
def status_command(context: CliContext, views: tuple[str, ...], check: bool) -> int:
    """Show the state of each view, and when it was last written.

    The state is the first of these that holds: `never` written; `expired`: nothing of a batch view
    is stored any more; `failed`: its last load failed; `silent`: a stream has unread events and no
    worker, no live value, or no event within twice its `refresh`; `late`: not written within its
    `refresh`; `on time`. For live values, the command samples up to 1000 entities. For each running
    worker it shows counters since the worker's start.
    """
    with context.open_store() as store:
        for name in views:
            store.compiled.view(name)
        statuses = [each for each in store.status() if not views or each.view in views]
        workers = [w for w in _running_workers(store) if not views or w.view in views]
        is_own_store = _is_own_store(store)
    if context.json:
        context.print_json(
            [asdict(v) | {"workers": [w for w in workers if w.view == v.view]} for v in statuses]
        )
    else:
        _print_status(statuses, workers)
    is_good = is_own_store and all(each.state == "on time" for each in statuses)
    return 1 if check and not is_good else 0


def _is_own_store(store: FeatureStore) -> bool:
    """Return whether the registry was applied to the store; say so on standard error if not."""
    try:
        store.handle.check_store()
    except RegistryError as error:
        print_note("error", str(error), RED)
        return False
    return True


def _print_status(statuses: Sequence[ViewStatus], workers: Sequence[WorkerStatus]) -> None:
    _print_views(statuses, time.time_ns() // 1_000_000)
    if streams := [_stream_row(view, view.stream) for view in statuses if view.stream is not None]:
        print_line()
        print_table(STREAM_HEADINGS, streams, right=STREAM_HEADINGS[1:])
    _print_windows(statuses)
    if workers:
        print_line()
        rows = [_worker_row(worker) for worker in workers]
        print_table(WORKER_HEADINGS, rows, right=WORKER_HEADINGS[2:-2])
    if reasons := [view for view in statuses if view.reason]:
        print_line()
        for view in reasons:
            print_line(Styled(f"{view.view}: ", STATE_STYLES[view.state]), view.reason)


def _print_windows(statuses: Sequence[ViewStatus]) -> None:
    """Print up to when the events of views with windows are applied, and what fills up still."""
    rows: list[list[Cell]] = []
    for view in statuses:
        stream = view.stream
        if stream is None or (stream.mark_age_ms is None and stream.warming_until_ms is None):
            continue
        age_ms, warming_ms = stream.mark_age_ms, stream.warming_until_ms
        rows.append(
            [
                view.view,
                NOT_AVAILABLE if age_ms is None else format_age(age_ms),
                NOT_AVAILABLE if warming_ms is None else format_time_ms(warming_ms),
            ]
        )
    if rows:
        print_line()
        print_table(("windows", "applied up to", "warming until"), rows)


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
        Styled(view.state, STATE_STYLES[view.state]),
    ]


def _stream_row(view: ViewStatus, stream: StreamFreshness) -> list[Cell]:
    newest_ms, oldest_ms = stream.newest_ttl_ms, stream.oldest_ttl_ms
    return [
        view.view,
        NOT_AVAILABLE if view.live_share is None else format_percent(view.live_share),
        format_count(view.sampled or 0),
        NOT_AVAILABLE if newest_ms is None else f"{format_ms(newest_ms)} left",
        NOT_AVAILABLE if oldest_ms is None else f"{format_ms(oldest_ms)} left",
        *(
            NOT_AVAILABLE if count is None else format_count(count)
            for count in (stream.lag, stream.dead_letters, stream.workers)
        ),
    ]


@cli_command("doctor")
@click.option(
    "--strict", is_flag=True, help="Exit with 1 after a warning too, as for a view that is late."
)
@click.option(
    "--contract",
    is_flag=True,
    help="Also try on the server what featurekit promises, under keys of its own.",
)
@click.option(
    "--engine",
    type=click.Choice(["duckdb", "spark"]),
    default="duckdb",
    help="With `spark`, also check Java, versions, and whether executors reach the store.",
)
def doctor_command(context: CliContext, strict: bool, contract: bool, engine: str) -> int:
    """Check the definitions, the store, the registry and stored data.

    Checks the definitions, the server and its settings, the registry, the state of each view, and a
    sample of the hashes. Exits with 1 if a check fails.

    With --contract, also writes, reads and lets expire a few entities, and deletes them: run it on a
    server before you rely on it. It takes a few seconds.
    """
    with context.open_store() as store:
        findings = store.doctor(contract=contract, engine=engine)
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
    return 1 if "fail" in levels or (strict and "warn" in levels) else 0
