"""Output: JSON documents for programs; lines, tables and progress bars for people.

Output to a pipe is neither truncated nor coloured. rich is imported when a table is printed.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import click

from featurekit.cli.formatting import format_ms
from featurekit.errors import RequestError
from featurekit.printable import printable, printable_json

Justify = Literal["left", "right"]
PIPE_WIDTH = 100_000
GAP = 2
DIM = "dim"
GREEN = "green"
RED = "red"
YELLOW = "yellow"

_SHORT_TTL_MS = 10_000
"""Less time than that is hardly enough to read what was written."""


class Styled(NamedTuple):
    """Text in a style."""

    text: str
    style: str


Cell = str | Styled


def print_json(document: object) -> None:
    """Print an indented JSON document."""
    text = json.dumps(_to_json(document), indent=2, ensure_ascii=False, allow_nan=False)
    click.echo(printable_json(text))


def print_json_line(document: object) -> None:
    """Print a JSON document in one line, with one write."""
    click.echo(printable_json(json.dumps(_to_json(document))))


def print_text(text: str, *, err: bool = False) -> None:
    """Print lines of text."""
    click.echo(printable(text), err=err)


def _to_json(value: object) -> object:
    """Return dataclasses as objects, and values that JSON lacks as text."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _to_json(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, dict):
        return {str(key): _to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_to_json(item) for item in value]
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    is_finite = not isinstance(value, float) or math.isfinite(value)
    is_scalar = value is None or isinstance(value, int | float | str)
    return value if is_finite and is_scalar else str(value)


def print_line(*cells: Cell) -> None:
    """Print cells as one line."""
    _render(_rich_text(*cells))


def print_note(kind: str, text: str, style: str) -> None:
    """Print a message on standard error, its kind in colour."""
    click.echo(click.style(f"{kind}:", fg=style, bold=True) + f" {printable(text)}", err=True)


def note_short_ttl(what: str, ttl_left_ms: int | None) -> None:
    """Print a note if written values expire within seconds, or have expired already."""
    if ttl_left_ms is None or ttl_left_ms >= _SHORT_TTL_MS:
        return
    when = f"expire within {format_ms(ttl_left_ms)}" if ttl_left_ms > 0 else "have expired already"
    print_note("note", f"{what} {when}", YELLOW)


def print_table(
    headings: Sequence[str], rows: Sequence[Sequence[Cell]], right: Collection[str] = ()
) -> None:
    """Print a table without lines; headings are omitted if all are empty.

    On a narrow terminal, a last column without a heading holds prose and wraps; otherwise all
    columns wrap.
    """
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style=DIM)
    table.show_header = any(headings)
    only_last_wraps = not headings[-1]
    for heading in headings:
        justify: Justify = "right" if heading in right else "left"
        table.add_column(heading, justify=justify, overflow="fold", no_wrap=only_last_wraps)
    table.columns[-1].no_wrap = False
    for row in rows:
        table.add_row(*(_rich_text(cell) for cell in row))
    _render(table)


def fits_width(headings: Sequence[str], rows: Sequence[Sequence[Cell]]) -> bool:
    """Return whether a table fits the terminal without wrapping."""
    from rich.cells import cell_len

    columns = zip(headings, *([_plain_text(cell) for cell in row] for row in rows), strict=True)
    width = sum(max(map(cell_len, column)) + GAP for column in columns) - GAP
    return bool(width <= _console().width)


def print_pairs(pairs: Sequence[tuple[str, Cell]]) -> None:
    """Print names with their values; empty values are omitted."""
    from rich.table import Table

    table = Table.grid(padding=(0, GAP, 0, 0))
    table.add_column(style=DIM, no_wrap=True)
    table.add_column(overflow="fold")
    for name, cell in pairs:
        if _plain_text(cell):
            table.add_row(name, _rich_text(cell))
    _render(table)


def _rich_text(*cells: Cell) -> Any:
    from rich.text import Text

    styles = ("" if isinstance(cell, str) else cell.style for cell in cells)
    return Text.assemble(*zip(map(_plain_text, cells), styles, strict=True))


def _plain_text(cell: Cell) -> str:
    return printable(cell if isinstance(cell, str) else cell.text)


def _console() -> Any:
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = PIPE_WIDTH
    return console


def _render(renderable: Any) -> None:
    """Print a rich renderable without the spaces that rich pads lines with."""
    from rich.segment import Segment, Segments

    console = _console()
    for line in console.render_lines(renderable, pad=False):
        while line and not line[-1].text.strip():
            line.pop()
        if line:
            line[-1] = line[-1]._replace(text=line[-1].text.rstrip())
        console.print(Segments([*line, Segment.line()]), end="", soft_wrap=True)


def write_page(path: str, page: str) -> None:
    """Write an HTML page into a file.

    Raises:
        RequestError: The file cannot be written.
    """
    try:
        Path(path).write_text(page, encoding="utf-8")
    except OSError as error:
        raise RequestError(f"cannot be written: {error.strerror}", where=path) from error


@contextmanager
def progress_bars() -> Iterator[Any]:
    """Yield a progress callback that draws bars on a terminal; `None` elsewhere."""
    if not (sys.stdout.isatty() and sys.stderr.isatty()):
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[rows]}"),
        TimeRemainingColumn(),
    )
    tasks: dict[str, TaskID] = {}
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:

        def update(progress: Any) -> None:
            if progress.view not in tasks:
                tasks[progress.view] = bars.add_task(progress.view, rows="")
            rate = progress.rows_done / progress.seconds if progress.seconds else 0
            total = f"/{progress.rows_total:,}" if progress.rows_total else ""
            bars.update(
                tasks[progress.view],
                completed=progress.rows_done,
                total=progress.rows_total or None,
                rows=f"{progress.rows_done:,}{total}  {rate:,.0f} rows/s",
            )

        yield update
