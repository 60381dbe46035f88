"""Read a YAML file as plain data, with the location of every value.

Unquoted scalars keep their source text (`PlainScalar`), because the model decides what they mean.
Duplicate keys, tags and merge keys are refused; nesting and alias expansion are limited.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import yaml

from featurekit.expressions.positions import yaml_position
from featurekit.loader.problems import LocatedProblem, Path, SourceLocation, syntax_problem
from featurekit.models.scalars import PlainScalar, format_raw

try:
    from yaml import CSafeLoader as _Loader
except ImportError:  # PyYAML was built without libyaml
    from yaml import SafeLoader as _Loader  # type: ignore[assignment]

_MAX_DEPTH = 50
_MAX_VALUES = 200_000
_CONTROL_CHARACTER = re.compile(
    "[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", re.ASCII
)
_Position = tuple[int, int]


@dataclass(slots=True)
class Document:
    """A file's data, the positions of its values, and the problems in its text.

    Attributes:
        file: The file name for messages.
        text: The source text.
        data: Mappings, lists and scalars; `None` for an empty file or one that does not parse.
        values: Line and column of each value, by its path.
        keys: Line and column of each key, by the path of its value.
        problems: The problems in the text.
        incomplete: The paths of mappings with a refused key, which may be any missing key.
    """

    file: str
    text: str = ""
    data: object = None
    values: dict[Path, _Position] = field(default_factory=dict)
    keys: dict[Path, _Position] = field(default_factory=dict)
    problems: list[LocatedProblem] = field(default_factory=list)
    incomplete: set[Path] = field(default_factory=set)

    def at(self, path: Path) -> SourceLocation:
        """Return the location of a value, or of the nearest enclosing one."""
        while path and path not in self.values:
            path = path[:-1]
        return SourceLocation(self.file, *self.values.get(path, (1, 1)))

    def at_character(self, path: Path, value: str, offset: int) -> SourceLocation:
        """Return the location of a character of a text, such as the wrong part of an expression."""
        start = self.at(path)
        position = (start.line, start.column)
        return SourceLocation(self.file, *yaml_position(self.text, position, value, offset))

    def key_at(self, path: Path) -> SourceLocation:
        """Return the location of a value's key."""
        return SourceLocation(self.file, *self.keys[path]) if path in self.keys else self.at(path)


