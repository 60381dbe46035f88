"""Split CSV files into records as DuckDB does, without reading them through it.

A quote opens a cell only at its start, after spaces at most; anywhere else it is a character. After
the closing quote, only spaces may follow.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

_OPENING_QUOTE = re.compile(r' *"')
_REST_OF_QUOTED_CELL = re.compile(r'(?:[^"]|"")*+" *')
_QUOTED_CELL = re.compile(r' *"((?:[^"]|"")*+)" *')


class Record(NamedTuple):
    """A record of a CSV file.

    Attributes:
        line: The number of its first line, from 1.
        text: Its lines, without the last line end.
        cells: How many cells it has.
        problem: Why it has no certain end; empty if it has one.
    """

    line: int
    text: str
    cells: int
    problem: str = ""


def csv_records(lines: Iterable[str], delimiter: str) -> Iterator[Record]:
    """Yield the records of a file, which may be blank.

    A record with a misplaced quote ends with the line of that quote. If a quote is never closed, each line
    after it is a record with that problem: none is certain to be outside of the quoted cell.

    Args:
        lines: The lines with their line ends, as a text file opened with `newline=""` yields them.
        delimiter: The character between cells.
    """
    state = _State(delimiter)
    first, texts = 1, []
    for number, line in enumerate(lines, 1):
        texts.append(line)
        if not state.is_quoted:
            first = number
        if state.read_line(line.rstrip("\r\n")):
            yield Record(first, "".join(texts).rstrip("\r\n"), state.cells, state.problem)
            texts = []
            state.reset()
    for number, line in enumerate(texts, first):
        yield Record(number, line.rstrip("\r\n"), 1, f"unterminated quote in line {first}")


def split_record(text: str, delimiter: str) -> list[str]:
    """Return the cells of a record, without their quotes."""
    cells, at = [], 0
    while True:
        if quoted := _QUOTED_CELL.match(text, at):
            cells.append(quoted[1].replace('""', '"'))
            at = quoted.end()
        else:
            end = text.find(delimiter, at)
            cells.append(text[at:] if end < 0 else text[at:end])
            at = len(text) if end < 0 else end
        if at >= len(text):
            return cells
        at += len(delimiter)


class _State:
    """The record that is being read."""

    def __init__(self, delimiter: str) -> None:
        self._delimiter = delimiter
        self.reset()

    def reset(self) -> None:
        """Begin a record."""
        self.cells = 1
        self.problem = ""
        self.is_quoted = False

    def read_line(self, line: str) -> bool:
        """Read a line without its end; return whether the record ends with it."""
        if not self.is_quoted and '"' not in line:
            self.cells = line.count(self._delimiter) + 1
            return True
        at = 0
        while True:
            if not self.is_quoted and (quote := _OPENING_QUOTE.match(line, at)):
                self.is_quoted, at = True, quote.end()
            if self.is_quoted:
                rest = _REST_OF_QUOTED_CELL.match(line, at)
                if rest is None:
                    return False
                self.is_quoted, at = False, rest.end()
                if at < len(line) and not line.startswith(self._delimiter, at):
                    self.problem = "a character after a closing quote"
                    return True
            at = line.find(self._delimiter, at)
            if at < 0:
                return True
            at += len(self._delimiter)
            self.cells += 1
