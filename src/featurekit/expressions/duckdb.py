"""Generate DuckDB SQL for expressions, with the meaning that the generated Python has.

A piece of SQL that an operation needs twice becomes a column of an inner SELECT, and columns that need
others go one level further out: text that is repeated would double at each level of nested `case`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

from featurekit.expressions.kinds import Kind
from featurekit.expressions.nodes import EPOCH, LOW, MAX_FLOAT, Node

_FINITE = f"BETWEEN -{MAX_FLOAT!r} AND {MAX_FLOAT!r}"
_DAY = 86_400_000_000
_PIECE = tuple[str, int]
"""SQL, and how many levels of inner columns it needs."""


@dataclass(slots=True)
class _Select:
    """The columns of the inner SELECTs: level, SQL and name."""

    prefix: str
    columns: Mapping[str, str]
    inner: list[tuple[int, str, str]] = field(default_factory=list)
    names: dict[_PIECE, str] = field(default_factory=dict)

    def bind(self, piece: _PIECE) -> _PIECE:
        """Return a piece that may be written more than once."""
        sql, level = piece
        if _is_simple(sql):
            return piece
        if piece not in self.names:
            self.names[piece] = f"{self.prefix}{len(self.inner)}"
            self.inner.append((level, sql, self.names[piece]))
        return self.names[piece], level + 1


def select_sql(
    expressions: Mapping[str, Node],
    source: str,
    columns: Mapping[str, str],
    *,
    keep: str,
    prefix: str,
) -> str:
    """Return a SELECT of some columns of a source, and of the values of checked trees.

    Args:
        expressions: The trees, by the names of their columns.
        source: What follows FROM: a table, or a query in parentheses.
        columns: The SQL of each input, over the source. Of the type that the input has; numbers may be
            narrower.
        keep: The list of the source's columns to keep, or `*`; may be empty.
        prefix: Begins the names of inner columns; no column of the source does.
    """
    select = _Select(prefix, columns)
    generator = _Generator(select)
    pieces = {name: generator.root(node) for name, node in expressions.items()}
    for level in range(max((level for _, level in pieces.values()), default=0)):
        inner = [f"{sql} AS {name}" for at, sql, name in select.inner if at == level]
        source = f"(SELECT *, {', '.join(inner)} FROM {source})"  # noqa: S608 - names are quoted
    listed = [f"{sql} AS {quote_name(name)}" for name, (sql, _) in pieces.items()]
    if keep == "*" and select.inner:
        keep = f"* EXCLUDE ({', '.join(name for _, _, name in select.inner)})"
    listed = [keep, *listed] if keep else listed
    return f"SELECT {', '.join(listed)} FROM {source}"  # noqa: S608 - names are quoted


def quote_name(name: str) -> str:
    """Return a column's name in double quotes."""
    return '"' + name.replace('"', '""') + '"'


_NAME = r'\w+|"(?:[^"]|"")*"'
_LITERAL = r"\([^()]*\)|'[^']*'"
_REPEATABLE = re.compile(rf"{_NAME}|{_LITERAL}|CAST\((?:{_NAME}|{_LITERAL}) AS \w+\)")
_CALL = re.compile(r"\w+\([^()]*\)")


def _is_simple(sql: str) -> bool:
    """Return whether a piece may be written again: a column or a literal."""
    return bool(_REPEATABLE.fullmatch(sql))


def _in_brackets(sql: str) -> str:
    """Return a piece that can be an operand."""
    return sql if _is_simple(sql) or _CALL.fullmatch(sql) else f"({sql})"


