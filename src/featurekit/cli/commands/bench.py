"""The `bench` command."""

from __future__ import annotations

import click

from featurekit.bench import run_bench
from featurekit.cli.context import CliContext, cli_command
from featurekit.cli.output import print_line, print_table


@cli_command("bench")
@click.option(
    "--entities",
    type=int,
    default=10_000,
    show_default=True,
    help="Number of entities to write and read.",
)
@click.option(
    "--seconds",
    type=float,
    default=5.0,
    show_default=True,
    help="Approximate duration of the measurement.",
)
def bench_command(context: CliContext, entities: int, seconds: float) -> None:
    """Measure reads and writes on this machine and store.

    Runs the same work with a redis-py pipeline and with bytes prepared by hand: only these ratios
    compare across machines. Writes under its own key prefix, and deletes the keys at the end.
    """
    with context.open_store() as store:
        report = run_bench(store, entities=entities, seconds=seconds)
    if context.json:
        context.print_json(report.to_dict())
        return
    print_line(report.server)
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
    print_table(("ten features", "p50", "p99", "vs prepared bytes", "vs redis-py pipeline"), rows)
    load = report.load
    print_line("")
    print_table(
        ("load", "rate", "vs prepared bytes", "vs redis-py pipeline"),
        [
            (
                f"{load.rows:,} rows",
                f"{load.rows_per_s:,.0f} rows/s",
                f"{load.of_prepared:.2f} x the rate",
                f"{load.over_pipeline:.1f} x as fast",
            )
        ],
    )
