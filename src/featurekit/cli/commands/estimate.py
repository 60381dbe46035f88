"""The command `estimate`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import click

from featurekit.cli.context import CliContext, cli_command
from featurekit.cli.formatting import format_count, format_percent, format_size
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

if TYPE_CHECKING:
    from featurekit.repo.estimate_report import EntityEstimate, EstimateReport, FieldCost

_UNITS = {"": 1, "k": 1_000, "m": 1_000_000, "b": 1_000_000_000}
_COUNT = re.compile(r"([0-9]+(?:\.[0-9]+)?)([kmb]?)", re.IGNORECASE)


def _entity_count(
    _: click.Context, __: click.Parameter, values: tuple[str, ...]
) -> dict[str, int]:
    counts: dict[str, int] = {}
    for value in values:
        name, _sign, text = value.partition("=")
        found = _COUNT.fullmatch(text.replace("_", "").replace(",", ""))
        if not name or found is None:
            raise click.BadParameter(f"'{value}' is not ENTITY=COUNT, for example user=10M")
        if name in counts:
            raise click.BadParameter(f"'{name}' has two counts")
        counts[name] = round(float(found[1]) * _UNITS[found[2].lower()])
    return counts


@cli_command("estimate")
@click.option(
    "--entities",
    metavar="ENTITY=COUNT",
    multiple=True,
    required=True,
    callback=_entity_count,
    help="How many there will be, as user=10M; may be repeated.",
)
@click.option(
    "--sample",
    metavar="N",
    type=click.IntRange(min=1),
    default=1000,
    show_default=True,
    help="Hashes of each entity to measure.",
)
@click.option("--example", metavar="FILE", help="JSON Lines with join keys and fields to use.")
def estimate_command(
    context: CliContext, entities: dict[str, int], sample: int, example: str | None
) -> None:
    """Estimate memory and reads of many entities from a sample.

    Writes a sample of hashes to the online store under keys of its own, measures their memory and
    reads, and deletes them; they expire after 10 minutes in any case. Uses the definitions at hand,
    applied or not, and values of the sources, of histories of events, or of --example; other values
    are made from types and constraints.

    Shows the memory of an entity, of each view and field, what makes a hash more than compact, and
    what other choices would take.
    """
    with context.open_store() as store:
        report = store.data.estimate(entities, sample=sample, examples=example)
    if context.json:
        context.print_json(report.to_dict())
    else:
        _print_report(report)


def _print_report(report: EstimateReport) -> None:
    for entity in report.entities:
        _print_entity(entity)
    for note in report.notes:
        print_note("note", note, YELLOW)
    used = f"{format_size(report.used_bytes)} used now"
    limit = f", maxmemory {format_size(report.max_bytes)}" if report.max_bytes else ""
    servers = f"{report.servers} servers, " if report.servers > 1 else ""
    where = f"{report.server} ({servers}{report.allocator}; {used}{limit})"
    print_note("estimated", f"{format_size(report.total_bytes)} more on {where}", GREEN)
    if not report.fits:
        print_note("warning", "that is more than maxmemory", RED)


def _print_entity(entity: EntityEstimate) -> None:
    encodings = ", ".join(f"{format_percent(n)} {name}" for name, n in entity.encodings.items())
    print_line(
        Styled(entity.entity, "bold"),
        f": {format_count(entity.count)} x {format_count(entity.bytes)} B = "
        f"{format_size(entity.total_bytes)}",
        Styled(f"  ({encodings}; {format_count(entity.sample)} measured)", DIM),
    )
    headings = ["field", "type", "bytes", "value", "longest", "in", "values of"]
    rows: list[list[Cell]] = [
        ["key and tables", "", format_count(entity.key_bytes), "", "", "", ""]
    ]
    for view, saved in entity.views.items():
        rows.append(
            [Styled(view, "bold"), "", Styled(format_count(saved), "bold"), "", "", "", ""]
        )
        rows += [_field_row(field) for field in entity.fields if field.view == view]
    print_table(headings, rows, right=headings[2:6])
    for reason in entity.wide_because:
        print_note("not compact", reason, YELLOW)
    if entity.choices:
        print_table(
            ("instead", "bytes", "in all", ""),
            [
                [c.name, format_count(c.bytes), format_size(c.total_bytes), Styled(c.basis, DIM)]
                for c in entity.choices
            ],
            right=("bytes", "in all"),
        )
    reads = ", ".join(
        f"{format_count(read.entities)} in {read.median_us / 1000:.2f} ms "
        f"(99%: {read.p99_us / 1000:.2f})"
        for read in entity.reads
    )
    cpu = f"; {entity.server_us:.1f} us of the server each" if entity.server_us else ""
    print_line(Styled("reads of all fields", DIM), f": {reads}{cpu}")


def _field_row(field: FieldCost) -> list[Cell]:
    longest: Cell = format_count(field.max_value_bytes)
    if field.causes_wide:
        longest = Styled(format_count(field.max_value_bytes), YELLOW)
    return [
        f"  {field.name}",
        Styled(field.dtype, DIM),
        format_count(field.bytes),
        f"{field.value_bytes:.1f}",
        longest,
        format_percent(field.share),
        Styled(field.origin, DIM),
    ]
