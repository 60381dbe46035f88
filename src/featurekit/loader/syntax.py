"""What is no YAML: the parser's errors, told so that the slip behind them is seen.

The parser notices a slip where it can read on no longer, which is often a line below.
"""

from __future__ import annotations

import re

import yaml

from featurekit.loader.places import Finding, Place

_BREAK = re.compile("\r\n|[\n\r\x85\u2028\u2029]")
_ODD_SPACE = re.compile("[\xa0\u1680\u2000-\u200b\u202f\u205f\u3000\ufeff]")

_QUOTES = "text that begins so must be in quotes"
_SECOND = ("found a second ': ' in one line", "text with ': ' in it must be in quotes")
_ABOVE = (
    "found a key where none can stand",
    "the line above lacks ': ' after its key, or is indented otherwise",
)
_ALONE = (
    "found a line that belongs to nothing above it",
    "indent it as the lines that it belongs to",
)
_ESCAPE = (
    "found an unknown escape",
    "in double quotes \\ begins an escape: use single quotes",
)
_BRACES = "quote the text with ${...}, since braces mean something here"


def syntax_finding(file: str, text: str, error: yaml.MarkedYAMLError) -> Finding:
    """The finding for a text that the parser refused."""
    lines = _BREAK.split(text)
    begun = _mark(error.context_mark or error.problem_mark)
    end = _mark(error.problem_mark or error.context_mark)
    if finding := _unseen(file, lines, begun, end):
        return finding
    problem, context = str(error.problem), str(error.context or "")
    if "end of stream" in problem and "quoted" in context:
        return Finding(Place(file, *begun), "found a quote that is nowhere closed")
    if "expected ':'" in problem and begun[0] < end[0]:
        return Finding(Place(file, *begun), "found a line without ': ' after its key")
    if "an alias" in context or "an anchor" in context:
        end = begun
    line = "".join(lines[end[0] - 1 : end[0]])
    message, hint = _told(f"{problem} {context}", line, end[1])
    if not message:
        message = f"not YAML: {problem}"
        message += f", {context} begun at {begun[0]}:{begun[1]}" if context else ""
    return Finding(Place(file, *end), message, hint)


def _mark(mark: yaml.Mark | None) -> tuple[int, int]:
    return (mark.line + 1, mark.column + 1) if mark else (1, 1)


def _unseen(
    file: str, lines: list[str], begun: tuple[int, int], end: tuple[int, int]
) -> Finding | None:
    """What is wrong and looks right: tabs and other spaces."""
    if "".join(lines[end[0] - 1 : end[0]])[end[1] - 1 :].startswith("\t"):
        return Finding(Place(file, *end), "found a tab, expected spaces before a key")
    first = max(min(begun[0], end[0] - 1), 1)
    for number, line in enumerate(lines[first - 1 : end[0]], first):
        if odd := _ODD_SPACE.search(line):
            message = f"found the space U+{ord(odd[0]):04X}, expected a plain one"
            return Finding(Place(file, number, odd.start() + 1), message)
    return None


def _told(problem: str, line: str, column: int) -> tuple[str, str]:
    """Message and hint for a problem; an empty message where the parser's own is as good."""
    begins = (f"found '{line[column - 1 : column]}', which no text may begin with", _QUOTES)
    tellings = [
        ("nesting depth", ("nested far too deep", "")),  # newer parsers stop before we do
        ("an alias", begins),
        ("an anchor", begins),
        ("start any token", begins),
        ("mapping values", _SECOND if ": " in line[: column - 1] else _ABOVE),
        ("expected key", _ALONE),
        ("expected '-'", _ALONE),
        ("escape", _ESCAPE),
        ("flow", ("", _BRACES if "${" in line else "")),
    ]
    return next((told for part, told in tellings if part in problem), ("", ""))
