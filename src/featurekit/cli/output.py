"""The screen: tables and lines for people, on a terminal or in a pipe.

Nothing is cut in a pipe, and no colour goes there. rich is imported when something is drawn.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

import click

from featurekit.cli.values import to_text

Justify = Literal["left", "right"]
PIPE_WIDTH = 100_000
GAP = 2
DIM = "dim"
GOOD = "green"
BAD = "red"
ODD = "yellow"


class Styled(NamedTuple):
    """Text in a style."""

    text: str
    style: str


Piece = str | Styled


def show_json(document: object) -> None:
    """Print one JSON document."""
    click.echo(to_text(document))


def show_line(*pieces: Piece) -> None:
    """Print pieces of text as one line."""
    _print(_text(*pieces))


def show_note(kind: str, text: str, style: str) -> None:
    """Print something about the work on standard error, its kind in colour."""
    click.echo(click.style(f"{kind}:", fg=style, bold=True) + f" {text}", err=True)


def show_table(
    headings: Sequence[str], rows: Sequence[Sequence[Piece]], right: Collection[str] = ()
) -> None:
    """Print rows under headings, or under none if all are empty, without lines around them.

    On a narrow terminal the last column gives way where it has no heading, being prose; else all.
    """
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style=DIM)
    table.show_header = any(headings)
    prose = not headings[-1]
    for heading in headings:
        justify: Justify = "right" if heading in right else "left"
        table.add_column(heading, justify=justify, overflow="fold", no_wrap=prose)
    table.columns[-1].no_wrap = False
    for row in rows:
        table.add_row(*(_text(piece) for piece in row))
    _print(table)


def fits(headings: Sequence[str], rows: Sequence[Sequence[Piece]]) -> bool:
    """Whether a table of these rows needs no folding here."""
    from rich.cells import cell_len

    columns = zip(headings, *([_said(piece) for piece in row] for row in rows), strict=True)
    needed = sum(max(map(cell_len, column)) + GAP for column in columns) - GAP
    return bool(needed <= _console().width)


def show_pairs(pairs: Sequence[tuple[str, Piece]]) -> None:
    """Print names with what they are, those that are nothing left out."""
    from rich.table import Table

    table = Table.grid(padding=(0, GAP, 0, 0))
    table.add_column(style=DIM, no_wrap=True)
    table.add_column(overflow="fold")
    for name, piece in pairs:
        if _said(piece):
            table.add_row(name, _text(piece))
    _print(table)


def _text(*pieces: Piece) -> Any:
    from rich.text import Text

    return Text.assemble(*((p, "") if isinstance(p, str) else (p.text, p.style) for p in pieces))


def _console() -> Any:
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = PIPE_WIDTH
    return console


def _said(piece: Piece) -> str:
    return piece if isinstance(piece, str) else piece.text


def _print(drawn: Any) -> None:
    """Draw, without the blanks that rich fills lines with."""
    from rich.segment import Segment, Segments

    console = _console()
    lines = console.render_lines(drawn, pad=False)
    for line in lines:
        console.print(Segments([*_stripped(line), Segment.line()]), end="", soft_wrap=True)


def _stripped(line: list[Any]) -> list[Any]:
    while line and not line[-1].text.strip():
        line = line[:-1]
    if line:
        last = line[-1]
        line = [*line[:-1], last._replace(text=last.text.rstrip())]
    return line


@contextmanager
def bars() -> Iterator[Any]:
    """Progress bars while the block runs, on a terminal only: told by calling what this gives."""
    if not (sys.stdout.isatty() and sys.stderr.isatty()):
        yield None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TaskID,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[rows]}"),
        TimeRemainingColumn(),
    )
    tasks: dict[str, TaskID] = {}
    with Progress(*columns, console=Console(stderr=True), transient=True) as drawn:

        def tell(progress: Any) -> None:
            if progress.view not in tasks:
                tasks[progress.view] = drawn.add_task(progress.view, rows="")
            rate = progress.rows_done / progress.seconds if progress.seconds else 0
            total = f"/{progress.rows_total:,}" if progress.rows_total else ""
            drawn.update(
                tasks[progress.view],
                completed=progress.rows_done,
                total=progress.rows_total or None,
                rows=f"{progress.rows_done:,}{total}  {rate:,.0f} rows/s",
            )

        yield tell