class _DocumentError(Exception):
    """A problem after which the document cannot be read further."""

    def __init__(self, position: _Position, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.position = position
        self.message = message
        self.hint = hint


@dataclass(slots=True)
class _Node:
    """A value of the document. `height` and `size` count aliases as the values that they name."""

    position: _Position
    height: int = 0
    size: int = 1
    text: str = ""
    items: list[_Node] | None = None
    pairs: list[tuple[_Node, _Node]] | None = None
    is_plain: bool = False


def read_document(file: str, data: bytes) -> Document:
    """Return the document in a file's bytes; its `problems` hold what is wrong with them."""
    document = Document(file)
    text = ""
    try:
        text = document.text = _decode(data)
        root = _Composer(text).compose()
        if root is not None:
            document.data = _Builder(document).build(root, ())
    except _DocumentError as error:
        location = SourceLocation(file, *error.position)
        document.problems.append(LocatedProblem(location, error.message, error.hint))
    except yaml.MarkedYAMLError as error:
        document.problems.append(syntax_problem(file, text, error))
    return document


def _decode(data: bytes) -> str:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8", "replace")
        byte = data[error.start]
        is_utf16 = data.startswith((b"\xff\xfe", b"\xfe\xff"))
        raise _DocumentError(
            _position_after(before),
            f"found byte 0x{byte:02x}, expected UTF-8",
            "this is UTF-16: save the file as UTF-8" if is_utf16 else "",
        ) from None
    if control := _CONTROL_CHARACTER.search(text):
        raise _DocumentError(
            _position_after(text[: control.start()]),
            f"found control character U+{ord(control[0]):04X}, expected printable text",
        )
    return text


def _position_after(text: str) -> _Position:
    return text.count("\n") + 1, len(text) - text.rfind("\n")


class _Composer:
    """Builds nodes from parser events; PyYAML's own composer overflows the stack."""

    def __init__(self, text: str) -> None:
        self._events: Iterator[yaml.Event] = yaml.parse(text, Loader=_Loader)
        self._anchors: dict[str, _Node] = {}
        self._count = 0

    def compose(self) -> _Node | None:
        root: _Node | None = None
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent) and root is not None:
                raise _DocumentError(
                    _event_position(event),
                    "found a second document, expected one",
                    "remove the line '---'",
                )
            if isinstance(event, yaml.NodeEvent):
                root = self._node(event, 0)
        return root

    def _node(self, event: yaml.Event, depth: int) -> _Node:
        position = _event_position(event)
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in self._anchors:
                raise _DocumentError(
                    position,
                    f"undefined alias '{event.anchor}'",
                    "quote text that starts with *",
                )
            node = self._anchors[event.anchor]
            self._check_limits(position, depth + node.height, node.size)
            return node
        self._check_limits(position, depth, 1)
        before = self._count
        node = self._new_node(event, depth)
        node.size += self._count - before
        if anchor := getattr(event, "anchor", None):
            self._anchors[anchor] = node
        return node

    def _check_limits(self, position: _Position, depth: int, size: int) -> None:
        self._count += size
        if depth > _MAX_DEPTH:
            raise _DocumentError(position, f"nested deeper than {_MAX_DEPTH} levels")
        if self._count > _MAX_VALUES:
            raise _DocumentError(position, f"more than {_MAX_VALUES} values after alias expansion")

    def _new_node(self, event: yaml.Event, depth: int) -> _Node:
        position = _event_position(event)
        tag = getattr(event, "tag", None)
        if tag is not None:
            short_tag = tag.replace("tag:yaml.org,2002:", "!!")
            raise _DocumentError(position, f"the tag {short_tag} is not supported")
        if isinstance(event, yaml.ScalarEvent):
            return _Node(position, text=event.value, is_plain=bool(event.implicit[0]))
        node = _Node(position)
        if isinstance(event, yaml.SequenceStartEvent):
            node.items = [self._node(e, depth + 1) for e in self._until(yaml.SequenceEndEvent)]
        else:
            node.pairs = [
                (self._node(e, depth + 1), self._node(next(self._events), depth + 1))
                for e in self._until(yaml.MappingEndEvent)
            ]
        children = [*(node.items or ()), *(part for pair in node.pairs or () for part in pair)]
        node.height = 1 + max((child.height for child in children), default=0)
        return node

    def _until(self, end: type[yaml.Event]) -> Iterator[yaml.Event]:
        for event in self._events:
            if isinstance(event, end):
                return
            yield event


def _event_position(event: yaml.Event) -> _Position:
    mark = event.start_mark
    return (mark.line + 1, mark.column + 1) if mark else (1, 1)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


class _Builder:
    """Builds data from nodes, expands aliases, and records the position of each value."""

    def __init__(self, document: Document) -> None:
        self._document = document

    def build(self, node: _Node, path: Path) -> object:
        self._document.values[path] = node.position
        if node.items is not None:
            return [self.build(item, (*path, i)) for i, item in enumerate(node.items)]
        if node.pairs is not None:
            return self._mapping(node.pairs, path)
        return PlainScalar(node.text) if node.is_plain else node.text

    def _mapping(self, pairs: list[tuple[_Node, _Node]], path: Path) -> dict[str, object]:
        data: dict[str, object] = {}
        for key_node, node in pairs:
            key = self._key(key_node)
            if key is None:
                self._document.incomplete.add(path)
                continue
            here = (*path, key)
            if key in data:
                first = self._document.keys[here][0]
                self._add_problem(
                    key_node, f"duplicate key {format_raw(key)}, first in line {first}"
                )
                continue
            self._document.keys[here] = key_node.position
            data[key] = self.build(node, here)
        return data

    def _key(self, node: _Node) -> str | None:
        if node.items is not None or node.pairs is not None:
            kind = "list" if node.pairs is None else "mapping"
            self._add_problem(node, f"found a {kind} as a key, expected text")
            return None
        key = PlainScalar(node.text) if node.is_plain else node.text
        # `null`, `true` and `no` are valid keys; numbers and an empty key are not
        if isinstance(key, PlainScalar) and (not key.strip("~") or _is_number(key.value)):
            hint = f'quote the key: "{key}"'
            self._add_problem(node, f"found {format_raw(key)} as a key, expected text", hint)
            return None
        if isinstance(key, PlainScalar) and key == "<<":
            hint = "write the keys out, or give one value an anchor: join_keys: &keys {...}"
            self._add_problem(node, "the merge key '<<' is not supported", hint)
            return None
        return str(key)

    def _add_problem(self, node: _Node, message: str, hint: str = "") -> None:
        location = SourceLocation(self._document.file, *node.position)
        self._document.problems.append(LocatedProblem(location, message, hint))
