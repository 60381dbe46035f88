"""`featurekit stream`: events into stream views."""

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

from featurekit.cli.context import Session, session_command
from featurekit.cli.durations import duration
from featurekit.cli.formatting import ago, count, counted, span
from featurekit.cli.output import BAD, ODD, show_json, show_line, show_note, show_table
from featurekit.errors import RequestError
from featurekit.repo import FeatureStore
from featurekit.repo.streaming import OnBadEvent, StreamOptions
from featurekit.runtime.worker import StreamReport, WorkerOptions
from featurekit.runtime.writer import WriteReport

READ_BYTES = 1 << 16
LONGEST_LINE = 1 << 27


@click.group("stream")
def command() -> None:
    """Push events into stream views, run the workers that do, or see what did not fit.

    Each field of an event is written with its own expiry, and expires by itself when its stream
    stops.
    """


@session_command("push")
@click.argument("view")
@click.option("--ttl", type=duration, metavar="10m", help="How long these values live.")
@click.option(
    "--on-bad-event",
    type=click.Choice(["fail", "skip"]),
    default="fail",
    show_default=True,
    help="Whether an event that does not fit ends it or is reported and passed over.",
)
def push(session: Session, view: str, ttl: int | None, on_bad_event: OnBadEvent) -> int:
    """Write events of JSON from standard input into a stream view.

    One object a line, of join keys and the fields that changed: {"user_id": "u0001", "tx_count_5m":
    3}. A field that an event lacks is left alone, null deletes it. A view with `ordering:
    event_time` takes the time from `event_timestamp`. Lines are written as they come. Exits with 1
    if events were rejected.
    """
    if sys.stdin is None:
        raise RequestError("standard input is closed", hint="pipe JSON objects in, one a line")
    if sys.stdin.isatty():
        click.echo("reading JSON objects, one a line, until Ctrl-D", err=True)
    life = timedelta(milliseconds=ttl) if ttl is not None else None
    rejected = 0

    def tell(reason: str) -> None:
        nonlocal rejected
        rejected += 1
        show_note("rejected", reason, BAD)

    with FeatureStore(session.repo) as store:
        report = store.streams.push(
            view,
            _arriving(),
            ttl=life,
            on_bad_event=on_bad_event,
            on_rejected=None if session.json else tell,
        )
    return _show_push(session, report, rejected or len(report.rejected))


@session_command("run")
@click.argument("views", metavar="[VIEW]...", nargs=-1)
@click.option(
    "--consumer", metavar="NAME", default="", help="The name to read under, kept over restarts."
)
@click.option(
    "--batch",
    type=click.IntRange(1, 10_000),
    default=500,
    show_default=True,
    help="Most events written at once.",
)
@click.option(
    "--interval", type=duration, default="10s", show_default=True, help="How often to report."
)
@click.option(
    "--claim-after",
    metavar="60s",
    type=duration,
    default="60s",
    show_default=True,
    help="How long a dead consumer's events are left to it.",
)
@click.option("--once", is_flag=True, help="Stop when all that is there is read.")
def run(session: Session, views: tuple[str, ...], **options: Any) -> None:
    """Feed stream views from their sources until stopped.

    The views named, or all that have a source, each in a thread. An event is acknowledged once it
    is written; one that does not fit its view goes to the dead letters. SIGTERM and Ctrl-C end it
    when what was read is written. Run it several times, here or elsewhere, to share the work.
    With --json it prints one document a line.
    """
    pace = WorkerOptions(batch_size=options["batch"], report_interval_s=options["interval"] / 1000)
    how = StreamOptions(options["consumer"], options["claim_after"], options["once"], pace)
    stop = threading.Event()
    with FeatureStore(session.repo) as store, _ended_by_signals(stop):
        store.streams.run(views, how, stop=stop, on_report=lambda report: _tell(session, report))


@session_command("dead")
@click.argument("view")
@click.option(
    "--count",
    "most",
    type=click.IntRange(1, 10_000),
    default=20,
    show_default=True,
    help="Most events shown.",
)
def dead(session: Session, view: str, most: int) -> None:
    """Show the newest dead letters of a stream view: events that did not fit it, and why."""
    with FeatureStore(session.repo) as store:
        letters = store.streams.dead_letters(view, most)
    if session.json:
        show_json([letter._asdict() for letter in letters])
        return
    now_ms = time.time_ns() // 1_000_000
    rows = [
        [ago(max(0, now_ms - each.at_ms)), each.event_id, each.reason, json.dumps({**each.fields})]
        for each in letters
    ]
    if rows:
        show_table(("buried", "event", "reason", "fields"), rows)
    else:
        show_line("no dead letters")


for subcommand in (push, run, dead):
    command.add_command(subcommand)


def _arriving() -> Iterator[list[str]]:
    """The lines of standard input, as many at once as have come."""
    rest = bytearray()
    stdin: Any = sys.stdin.buffer
    while came := stdin.read1(READ_BYTES):
        rest += came
        if b"\n" in came:
            *lines, rest = rest.split(b"\n")
            yield [line.decode(errors="surrogateescape") for line in lines]
        elif len(rest) > LONGEST_LINE:
            raise RequestError(
                f"a line of more than {LONGEST_LINE >> 20} MB is no event",
                hint="give one JSON object a line",
            )
    yield [rest.decode(errors="surrogateescape")]


def _show_push(session: Session, report: WriteReport, rejected: int) -> int:
    if session.json:
        document = asdict(report)
        document["rejected"] = [{"line": n, "reason": reason} for n, reason in report.rejected]
        show_json(document)
    else:
        dropped = report.dropped_older + report.dropped_expired
        told = f", {count(dropped)} dropped as too old" if dropped else ""
        show_line(f"{counted(report.written, 'event')} written{told}")
    if rejected:
        show_note("error", f"{counted(rejected, 'event')} rejected", BAD)
    return 1 if rejected else 0


def _tell(session: Session, report: StreamReport) -> None:
    """One line of what a worker did; from several threads, so each line is one write."""
    if session.json:
        click.echo(json.dumps(report.to_dict()))
        return
    rate = report.read / report.seconds if report.seconds else 0.0
    facts = [
        f"{report.view}: {count(rate)} events/s",
        f"{count(report.written)} written",
        *_told(report),
        "lag unknown" if report.lag is None else f"lag {count(report.lag)}",
    ]
    if report.newest_age_ms is not None:
        facts.append(f"newest {span(max(0, report.newest_age_ms))} old")
    click.echo(", ".join(facts))
    for reason in report.reasons:
        show_note("rejected", reason, BAD)
    if report.trouble:
        show_note("waiting", report.trouble, ODD)


def _told(report: StreamReport) -> Iterator[str]:
    for name in ("dropped_older", "dropped_expired", "rejected", "ignored"):
        if number := getattr(report, name):
            yield f"{count(number)} {name.replace('_', ' ')}"


@contextmanager
def _ended_by_signals(stop: threading.Event) -> Iterator[None]:
    """Have SIGTERM and Ctrl-C set `stop`; a second one ends the process at once."""

    def end(_number: int, _frame: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(number, end) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
