"""Text that is safe to show: without control characters in a terminal, and escaped in HTML.

Stored values, names in a registry and messages of servers may contain any characters. Printed as
they are, they could set the clipboard, clear the screen or show text in another order.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from html import escape
from typing import NamedTuple

_CONTROL = (
    "\x00-\x09\x0b-\x1f\x7f-\x9f"  # C0 except the line end, DEL and C1
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # direction of text
    "\u2028\u2029\ufeff\ufff9-\ufffb\U000e0000-\U000e007f"  # line ends, annotations and tags
    "\ud800-\udfff"  # halves of surrogate pairs, which cannot be encoded
)
_MAX_CELL = 100
"""The most characters of a cell of an HTML table."""

_UNSAFE = re.compile(f"[{_CONTROL}]")
_UNSAFE_IN_LINE = re.compile(f"[\n{_CONTROL}]")


def printable(text: str, *, one_line: bool = False) -> str:
    r"""Return a text with its control characters escaped as in Python: `\x1b`, `\u202e`.

    Args:
        text: The text.
        one_line: Whether to escape line ends too.
    """
    pattern = _UNSAFE_IN_LINE if one_line else _UNSAFE
    return pattern.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def printable_json(text: str) -> str:
    """Return a JSON text whose strings have control characters as JSON escapes."""
    return _UNSAFE.sub(lambda match: _json_escape(match[0]), text)


def _json_escape(character: str) -> str:
    if character == "\x7f":  # JSON allows it
        return "\\u007f"
    return json.dumps(character)[1:-1]


class HtmlCell(NamedTuple):
    """A cell of an HTML table: its text and its tooltip."""

    text: str
    title: str = ""


def html_table(headings: Sequence[str], rows: Iterable[Sequence[HtmlCell]], caption: str) -> str:
    """Return a table for a notebook. It refers to nothing outside of itself; all text is escaped."""
    head = "".join(f"<th>{_html(heading)}</th>" for heading in headings)
    body = "".join(f"<tr>{''.join(map(_html_cell, row))}</tr>" for row in rows)
    return (
        f"<table><caption>{_html(caption)}</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table>"
    )


def _html_cell(cell: HtmlCell) -> str:
    title = f' title="{_html(cell.title)}"' if cell.title else ""
    return f"<td{title}>{_html(cell.text)}</td>"


def _html(text: str) -> str:
    shown = text if len(text) <= _MAX_CELL else text[: _MAX_CELL - 1] + "…"
    return escape(printable(shown, one_line=True))
