"""The functions of the language, and the rules for their arguments."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from featurekit.errors import name_hint
from featurekit.expressions.kinds import (
    BOOL,
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
    LOW,
    MAX_DAYS,
    NUMBERS,
    Args,
    Node,
    any_null,
    as_float,
    choice,
    int_range,
    literal,
    unify,
    want,
    want_literal,
)
from featurekit.expressions.refused import FUNCTION_HINTS
from featurekit.expressions.syntax import Syntax

MICROSECONDS = {
    "second": 1_000_000,
    "minute": 60_000_000,
    "hour": 3_600_000_000,
    "day": 86_400_000_000,
}
"""The units of `date_diff` and `date_trunc`."""

_PARTS = {
    "hour": (0, 23), "minute": (0, 59), "second": (0, 59),
    "year": (1, 9999), "month": (1, 12), "day": (1, 31), "isodow": (1, 7),
}  # fmt: skip
"""The parts of times, and their ranges; `hour`, `minute` and `second` are of timestamps only."""

_MAX_LENGTH = 1 << 31
_MAX_DIGITS = 15
_MAX_GROWTH = 200


@dataclass(frozen=True, slots=True)
class Function:
    """A function.

    Attributes:
        usage: How it is called, for messages and the reference.
        least: How many arguments it takes at least.
        most: And at most.
        rule: Returns its node.
    """

    usage: str
    least: int
    most: int
    rule: Callable[[Syntax, Args], Node]


def call(syntax: Syntax, args: Args) -> Node:
    """Return the node of a function's call."""
    name = syntax.value
    function = FUNCTIONS.get(name)
    if function is None:
        hint = (
            FUNCTION_HINTS.get(name) or name_hint(name, FUNCTIONS).partition("known:")[0].strip()
        )
        hint = hint or "the functions are listed in docs/expressions.md"
        raise ExpressionError(f"unknown function {quoted(name)}", syntax.span, hint)
    if not function.least <= len(args) <= function.most:
        raise ExpressionError(
            f"{name} has {len(args)} arguments here", syntax.span, f"write {function.usage}"
        )
    return function.rule(syntax, args)


def extract(syntax: Syntax, args: Args) -> Node:
    """Return the node of `extract(part from x)`."""
    if syntax.value not in (*_PARTS, "epoch"):
        parts = ", ".join((*_PARTS, "epoch"))
        raise ExpressionError(
            f"{quoted(syntax.value)} is not a part of a time here",
            syntax.span,
            FUNCTION_HINTS.get(syntax.value, f"parts are {parts}"),
        )
    return call(Syntax("call", syntax.args, syntax.value, syntax.span), args)


def _number(syntax: Syntax, args: Args, index: int = 0) -> Node:
    return want(syntax.args[index], args[index], *NUMBERS)


def _floats(syntax: Syntax, args: Args) -> Node:
    """A function of floats, whose value may be null."""
    numbers = tuple(as_float(_number(syntax, args, i)) for i in range(len(args)))
    return Node(syntax.value, FLOAT64, numbers)


def _pi(_syntax: Syntax, _args: Args) -> Node:
    return literal(math.pi, FLOAT64)


def _abs(syntax: Syntax, args: Args) -> Node:
    a = _number(syntax, args)
    if a.kind is Kind.FLOAT:
        return Node("abs", FLOAT64, (a,))
    is_safe = a.low > LOW
    return Node(
        "abs", INT64, (a,), None if is_safe else "check", a.nullable or not is_safe, 0, HIGH
    )


def _sign(syntax: Syntax, args: Args) -> Node:
    a = as_float(_number(syntax, args))
    return Node("sign", INT64, (a,), None, a.nullable, -1, 1)


def _round(syntax: Syntax, args: Args) -> Node:
    a = _number(syntax, args)
    digits: object = 0
    if len(args) > 1:
        digits = want_literal(syntax.args[1], args[1], Kind.INT, "the number of digits")
        if digits not in range(_MAX_DIGITS + 1):
            message = f"the number of digits is from 0 to {_MAX_DIGITS}"
            raise ExpressionError(message, syntax.args[1].span)
    return a if a.kind is Kind.INT else Node("round", FLOAT64, (a,), digits)


def _whole(syntax: Syntax, args: Args) -> Node:
    """`floor` and `ceil`."""
    a = _number(syntax, args)
    return a if a.kind is Kind.INT else Node(syntax.value, FLOAT64, (a,))


def _extreme(syntax: Syntax, args: Args) -> Node:
    """`greatest` and `least`."""
    type_, nodes = unify(syntax, [arg for arg in args if arg.type != NULL])
    if type_.kind in (Kind.BOOL, Kind.ARRAY):
        raise ExpressionError(f"{type_} has no order", syntax.span)
    return _one_of(syntax, type_, nodes)


