"""The program: finds the command, and turns whatever ends it into an exit code.

0: done. 1: it failed, with one message on standard error. 2: wrong usage. 130: interrupted.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Any

import click
from typing_extensions import override

from featurekit.cli.catalog import COMMANDS, SECTIONS
from featurekit.cli.context import Group, Session, repo_option
from featurekit.errors import DefinitionError, FeatureKitError, name_hint

INTERRUPTED = 130


class Program(Group):
    """A group that imports a command's module when that command is called."""

    @override
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    @override
    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"featurekit.cli.commands.{cmd_name}").command
        return command

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
    def main(self, *args: Any, **extra: Any) -> Any:
        extra |= {"standalone_mode": False, "color": False if os.environ.get("NO_COLOR") else None}
        try:
            code = super().main(*args, **extra)
            sys.stdout.flush()
        except BrokenPipeError:
            _silence()
            code = 1
        except (KeyboardInterrupt, click.Abort):
            _say("error: interrupted")
            code = INTERRUPTED
        except click.UsageError as error:
            code = _usage(error)
        except click.ClickException as error:
            _say(f"error: {error.format_message()}")
            code = error.exit_code
        except FeatureKitError as error:
            code = _failed(error)
        sys.exit(code or 0)


def _silence() -> None:
    """Keep Python from telling at exit that nobody reads any more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _usage(error: click.UsageError) -> int:
    message = error.format_message().rstrip(".")
    message = message if message[:2].isupper() else message[:1].lower() + message[1:]
    path = error.ctx.command_path if error.ctx else "featurekit"
    _say(f"error: {message}\n  hint: see `{path} --help`")
    return error.exit_code


def _failed(error: FeatureKitError) -> int:
    problems = error.problems if isinstance(error, DefinitionError) else ()
    for problem in problems:
        _say(f"error: {problem}")
    _say(error.message if problems else f"error: {error}")
    return 1


def _say(text: str) -> None:
    """Print on standard error, with what kind of message it is in red."""
    kind, colon, rest = text.partition(":") if text.startswith("error:") else ("", "", text)
    click.echo(click.style(kind + colon, fg="red", bold=True) + rest if kind else rest, err=True)


@click.group(
    cls=Program,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="`featurekit COMMAND --help` tells more about a command.",
)
@click.version_option(
    None, "--version", package_name="featurekit", message="featurekit %(version)s"
)
@click.pass_context
def program(ctx: click.Context) -> None:
    """A declarative feature store over Redis or Valkey."""
    ctx.ensure_object(Session)


repo_option(program, envvar="FEATUREKIT_REPO")


def main() -> None:
    """Run the command that the process' arguments name, and exit."""
    program.main()
