"""HTML elements. A child that is plain text is escaped; only `Html` is not."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from html import escape

from featurekit.printable import printable

_VOID = {"img", "input", "link", "meta", "wbr"}
_PROSE = re.compile(r"`([^`\n]+)`|(https?://[^\s<>\"'`]+[^\s<>\"'`.,;:!?)])")
_EMAIL = re.compile(r"[^\s@<>\"',;]+@[^\s@<>\"',;]+\.[a-zA-Z]{2,}")


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


Child = str | None | Iterable["Child"]
"""What an element contains: text, `Html`, nothing, or several of these."""


def text(value: str) -> Html:
    """Return a text as HTML."""
    return Html(escape(printable(value)))


def el(name: str, attributes: dict[str, str] | None, *children: Child) -> Html:
    """Return an element. An attribute with the value `""` has no value."""
    pairs = "".join(
        f' {key}="{escape(printable(value, one_line=True))}"' if value else f" {key}"
        for key, value in (attributes or {}).items()
    )
    inner = "".join(_flatten(children))
    return Html(f"<{name}{pairs}>" if name in _VOID else f"<{name}{pairs}>{inner}</{name}>")


def _flatten(children: Iterable[Child]) -> Iterator[str]:
    for child in children:
        if isinstance(child, Html):
            yield child
        elif isinstance(child, str):
            yield text(child)
        elif child is not None:
            yield from _flatten(child)


def span(kind: str, *children: Child) -> Html:
    """Return a `span` of a class."""
    return el("span", {"class": kind}, *children)


def link(href: str, *children: Child, kind: str = "") -> Html:
    """Return a link."""
    return el("a", ({"class": kind} if kind else {}) | {"href": href}, *children)


def breakable(name: str) -> Html:
    """Return a name that may break after `_`, `/` and the like."""
    return Html(re.sub(r"([_/:.\-]+)(?=.)", r"\1<wbr>", text(name)))


def prose(description: str) -> Html:
    """Return a description, with `code` and web addresses marked up."""
    parts: list[Html] = []
    end = 0
    for found in _PROSE.finditer(description):
        parts.append(text(description[end : found.start()]))
        code, address = found.groups()
        parts.append(el("code", None, code) if code else link(address, address))
        end = found.end()
    return Html("".join([*parts, text(description[end:])]))


def person(owner: str) -> Html:
    """Return an owner, as a link if it is an e-mail or web address."""
    if _EMAIL.fullmatch(owner):
        return link(f"mailto:{owner}", owner)
    return prose(owner)


def card(title: Child, *children: Child, note: Child = None, anchor: str = "") -> Html:
    """Return a box with a heading."""
    head = [el("h2", None, title), span("card-note", note) if note else None]
    attributes = {"class": "card"} | ({"id": anchor} if anchor else {})
    return el(
        "section",
        attributes,
        el("div", {"class": "card-head"}, head),
        el("div", {"class": "card-body"}, *children),
    )


def table(caption: str, columns: Sequence[str], rows: Sequence[Sequence[Child]]) -> Html:
    """Return a table without its empty columns. On a narrow screen each row becomes a block."""
    kept = [
        index
        for index in range(len(columns))
        if not index or any("".join(_flatten([row[index]])) for row in rows)
    ]
    head = el("tr", None, [el("th", {"scope": "col"}, columns[index]) for index in kept])
    body = [
        el("tr", None, [_cell(columns[index], row[index], first=not index) for index in kept])
        for row in rows
    ]
    return el(
        "div",
        {"class": "table-wrap"},
        el(
            "table",
            {"class": "table"},
            el("caption", {"class": "hidden-text"}, caption),
            el("thead", None, head),
            el("tbody", None, body),
        ),
    )


def _cell(column: str, content: Child, *, first: bool) -> Html:
    if first:
        return el("th", {"scope": "row"}, content)
    kind = "wide" if column == "About" else ""
    attributes = ({"class": kind} if kind else {}) | {"data-label": column}
    return el("td", attributes, el("span", {"class": "cell"}, content))


def facts(pairs: Iterable[tuple[str, Child]]) -> Html:
    """Return a list of names with what they stand for, without empty ones."""
    rows = [(name, child) for name, child in pairs if "".join(_flatten([child]))]
    return el(
        "dl",
        {"class": "facts"},
        [el("div", None, el("dt", None, name), el("dd", None, child)) for name, child in rows],
    )


def code_block(label: str, code: str) -> Html:
    """Return a block of code with a label; a script adds the button that copies it."""
    return el(
        "div",
        {"class": "lines"},
        el("p", {"class": "lines-label"}, label),
        el("pre", {"tabindex": "0"}, el("code", None, code)),
    )
