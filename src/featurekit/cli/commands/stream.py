"""The `stream` commands, which write events into stream views."""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import timedelta
from typing import Any

import click

from featurekit.cli.context import CliContext, cli_command, duration_option
from featurekit.cli.formatting import format_age, format_count, format_ms, pluralize
from featurekit.cli.output import (
    RED,
    YELLOW,
    note_short_ttl,
    print_json_line,
    print_line,
    print_note,
    print_table,
    print_text,
)
from featurekit.errors import RequestError
from featurekit.repo.streaming import OnBadEvent, StreamOptions
from featurekit.runtime.worker import StreamReport, WorkerOptions
from featurekit.runtime.write_report import WriteReport

READ_BYTES = 1 << 16
MAX_LINE_BYTES = 1 << 27


@click.group("stream")
def stream_command() -> None:
    """Push events, run stream workers, or show dead letters.

    Each field of an event has its own expiry: when the stream stops, its fields expire one by one.
    """


@cli_command("push")
@click.argument("view")
@click.option(
    "--ttl", type=duration_option, metavar="10m", help="Time to live of the pushed values."
)
@click.option(
    "--on-bad-event",
    type=click.Choice(["fail", "skip"]),
    default="fail",
    show_default=True,
    help="Stop at an event that does not fit the view, or report the event and go on.",
)
def push_command(context: CliContext, view: str, ttl: int | None, on_bad_event: OnBadEvent) -> int:
    """Write JSON events from standard input into a stream view.

    One object per line, with join keys and the changed fields: {"user_id": "u0001", "tx_count_5m":
    3}. A missing field is left unchanged; null deletes the field. TTLs count
    from `event_timestamp` if a line has it; a view with `ordering: event_time` requires it. Lines
    are written as soon as they arrive. Exits with 1 if events were rejected.
    """
    if sys.stdin is None:
        raise RequestError("standard input is closed", hint="pipe JSON objects in, one per line")
    if sys.stdin.isatty():
        click.echo("reading JSON objects, one per line, until Ctrl-D", err=True)
    rejected = 0

    def print_rejected(reason: str) -> None:
        nonlocal rejected
        rejected += 1
        print_note("rejected", reason, RED)

    with context.open_store() as store:
        report = store.streams.push(
            view,
            _read_lines(),
            ttl=timedelta(milliseconds=ttl) if ttl is not None else None,
            on_bad_event=on_bad_event,
            on_rejected=None if context.json else print_rejected,
        )
    return _print_write_report(context, report, rejected or len(report.rejected))


@cli_command("run")
@click.argument("views", metavar="[VIEW]...", nargs=-1)
@click.option(
    "--consumer", metavar="NAME", default="", help="Consumer name, stable across restarts."
)
@click.option(
    "--batch",
    type=click.IntRange(1, 10_000),
    default=500,
    show_default=True,
    help="Maximum number of events per write.",
)
@click.option(
    "--interval",
    type=duration_option,
    metavar="DURATION",
    default="10s",
    show_default=True,
    help="Interval between reports.",
)
@click.option(
    "--claim-after",
    metavar="60s",
    type=duration_option,
    default="60s",
    show_default=True,
    help="Take over the pending events of another consumer after this idle time.",
)
@click.option("--once", is_flag=True, help="Stop when all waiting events are read.")
def run_command(context: CliContext, views: tuple[str, ...], **options: Any) -> None:
    """Run workers that write events from sources into stream views.

    Runs one thread for each given view, or for each view with a source. A worker acknowledges an
    event after its write, and sends an event that does not fit the view to the dead letters.
    SIGTERM and Ctrl-C stop the workers after they write what they have read. Start the command
    several times, also on other machines, to share the work. --json prints one document per line.
    """
    context.json_lines = True
    worker_options = WorkerOptions(
        batch_size=options["batch"], report_interval_s=options["interval"] / 1000
    )
    stream_options = StreamOptions(
        options["consumer"], options["claim_after"], options["once"], worker_options
    )
    stop = threading.Event()
    with context.open_store() as store, _set_on_signals(stop):
        store.streams.run(
            views,
            stream_options,
            stop=stop,
            on_report=lambda report: _print_stream_report(context, report),
        )


@cli_command("dead")
@click.argument("view")
@click.option(
    "--count",
    "limit",
    type=click.IntRange(1, 10_000),
    default=20,
    show_default=True,
    help="Maximum number of events.",
)
@click.option(
    "--entity", metavar="ID", help="Only those about this entity, among the newest 10,000."
)
def dead_command(context: CliContext, view: str, limit: int, entity: str | None) -> None:
    """Show the newest dead letters of a stream view, with the reasons.

    ID is the id in the key, as for `inspect`.
    """
    with context.open_store() as store:
        letters = store.streams.dead_letters(view, limit, entity=entity)
    if context.json:
        context.print_json([letter._asdict() for letter in letters])
        return
    now_ms = time.time_ns() // 1_000_000
    rows = [
        [
            format_age(max(0, now_ms - letter.at_ms)),
            letter.event_id,
            letter.reason,
            json.dumps({**letter.fields}),
        ]
        for letter in letters
    ]
    if rows:
        print_table(("rejected", "event", "reason", "fields"), rows)
    else:
        print_line("no dead letters")


