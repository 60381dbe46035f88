"""The command `training-set`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from featurekit.cli.context import CliContext, cli_command, feature_argument, selected_features
from featurekit.cli.formatting import format_count, pluralize
from featurekit.cli.output import print_note, print_table


@cli_command("training-set")
@click.argument(
    "features",
    metavar="SERVICE|VIEW[:FIELD]...",
    type=feature_argument,
    nargs=-1,
    required=True,
)
@click.option(
    "--labels",
    metavar="FILE",
    required=True,
    help="Parquet or CSV file with join keys, a time, and any other columns.",
)
@click.option("--output", metavar="DIR", required=True, help="Folder for the training set.")
@click.option(
    "--as-of",
    type=click.Choice(["event_time", "created"]),
    help="When a row of a source counts: from its time, or once it was created also.",
)
@click.option(
    "--timestamp-field",
    metavar="COLUMN",
    default="event_timestamp",
    show_default=True,
    help="The column of the labels with their times.",
)
@click.option("--full-feature-names", is_flag=True, help="Name features view__field.")
@click.option("--statuses", is_flag=True, help="Add a column {feature}__status per feature.")
@click.option("--overwrite", is_flag=True, help="Replace a training set in the folder.")
def training_set_command(
    context: CliContext,
    features: tuple[str | dict[str, object], ...],
    labels: str,
    output: str,
    overwrite: bool,
    **options: Any,
) -> int:
    """Write labels with what reads at their times would have returned.

    The result is a training set. Reads the sources of batch views, not the online store. Writes `data.parquet` and `manifest.json`.
    By default a row of a source with a `created_timestamp_field` counts once it was created.
    """
    with context.open_store() as store:
        job = store.get_historical_features(labels, selected_features(store, features), **options)
        folder = job.persist(output, allow_overwrite=overwrite)
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    if context.json:
        context.print_json(manifest)
        return 0
    used = {view["name"]: view["as_of"] for view in manifest["views"]}
    columns = ["feature", "view", "as of", "present", "default", "missing"]
    rows = [
        [
            feature["name"],
            feature["view"],
            used[feature["view"]],
            *map(format_count, feature["statuses"].values()),
        ]
        for feature in manifest["features"]
    ]
    print_table(columns, rows, right=columns[3:])
    print_note(
        "written", f"{pluralize(manifest['labels']['rows'], 'row')} to {Path(output)}", "green"
    )
    return 0
