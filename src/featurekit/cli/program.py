"""The `featurekit` program: finds commands, reports errors, and sets the exit code.

Exit codes: 0 done; 1 failed, with one message on standard error; 2 wrong usage; 130 interrupted.
With `--json`, a failure also prints `{"error": ...}` on standard output.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import click
from typing_extensions import override

from featurekit.cli.context import CliContext, CommandGroup, repo_option, url_option
from featurekit.errors import DefinitionError, FeatureKitError, MaterializeError, name_hint
from featurekit.printable import printable

INTERRUPTED = 130

SECTIONS: tuple[tuple[str, dict[str, str]], ...] = (
    (
        "Define",
        {
            "init": "Create a repository with working examples.",
            "validate": "Check the definitions, and with --data the batch sources.",
            "plan": "Show the changes that apply would make.",
            "apply": "Update the registry from the definitions.",
            "import-feast": "Convert a Feast repository to YAML.",
            "schema": "Print the JSON Schema of the YAML files, for editors.",
            "generate": "Generate code, schemas, documentation or contracts from the definitions.",
        },
    ),
    (
        "Write",
        {
            "materialize": "Load batch views from their sources.",
            "write": "Write JSON rows from standard input into a batch view.",
            "stream": "Push events, run stream workers, or show dead letters.",
        },
    ),
    (
        "Read",
        {
            "get": "Read features of entities.",
            "inspect": "Show all stored fields of one entity.",
            "why": "Say why values of an entity are missing.",
            "training-set": "Write labels with what reads at their times would have returned.",
        },
    ),
    (
        "Serve",
        {
            "serve": "Serve features over HTTP until interrupted.",
        },
    ),
    (
        "Monitor",
        {
            "list": "List entities, views, requests, services, fields, loads or applies.",
            "describe": "Show the details of an entity, view, service or field.",
            "status": "Show the state of each view, and when it was last written.",
            "profile": "Describe the values of a view, in its source or online.",
            "verify": "Compare what is served with what the history says.",
            "compare": "Compare a training set with what is served now.",
            "doctor": "Check the definitions, the store, the registry and stored data.",
        },
    ),
    (
        "Operate",
        {
            "demo": "Show expiry live on a web page.",
            "estimate": "Estimate memory and reads of many entities from a sample.",
            "bench": "Measure reads and writes on this machine and store.",
            "embedded": "Start, stop or inspect the embedded server.",
            "delete": "Delete all that is stored for some entities.",
            "reset": "Delete stored features.",
        },
    ),
)
"""The commands as `featurekit --help` shows them, without an import of their modules."""

COMMANDS: dict[str, str] = {name: text for _, part in SECTIONS for name, text in part.items()}

_SHARED_MODULES = {
    "plan": "definitions",
    "apply": "definitions",
    "schema": "definitions",
    "materialize": "batch",
    "write": "batch",
    "get": "read",
    "inspect": "read",
    "why": "read",
    "list": "registry",
    "describe": "registry",
    "status": "monitoring",
    "doctor": "monitoring",
    "embedded": "store",
    "delete": "store",
    "reset": "store",
}
"""The module of each command that is not alone in a module of its own name."""


def load_command(name: str) -> click.Command:
    """Import a command from its module, where it is named `NAME_command`, with `_` for `-`."""
    identifier = name.replace("-", "_")
    module = import_module(f"featurekit.cli.commands.{_SHARED_MODULES.get(name, identifier)}")
    command: click.Command = getattr(module, f"{identifier}_command")
    return command


class UsageError(FeatureKitError):
    """The command line is wrong."""


class Program(CommandGroup):
    """The top-level group, which imports a command's module when the command is called."""

    @override
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    @override
    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return load_command(cmd_name) if cmd_name in COMMANDS else None

    @override
    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            hint = name_hint(name, COMMANDS).partition("known:")[0].rstrip("; ")
            raise click.UsageError(f"unknown command '{name}'; {hint}".rstrip("; "), ctx)
        return super().resolve_command(ctx, args)

    @override
    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(map(len, COMMANDS))
        for title, commands in SECTIONS:
            with formatter.section(title):
                formatter.write_dl([(name.ljust(width), text) for name, text in commands.items()])

    @override
    def main(self, args: list[str] | None = None, **extra: Any) -> Any:  # type: ignore[override]
        arguments = sys.argv[1:] if args is None else list(args)
        context = extra.setdefault("obj", CliContext())
        extra |= {"standalone_mode": False, "color": False if os.environ.get("NO_COLOR") else None}
        failure: FeatureKitError | None = None
        try:
            code = super().main(arguments, **extra)
            sys.stdout.flush()
        except BrokenPipeError:
            _discard_output()
            code = 1
        except (KeyboardInterrupt, click.Abort):
            code, failure = INTERRUPTED, FeatureKitError("interrupted")
        except click.ClickException as error:
            code, failure = error.exit_code, _usage_failure(error)
        except FeatureKitError as error:
            code, failure = 1, error
        if failure is not None:
            _print_failure(failure)
            if context.json or "--json" in arguments:
                context.print_error_json(failure.to_document())
        sys.exit(code or 0)


def _discard_output() -> None:
    """Keep Python from reporting at exit that the reader of the pipe is gone."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _usage_failure(error: click.ClickException) -> FeatureKitError:
    if not isinstance(error, click.UsageError):
        return FeatureKitError(error.format_message())
    message = error.format_message().rstrip(".")
    message = message if message[:2].isupper() else message[:1].lower() + message[1:]
    path = error.ctx.command_path if error.ctx else "featurekit"
    return UsageError(message, hint=f"see `{path} --help`")


def _print_failure(error: FeatureKitError) -> None:
    """Print each problem of the definitions or views, or the error, on standard error."""
    problems: Sequence[object] = ()
    if isinstance(error, DefinitionError):
        problems = error.problems
    elif isinstance(error, MaterializeError):
        problems = error.errors
    prefix = click.style("error:", fg="red", bold=True)
    for line in problems or (error,):
        click.echo(f"{prefix} {printable(str(line))}", err=True)
    if problems:
        click.echo(printable(error.message), err=True)


@click.group(
    cls=Program,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="See `featurekit COMMAND --help` for the options of a command.",
)
@click.version_option(
    None, "--version", package_name="featurekit", message="featurekit %(version)s"
)
@click.pass_context
def program(ctx: click.Context) -> None:
    """A declarative feature store over Redis or Valkey."""
    ctx.ensure_object(CliContext)


repo_option(program, envvar="FEATUREKIT_REPO")
url_option(program)


def main() -> None:
    """Run the command in the process' arguments, and exit."""
    program.main()
