"""`featurekit bench`."""

from __future__ import annotations

import click

from featurekit.cli.context import Session, session_command
from featurekit.cli.output import show_json, show_line, show_table
from featurekit.repo import FeatureStore


@session_command("bench")
@click.option(
    "--entities", type=int, default=10_000, show_default=True, help="How many to write and read."
)
@click.option(
    "--seconds", type=float, default=5.0, show_default=True, help="How long to measure, about."
)
def command(session: Session, entities: int, seconds: float) -> None:
    """Measure reads and writes on this machine and store.

    Beside the same work done by a redis-py pipeline, and by bytes prepared by hand: only these
    ratios compare from machine to machine. Writes under a key prefix of its own, and deletes it.
    """
    with FeatureStore(session.repo) as store:
        report = store.bench(entities=entities, seconds=seconds)
    if session.json:
        show_json(report.to_dict())
        return
    show_line(report.server)
    rows = [
        (
            f"read {read.entities:,}",
            f"{read.p50_ms:.3f} ms",
            f"{read.p99_ms:.3f} ms",
            f"{read.of_prepared:.2f} x the time",
            f"{read.over_pipeline:.1f} x as fast",
        )
        for read in report.reads
    ]
    show_table(
        ("ten features", "half within", "99 % within", "of prepared bytes", "as a pipeline"), rows
    )
    load = report.load
    show_line("")
    show_table(
        ("load", "rates", "of prepared bytes", "as a pipeline"),
        [
            (
                f"{load.rows:,} rows",
                f"{load.rows_per_s:,.0f} rows/s",
                f"{load.of_prepared:.2f} x the rate",
                f"{load.over_pipeline:.1f} x as fast",
            )
        ],
    )
