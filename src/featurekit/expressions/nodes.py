"""The checked tree: nodes with types, whether they may be null, and the range of integers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time

from featurekit.expressions.kinds import (
    DATE,
    FLOAT64,
    INT64,
    NULL,
    TIMESTAMP,
    ExpressionError,
    ExpressionType,
    Kind,
)
from featurekit.expressions.syntax import Syntax

LOW, HIGH = -(1 << 63), (1 << 63) - 1
LOW32, HIGH32 = -(1 << 31), (1 << 31) - 1
MAX_FLOAT = 1.7976931348623157e308
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MAX_DAYS = 4_000_000
"""More days than are between any two dates."""

NUMBERS = (Kind.INT, Kind.FLOAT)
CHAIN = ("+", "-", "*", "/", "neg", "abs")
"""Operators of floats that are computed by IEEE 754 up to the end of a chain of them."""


@dataclass(frozen=True, slots=True)
class Node:
    """A node of a checked expression.

    Attributes:
        op: The operation.
        type: Of its value.
        args: The operands.
        value: A literal, the name of an input, a unit, a pattern.
        nullable: Whether it may be null though no operand is unknown; a name always may.
        low: The least value of an integer.
        high: The greatest.
    """

    op: str
    type: ExpressionType
    args: tuple[Node, ...] = ()
    value: object = None
    nullable: bool = True
    low: int = LOW
    high: int = HIGH

    @property
    def kind(self) -> Kind:
        """The kind of its type."""
        return self.type.kind

    @property
    def is_chain(self) -> bool:
        """Whether it is a float operation whose result is checked at the end of the chain."""
        return self.op in CHAIN and self.type.kind is Kind.FLOAT


Args = Sequence[Node]


def literal(value: object, type_: ExpressionType) -> Node:
    """Return the node of a constant."""
    if type_.kind is Kind.INT and isinstance(value, int):
        return Node("literal", type_, (), value, nullable=False, low=value, high=value)
    return Node("literal", type_, (), value, nullable=value is None)


def any_null(args: Args) -> bool:
    """Return whether one of some operands may be null."""
    return any(arg.nullable for arg in args)


def want(syntax: Syntax, node: Node, *kinds: Kind) -> Node:
    """Return a node of one of some kinds.

    Raises:
        ExpressionError: It is of another kind.
    """
    if node.kind in kinds:
        return node
    expected = "a number" if kinds == NUMBERS else " or ".join(_NOUNS[kind] for kind in kinds)
    found = "null" if node.kind is Kind.NULL else str(node.type)
    raise ExpressionError(f"found {found}, expected {expected}", syntax.span)


_NOUNS = {
    Kind.BOOL: "a condition",
    Kind.INT: "an integer",
    Kind.FLOAT: "a float",
    Kind.STRING: "a string",
    Kind.TIMESTAMP: "a timestamp",
    Kind.DATE: "a date",
    Kind.ARRAY: "an array",
    Kind.NULL: "null",
}


def want_literal(syntax: Syntax, node: Node, kind: Kind, what: str) -> object:
    """Return the value of a literal; `what` names it in the message."""
    if node.op == "literal" and node.kind is kind:
        return node.value
    raise ExpressionError(f"{what} is a literal", syntax.span)


def as_float(node: Node) -> Node:
    """Return a number as a float."""
    if node.kind is not Kind.INT:
        return node
    if node.op == "literal":
        return literal(float(str(node.value)), FLOAT64)
    return Node("to float", FLOAT64, (node,), nullable=node.nullable)


def as_timestamp(node: Node) -> Node:
    """Return a date as the timestamp of its midnight in UTC."""
    if node.kind is not Kind.DATE:
        return node
    if isinstance(node.value, date):
        return literal(datetime.combine(node.value, time(), UTC), TIMESTAMP)
    return Node("to timestamp", TIMESTAMP, (node,), nullable=node.nullable)


def unify(syntax: Syntax, nodes: Args) -> tuple[ExpressionType, tuple[Node, ...]]:
    """Return one type for all nodes: numbers widen to float, dates to timestamps, null fits all."""
    types = list(dict.fromkeys(node.type for node in nodes if node.type != NULL))
    if set(types) == {INT64, FLOAT64}:
        return FLOAT64, tuple(as_float(node) for node in nodes)
    if set(types) == {DATE, TIMESTAMP}:
        return TIMESTAMP, tuple(as_timestamp(node) for node in nodes)
    if len(types) > 1:
        listed = " and ".join(map(str, types[:2]))
        raise ExpressionError(f"{listed} do not fit together", syntax.span)
    return types[0] if types else NULL, tuple(nodes)


def int_range(nodes: Args) -> tuple[int, int]:
    """Return the range of a value that is one of some integers."""
    found = [node for node in nodes if node.kind is Kind.INT]
    if not found:
        return LOW, HIGH
    return min(node.low for node in found), max(node.high for node in found)


def choice(syntax: Syntax, conditions: Args, values: Args) -> Node:
    """Return the node of `case` and `if`: one value more than conditions."""
    type_, values = unify(syntax, values)
    nullable, count = any_null(values), len(conditions)
    return Node("case", type_, (*conditions, *values), count, nullable, *int_range(values))
