"""Documents as tests: their fenced blocks, run from top to bottom in one folder.

- `console`: lines after `$ ` are run, the lines below must be what they print.
- `python`: run as a script; a `text` block right below must be what it prints.
- `yaml`, `json`, `sql` and the like whose first line is a comment with a path: written there.

In what is printed, `...` stands for anything, times are not compared, and neither is how columns
are aligned.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from tests.examples.places import run

ELSEWHERE = ("pip ", "make ", "git ")
"""What a reader runs before, and a test need not."""


@dataclass(frozen=True)
class Block:
    """One fenced block."""

    language: str
    text: str
    place: str


def blocks(document: Path) -> list[Block]:
    """The fenced blocks of a document, in order."""
    text = document.read_text()
    fences = re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [
        Block(fence[1], fence[2], f"{document.name}:{text[: fence.start()].count(chr(10)) + 1}")
        for fence in fences
    ]


def follow(document: Path, folder: Path) -> None:
    """Do what a document says.

    Raises:
        AssertionError: Something else is printed than the document shows.
    """
    found = blocks(document)
    for block, after in pairwise([*found, Block("", "", "")]):
        if block.language == "console":
            folder = _console(block, folder)
        elif block.language == "python":
            printed = run(folder, [sys.executable, "-c", block.text], merged=True)
            if after.language == "text":
                compare(printed, after.text, after.place)
        elif path := re.match(r"# (\S+/\S+)\n", block.text):
            (folder / path[1]).write_text(block.text)


def _console(block: Block, folder: Path) -> Path:
    """Run the commands of a block; returns the folder it leads to."""
    for command, expected in shown_commands(block.text):
        if command.startswith("cd "):
            folder = folder / command.removeprefix("cd ")
        elif not command.startswith(ELSEWHERE):
            printed = run(folder, ["bash", "-c", command], merged=True, fails=None)
            compare(printed, expected, f"{block.place}: {command}")
    return folder


def shown_commands(text: str) -> Iterator[tuple[str, str]]:
    """The commands of a console with what they print."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, _, printed = part.partition("\n")
        while command.endswith("\\"):
            more, _, printed = printed.partition("\n")
            command = f"{command}\n{more}"
        yield command, printed


def compare(printed: str, expected: str, place: str) -> None:
    """Hold what was printed against what a document shows."""
    pattern = ".*".join(re.escape(_plain(part)) for part in expected.split("..."))
    assert re.fullmatch(pattern, _plain(printed), re.DOTALL), f"{place} prints:\n{printed}"


def _plain(text: str) -> str:
    """Text without what differs from run to run: times, rates, and the width of columns."""
    lines = [" ".join(line.split()) for line in text.strip("\n").split("\n")]
    text = re.sub(r"\b[\d.,]+ (us|ms|s)\b", "TIME", "\n".join(lines))
    text = re.sub(r"\b\d+\w+ ago\b", "AGO", text)
    text = re.sub(r"\b\d+m \d+s\b", "LEFT", text)
    return re.sub(r"TIME [\d,]+ TIME", "TIME", text)
