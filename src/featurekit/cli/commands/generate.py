"""The `generate` commands, which write code and documents from the definitions."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from featurekit.cli.context import CliContext, cli_command
from featurekit.cli.formatting import pluralize
from featurekit.cli.output import GREEN, Styled, print_line
from featurekit.codegen.files import FileStates, compare_files
from featurekit.codegen.python import python_module
from featurekit.errors import RequestError
from featurekit.registry import Registry
from featurekit.repo import FeatureStore
from featurekit.repo.atomic_files import write_files
from featurekit.repo.store_handle import URL_VARIABLE


@click.group("generate")
def generate_command() -> None:
    """Generate typed code from the definitions.

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


@target("python")
def python_command(context: CliContext, registry: Registry, output: Path, check: bool) -> None:
    """Write Python: a class for the rows of each service."""
    finish(context, {output: python_module(registry)}, check=check)


def finish(context: CliContext, files: dict[Path, str], *, check: bool) -> None:
    """Write the files that changed, or with `check` compare them; print what was done.

    Raises:
        RequestError: With `check`, a file is missing or out of date.
    """
    states = compare_files(files)
    if check and states.different:
        raise _stale_error(states)
    if not check:
        write_files({path: files[path] for path in states.different})
    if context.json:
        written = [] if check else states.different
        context.print_json({"files": [*files], "written": written})
    elif check or not states.different:
        print_line(Styled("up to date", GREEN), f": {pluralize(len(files), 'file')}")
    else:
        for path in states.different:
            print_line(Styled("written", GREEN), f" {path}")


def _stale_error(states: FileStates) -> RequestError:
    first, *others = states.different
    state = "does not exist" if first in states.missing else "is not what the definitions say"
    more = f", and {pluralize(len(others), 'other file')} too" if others else ""
    command = f"featurekit generate {click.get_current_context().info_name}"
    return RequestError(
        f"{first} {state}{more}",
        hint=f"run `{command}` without --check, and commit what it writes",
    )
