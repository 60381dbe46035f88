"""Check a tree: its names, types and literals; return the tree with types.

The rules of operators are here, those of functions in `functions`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime

from featurekit.errors import name_hint
from featurekit.expressions.functions import call, extract
from featurekit.expressions.kinds import (
    BOOL,
    DATE,
    FLOAT64,
    INT64,
    NULL,
    STRING,
    TIMESTAMP,
    ExpressionError,
    ExpressionType,
    Kind,
    quoted,
)
from featurekit.expressions.nodes import (
    HIGH,
    HIGH32,
    LOW,
    LOW32,
    MAX_DAYS,
    NUMBERS,
    Args,
    Node,
    any_null,
    as_float,
    as_timestamp,
    choice,
    literal,
    unify,
    want,
    want_literal,
)
from featurekit.expressions.syntax import NUMBER, Syntax

NOW = "now"
"""The input that is the time of a read, or of a label."""


def check(syntax: Syntax, names: Mapping[str, ExpressionType]) -> Node:
    """Return the checked tree.

    Raises:
        ExpressionError: A name is unknown, a type does not fit, or a literal is out of range.
    """
    node = _check(syntax, names)
    if node.type == NULL:
        raise ExpressionError("the expression is always null, without a type", syntax.span)
    return node


def _check(syntax: Syntax, names: Mapping[str, ExpressionType]) -> Node:
    if syntax.op == "name":
        return _name(syntax, names)
    if syntax.op == "neg" and syntax.args[0].op == "number":
        return _number(syntax.args[0], f"-{syntax.args[0].value}")
    args = tuple(_check(arg, names) for arg in syntax.args)
    return _RULES[syntax.op](syntax, args)


def _name(syntax: Syntax, names: Mapping[str, ExpressionType]) -> Node:
    name = syntax.value
    found = names.get(name) or (TIMESTAMP if name == NOW else None)
    if found is None:
        hint = name_hint(name, names)
        if name.lower() in ("yes", "no", "none", "nan", "inf", "infinity"):
            hint = f"strings stand in single quotes; {hint}"
        raise ExpressionError(f"unknown name {quoted(name)}", syntax.span, hint)
    low, high = (LOW32, HIGH32) if found.bits == 32 else (LOW, HIGH)  # noqa: PLR2004 - the type's bits
    return Node("name", _widest(found), (), name, low=low, high=high)


def _widest(found: ExpressionType) -> ExpressionType:
    """Return the type with 64 bits, and with elements of 64 bits."""
    element = _widest(found.element) if found.element else None
    return ExpressionType(found.kind, element)


def _number_rule(syntax: Syntax, _args: Args) -> Node:
    return _number(syntax, syntax.value)


def _number(syntax: Syntax, text: str) -> Node:
    if not NUMBER.fullmatch(syntax.value):
        raise ExpressionError(f"{quoted(syntax.value)} is not a number", syntax.span)
    if re.fullmatch("-?[0-9]+", text):
        if not LOW <= int(text) <= HIGH:
            raise ExpressionError(f"{quoted(text)} is outside int64", syntax.span)
        return literal(int(text), INT64)
    number = float(text) + 0.0
    if math.isinf(number):
        raise ExpressionError(f"{quoted(text)} is outside float64", syntax.span)
    return literal(number, FLOAT64)


def _string(syntax: Syntax, _args: Args) -> Node:
    if bad := re.search("[^\t\n\x20-\x7e\xa0-\ud7ff\ue000-\U0010ffff]", syntax.value):
        raise ExpressionError(
            f"the string has the control character U+{ord(bad[0]):04X}", syntax.span
        )
    return literal(syntax.value, STRING)


def _date(syntax: Syntax, _args: Args) -> Node:
    if not re.fullmatch(_DATE, syntax.value):
        raise _not_a_literal(syntax, "date '2026-11-22'")
    try:
        return literal(date.fromisoformat(syntax.value), DATE)
    except ValueError:
        raise _not_a_literal(syntax, "date '2026-11-22'") from None


def _timestamp(syntax: Syntax, _args: Args) -> Node:
    usage = "timestamp '2026-11-22T08:30:00Z', in UTC"
    if not re.fullmatch(_TIMESTAMP, syntax.value):
        raise _not_a_literal(syntax, usage)
    try:
        return literal(datetime.fromisoformat(syntax.value).astimezone(UTC), TIMESTAMP)
    except ValueError:
        raise _not_a_literal(syntax, usage) from None


def _not_a_literal(syntax: Syntax, usage: str) -> ExpressionError:
    kind = usage.partition(" ")[0]
    return ExpressionError(
        f"{quoted(syntax.value)} is not a {kind}", syntax.span, f"write {usage}"
    )


_DATE = "[0-9]{4}-[0-9]{2}-[0-9]{2}"
_TIMESTAMP = r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?Z"


def _negate(syntax: Syntax, args: Args) -> Node:
    a = want(syntax.args[0], args[0], *NUMBERS)
    if a.kind is Kind.FLOAT:
        return Node("neg", FLOAT64, (a,), nullable=True)
    return _bounded("neg", (a,), -a.high, -a.low)


def _bounded(op: str, args: tuple[Node, ...], low: int, high: int) -> Node:
    """Return an integer operation, with a check of its result if it may leave int64."""
    is_safe = low >= LOW and high <= HIGH
    return Node(
        op, INT64, args, None if is_safe else "check",
        nullable=not is_safe or any_null(args), low=max(low, LOW), high=min(high, HIGH),
    )  # fmt: skip


def _arithmetic(syntax: Syntax, args: Args) -> Node:
    op = syntax.op
    if op in "+-" and not all(arg.kind in NUMBERS for arg in args):
        return _date_difference(syntax, args)
    a, b = (want(s, arg, *NUMBERS) for s, arg in zip(syntax.args, args, strict=True))
    if op == "-" and a.op == b.op == "epoch":  # exact, and cheaper than two conversions
        times = (*a.args, *b.args)
        return Node("elapsed", FLOAT64, times, nullable=any_null(times))
    if op != "/" and a.kind is b.kind is Kind.INT:
        return _integers(op, a, b)
    if op == "//":
        message = "// divides integers, and one of these is a float"
        raise ExpressionError(message, syntax.span, "write floor(x / y)")
    return Node(op, FLOAT64, (as_float(a), as_float(b)))


def _integers(op: str, a: Node, b: Node) -> Node:
    if op == "%":
        most = max(abs(b.low), abs(b.high)) - 1
        return Node(op, INT64, (a, b), low=0 if a.low >= 0 else -most, high=most)
    if op == "//":
        return Node(op, INT64, (a, b))
    ends = [_EXACT[op](x, y) for x in (a.low, a.high) for y in (b.low, b.high)]
    return _bounded(op, (a, b), min(ends), max(ends))


def _date_difference(syntax: Syntax, args: Args) -> Node:
    """Return the days between two dates; refuse all else that is not a number."""
    op, kinds = syntax.op, {arg.kind for arg in args}
    if op == "-" and kinds == {Kind.DATE}:
        return Node("days", INT64, (args[1], args[0]), None, any_null(args), -MAX_DAYS, MAX_DAYS)
    wrong = next(i for i, arg in enumerate(args) if arg.kind not in NUMBERS)
    if op == "+" and args[wrong].kind is Kind.STRING:
        hint = "write a || b to join strings"
        raise ExpressionError("found string, expected a number", syntax.args[wrong].span, hint)
    if kinds & {Kind.TIMESTAMP, Kind.DATE}:
        hint = "write epoch(a) - epoch(b) for seconds, or date_diff('day', b, a)"
        raise ExpressionError(f"{op} computes with numbers", syntax.span, hint)
    return want(syntax.args[wrong], args[wrong], *NUMBERS)


_EXACT: dict[str, Callable[[int, int], int]] = {
    "+": lambda x, y: x + y,
    "-": lambda x, y: x - y,
    "*": lambda x, y: x * y,
}


def _compare(syntax: Syntax, args: Args) -> Node:
    for arg in args:
        if arg.type == NULL:
            raise ExpressionError(
                "a comparison with null is never true", syntax.span, "write x is null"
            )
    type_, nodes = unify(syntax, args)
    if type_.kind is Kind.ARRAY:
        hint = "compare len(x), x[1] or list_contains(x, y)"
        raise ExpressionError("arrays are not compared", syntax.span, hint)
    if type_.kind is Kind.BOOL and syntax.op not in ("=", "<>"):
        raise ExpressionError("bools have no order", syntax.span, "compare with = or <>")
    return Node("compare", BOOL, nodes, syntax.op, any_null(nodes))


def _between(syntax: Syntax, args: Args) -> Node:
    compared = Syntax("<=", syntax.args, span=syntax.span)
    return Node("between", BOOL, _compare(compared, args).args, None, any_null(args))


def _logic(syntax: Syntax, args: Args) -> Node:
    parts = tuple(want(s, a, Kind.BOOL) for s, a in zip(syntax.args, args, strict=True))
    return Node(syntax.op, BOOL, parts, None, any_null(parts))


def _is_null(_syntax: Syntax, args: Args) -> Node:
    return Node("is null", BOOL, tuple(args), nullable=False)


def _in(syntax: Syntax, args: Args) -> Node:
    for part, arg in zip(syntax.args[1:], args[1:], strict=True):
        if arg.op != "literal" or arg.type == NULL:
            hint = "for an input that is an array, write list_contains(array, x)"
            raise ExpressionError("the list of in has literals only, not null", part.span, hint)
    type_, nodes = unify(syntax, args)
    if args[0].kind in (Kind.ARRAY, Kind.NULL):
        raise ExpressionError(f"found {type_}, expected one value", syntax.args[0].span)
    values = tuple(node.value for node in nodes[1:])
    return Node("in", BOOL, (nodes[0],), values, nodes[0].nullable)


def _like(syntax: Syntax, args: Args) -> Node:
    text = want(syntax.args[0], args[0], Kind.STRING)
    pattern = str(want_literal(syntax.args[1], args[1], Kind.STRING, "the pattern of like"))
    if "\\" in pattern:
        hint = "use contains(x, '...') for texts with % or _"
        raise ExpressionError("patterns have no backslashes", syntax.args[1].span, hint)
    return Node("like", BOOL, (text,), pattern, text.nullable)


def _join(syntax: Syntax, args: Args) -> Node:
    parts = []
    for part, arg in zip(syntax.args, args, strict=True):
        if arg.kind in (Kind.INT, Kind.BOOL):
            raise ExpressionError(
                f"found {arg.type}, expected a string", part.span, "write cast(x as varchar)"
            )
        parts.append(want(part, arg, Kind.STRING))
    return Node("||", STRING, tuple(parts), None, any_null(parts))


def _case(syntax: Syntax, args: Args) -> Node:
    count = len(args) // 2
    conditions = [want(syntax.args[i], args[i], Kind.BOOL) for i in range(0, 2 * count, 2)]
    values = [*args[1 : 2 * count : 2], args[-1] if len(args) % 2 else literal(None, NULL)]
    return choice(syntax, conditions, values)


def _item(syntax: Syntax, args: Args) -> Node:
    array = want(syntax.args[0], args[0], Kind.ARRAY)
    index = args[1]
    if index.op != "literal" or index.kind is not Kind.INT or index.low < 1:
        raise ExpressionError("an index is a literal from 1", syntax.args[1].span)
    return Node("item", array.type.element or NULL, (array,), index.value)


def _cast(syntax: Syntax, args: Args) -> Node:
    a, to = args[0], syntax.value
    if a.type == NULL:
        raise ExpressionError("null is not converted", syntax.span)
    node = _CASTS[to](a) if to in _CASTS else None
    if node is None:
        hint = ""
        if a.kind is Kind.FLOAT and to in ("int64", "int32"):
            hint = "engines round here in different ways: cast round(x), floor(x) or ceil(x)"
        elif a.kind is Kind.FLOAT and to == "string":
            hint = "engines write floats in different ways"
        elif a.kind is Kind.STRING:
            hint = "engines read texts in different ways; store the value with its type"
        raise ExpressionError(f"{a.type} is not converted to {to}", syntax.span, hint)
    return node


def _to_float64(a: Node) -> Node | None:
    return as_float(a) if a.kind in NUMBERS else None


def _to_float32(a: Node) -> Node | None:
    if a.kind not in NUMBERS:
        return None
    return Node("to float32", FLOAT64, (as_float(a),))


def _to_int64(a: Node) -> Node | None:
    if a.kind is Kind.INT:
        return a
    if a.kind is Kind.BOOL:
        return Node("bool to int", INT64, (a,), None, a.nullable, 0, 1)
    if a.op in ("round", "floor", "ceil") and not a.value:
        return Node("to int", INT64, (a,))
    return None


def _to_int32(a: Node) -> Node | None:
    node = _to_int64(a)
    if node is None or (node.low >= LOW32 and node.high <= HIGH32):
        return node
    return Node("to int32", INT64, (node,), low=max(LOW32, node.low), high=min(HIGH32, node.high))


def _to_string(a: Node) -> Node | None:
    if a.kind is Kind.STRING:
        return a
    return (
        Node("to string", STRING, (a,), None, a.nullable)
        if a.kind in (Kind.INT, Kind.BOOL)
        else None
    )


def _to_date(a: Node) -> Node | None:
    if a.kind is Kind.DATE:
        return a
    return Node("to date", DATE, (a,), None, a.nullable) if a.kind is Kind.TIMESTAMP else None


def _to_timestamp(a: Node) -> Node | None:
    return as_timestamp(a) if a.kind in (Kind.DATE, Kind.TIMESTAMP) else None


_CASTS: dict[str, Callable[[Node], Node | None]] = {
    "float64": _to_float64,
    "float32": _to_float32,
    "int64": _to_int64,
    "int32": _to_int32,
    "string": _to_string,
    "date": _to_date,
    "timestamp": _to_timestamp,
    "bool": lambda a: a if a.kind is Kind.BOOL else None,
}

_RULES: dict[str, Callable[[Syntax, Args], Node]] = {
    "number": _number_rule,
    "string": _string,
    "date literal": _date,
    "timestamp literal": _timestamp,
    "true": lambda _syntax, _args: literal(True, BOOL),  # noqa: FBT003
    "false": lambda _syntax, _args: literal(False, BOOL),  # noqa: FBT003
    "null": lambda _syntax, _args: literal(None, NULL),
    "neg": _negate,
    **dict.fromkeys(("+", "-", "*", "/", "//", "%"), _arithmetic),
    **dict.fromkeys(("=", "<>", "<", "<=", ">", ">="), _compare),
    **dict.fromkeys(("and", "or", "not"), _logic),
    "is null": _is_null,
    "between": _between,
    "in": _in,
    "like": _like,
    "||": _join,
    "case": _case,
    "item": _item,
    "cast": _cast,
    "call": call,
    "extract": extract,
}

ARITY = {
    **dict.fromkeys(("number", "string", "name", "date literal", "timestamp literal"), (0, 0)),
    **dict.fromkeys(("true", "false", "null"), (0, 0)),
    **dict.fromkeys(("neg", "not", "is null", "cast", "extract"), (1, 1)),
    **dict.fromkeys(("+", "-", "*", "/", "//", "%", "like", "item"), (2, 2)),
    **dict.fromkeys(("=", "<>", "<", "<=", ">", ">="), (2, 2)),
    "between": (3, 3),
    **dict.fromkeys(("and", "or", "||", "in", "case"), (2, 999)),
    "call": (0, 999),
}
"""How many operands each node of a tree has, least and most."""