@cli_command("replay")
@click.argument("view")
@click.option(
    "--from",
    "start",
    metavar="TIME",
    required=True,
    help="Time of the first event to apply, for example 2026-11-22T10:00:00Z.",
)
def replay_command(context: CliContext, view: str, start: str) -> int:
    """Fill the windows of a view again, from the log of its events.

    Empties the windows of all entities, and applies the events that `stream.log` has, up to where the
    consumer group is. Stop the view's workers first; they continue there afterwards, so that nothing
    counts twice. The windows are stale until the replay is done; repeat a replay that failed.
    """
    with context.open_store() as store:
        report = store.streams.replay(view, start)
    if context.json:
        context.print_json(asdict(report))
        return 1 if report.rejected else 0
    parts = [f"{pluralize(report.written, 'event')} applied"]
    parts += [
        f"{format_count(number)} {text}"
        for number, text in (
            (report.late, "too late for every window"),
            (report.repeated, "repeated"),
            (report.left, "left to the workers"),
            (report.deleted, "left out, of entities that were deleted after them"),
        )
        if number
    ]
    emptied = "1 entity" if report.emptied == 1 else f"{format_count(report.emptied)} entities"
    print_line(f"{view}: {', '.join(parts)}; the windows of {emptied} were emptied first")
    for reason in report.reasons:
        print_note("rejected", reason, RED)
    if report.rejected:
        print_note("error", f"{pluralize(report.rejected, 'event')} rejected", RED)
    return 1 if report.rejected else 0


for subcommand in (push_command, run_command, dead_command, replay_command):
    stream_command.add_command(subcommand)


def _read_lines() -> Iterator[list[str]]:
    """Yield the lines of standard input, in groups as they arrive."""
    rest = bytearray()
    stdin: Any = sys.stdin.buffer
    while data := stdin.read1(READ_BYTES):
        rest += data
        if b"\n" in data:
            *lines, rest = rest.split(b"\n")
            yield [line.decode(errors="surrogateescape") for line in lines]
        elif len(rest) > MAX_LINE_BYTES:
            raise RequestError(
                f"a line is longer than {MAX_LINE_BYTES >> 20} MB",
                hint="write one JSON object per line",
            )
    yield [rest.decode(errors="surrogateescape")]


def _print_write_report(context: CliContext, report: WriteReport, rejected: int) -> int:
    """Print the result of a push; return the exit code, 1 if events were rejected."""
    if context.json:
        document = asdict(report)
        document["rejected"] = [{"line": n, "reason": reason} for n, reason in report.rejected]
        context.print_json(document)
    else:
        dropped = report.dropped_older + report.dropped_expired
        suffix = f", {format_count(dropped)} dropped as too old" if dropped else ""
        if report.repeated:
            suffix += f", {format_count(report.repeated)} repeated"
        print_line(f"{pluralize(report.written, 'event')} written{suffix}")
    note_short_ttl("the values", report.ttl_left_ms)
    if rejected:
        print_note("error", f"{pluralize(rejected, 'event')} rejected", RED)
    return 1 if rejected else 0


def _print_stream_report(context: CliContext, report: StreamReport) -> None:
    """Print a worker's report as one line with one write, because several threads print."""
    if context.json:
        print_json_line(report.to_dict())
        return
    rate = report.read / report.seconds if report.seconds else 0.0
    parts = [f"{report.view}: {format_count(rate)} events/s"]
    parts.append(f"{format_count(report.written)} written")
    parts += [
        f"{format_count(number)} {name.replace('_', ' ')}"
        for name in ("dropped_older", "dropped_expired", "repeated", "rejected", "lost", "ignored")
        if (number := getattr(report, name))
    ]
    parts.append("lag unknown" if report.lag is None else f"lag {format_count(report.lag)}")
    if report.newest_age_ms is not None:
        parts.append(f"newest {format_ms(max(0, report.newest_age_ms))} old")
    print_text(", ".join(parts))
    for reason in report.reasons:
        print_note("rejected", reason, RED)
    if report.trouble:
        print_note("waiting", report.trouble, YELLOW)


@contextmanager
def _set_on_signals(stop: threading.Event) -> Iterator[None]:
    """Set `stop` on SIGTERM and Ctrl-C; a second signal ends the process."""

    def handle(_number: int, _frame: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    numbers = (signal.SIGTERM, signal.SIGINT)
    previous = [signal.signal(number, handle) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, previous, strict=True):
            signal.signal(number, handler)
