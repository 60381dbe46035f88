"""Problems in files, their locations, and plain messages for YAML syntax errors."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

import yaml
from typing_extensions import override

from featurekit.errors import Problem

Path = tuple[str | int, ...]
"""The mapping keys and list indexes that lead to a value, from the top of its file."""


class SourceLocation(NamedTuple):
    """A position in a file, counted from 1; line 0 is the whole file."""

    file: str
    line: int = 0
    column: int = 0

    @override
    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file


class LocatedProblem(NamedTuple):
    """A problem that sorts by its location."""

    location: SourceLocation
    message: str
    hint: str = ""


def to_problems(located: Iterable[LocatedProblem]) -> tuple[Problem, ...]:
    """Return each problem once, sorted by file and line."""
    return tuple(_to_problem(problem) for problem in sorted(set(located)))


def _to_problem(problem: LocatedProblem) -> Problem:
    file, line, column = problem.location
    position = (line, column) if line else (None, None)
    return Problem(str(problem.location), problem.message, problem.hint, file, *position)


_LINE_BREAK = re.compile("\r\n|[\n\r\x85\u2028\u2029]")
_UNUSUAL_SPACE = re.compile("[\xa0\u1680\u2000-\u200b\u202f\u205f\u3000\ufeff]")

_SECOND_COLON = ("found a second ': ' in one line", "quote text that contains ': '")
_UNEXPECTED_KEY = (
    "unexpected key",
    "the line above needs ': ' after its key, or another indentation",
)
_WRONG_INDENTATION = ("wrong indentation", "indent the line like the lines it belongs to")
_UNKNOWN_ESCAPE = (
    "unknown escape sequence",
    "in double quotes, \\ starts an escape sequence: use single quotes",
)
_QUOTE_BRACES = "quote text that contains ${...}, because braces start a mapping"


def syntax_problem(file: str, text: str, error: yaml.MarkedYAMLError) -> LocatedProblem:
    """Return the problem that made the parser stop.

    The parser reports where it cannot continue, which is often one line below the mistake.
    """
    lines = _LINE_BREAK.split(text)
    start = _position(error.context_mark or error.problem_mark)
    end = _position(error.problem_mark or error.context_mark)
    if whitespace := _whitespace_problem(file, lines, start, end):
        return whitespace
    problem, context = str(error.problem), str(error.context or "")
    if "end of stream" in problem and "quoted" in context:
        return LocatedProblem(SourceLocation(file, *start), "unclosed quote")
    if "expected ':'" in problem and start[0] < end[0]:
        return LocatedProblem(SourceLocation(file, *start), "expected ': ' after the key")
    if "an alias" in context or "an anchor" in context:
        end = start
    line = "".join(lines[end[0] - 1 : end[0]])
    message, hint = _explain(f"{problem} {context}", line, end[1])
    if not message:
        message = f"invalid YAML: {problem}"
        message += f", {context} that starts at {start[0]}:{start[1]}" if context else ""
    return LocatedProblem(SourceLocation(file, *end), message, hint)


def _position(mark: yaml.Mark | None) -> tuple[int, int]:
    return (mark.line + 1, mark.column + 1) if mark else (1, 1)


def _whitespace_problem(
    file: str, lines: list[str], start: tuple[int, int], end: tuple[int, int]
) -> LocatedProblem | None:
    """Return the problem if a tab or an unusual space causes it."""
    if "".join(lines[end[0] - 1 : end[0]])[end[1] - 1 :].startswith("\t"):
        location = SourceLocation(file, *end)
        return LocatedProblem(location, "found a tab, expected spaces for indentation")
    first = max(min(start[0], end[0] - 1), 1)
    for number, line in enumerate(lines[first - 1 : end[0]], first):
        if space := _UNUSUAL_SPACE.search(line):
            message = f"found the space character U+{ord(space[0]):04X}, expected a plain space"
            return LocatedProblem(SourceLocation(file, number, space.start() + 1), message)
    return None


def _explain(problem: str, line: str, column: int) -> tuple[str, str]:
    """Return a message and a hint; an empty message if the parser's own is clear."""
    character = line[column - 1 : column]
    needs_quotes = (f"unquoted text cannot start with '{character}'", "put the text in quotes")
    explanations = [
        ("nesting depth", ("nested too deeply", "")),  # newer parsers stop before we do
        ("an alias", needs_quotes),
        ("an anchor", needs_quotes),
        ("start any token", needs_quotes),
        ("mapping values", _SECOND_COLON if ": " in line[: column - 1] else _UNEXPECTED_KEY),
        ("expected key", _WRONG_INDENTATION),
        ("expected '-'", _WRONG_INDENTATION),
        ("escape", _UNKNOWN_ESCAPE),
        ("flow", ("", _QUOTE_BRACES if "${" in line else "")),
    ]
    return next((text for part, text in explanations if part in problem), ("", ""))
