"""Parse the text of an expression into a tree of names, literals, operators and calls.

A Pratt parser: `POWER` is how tightly each operator binds its operands. Every node has its span in the
text. What engines understand in different ways is refused here or by the checker, with a hint.
"""

from __future__ import annotations

import re
from collections.abc import Container
from dataclasses import dataclass, field
from typing import NamedTuple

from featurekit.expressions.kinds import SCALAR_TYPES, ExpressionError, Span, quoted
from featurekit.expressions.refused import CHARACTER_HINTS, WORD_HINTS

MAX_CHARACTERS, MAX_NODES, MAX_DEPTH = 2000, 300, 40


@dataclass(frozen=True, slots=True)
class Syntax:
    """A node of the tree.

    Attributes:
        op: `name`, `number`, `string`, `true`, `false`, `null`, `call`, `cast`, or an operator.
        args: The operands; of `case` conditions and values in turn, and maybe what `else` gives.
        value: The name, the literal's text, the function, or the type of a cast.
        span: Where it is in the text.
    """

    op: str
    args: tuple[Syntax, ...] = ()
    value: str = ""
    span: Span = field(default=(0, 0), compare=False)


class _Token(NamedTuple):
    kind: str
    text: str
    span: Span


_TOKEN = re.compile(
    r"""[ \t\r\n]*(?:
      (?P<number>(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)(?P<tail>[A-Za-z0-9_.]*)
    | (?P<string>'(?:[^']|'')*')
    | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
    | (?P<refused>--|/\*|==|\*\*|&&|<=>|->|=>|:=|<<|>>)
    | (?P<operator>\|\||//|<>|!=|<=|>=|::|[-+*/%=<>(),\[\].])
    | (?P<other>\S|[^ \t\r\n])
    )""",
    re.VERBOSE,
)
_KEYWORDS = {
    "and", "or", "not", "is", "null", "in", "between", "like", "case", "when", "then", "else", "end",
    "cast", "as", "true", "false",
}  # fmt: skip
_COMPARISON = 4
_PREFIX_MINUS = 8
_NOT = 3
POWER = {
    "or": 1, "and": 2,
    **dict.fromkeys(("=", "<>", "!=", "<", "<=", ">", ">=", "is", "in", "between", "like"), _COMPARISON),
    "||": 5, "+": 6, "-": 6, "*": 7, "/": 7, "//": 7, "%": 7, "::": 9, "[": 9,
}  # fmt: skip
"""How tightly operators bind; a prefixed `not` is 3 and a prefixed minus 8."""

