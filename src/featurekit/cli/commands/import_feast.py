"""The `import-feast` command."""

from __future__ import annotations

from pathlib import Path

import click

from featurekit.cli.context import CliContext, cli_command
from featurekit.cli.formatting import pluralize
from featurekit.cli.output import DIM, GREEN, YELLOW, Styled, print_line, print_note, print_table
from featurekit.codegen.feast.importing import import_feast
from featurekit.codegen.feast.report import Imported
from featurekit.errors import DefinitionError, RequestError
from featurekit.repo import FeatureStore
from featurekit.repo.atomic_files import write_files

STATES = {"mapped": GREEN, "changed": YELLOW, "left out": "bold"}


@cli_command("import-feast", has_url=False)
@click.argument("path", type=click.Path(path_type=Path, exists=True))
@click.option(
    "-o",
    "--output",
    default=".",
    metavar="FOLDER",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the new repository, by default this one.",
)
@click.option(
    "--python", metavar="PROGRAM", help="A Python with Feast, if this one does not have it."
)
def import_feast_command(
    context: CliContext, path: Path, output: Path, python: str | None
) -> None:
    """Convert a Feast repository to YAML.

    PATH is the folder of feature_store.yaml, whose modules are imported as `feast apply` does, or a
    file with the output of `feast registry-dump`, which needs no Feast. What has no equal becomes a
    comment that says why and what to do. Existing files are never overwritten.
    """
    imported = import_feast(path, output, python)
    if existing := [name for name in imported.texts if (output / name).exists()]:
        raise RequestError(
            f"{output / existing[0]} already exists", hint="pass an empty folder with -o"
        )
    write_files({output / name: text for name, text in imported.texts.items()})
    problems = _problems(output)
    if context.json:
        context.print_json(imported.to_dict() | {"folder": output, "problems": problems})
        return
    for name in imported.texts:
        print_line(Styled("+ ", GREEN), (output / name).as_posix())
    _print_report(imported)
    for problem in problems:
        print_note("warning", problem, YELLOW)
    folder = "" if output == Path() else f"--repo {output} "
    print_line(
        "\nnext: ", Styled(f"featurekit {folder}validate", "bold"), ", and read the comments"
    )


def _problems(output: Path) -> list[str]:
    """Return what `validate` says about the new repository."""
    try:
        with FeatureStore(output) as store:
            return [str(warning) for warning in store.warnings]
    except DefinitionError as error:
        return [str(problem) for problem in error.problems]


def _notes(imported: Imported) -> dict[str, list[str]]:
    """Return the names of the definitions that each note is about."""
    names: dict[str, list[str]] = {}
    for each in imported.outcomes:
        for note in each.notes:
            names.setdefault(note, []).append(each.target or each.name)
    return names


def _print_report(imported: Imported) -> None:
    rows = [
        (
            Styled(each.state, STATES[each.state]),
            each.kind,
            each.name,
            each.target or Styled("-", DIM),
        )
        for each in imported.outcomes
    ]
    print_table(("", "in Feast", "name", "here"), rows)
    for note, names in _notes(imported).items():
        print_note(", ".join(names), note, YELLOW)
    states = [each.state for each in imported.outcomes]
    counts = ", ".join(f"{states.count(s)} {s}" for s in STATES if s in states)
    print_line(f"{pluralize(len(states), 'definition')}: {counts}")
