"""The `generate` commands, which write code and documents from the definitions."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from featurekit.cli.context import CliContext, cli_command
from featurekit.cli.formatting import pluralize
from featurekit.cli.output import GREEN, RED, YELLOW, Styled, print_line, print_note
from featurekit.codegen.contract import contract_files
from featurekit.codegen.files import (
    FileStates,
    GeneratedFolder,
    compare_folder,
    files_of,
)
from featurekit.codegen.python import python_module, python_package
from featurekit.codegen.service_json_schema import service_schema_files
from featurekit.codegen.site import site_files
from featurekit.codegen.typescript import typescript_module
from featurekit.errors import RequestError
from featurekit.registry import Registry
from featurekit.repo import FeatureStore
from featurekit.repo.atomic_files import write_files
from featurekit.repo.store_handle import URL_VARIABLE

MOST_LINES = 20
"""The most files that are printed by name."""


@click.group("generate")
def generate_command() -> None:
    """Generate code, schemas, documentation or contracts from the definitions.

    A target reads the definitions, or with --applied the registry. --check writes nothing and exits
    with 1 if a file is not what the command would write, for CI.
    """


def target(name: str) -> Callable[[Callable[..., int | None]], click.Command]:
    """Turn a function of context, registry, output and check into a command below `generate`."""

    def decorate(function: Callable[..., int | None]) -> click.Command:
        def run(
            context: CliContext,
            output: Path,
            applied: bool,
            project: str,
            check: bool,
            **extra: Any,
        ) -> int | None:
            registry = _registry(context, applied=applied, project=project)
            return function(context, registry, output, check=check, **extra)

        run.__doc__ = function.__doc__
        run.__click_params__ = getattr(function, "__click_params__", [])  # type: ignore[attr-defined]
        for option in _OPTIONS:
            option(run)
        command = cli_command(name)(run)
        generate_command.add_command(command)
        return command

    return decorate


_OPTIONS = (
    click.option(
        "--project",
        metavar="NAME",
        default="",
        help="Read the registry of this project from the store, without a featurerepo.yaml.",
    ),
    click.option(
        "--applied", is_flag=True, help="Read the applied registry instead of the definitions."
    ),
    click.option(
        "--check", is_flag=True, help="Write nothing; exit with 1 if a file is out of date."
    ),
    click.option(
        "-o",
        "--output",
        required=True,
        metavar="PATH",
        type=click.Path(path_type=Path),
        help="File or folder to write.",
    ),
)


def _registry(context: CliContext, *, applied: bool, project: str) -> Registry:
    if project:
        url = context.url or os.environ.get(URL_VARIABLE, "")
        if not url:
            raise click.UsageError(f"--project needs --url or {URL_VARIABLE}")
        with FeatureStore.from_registry(url, project) as store:
            return store.applied
    with context.open_store() as store:
        return store.applied if applied else store.declared


_VIEWS_IN_A_FILE = 100
"""The views in a single file of which pyright has not yet refused the analysis."""


@target("python")
def python_command(context: CliContext, registry: Registry, output: Path, check: bool) -> None:
    """Write typed readers, writers and rows in Python.

    PATH is a file if it ends with .py, or else the folder of a package with a module for each
    service and view. The code imports what serving imports, and is checked by mypy and pyright. It
    refuses to read or write if the applied registry differs where it matters.
    """
    if output.suffix == ".py":
        finish_file(context, output, python_module(registry), check=check)
        if len(registry.feature_views) > _VIEWS_IN_A_FILE and not check:
            package = output.with_suffix("")
            problem = f"pyright may find {output} too large: write a package with -o {package}"
            print_note("note", problem, YELLOW)
    else:
        finish_folder(context, output, python_package(registry), check=check)


@target("typescript")
def typescript_command(context: CliContext, registry: Registry, output: Path, check: bool) -> None:
    """Write TypeScript: types of the HTTP answers, and a client that uses fetch."""
    finish_file(context, output, typescript_module(registry), check=check)


@target("jsonschema")
def jsonschema_command(context: CliContext, registry: Registry, output: Path, check: bool) -> None:
    """Write a JSON Schema per feature service into a folder."""
    finish_folder(context, output, service_schema_files(registry), check=check)


@target("contract")
def contract_command(context: CliContext, registry: Registry, output: Path, check: bool) -> None:
    """Write a data contract per feature view into a folder.

    The contracts are YAML in the Open Data Contract Standard 3.1.
    """
    finish_folder(context, output, contract_files(registry), check=check)


@target("docs")
def docs_command(context: CliContext, registry: Registry, output: Path, check: bool) -> None:
    """Write a web site of the registry into a folder.

    Open its index.html from the disk, or serve the folder from any web server. It has a search, light and
    dark colours, and loads nothing from elsewhere.
    """
    finish_folder(context, output, site_files(registry), check=check)


def finish_file(context: CliContext, path: Path, text: str, *, check: bool) -> None:
    """Write one file as `finish_folder` does."""
    finish_folder(context, path.parent, GeneratedFolder({path.name: text}, ()), check=check)


def finish_folder(
    context: CliContext, folder: Path, generated: GeneratedFolder, *, check: bool
) -> None:
    """Write the files that changed and delete those of definitions that are gone; print what was done.

    Raises:
        RequestError: A file of another origin would be overwritten; or with `check`, a file is missing,
            out of date or superfluous.
    """
    if folder.exists() and not folder.is_dir():
        raise RequestError(f"{folder} is a file, expected a folder", hint="give another -o")
    _finish(context, files_of(folder, generated), compare_folder(folder, generated), check=check)


def _finish(
    context: CliContext, files: dict[Path, str], states: FileStates, *, check: bool
) -> None:
    different, obsolete = states.different, states.obsolete
    if check and (different or obsolete):
        raise _stale_error(states)
    write_files({path: files[path] for path in different})
    for path in obsolete:
        path.unlink(missing_ok=True)
    if context.json:
        written = {"files": [*files], "written": different}
        context.print_json(written | ({"deleted": obsolete} if obsolete else {}))
    elif not (different or obsolete):
        print_line(Styled("up to date", GREEN), f": {pluralize(len(files), 'file')}")
    else:
        _print_paths(Styled("written", GREEN), different)
        _print_paths(Styled("deleted", RED), obsolete)


def _print_paths(verb: Styled, paths: Sequence[Path]) -> None:
    for path in paths[:MOST_LINES]:
        print_line(verb, f" {path}")
    if len(paths) > MOST_LINES:
        print_line(verb, f" {pluralize(len(paths) - MOST_LINES, 'other file')}")


def _stale_error(states: FileStates) -> RequestError:
    first, *others = (*states.different, *states.obsolete)
    state = "is not what the definitions say"
    if first in states.missing:
        state = "does not exist"
    elif first in states.obsolete:
        state = "belongs to a definition that is gone"
    more = f", and {pluralize(len(others), 'other file')} too" if others else ""
    command = f"featurekit generate {click.get_current_context().info_name}"
    return RequestError(
        f"{first} {state}{more}",
        hint=f"run `{command}` without --check, and commit what it writes",
    )
