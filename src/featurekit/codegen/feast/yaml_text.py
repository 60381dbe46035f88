"""YAML with comments, in the layout of the documentation."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import yaml
from typing_extensions import override

from featurekit.printable import printable

_WIDTH = 100
_SHORT = 88
"""The most characters of a mapping or list that is written in one line."""


class Block(dict[str, Any]):
    """A mapping with a line for each key, however short it is."""


class _Dumper(yaml.SafeDumper):
    @override
    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, indentless=False)


def _represent_mapping(dumper: yaml.SafeDumper, data: dict[str, Any]) -> yaml.Node:
    is_short = not isinstance(data, Block) and _is_short(data)
    return dumper.represent_mapping("tag:yaml.org,2002:map", data.items(), flow_style=is_short)


def _represent_list(dumper: yaml.SafeDumper, data: list[Any]) -> yaml.Node:
    return dumper.represent_sequence("tag:yaml.org,2002:seq", data, flow_style=_is_short(data))


def _represent_text(dumper: yaml.SafeDumper, data: str) -> yaml.Node:
    style = "|" if "\n" in data and printable(data) == data else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", data, style=style)


def _is_short(data: object) -> bool:
    text = repr(data)
    return len(text) <= _SHORT and "\\n" not in text


for _kind in (dict, Block):
    _Dumper.add_representer(_kind, _represent_mapping)
_Dumper.add_representer(list, _represent_list)
_Dumper.add_representer(str, _represent_text)


@dataclass(frozen=True, slots=True)
class Item:
    """A definition with the comments above it."""

    keys: Block
    comments: Sequence[str] = ()


def list_text(name: str, items: Iterable[Item]) -> str:
    """Return a list of definitions under a key; empty if there are none."""
    parts = []
    for item in items:
        first, *others = _dump(item.keys).splitlines(keepends=True)
        lines = "".join([f"- {first}", *(f"  {line}" for line in others)])
        parts.append(f"{''.join(map(comment, item.comments))}{lines}")
    return f"{name}:\n{textwrap.indent(chr(10).join(parts), '  ')}" if parts else ""


def mapping_text(keys: Block) -> str:
    """Return a mapping."""
    return _dump(keys)


def comment(text: str) -> str:
    """Return a text as comment lines, wrapped; lines that are indented are kept as they are."""
    lines: list[str] = []
    for line in printable(text).splitlines():
        is_code = line.startswith(" ") or not line
        lines += [line] if is_code else textwrap.wrap(line, _WIDTH - 6, break_long_words=False)
    return "".join(f"# {line}".rstrip() + "\n" for line in lines)


def _dump(data: object) -> str:
    text: str = yaml.dump(
        data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=_WIDTH + 60
    )
    return text
