"""The command `compare`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from featurekit.cli.context import CliContext, cli_command
from featurekit.cli.formatting import pluralize
from featurekit.cli.output import (
    DIM,
    GREEN,
    RED,
    YELLOW,
    Cell,
    Styled,
    print_note,
    print_table,
    write_page,
)

if TYPE_CHECKING:
    from featurekit.training.drift import FeatureDrift
    from featurekit.training.drift_report import DriftReport

_STYLES = {"drifted": RED, "shifted": YELLOW, "too few": DIM, "stable": GREEN}
_SHARE = click.FloatRange(min=0, max=1, min_open=True)


@cli_command("compare")
@click.argument("training", metavar="TRAINING")
@click.option("--service", metavar="SERVICE", required=True, help="The service that serves them.")
@click.option(
    "--current",
    metavar="PATH",
    help="Parquet file or folder to compare with, instead of online values.",
)
@click.option("--log", is_flag=True, help="Compare with the log of what the service has served.")
@click.option(
    "--sample",
    metavar="N",
    type=click.IntRange(min=1),
    default=5000,
    show_default=True,
    help="Rows to read online.",
)
@click.option(
    "--keys",
    type=click.Choice(["training", "store"]),
    help="Read rows of the training set, or entities of the store.",
)
@click.option("--max-psi", metavar="X", type=click.FloatRange(min=0, min_open=True), default=0.25,
              show_default=True, help="A feature has drifted from this PSI on.")  # fmt: skip
@click.option("--max-ks", metavar="X", type=_SHARE, default=0.2, show_default=True,
              help="A feature has drifted from this KS distance on.")  # fmt: skip
@click.option("--max-missing", metavar="X", type=_SHARE, default=0.1, show_default=True,
              help="A feature has drifted if its share of missing values changed by this.")  # fmt: skip
@click.option("--html", metavar="FILE", help="Write a page with histograms.")
def compare_command(
    context: CliContext, training: str, service: str, html: str | None, **options: Any
) -> int:
    """Compare a training set with what is served now.

    TRAINING is the folder of a training set, or any Parquet file or folder with columns named like the
    features. Reads rows with its join keys online, or entities of the store if it has none. Exits with 1
    if a feature has drifted, or if all have too few values to compare.
    """
    from featurekit.training.drift import DriftBounds

    bounds = DriftBounds(options.pop("max_psi"), options.pop("max_ks"), options.pop("max_missing"))
    with context.open_store() as store:
        report = store.compare(training, service, bounds=bounds, **options)
    if html is not None:
        write_page(html, report.to_html())
    if context.json:
        context.print_json(report.to_dict())
    else:
        _print_report(report, html)
    return 1 if report.drifted or not report.compared else 0


def _print_report(report: DriftReport, html: str | None) -> None:
    headings = ["feature", "verdict", "PSI", "KS", "missing", "now", "median", "now"]
    print_table(headings, [_row(feature) for feature in report.features], right=headings[2:])
    for note in report.notes:
        print_note("note", note, YELLOW)
    for what, names in (
        ("only in the training set", report.only_training),
        ("only served", report.only_online),
    ):
        if names:
            print_note("note", f"{what}: {', '.join(names)}", YELLOW)
    print_note("compared", f"{report.training} with {report.online}", GREEN)
    if html is not None:
        print_note("written", html, GREEN)
    if few := [feature.name for feature in report.features if feature.level == "too few"]:
        print_note("too few", f"values to compare: {', '.join(few)}", YELLOW)
    drifted = report.drifted
    if drifted:
        print_note("drifted", f"{pluralize(len(drifted), 'feature')}: {', '.join(drifted)}", RED)
    elif report.compared:
        count = pluralize(len(report.compared), "feature")
        print_note("ok", f"{count} compared, none has drifted", GREEN)
    else:
        print_note("not compared", "no feature has enough values", RED)


def _row(feature: FeatureDrift) -> list[Cell]:
    from featurekit.training.drift_plots import number_text, percent

    sides = feature.training, feature.online
    medians = [
        "" if feature.measure == "category" else number_text(side.median, feature.measure)
        for side in sides
    ]
    missing = [percent(side.missing) for side in sides]
    return [
        feature.name,
        Styled(feature.level, _STYLES[feature.level]),
        _statistic(feature, "psi", _decimals(feature.psi)),
        _statistic(feature, "ks", _decimals(feature.ks)),
        missing[0],
        _statistic(feature, "missing", missing[1]),
        *medians,
    ]


def _decimals(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _statistic(feature: FeatureDrift, cause: str, text: str) -> Cell:
    if cause in feature.causes:
        return Styled(text, _STYLES[feature.level])
    return Styled(text, DIM) if text == "-" else text
