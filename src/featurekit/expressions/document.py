"""The tree of an expression as plain data: lists of strings and lists, which JSON keeps as they are.

A node is `[operation, operand, ...]`; names, literals, calls and casts have their text in front of the
operands: `["/", ["name", "amount"], ["call", "nullif", ["name", "mean"], ["number", "0"]]]`.
"""

from __future__ import annotations

from featurekit.expressions.checker import ARITY
from featurekit.expressions.kinds import ExpressionError
from featurekit.expressions.syntax import (
    CAST_TYPES,
    MAX_CHARACTERS,
    MAX_DEPTH,
    MAX_NODES,
    Syntax,
)

_WITH_TEXT = {
    "name", "number", "string", "date literal", "timestamp literal", "call", "cast", "extract",
}  # fmt: skip


def to_document(syntax: Syntax) -> list[object]:
    """Return a tree as plain data."""
    text: list[object] = [syntax.value] if syntax.op in _WITH_TEXT else []
    return [syntax.op, *text, *map(to_document, syntax.args)]


def from_document(document: object) -> Syntax:
    """Return the tree of a document.

    Raises:
        ExpressionError: It is not the document of a tree, or it is too large.
    """
    return _Reader().node(document, 1)


class _Reader:
    def __init__(self) -> None:
        self._nodes = self._characters = 0

    def node(self, document: object, depth: int) -> Syntax:
        if not isinstance(document, list | tuple) or not document:
            raise ExpressionError("a node of the expression's tree is not a list")
        op, *rest = document
        if not isinstance(op, str) or op not in ARITY:
            raise ExpressionError("the expression's tree has an unknown operation")
        self._nodes += 1
        if depth > MAX_DEPTH or self._nodes > MAX_NODES or len(rest) > MAX_NODES:
            raise ExpressionError("the expression's tree is too large")
        text = self._text(op, rest) if op in _WITH_TEXT else ""
        least, most = ARITY[op]
        if not least <= len(rest) <= most:
            raise ExpressionError(f"'{op}' has {len(rest)} operands in the expression's tree")
        return Syntax(op, tuple(self.node(each, depth + 1) for each in rest), text)

    def _text(self, op: str, rest: list[object]) -> str:
        """Remove the text from the front of the operands, and return it."""
        text = rest.pop(0) if rest else None
        if type(text) is not str:
            raise ExpressionError(f"'{op}' has no text in the expression's tree")
        self._characters += len(text)
        if self._characters > MAX_CHARACTERS:
            raise ExpressionError("the expression's tree is too large")
        if op == "cast" and text not in CAST_TYPES:
            raise ExpressionError("the expression's tree has a cast to an unknown type")
        return text
