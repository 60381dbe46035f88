"""Run the fenced blocks of a document from top to bottom in one folder, and compare the output.

- `console`: lines after `$ ` are commands, the lines below them are the expected output.
- `python`: a script; a `text` block right below it is the expected output.
- `yaml`, `json`, `sql` and others whose first line is a comment with a path: a file to write.

In expected output, `...` matches any text. Times are not compared. Tables are compared by their
cells, not by the widths of their columns.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from tests.examples.places import run

SKIPPED = ("pip ", "make ", "git ")
"""Commands that a test does not run."""


@dataclass(frozen=True)
class Block:
    """One fenced block."""

    language: str
    text: str
    place: str


def blocks(document: Path) -> list[Block]:
    """Return the fenced blocks of a document, in order."""
    text = document.read_text()
    fences = re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [
        Block(fence[1], fence[2], f"{document.name}:{text[: fence.start()].count(chr(10)) + 1}")
        for fence in fences
    ]


def follow(document: Path, folder: Path) -> None:
    """Run the blocks of a document.

    Raises:
        AssertionError: The output differs from the document.
    """
    for block, after in pairwise([*blocks(document), Block("", "", "")]):
        if block.language == "console":
            folder = _console(block, folder)
        elif block.language == "python":
            printed = run(folder, [sys.executable, "-c", block.text], merged=True)
            if after.language == "text":
                compare(printed, after.text, after.place)
        elif path := re.match(r"# (\S+/\S+)\n", block.text):
            (folder / path[1]).write_text(block.text)


def _console(block: Block, folder: Path) -> Path:
    """Run the commands of a block; return the working folder after them."""
    for command, expected in shown_commands(block.text):
        if command.startswith("cd "):
            folder = folder / command.removeprefix("cd ")
        elif not command.startswith(SKIPPED):
            printed = run(folder, ["bash", "-c", command], merged=True, fails=None)
            compare(printed, expected, f"{block.place}: {command}")
    return folder


def shown_commands(text: str) -> Iterator[tuple[str, str]]:
    """Yield the commands of a console block with their expected output."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, _, printed = part.partition("\n")
        while command.endswith("\\"):
            more, _, printed = printed.partition("\n")
            command = f"{command}\n{more}"
        yield command, printed


def compare(printed: str, expected: str, place: str) -> None:
    """Compare output with the document, which is at `place`."""
    pattern = ".*".join(re.escape(_normalize(part)) for part in expected.split("..."))
    assert re.fullmatch(pattern, _normalize(printed), re.DOTALL), f"{place} prints:\n{printed}"


def markdown_rows(text: str) -> list[list[str]]:
    """Return the cells of all rows of all Markdown tables in a text, without headings."""
    tables = re.findall(r"(?:^\|.*\|[ ]*\n)+", text, re.MULTILINE)
    return [
        [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip())[1:-1]]
        for table in tables
        for line in table.splitlines()[2:]
    ]


def terminal_cells(line: str) -> list[str]:
    """Return the cells of a line of a table in a terminal, which two spaces or more separate."""
    return re.split(r" {2,}", line.strip())


def _normalize(text: str) -> str:
    """Return a text without column widths, and without times and rates, which vary."""
    ago = re.compile(r"\b(\d+[dhm] )?\d+\w+ ago\b|\bjust now\b")
    lines = [
        " ".join(ago.sub("AGO", cell) for cell in terminal_cells(line))
        for line in text.strip("\n").split("\n")
    ]
    text = re.sub(r"\b[\d.,]+ (us|ms|s)\b", "TIME", "\n".join(lines))
    text = re.sub(r"\b\d+m \d+s\b", "LEFT", text)
    return re.sub(r"TIME [\d,]+ TIME", "TIME", text)
