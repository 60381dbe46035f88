"""Documents: the text of a YAML file as plain data, with the place of every value.

Scalars keep their source text (`models.plain`), so that the model that takes one decides what
it means. What YAML has beyond JSON is refused where it surprises (duplicate keys, tags, merge
keys), and bounded where it explodes (aliases, depth).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import yaml

from featurekit.loader.places import Finding, Path, Place
from featurekit.loader.syntax import syntax_finding
from featurekit.models.plain import Plain, found

try:
    from yaml import CSafeLoader as _Loader
except ImportError:  # PyYAML was built without libyaml
    from yaml import SafeLoader as _Loader  # type: ignore[assignment]

_MAX_DEPTH = 50
_MAX_VALUES = 200_000
_CONTROL = re.compile(
    "[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", re.ASCII
)
_Mark = tuple[int, int]


@dataclass(slots=True)
class Document:
    """A file's data, the places in it, and what is wrong with its text.

    Attributes:
        file: Its name, for messages.
        data: Mappings, lists and scalars; `None` for an empty file or one that does not parse.
        values: Line and column of each value, by its path.
        keys: Line and column of each key, by the path of its value.
        findings: What is wrong with the text.
        incomplete: The mappings with a key that was refused, which may stand for any.
    """

    file: str
    data: object = None
    values: dict[Path, _Mark] = field(default_factory=dict)
    keys: dict[Path, _Mark] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    incomplete: set[Path] = field(default_factory=set)

    def at(self, path: Path) -> Place:
        """The place of a value, or of the nearest one around it."""
        while path and path not in self.values:
            path = path[:-1]
        return Place(self.file, *self.values.get(path, (1, 1)))

    def key_at(self, path: Path) -> Place:
        """The place of the key of a value."""
        return Place(self.file, *self.keys[path]) if path in self.keys else self.at(path)


class _RefusalError(Exception):
    """A text that cannot be read on: where and why."""

    def __init__(self, mark: _Mark, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.mark = mark
        self.message = message
        self.hint = hint


@dataclass(slots=True)
class _Node:
    mark: _Mark
    text: str = ""
    items: list[_Node] | None = None
    pairs: list[tuple[_Node, _Node]] | None = None
    is_plain: bool = False


def read_document(file: str, data: bytes) -> Document:
    """The document in the bytes of a file; what is wrong with them is in its `findings`."""
    document = Document(file)
    text = ""
    try:
        text = _decode(data)
        root = _Composer(text).compose()
        if root is not None:
            document.data = _Builder(document).build(root, ())
    except _RefusalError as refusal:
        place = Place(file, *refusal.mark)
        document.findings.append(Finding(place, refusal.message, refusal.hint))
    except yaml.MarkedYAMLError as error:
        document.findings.append(syntax_finding(file, text, error))
    return document


def _decode(data: bytes) -> str:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8", "replace")
        byte = data[error.start]
        is_utf16 = data.startswith((b"\xff\xfe", b"\xfe\xff"))
        raise _RefusalError(
            _mark_after(before),
            f"found byte 0x{byte:02x}, expected UTF-8",
            "this is UTF-16: save the file as UTF-8" if is_utf16 else "",
        ) from None
    if control := _CONTROL.search(text):
        raise _RefusalError(
            _mark_after(text[: control.start()]),
            f"found control character U+{ord(control[0]):04X}, expected printable text",
        )
    return text


def _mark_after(text: str) -> _Mark:
    return text.count("\n") + 1, len(text) - text.rfind("\n")


class _Composer:
    """Nodes from the parser's events; PyYAML's own composer overflows the stack when nested."""

    def __init__(self, text: str) -> None:
        self._events: Iterator[yaml.Event] = yaml.parse(text, Loader=_Loader)
        self._anchors: dict[str, _Node] = {}

    def compose(self) -> _Node | None:
        root: _Node | None = None
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent) and root is not None:
                raise _RefusalError(
                    _mark(event), "found a second document, expected one", "remove the line '---'"
                )
            if isinstance(event, yaml.NodeEvent):
                root = self._node(event, 0)
        return root

    def _node(self, event: yaml.Event, depth: int) -> _Node:
        mark = _mark(event)
        if depth > _MAX_DEPTH:
            raise _RefusalError(mark, f"nested deeper than {_MAX_DEPTH} levels")
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in self._anchors:
                raise _RefusalError(
                    mark,
                    f"no anchor named '{event.anchor}' before this alias",
                    "text that begins with * must be in quotes",
                )
            return self._anchors[event.anchor]
        node = self._fresh(event, depth)
        if anchor := getattr(event, "anchor", None):
            self._anchors[anchor] = node
        return node

    def _fresh(self, event: yaml.Event, depth: int) -> _Node:
        mark = _mark(event)
        tag = getattr(event, "tag", None)
        if tag is not None:
            shown = tag.replace("tag:yaml.org,2002:", "!!")
            raise _RefusalError(mark, f"found the tag {shown}, expected no tags")
        if isinstance(event, yaml.ScalarEvent):
            return _Node(mark, text=event.value, is_plain=bool(event.implicit[0]))
        node = _Node(mark)
        if isinstance(event, yaml.SequenceStartEvent):
            node.items = [self._node(e, depth + 1) for e in self._until(yaml.SequenceEndEvent)]
        else:
            node.pairs = [
                (self._node(e, depth + 1), self._node(next(self._events), depth + 1))
                for e in self._until(yaml.MappingEndEvent)
            ]
        return node

    def _until(self, end: type[yaml.Event]) -> Iterator[yaml.Event]:
        for event in self._events:
            if isinstance(event, end):
                return
            yield event


def _mark(event: yaml.Event) -> _Mark:
    mark = event.start_mark
    return (mark.line + 1, mark.column + 1) if mark else (1, 1)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


class _Builder:
    """Data from nodes, aliases spelled out, each value's place noted."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._count = 0

    def build(self, node: _Node, path: Path) -> object:
        self._count += 1
        if self._count > _MAX_VALUES:
            raise _RefusalError(node.mark, f"more than {_MAX_VALUES} values, aliases spelled out")
        self._document.values[path] = node.mark
        if node.items is not None:
            return [self.build(item, (*path, i)) for i, item in enumerate(node.items)]
        if node.pairs is not None:
            return self._mapping(node.pairs, path)
        return Plain(node.text) if node.is_plain else node.text

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
                self._refuse(key_node, f"key {found(key)} is here twice, first in line {first}")
                continue
            self._document.keys[here] = key_node.mark
            data[key] = self.build(node, here)
        return data

    def _key(self, node: _Node) -> str | None:
        if node.items is not None or node.pairs is not None:
            kind = "list" if node.pairs is None else "mapping"
            self._refuse(node, f"found a {kind} as a key, expected text")
            return None
        key = Plain(node.text) if node.is_plain else node.text
        # `null`, `true` and `no` are fine names for keys; numbers and nothing at all are not
        if isinstance(key, Plain) and (not key.strip("~") or _is_number(key.value)):
            hint = f'write "{key}" for text'
            self._refuse(node, f"found {found(key)} as a key, expected text", hint)
            return None
        if isinstance(key, Plain) and key == "<<":
            hint = "write the keys out, or give one value an anchor: join_keys: &keys {...}"
            self._refuse(node, "found the merge key '<<', expected keys of its own", hint)
            return None
        return str(key)

    def _refuse(self, node: _Node, message: str, hint: str = "") -> None:
        place = Place(self._document.file, *node.mark)
        self._document.findings.append(Finding(place, message, hint))