_N_ARY = ("and", "or", "||")
CAST_TYPES = tuple(SCALAR_TYPES)
_CAST_NAMES = {
    "double": "float64", "bigint": "int64", "varchar": "string", "text": "string",
    **{name: name for name in CAST_TYPES},
}  # fmt: skip
NUMBER = re.compile(r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
"""A number without a sign."""


def parse_syntax(text: str, names: Container[str]) -> Syntax:
    """Return the tree of an expression.

    Args:
        text: The expression.
        names: The inputs, which may be named as words that are refused otherwise.

    Raises:
        ExpressionError: It is too long, or not an expression.
    """
    if len(text) > MAX_CHARACTERS:
        raise ExpressionError(
            f"the expression has {len(text)} characters, and at most {MAX_CHARACTERS} are allowed",
            (MAX_CHARACTERS, len(text)),
        )
    tree = _Parser(_tokens(text), names).whole()
    check_size(tree)
    return tree


def check_size(tree: Syntax) -> None:
    """Raise an error if a tree has too many nodes or levels."""
    level, depth, count = [tree], 0, 0
    while level:
        depth, count = depth + 1, count + len(level)
        if count > MAX_NODES:
            raise ExpressionError(f"the expression has more than {MAX_NODES} parts", tree.span)
        if depth > MAX_DEPTH:
            hint = "put some of the operands of a long chain into brackets"
            raise ExpressionError(f"more than {MAX_DEPTH} levels of nested parts", tree.span, hint)
        level = [arg for node in level for arg in node.args]


def _tokens(text: str) -> list[_Token]:
    tokens = []
    for match in _TOKEN.finditer(text):
        kind = str(match.lastgroup)
        if kind == "tail":
            kind = "number"
            if match["tail"]:
                span = (match.start("number"), match.end("tail"))
                raise ExpressionError(f"{quoted(text[slice(*span)])} is not a number", span)
        token = _Token(kind, match[kind], match.span(kind))
        if kind in ("refused", "other"):
            raise _refused_character(token, len(text))
        if kind == "name" and token.text.lower() in _KEYWORDS:
            token = _Token("word", token.text.lower(), token.span)
        tokens.append(token)
    return [*tokens, _Token("end", "", (len(text), len(text)))]


def _refused_character(token: _Token, end: int) -> ExpressionError:
    if token.text == "'":
        return ExpressionError("the string has no closing quote", (token.span[0], end))
    shown = f"'{token.text}'" if token.text.isprintable() else f"U+{ord(token.text):04X}"
    hint = CHARACTER_HINTS.get(token.text, "")
    return ExpressionError(f"{shown} is not part of an expression", token.span, hint)


class _Parser:
    def __init__(self, tokens: list[_Token], names: Container[str]) -> None:
        self._tokens, self._names = tokens, names
        self._index = self._depth = 0

    def whole(self) -> Syntax:
        if self._tokens[0].kind == "end":
            raise ExpressionError("the expression is empty")
        tree = self._expression(0)
        if self._tokens[self._index].kind != "end":
            raise self._unexpected("an operator or the end")
        return tree

    def _peek(self, ahead: int = 0) -> str:
        """Return the operator or keyword that follows; empty for anything else."""
        token = self._tokens[min(self._index + ahead, len(self._tokens) - 1)]
        return token.text if token.kind in ("operator", "word") else ""

    def _next(self) -> _Token:
        token = self._tokens[self._index]
        self._index += token.kind != "end"
        return token

    def _accept(self, text: str) -> bool:
        found = self._peek() == text
        self._index += found
        return found

    def _expect(self, text: str) -> None:
        if not self._accept(text):
            raise self._unexpected(f"'{text}'")

    def _unexpected(self, expected: str) -> ExpressionError:
        token = self._tokens[self._index]
        found = quoted(token.text) if token.text else "the end"
        hint = WORD_HINTS.get(token.text.lower(), "")
        before = self._tokens[self._index - 1].text if self._index else ""
        if {token.text, before} <= {"=", "<", ">", "<>", "<=", ">="}:
            hint = "comparisons are = <> < <= > >="
        return ExpressionError(f"found {found}, expected {expected}", token.span, hint)

    def _node(self, op: str, args: tuple[Syntax, ...], start: int, value: str = "") -> Syntax:
        return Syntax(op, args, value, (start, self._tokens[self._index - 1].span[1]))

    def _expression(self, least: int) -> Syntax:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise ExpressionError(
                f"more than {MAX_DEPTH} levels of nested parts", self._tokens[self._index].span
            )
        left = self._prefix()
        compared = False
        while (power := self._power()) > least:
            if power == _COMPARISON and compared:
                raise ExpressionError(
                    "comparisons do not follow each other", self._tokens[self._index].span,
                    "write a < b and b < c, or put one of them into brackets",
                )  # fmt: skip
            compared = power == _COMPARISON
            left = self._infix(power, left)
        self._depth -= 1
        return left

    def _power(self) -> int:
        op = self._peek()
        if op == "not" and self._peek(1) in ("in", "between", "like"):
            return _COMPARISON
        return 0 if op == "not" else POWER.get(op, 0)

    def _infix(self, power: int, left: Syntax) -> Syntax:
        start = left.span[0]
        negated = self._accept("not")
        op = self._next().text
        if parse := _INFIX.get(op):
            node = parse(self, left, start)
        elif op in _N_ARY:
            parts = [left, self._expression(power)]
            while self._accept(op):
                parts.append(self._expression(power))
            node = self._node(op, tuple(parts), start)
        else:
            right = self._expression(power)
            node = self._node("<>" if op == "!=" else op, (left, right), start)
        return self._node("not", (node,), start) if negated else node

    def is_null(self, left: Syntax, start: int) -> Syntax:
        negated = self._accept("not")
        if self._peek() != "null":
            raise self._unexpected("'null'")
        self._next()
        node = self._node("is null", (left,), start)
        return self._node("not", (node,), start) if negated else node

    def in_list(self, left: Syntax, start: int) -> Syntax:
        self._expect("(")
        return self._node("in", (left, *self._list(")")), start)

    def between(self, left: Syntax, start: int) -> Syntax:
        low = self._expression(_COMPARISON)
        self._expect("and")
        high = self._expression(_COMPARISON)
        return self._node("between", (left, low, high), start)

    def double_colon(self, left: Syntax, start: int) -> Syntax:
        name = self._cast_type()
        return self._node("cast", (left,), start, name)

    def item(self, left: Syntax, start: int) -> Syntax:
        index = self._expression(0)
        self._expect("]")
        return self._node("item", (left, index), start)

    def _list(self, end: str) -> tuple[Syntax, ...]:
        """Return the expressions up to the closing bracket, at least one."""
        parts = [self._expression(0)]
        while self._accept(","):
            parts.append(self._expression(0))
        self._expect(end)
        return tuple(parts)

    def _cast_type(self) -> str:
        token = self._tokens[self._index]
        name = _CAST_NAMES.get(token.text.lower()) if token.kind == "name" else None
        if name is None:
            known = "double, bigint, varchar, bool, date and timestamp"
            hint = WORD_HINTS.get(f"cast {token.text.lower()}", f"types are {known}")
            raise ExpressionError(f"{quoted(token.text)} is not a type here", token.span, hint)
        self._index += 1
        return name

    def _prefix(self) -> Syntax:
        token = self._next()
        start = token.span[0]
        if token.kind == "number":
            return self._node("number", (), start, token.text)
        if token.kind == "string":
            return self._node("string", (), start, token.text[1:-1].replace("''", "'"))
        if token.kind == "name":
            return self._named(token)
        if parse := _PREFIX.get(token.text if token.kind in ("operator", "word") else ""):
            return parse(self, start)
        self._index -= token.kind != "end"
        raise self._unexpected("a value")

    def parenthesis(self, start: int) -> Syntax:
        inner = self._expression(0)
        self._expect(")")
        span = (start, self._tokens[self._index - 1].span[1])
        return Syntax(inner.op, inner.args, inner.value, span)

    def minus(self, start: int) -> Syntax:
        return self._node("neg", (self._expression(_PREFIX_MINUS),), start)

    def negation(self, start: int) -> Syntax:
        return self._node("not", (self._expression(_NOT),), start)

    def constant(self, start: int) -> Syntax:
        return self._node(self._tokens[self._index - 1].text, (), start)

    def case(self, start: int) -> Syntax:
        if self._peek() != "when":
            hint = "write case when x = ... then ... end" if self._peek() != "end" else ""
            error = self._unexpected("'when'")
            raise ExpressionError(error.message, error.span, hint)
        parts: list[Syntax] = []
        while self._accept("when"):
            parts.append(self._expression(0))
            self._expect("then")
            parts.append(self._expression(0))
        if self._accept("else"):
            parts.append(self._expression(0))
        self._expect("end")
        return self._node("case", tuple(parts), start)

    def cast(self, start: int) -> Syntax:
        self._expect("(")
        inner = self._expression(0)
        self._expect("as")
        name = self._cast_type()
        self._expect(")")
        return self._node("cast", (inner,), start, name)

    def _named(self, token: _Token) -> Syntax:
        """Return a name, a function's call, or a literal that a type precedes."""
        start, word = token.span[0], token.text.lower()
        if self._accept("("):
            if word == "extract":
                return self._extract(start)
            args = () if self._accept(")") else self._list(")")
            return self._node("call", args, start, word)
        if word in ("date", "timestamp") and self._tokens[self._index].kind == "string":
            text = self._next().text[1:-1].replace("''", "'")
            return self._node(f"{word} literal", (), start, text)
        name = token.text
        while self._accept("."):
            part = self._next()
            if part.kind not in ("name", "word"):
                self._index -= part.kind != "end"
                raise self._unexpected("a name after the point")
            name += "." + part.text
        if word in WORD_HINTS and name not in self._names:
            raise ExpressionError(
                f"'{token.text}' is not part of an expression", token.span, WORD_HINTS[word]
            )
        return self._node("name", (), start, name)

    def _extract(self, start: int) -> Syntax:
        part = self._next()
        if part.kind != "name" or self._tokens[self._index].text.lower() != "from":
            raise self._unexpected("a part of a time, 'from' and a time")
        self._index += 1
        inner = self._expression(0)
        self._expect(")")
        return self._node("extract", (inner,), start, part.text.lower())


_INFIX = {
    "is": _Parser.is_null, "in": _Parser.in_list, "between": _Parser.between,
    "::": _Parser.double_colon, "[": _Parser.item,
}  # fmt: skip
_PREFIX = {
    "(": _Parser.parenthesis, "-": _Parser.minus, "not": _Parser.negation, "case": _Parser.case,
    "cast": _Parser.cast, "true": _Parser.constant, "false": _Parser.constant,
    "null": _Parser.constant,
}  # fmt: skip