def _string(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _literal(value: Any) -> str:
    return "NULL" if value is None else _LITERALS[type(value)](value)


def _timestamp(value: datetime) -> str:
    microseconds = (value - EPOCH) // timedelta(microseconds=1)
    return f"make_timestamptz({_literal(microseconds)})"


def _float(value: float) -> str:
    text = repr(value)
    return f"({text})" if "e" in text else f"({text}e0)"


_LITERALS: dict[type, Callable[[Any], str]] = {
    bool: lambda value: str(value).lower(),
    int: lambda value: f"CAST('{value}' AS BIGINT)",
    float: _float,
    str: _string,
    date: lambda value: f"DATE '{value.isoformat()}'",
    datetime: _timestamp,
}


def _floor_divide(sql: str, unit: int) -> str:
    """Return an integer divided by a unit, rounded down; the integer is written twice."""
    return f"(({sql} - ((({sql} % {unit}) + {unit}) % {unit})) // {unit})"


class _Generator:
    def __init__(self, select: _Select) -> None:
        self._select = select

    def root(self, node: Node) -> _PIECE:
        """Return the whole value; a float's zero has no sign."""
        sql, level = self.final(node)
        if node.kind is Kind.FLOAT:
            return f"({sql}) + 0.0e0", level
        return sql, level

    def final(self, node: Node) -> _PIECE:
        """Return a value that is null if it is a float that is not finite."""
        if node.is_chain:
            return self._finite(self.chain(node, is_divisor=False))
        if node.op in ("name", "item") and node.kind is Kind.FLOAT:
            return self._finite(self.piece(node))
        return self.piece(node)

    def _finite(self, piece: _PIECE) -> _PIECE:
        sql, level = self._select.bind(piece)
        return f"CASE WHEN {sql} {_FINITE} THEN {sql} END", level

    def chain(self, node: Node, *, is_divisor: bool) -> _PIECE:
        """Return a part of a chain of float operations, which may be nan or inf."""
        if node.op == "name" and not is_divisor:
            return self.piece(node)
        if not node.is_chain:
            return self.final(node)
        parts = [
            self.chain(arg, is_divisor=is_divisor or (i > 0 and node.op == "/"))
            for i, arg in enumerate(node.args)
        ]
        template = _ARITHMETIC[node.op]
        if node.op == "/" and not (node.args[1].op == "literal" and node.args[1].value):
            template = "{} / nullif({}, 0.0e0)"
        return _combine(template, parts)

    def piece(self, node: Node) -> _PIECE:
        """Return a value of any operation but those of a chain."""
        if node.op == "name":
            return self.name(node), 0
        if node.op == "literal":
            return _literal(node.value), 0
        parts = [self.final(arg) for arg in node.args]
        if method := _METHODS.get(node.op):
            return method(self, node, parts)
        return _combine(_TEMPLATES[node.op], parts)

    def name(self, node: Node) -> str:
        column = self._select.columns[str(node.value)]
        cast = {Kind.INT: "BIGINT", Kind.FLOAT: "DOUBLE"}.get(node.kind)
        return f"CAST({column} AS {cast})" if cast else column

    def _bound(self, parts: list[_PIECE]) -> list[_PIECE]:
        return [self._select.bind(part) for part in parts]

    def arithmetic(self, node: Node, parts: list[_PIECE]) -> _PIECE:
        """An operation on integers."""
        if node.value != "check":
            return _combine(_ARITHMETIC[node.op], parts)
        if node.op == "abs":
            return _combine(
                f"CASE WHEN {{0}} > {_literal(LOW)} THEN abs({{0}}) END", self._bound(parts)
            )
        wide = [(f"CAST({sql} AS HUGEINT)", level) for sql, level in parts]
        return _combine(f"TRY_CAST(({_ARITHMETIC[node.op]}) AS BIGINT)", wide)

    def quotient(self, _node: Node, parts: list[_PIECE]) -> _PIECE:
        return _combine(
            f"CASE WHEN {{1}} = 0 OR ({{1}} = -1 AND {{0}} = {_literal(LOW)}) THEN NULL"
            " ELSE {0} // {1} END",
            self._bound(parts),
        )

    def remainder(self, node: Node, parts: list[_PIECE]) -> _PIECE:
        if node.kind is Kind.FLOAT:
            return _combine("{} % nullif({}, 0.0e0)", parts)
        return _combine(
            "CASE WHEN {1} = -1 THEN CASE WHEN {0} IS NOT NULL THEN 0 END ELSE {0} % nullif({1}, 0) END",
            self._bound(parts),
        )

    def within_domain(self, node: Node, parts: list[_PIECE]) -> _PIECE:
        return _combine(
            f"CASE WHEN {{0}} {_DOMAINS[node.op]} THEN {node.op}({{0}}) END", self._bound(parts)
        )

    def finite_call(self, node: Node, parts: list[_PIECE]) -> _PIECE:
        """`exp` and `power`."""
        return self._finite(_combine(f"{node.op}({', '.join(['{}'] * len(parts))})", parts))

    def atan2(self, _node: Node, parts: list[_PIECE]) -> _PIECE:
        zero = "CASE WHEN {0} = 0 THEN 0.0e0 ELSE {0} END"
        return _combine(f"atan2({zero}, {zero.replace('{0}', '{1}')})", self._bound(parts))

    def round(self, node: Node, parts: list[_PIECE]) -> _PIECE:
        if not node.value:
            return _combine("round({})", parts)
        digits = int(str(node.value))
        scale, limit = f"1{'0' * digits}.0e0", repr(4503599627370496.0 / 10.0**digits)
        return _combine(
            f"CASE WHEN abs({{0}}) < {limit} THEN round({{0}} * {scale}) / {scale} ELSE {{0}} END",
            self._bound(parts),
        )

    def to_float32(self, _node: Node, parts: list[_PIECE]) -> _PIECE:
        sql, level = self._select.bind(_combine("TRY_CAST({} AS FLOAT)", parts))
        return f"CAST(CASE WHEN isfinite({sql}) THEN {sql} END AS DOUBLE)", level

    def case(self, node: Node, parts: list[_PIECE]) -> _PIECE:
        count = int(str(node.value))
        branches = "".join(f" WHEN {{{i}}} THEN {{{count + i}}}" for i in range(count))
        return _combine(f"CASE{branches} ELSE {{{2 * count}}} END", parts)

    def any_of(self, node: Node, parts: list[_PIECE]) -> _PIECE:
        """`coalesce`, `greatest` and `least`."""
        return _combine(f"{node.op}({', '.join(['{}'] * len(parts))})", parts)

    def nullif(self, node: Node, parts: list[_PIECE]) -> _PIECE:
        a, b = self._select.bind(parts[0]), parts[1]
        compared = _COERCIONS[str(node.value)] if node.value else "{0}"
        return _combine(f"CASE WHEN {compared} = {{1}} THEN NULL ELSE {{0}} END", [a, b])

    def item(self, node: Node, parts: list[_PIECE]) -> _PIECE:
        return _combine(f"{{}}[{node.value}]", parts)

    def compare(self, node: Node, parts: list[_PIECE]) -> _PIECE:
        return _combine(f"{{}} {node.value} {{}}", parts)

    def logic(self, node: Node, parts: list[_PIECE]) -> _PIECE:
        return _combine(f" {node.op.upper()} ".join(["{}"] * len(parts)), parts)

    def one_of(self, node: Node, parts: list[_PIECE]) -> _PIECE:
        values: Any = node.value
        listed = ", ".join(map(_literal, values)).replace("{", "{{").replace("}", "}}")
        return _combine(f"{{}} IN ({listed})", parts)

    def like(self, node: Node, parts: list[_PIECE]) -> _PIECE:
        return _append(parts[0], f" LIKE {_string(str(node.value))}")

    def replace(self, node: Node, parts: list[_PIECE]) -> _PIECE:
        values: Any = node.value
        sql, level = parts[0]
        return f"replace({sql}, {_string(values[0])}, {_string(values[1])})", level

    def substr(self, node: Node, parts: list[_PIECE]) -> _PIECE:
        values: Any = node.value
        return _combine(f"substr({{}}, {values[0]}, {min(values[1], 2**31 - 1)})", parts)

    def letters(self, node: Node, parts: list[_PIECE]) -> _PIECE:
        """`lower` and `upper`; `translate` takes 1.5 us, which ASCII texts are spared."""
        upper, lower = "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz"
        old, new = (upper, lower) if node.op == "lower" else (lower, upper)
        is_ascii, translated = "strlen({0}) = length({0})", f"translate({{0}}, '{old}', '{new}')"
        template = f"CASE WHEN {is_ascii} THEN {node.op}({{0}}) ELSE {translated} END"
        return _combine(template, self._bound(parts))

    def join(self, _node: Node, parts: list[_PIECE]) -> _PIECE:
        return _combine(" || ".join(["{}"] * len(parts)), parts)

    def list_contains(self, _node: Node, parts: list[_PIECE]) -> _PIECE:
        # DuckDB says that an empty list does not contain null; here that is null.
        array, item = parts[0], self._select.bind(parts[1])
        return _combine(
            "CASE WHEN {1} IS NOT NULL THEN list_contains({0}, {1}) END", [array, item]
        )

    def _microseconds(self, piece: _PIECE) -> _PIECE:
        return self._select.bind(_combine("epoch_us({})", [piece]))

    def _day(self, node: Node, piece: _PIECE) -> _PIECE:
        """Return the date of a date or timestamp, in UTC."""
        if node.kind is Kind.DATE:
            return piece
        sql, level = self._microseconds(piece)
        return f"(DATE '1970-01-01' + CAST({_floor_divide(sql, _DAY)} AS INTEGER))", level

    def to_date(self, node: Node, parts: list[_PIECE]) -> _PIECE:
        return self._day(node.args[0], parts[0])

    def date_diff(self, node: Node, parts: list[_PIECE]) -> _PIECE:
        unit = int(str(node.value))
        (a, i), (b, j) = map(self._microseconds, parts)
        return f"({_floor_divide(b, unit)} - {_floor_divide(a, unit)})", max(i, j)

    def date_trunc(self, node: Node, parts: list[_PIECE]) -> _PIECE:
        unit = int(str(node.value))
        sql, level = self._microseconds(parts[0])
        return f"make_timestamptz({_floor_divide(sql, unit)} * {unit})", level

    def part(self, node: Node, parts: list[_PIECE]) -> _PIECE:
        if node.value in _CLOCK:
            unit, step = _CLOCK[str(node.value)]
            sql, level = self._microseconds(parts[0])
            return f"(((({sql} % {unit}) + {unit}) % {unit}) // {step})", level
        sql, level = self._day(node.args[0], parts[0])
        return f"CAST({node.value}({sql}) AS BIGINT)", level


def _combine(template: str, parts: list[_PIECE]) -> _PIECE:
    """Return a piece of others, which are put into parentheses."""
    return template.format(*(_in_brackets(sql) for sql, _ in parts)), max(
        level for _, level in parts
    )


def _append(piece: _PIECE, sql: str) -> _PIECE:
    return _in_brackets(piece[0]) + sql, piece[1]


_CLOCK = {
    "hour": (86_400_000_000, 3_600_000_000),
    "minute": (3_600_000_000, 60_000_000),
    "second": (60_000_000, 1_000_000),
}
_ARITHMETIC = {
    "+": "{} + {}", "-": "{} - {}", "*": "{} * {}", "/": "{} / {}", "neg": "-{}", "abs": "abs({})",
}  # fmt: skip
_DOMAINS = {
    "sqrt": ">= 0", "ln": "> 0", "log10": "> 0", "asin": "BETWEEN -1 AND 1", "acos": "BETWEEN -1 AND 1",
}  # fmt: skip
_COERCIONS = {
    "to float": "CAST({0} AS DOUBLE)",
    "to timestamp": f"make_timestamptz(CAST({{0}} - DATE '1970-01-01' AS BIGINT) * {_DAY})",
}
_TEMPLATES = {
    "to float": "CAST({} AS DOUBLE)",
    "to int": "TRY_CAST({} AS BIGINT)",
    "to int32": "CAST(TRY_CAST({} AS INTEGER) AS BIGINT)",
    "to timestamp": _COERCIONS["to timestamp"],
    "bool to int": "CAST({} AS BIGINT)",
    "to string": "CAST({} AS VARCHAR)",
    **{name: f"{name}({{}})" for name in ("sin", "cos", "atan", "floor", "ceil", "length", "len")},
    "radians": "{} * 0.017453292519943295e0",
    "sign": "CAST(sign({}) AS BIGINT)",
    "trim": "trim({}, ' ')",
    "starts_with": "starts_with({}, {})",
    "ends_with": "suffix({}, {})",
    "contains": "contains({}, {})",
    "not": "NOT {}",
    "is null": "{} IS NULL",
    "between": "{} BETWEEN {} AND {}",
    "epoch": "CAST(epoch_us({}) AS DOUBLE) / 1000000.0e0",
    "elapsed": "CAST(epoch_us({}) - epoch_us({}) AS DOUBLE) / 1000000.0e0",
    "days": "CAST({1} - {0} AS BIGINT)",
}
_METHODS: dict[str, Callable[[_Generator, Node, list[_PIECE]], _PIECE]] = {
    **dict.fromkeys(_ARITHMETIC, _Generator.arithmetic),
    "//": _Generator.quotient, "%": _Generator.remainder,
    **dict.fromkeys(_DOMAINS, _Generator.within_domain),
    **dict.fromkeys(("exp", "power"), _Generator.finite_call),
    "atan2": _Generator.atan2, "round": _Generator.round, "to float32": _Generator.to_float32,
    "case": _Generator.case, "nullif": _Generator.nullif,
    **dict.fromkeys(("coalesce", "greatest", "least"), _Generator.any_of),
    "item": _Generator.item, "compare": _Generator.compare,
    **dict.fromkeys(("and", "or"), _Generator.logic), "in": _Generator.one_of,
    "like": _Generator.like, "replace": _Generator.replace, "substr": _Generator.substr,
    **dict.fromkeys(("lower", "upper"), _Generator.letters),
    "||": _Generator.join, "list_contains": _Generator.list_contains,
    "to date": _Generator.to_date, "date_diff": _Generator.date_diff,
    "date_trunc": _Generator.date_trunc, "part": _Generator.part,
}  # fmt: skip