def _coalesce(syntax: Syntax, args: Args) -> Node:
    return _one_of(syntax, *unify(syntax, [arg for arg in args if arg.type != NULL]))


def _one_of(syntax: Syntax, type_: ExpressionType, nodes: Args) -> Node:
    """Return the node whose value is one of those of its operands, null if all are."""
    if len(nodes) < 2:  # noqa: PLR2004 - the others are the literal null
        return nodes[0] if nodes else literal(None, NULL)
    nullable = all(node.nullable for node in nodes)
    return Node(syntax.value, type_, tuple(nodes), None, nullable, *int_range(nodes))


def _nullif(syntax: Syntax, args: Args) -> Node:
    a = args[0]
    if NULL in (a.type, args[1].type) or a.kind is Kind.ARRAY:
        raise ExpressionError("nullif compares two values", syntax.span, f"write {_NULLIF}")
    _, (converted, b) = unify(syntax, args)
    conversion = {Kind.FLOAT: "to float", Kind.TIMESTAMP: "to timestamp"}
    value = None if converted.kind is a.kind else conversion[converted.kind]
    return Node("nullif", a.type, (a, b), value, True, a.low, a.high)  # noqa: FBT003


_NULLIF = "nullif(x, y): null if x = y, else x"


def _if(syntax: Syntax, args: Args) -> Node:
    condition = want(syntax.args[0], args[0], Kind.BOOL)
    return choice(syntax, (condition,), (*args[1:], literal(None, NULL))[:2])


def _string(syntax: Syntax, args: Args, index: int = 0) -> Node:
    return want(syntax.args[index], args[index], Kind.STRING)


def _text(syntax: Syntax, args: Args) -> Node:
    """`lower`, `upper` and `trim`."""
    a = _string(syntax, args)
    return Node(syntax.value, STRING, (a,), None, a.nullable)


def _length(syntax: Syntax, args: Args) -> Node:
    if args[0].kind is Kind.ARRAY:
        raise ExpressionError("length is of strings", syntax.span, "write len(array)")
    a = _string(syntax, args)
    return Node("length", INT64, (a,), None, a.nullable, 0, _MAX_LENGTH)


def _len(syntax: Syntax, args: Args) -> Node:
    if args[0].kind is Kind.STRING:
        raise ExpressionError("len is of arrays", syntax.span, "write length(string)")
    a = want(syntax.args[0], args[0], Kind.ARRAY)
    return Node("len", INT64, (a,), None, a.nullable, 0, _MAX_LENGTH)


def _substr(syntax: Syntax, args: Args) -> Node:
    a = _string(syntax, args)
    start = want_literal(syntax.args[1], args[1], Kind.INT, "the start of substr")
    length: object = _MAX_LENGTH
    if len(args) > 2:  # noqa: PLR2004 - the length is the third argument
        length = want_literal(syntax.args[2], args[2], Kind.INT, "the length of substr")
    if not (isinstance(start, int) and isinstance(length, int) and start >= 1 and length >= 0):
        message = "substr starts at 1 or later, and its length is not negative"
        hint = "engines count positions before the first in different ways"
        raise ExpressionError(message, syntax.span, hint)
    return Node(
        "substr", STRING, (a,), (min(start, _MAX_LENGTH), min(length, _MAX_LENGTH)), a.nullable
    )


def _replace(syntax: Syntax, args: Args) -> Node:
    a = _string(syntax, args)
    old = want_literal(syntax.args[1], args[1], Kind.STRING, "what replace looks for")
    new = want_literal(syntax.args[2], args[2], Kind.STRING, "what replace inserts")
    if not old:
        raise ExpressionError("replace looks for text that is not empty", syntax.args[1].span)
    node = Node("replace", STRING, (a,), (old, new), a.nullable)
    if _growth(node) > _MAX_GROWTH:
        message = f"the text may become more than {_MAX_GROWTH} times as long"
        raise ExpressionError(message, syntax.span)
    return node


