"""The command `training-set`."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from featurekit.cli.commands.batch import TIME
from featurekit.cli.context import (
    CliContext,
    cli_command,
    feature_argument,
    named_duration_option,
    selected_features,
)
from featurekit.cli.formatting import format_count, pluralize
from featurekit.cli.output import print_note, print_table, progress_bars
from featurekit.errors import RequestError
from featurekit.history_ports import AsOf
from featurekit.runtime.load import Progress

if TYPE_CHECKING:
    from featurekit.training import TrainingProgress


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
    metavar="FILE|SQL",
    help="Parquet or CSV file, or a SQL query, with join keys, a time, and any other columns. Without "
    "it, all entities of the sources at the time --end.",
)
@click.option(
    "--end",
    "end_date",
    metavar="TIME",
    help=f"Without --labels: the time of all of them, {TIME}. By default now.",
)
@click.option(
    "--start",
    "start_date",
    metavar="TIME",
    help="Without --labels: leave out entities whose rows are all older.",
)
@click.option("--output", metavar="DIR", required=True, help="Folder for the training set.")
@click.option(
    "--as-of",
    type=click.Choice(get_args(AsOf)),
    help="When a row of a source counts: from its time, once it was created also, from the load after "
    "that by the view's schedule, or from the load after that in the log of loads.",
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
@click.option(
    "--on-bad-row",
    type=click.Choice(["fail", "skip"]),
    default="fail",
    show_default=True,
    help="Stop at a row that does not fit its view, or leave its values out.",
)
@click.option(
    "--max-age",
    "max_ages",
    type=named_duration_option,
    multiple=True,
    metavar="VIEW=2m",
    help="Treat older values of a view as stale. Repeatable.",
)
@click.option(
    "--from-log",
    is_flag=True,
    help="Write what the service has logged while it was served, as it is, instead of computing it.",
)
@click.option(
    "--engine",
    type=click.Choice(["duckdb", "spark"]),
    help="What reads the histories; by default `engine` of featurerepo.yaml. Spark writes a folder "
    "data.parquet.",
)
@click.option("--overwrite", is_flag=True, help="Replace a training set in the folder.")
def training_set_command(
    context: CliContext,
    *,
    features: tuple[str | dict[str, object], ...],
    labels: str | None,
    output: str,
    from_log: bool,
    overwrite: bool,
    max_ages: tuple[tuple[str, int], ...],
    **options: Any,
) -> int:
    """Write labels with what reads at their times would have returned.

    The result is a training set. Reads the histories of views, not the online store. Writes `data.parquet`
    and `manifest.json`. By default a row of a source counts from the load after it by the schedule of the
    view; without a schedule, once it was created; without a time of creation, from its time.

    featurekit training-set fraud_v1 --labels labels.parquet --output train/
    """
    if from_log:
        service = _logged_service(features, labels, max_ages, options)
        with context.open_store() as store:
            folder = store.persist_served_log(service, output, allow_overwrite=overwrite)
        return _report(context, folder, output)
    with context.open_store() as store, progress_bars() as show:
        job = store.get_historical_features(
            labels,
            selected_features(store, features),
            max_age={view: timedelta(milliseconds=age_ms) for view, age_ms in max_ages},
            on_progress=None if show is None else lambda progress: show(_as_bar(progress)),
            **options,
        )
        folder = job.persist(output, allow_overwrite=overwrite)
    return _report(context, folder, output)


def _logged_service(
    features: tuple[str | dict[str, object], ...],
    labels: str | None,
    max_ages: tuple[tuple[str, int], ...],
    options: dict[str, Any],
) -> str:
    """Return the one service of a training set from its log, for which other options have no use."""
    given = {"--labels": labels, "--max-age": max_ages}
    names = ("as_of", "start_date", "end_date", "full_feature_names", "statuses")
    given |= {f"--{name.removesuffix('_date').replace('_', '-')}": options[name] for name in names}
    for name, value in given.items():
        if value:
            raise RequestError(
                f"--from-log writes the log as it is, without {name}", hint="leave one of them out"
            )
    if len(features) != 1 or not isinstance(features[0], str) or ":" in features[0]:
        raise RequestError("--from-log needs the name of one feature service")
    return features[0]


def _report(context: CliContext, folder: Path, output: str) -> int:
    """Print what a training set contains."""
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    if context.json:
        context.print_json(manifest)
        return 0
    used = {view.get("alias", view["name"]): view["as_of"] for view in manifest["views"]}
    statuses = list(dict.fromkeys(s for f in manifest["features"] for s in f["statuses"]))
    columns = ["feature", "view", "as of", *statuses]
    rows = [
        [
            feature["name"],
            feature["view"],
            used.get(feature.get("alias", feature["view"]), "derived"),
            *(format_count(feature["statuses"].get(status, 0)) for status in statuses),
        ]
        for feature in manifest["features"]
    ]
    print_table(columns, rows, right=statuses)
    print_note(
        "written", f"{pluralize(manifest['labels']['rows'], 'row')} to {Path(output)}", "green"
    )
    return 0


def _as_bar(progress: TrainingProgress) -> Progress:
    """Return progress for a bar that is half full when the rows of a view are found."""
    total = progress.labels_total
    done = progress.labels_done or int(total * (progress.query or 0) / 2)
    return Progress(progress.view, done, total, progress.seconds)
