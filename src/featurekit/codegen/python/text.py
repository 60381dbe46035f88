"""Text in generated Python: docstrings of any content."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator

WIDTH = 88
"""The length of a line that formatters allow."""


def quoted(value: object) -> str:
    """Return a literal, with double quotes where formatters prefer them."""
    text = repr(value)
    if isinstance(value, str) and text[0] == "'" and '"' not in text:
        return f'"{text[1:-1]}"'
    return text


def natural(name: str) -> list[object]:
    """Return the key by which slots are sorted: numbers in names by their values."""
    parts = re.split(r"(\d+)", name)
    return [int(part) if index % 2 else part for index, part in enumerate(parts)]


def by_kind(name: str) -> tuple[object, ...]:
    """Return the key by which imports are sorted: constants, classes, and then functions."""
    return (not name.isupper(), name[:1].islower(), natural(name))


def docstring(paragraphs: Iterable[str], indent: str = "    ") -> Iterator[str]:
    """Yield the lines of a docstring. Its text may be anything that a definition contains."""
    wrapped = [_wrap(_safe(text), WIDTH - len(indent) - 3) for text in paragraphs if text.strip()]
    first, *others = wrapped or [["Undescribed."]]
    if not others and len(first) == 1 and len(first[0]) <= WIDTH - len(indent) - 3:
        yield f'{indent}"""{first[0]}"""'
        return
    yield f'{indent}"""{first[0]}'
    yield from (f"{indent}{line}" for line in first[1:])
    for lines in others:
        yield ""
        yield from (f"{indent}{line}" for line in lines)
    yield f'{indent}"""'


def _safe(text: str) -> str:
    """Return text for a docstring: printable, on one line, without an end of the string in it."""
    words = " ".join(text.split())
    shown = "".join(
        char if char.isprintable() and char != "\\" else repr(char)[1:-1] for char in words
    ).replace('"' * 3, r"\"\"\"")
    return f'{shown[:-1]}\\"' if shown.endswith('"') and not shown.endswith('\\"') else shown


def _wrap(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)