def _growth(node: Node) -> int:
    """Return how many times as long as an input a text may be."""
    parts = [_growth(arg) for arg in node.args] or [1]
    if node.op == "||":
        return sum(parts)
    if node.op == "replace" and isinstance(node.value, tuple):
        old, new = node.value
        return max(parts) * max(1, -(-len(new) // len(old)))
    return max(parts)


def _matches(syntax: Syntax, args: Args) -> Node:
    """`starts_with`, `ends_with` and `contains`."""
    if args[0].kind is Kind.ARRAY:
        hint = "write list_contains(array, x)"
        raise ExpressionError(f"{syntax.value} is of strings", syntax.span, hint)
    nodes = (_string(syntax, args), _string(syntax, args, 1))
    return Node(syntax.value, BOOL, nodes, None, any_null(nodes))


def _list_contains(syntax: Syntax, args: Args) -> Node:
    array, item = want(syntax.args[0], args[0], Kind.ARRAY), args[1]
    if array.type.element == FLOAT64 and item.kind is Kind.INT:
        item = as_float(item)
    if item.type != array.type.element:
        raise ExpressionError(
            f"found {item.type}, expected {array.type.element}", syntax.args[1].span
        )
    return Node("list_contains", BOOL, (array, item), None, any_null((array, item)))


def _part(syntax: Syntax, args: Args) -> Node:
    part = syntax.value
    of_dates = () if part in ("hour", "minute", "second") else (Kind.DATE,)
    a = want(syntax.args[0], args[0], Kind.TIMESTAMP, *of_dates)
    return Node("part", INT64, (a,), part, a.nullable, *_PARTS[part])


def _epoch(syntax: Syntax, args: Args) -> Node:
    a = want(syntax.args[0], args[0], Kind.TIMESTAMP)
    return Node("epoch", FLOAT64, (a,), None, a.nullable)


def _unit(syntax: Syntax, args: Args) -> str:
    unit = str(want_literal(syntax.args[0], args[0], Kind.STRING, "the unit")).lower()
    if unit not in MICROSECONDS:
        hint = f"units are {', '.join(MICROSECONDS)}"
        raise ExpressionError(f"{quoted(unit)} is not a unit here", syntax.args[0].span, hint)
    return unit


def _date_diff(syntax: Syntax, args: Args) -> Node:
    unit = _unit(syntax, args)
    kinds = (Kind.TIMESTAMP, Kind.DATE)
    both = [want(syntax.args[i], args[i], *kinds) for i in (1, 2)]
    _, (a, b) = unify(syntax, both)
    nullable = any_null((a, b))
    if a.kind is Kind.DATE:
        if unit != "day":
            raise ExpressionError("dates differ by days", syntax.args[0].span, "write 'day'")
        return Node("days", INT64, (a, b), None, nullable, -MAX_DAYS, MAX_DAYS)
    most = 4 * 10**11
    return Node("date_diff", INT64, (a, b), MICROSECONDS[unit], nullable, -most, most)


def _date_trunc(syntax: Syntax, args: Args) -> Node:
    unit = _unit(syntax, args)
    a = want(syntax.args[1], args[1], Kind.TIMESTAMP)
    return Node("date_trunc", TIMESTAMP, (a,), MICROSECONDS[unit], a.nullable)


def _function(usage: str, rule: Callable[[Syntax, Args], Node]) -> Function:
    """Return a function with the number of arguments that its usage shows."""
    inside = usage.partition("(")[2].rpartition(")")[0]
    required, _, optional = inside.partition("[")
    least = required.count(",") + bool(required.strip()) - required.strip().endswith("…")
    if "…" in usage:
        return Function(usage, 2, 999, rule)
    return Function(usage, least, least + optional.count(","), rule)


FUNCTIONS = {
    usage.partition("(")[0]: _function(usage, rule)
    for rule, usages in {
        _floats: ("sqrt(x)", "ln(x)", "log10(x)", "exp(x)", "power(x, y)", "sin(x)", "cos(x)",
                  "asin(x)", "acos(x)", "atan(x)", "atan2(y, x)", "radians(x)"),
        _pi: ("pi()",),
        _abs: ("abs(x)",),
        _sign: ("sign(x)",),
        _round: ("round(x[, digits])",),
        _whole: ("floor(x)", "ceil(x)"),
        _extreme: ("greatest(x, y, …)", "least(x, y, …)"),
        _coalesce: ("coalesce(x, y, …)",),
        _nullif: ("nullif(x, y)",),
        _if: ("if(condition, x[, y])",),
        _text: ("lower(s)", "upper(s)", "trim(s)"),
        _length: ("length(s)",),
        _len: ("len(array)",),
        _substr: ("substr(s, start[, length])",),
        _replace: ("replace(s, old, new)",),
        _matches: ("starts_with(s, t)", "ends_with(s, t)", "contains(s, t)"),
        _list_contains: ("list_contains(array, x)",),
        _part: ("hour(t)", "minute(t)", "second(t)", "day(t)", "month(t)", "year(t)", "isodow(t)"),
        _epoch: ("epoch(t)",),
        _date_diff: ("date_diff(unit, a, b)",),
        _date_trunc: ("date_trunc(unit, t)",),
    }.items()
    for usage in usages
}  # fmt: skip
"""All functions, by name."""
