"""The page of the commands, `docs/cli.md`, made from the commands themselves.

`python -m featurekit.cli.pages docs/` writes it; with `--check` it exits with 1 if the file says
something else.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from featurekit.cli.catalog import SECTIONS
from featurekit.cli.program import program
from featurekit.codegen.reference import publish

PAGE = "cli.md"
HEAD = """\
# Commands

Made from the commands themselves; `featurekit COMMAND --help` prints the same.

Every command takes `--repo PATH` (or the variable `FEATUREKIT_REPO`), before or after its name:
the folder of `featurerepo.yaml`, or one below it. Every command takes `--json`, which prints one
JSON document on standard output and nothing else there.

| Exit code | |
|---|---|
| 0 | Done. |
| 1 | It failed, with one message on standard error; or it is done and some rows were rejected. |
| 2 | Wrong usage; and `plan --detailed-exitcode` where there are changes. |
| 130 | Interrupted. |

Progress bars show on a terminal, and colours too, unless `NO_COLOR` is set. What destroys asks
first on a terminal and needs `--yes` elsewhere.
"""
SHARED = {"--repo", "--json", "--help"}


def cli_page() -> str:
    """The page of all commands, in Markdown."""
    return "\n".join([HEAD, *(part for section in SECTIONS for part in _section(*section))])


def _section(title: str, names: dict[str, str]) -> Iterator[str]:
    yield f"## {title}\n"
    root = click.Context(program, info_name="featurekit")
    for name in names:
        command = program.get_command(root, name)
        if command is not None:
            yield from _command(command, click.Context(command, root, info_name=name))


def _command(command: click.Command, ctx: click.Context) -> Iterator[str]:
    depth = "#" * (2 + len(ctx.command_path.split()) - 1)
    yield f"{depth} `{ctx.command_path}`\n\n{_prose(command.help or '')}\n"
    if isinstance(command, click.Group):
        for name, part in command.commands.items():
            yield from _command(part, click.Context(part, ctx, info_name=name))
        return
    options = [o for o in command.params if isinstance(o, click.Option) and not SHARED & {*o.opts}]
    pieces = command.collect_usage_pieces(ctx)
    usage = [ctx.command_path, *(pieces if options else pieces[1:])]
    yield f"```\n{' '.join(usage)}\n```\n"
    if options:
        yield "\n".join(["| Option | |", "|---|---|", *(_row(o, ctx) for o in options), ""])


def _row(option: click.Option, ctx: click.Context) -> str:
    names, text = (cell.replace("|", "\\|") for cell in option.get_help_record(ctx) or ("", ""))
    return f"| `{names}` | {text} |"


def _prose(text: str) -> str:
    """Help as Markdown: a paragraph that click prints as it stands becomes code."""
    paragraphs = inspect.cleandoc(text).split("\n\n")
    code = "```\n{}\n```".format
    return "\n\n".join(code(p.strip("\b\n")) if p.startswith("\b") else p for p in paragraphs)


def main(arguments: Sequence[str]) -> int:
    """Write the page into the folder named, or check it there."""
    folders = [Path(argument) for argument in arguments if argument != "--check"]
    fresh = [publish(f, PAGE, cli_page(), check="--check" in arguments) for f in folders]
    return 0 if fresh and all(fresh) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
