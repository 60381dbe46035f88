"""Generate `docs/cli.md` from the commands.

`python -m featurekit.cli.pages docs/` writes the page; with `--check`, it exits with 1 if the file
is stale.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator, Sequence

import click

from featurekit.cli.program import SECTIONS, load_command, program
from featurekit.codegen.reference import write_pages

PAGE = "cli.md"
HEAD = """\
# Commands

This page is generated from the commands; `featurekit COMMAND --help` prints the same text.

Every command takes `--repo PATH` (or the variable `FEATUREKIT_REPO`), before or after its name:
the folder of `featurerepo.yaml`, or a folder below it. Every command takes `--json`, which prints
exactly one JSON document on standard output, also on failure:
`{"error": {"type", "message", "where", "hint"}, "problems": [{"file", "line", "column", "message", "hint"}],
"reports": []}`: the problems of invalid definitions, and the reports of a load that failed. `stream run` prints one document per line.

| Exit code | Meaning |
|---|---|
| 0 | Done. |
| 1 | Failed, with one message on standard error; or done, but some rows were rejected. |
| 2 | Wrong usage; or `plan --detailed-exitcode` found changes. |
| 130 | Interrupted. |

A terminal shows progress bars and colours; `NO_COLOR` turns colours off. Commands that delete data
ask for confirmation on a terminal and need `--yes` elsewhere.
"""
SHARED_OPTIONS = {"--repo", "--json", "--help"}


def cli_page() -> str:
    """Return the page of all commands, in Markdown."""
    return "\n".join([HEAD, *(part for section in SECTIONS for part in _section(*section))])


def _section(title: str, names: dict[str, str]) -> Iterator[str]:
    yield f"## {title}\n"
    root = click.Context(program, info_name="featurekit")
    for name in names:
        command = load_command(name)
        yield from _command(command, click.Context(command, root, info_name=name))


def _command(command: click.Command, ctx: click.Context) -> Iterator[str]:
    depth = "#" * (2 + len(ctx.command_path.split()) - 1)
    yield f"{depth} `{ctx.command_path}`\n\n{_markdown(command.help or '')}\n"
    if isinstance(command, click.Group):
        for name, subcommand in command.commands.items():
            yield from _command(subcommand, click.Context(subcommand, ctx, info_name=name))
        return
    options = [
        o for o in command.params if isinstance(o, click.Option) and not SHARED_OPTIONS & {*o.opts}
    ]
    usage = command.collect_usage_pieces(ctx)
    usage = [ctx.command_path, *(usage if options else usage[1:])]
    yield f"```\n{' '.join(usage)}\n```\n"
    if options:
        rows = (_option_row(option, ctx) for option in options)
        yield "\n".join(["| Option | Description |", "|---|---|", *rows, ""])


def _option_row(option: click.Option, ctx: click.Context) -> str:
    names, text = (cell.replace("|", "\\|") for cell in option.get_help_record(ctx) or ("", ""))
    return f"| `{names}` | {text} |"


def _markdown(text: str) -> str:
    """Return help as Markdown, with verbatim paragraphs as code."""
    paragraphs = inspect.cleandoc(text).split("\n\n")
    code = "```\n{}\n```".format
    return "\n\n".join(code(p.strip("\b\n")) if p.startswith("\b") else p for p in paragraphs)


def main(arguments: Sequence[str]) -> int:
    """Write the page into the given folder, or check it there; returns the exit code."""
    return write_pages(arguments, PAGE, cli_page())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
