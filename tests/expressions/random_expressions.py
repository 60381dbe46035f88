"""Random expressions and rows, with the values at which engines differ."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from random import Random
from typing import Any

from featurekit.expressions import (
    BOOL,
    DATE,
    FLOAT64,
    INT32,
    INT64,
    STRING,
    TIMESTAMP,
    ExpressionType,
    Kind,
)

NAMES: dict[str, ExpressionType] = {
    **dict.fromkeys(("i1", "i2"), INT64),
    **dict.fromkeys(("j1", "j2"), INT32),
    **dict.fromkeys(("f1", "f2", "f3"), FLOAT64),
    **dict.fromkeys(("b1", "b2"), BOOL),
    **dict.fromkeys(("s1", "s2", "s3"), STRING),
    **dict.fromkeys(("t1", "t2", "now"), TIMESTAMP),
    **dict.fromkeys(("d1", "d2"), DATE),
    "li": ExpressionType(Kind.ARRAY, INT64),
    "ls": ExpressionType(Kind.ARRAY, STRING),
    "lf": ExpressionType(Kind.ARRAY, FLOAT64),
}
"""The inputs of random expressions."""

INTS = [
    0, 1, -1, 2, 3, 7, -7, 10, 100, 2**31 - 1, -(2**31), 2**53, 2**53 + 1, -(2**53) - 1, 2**62,
    2**63 - 1, -(2**63), 10**18, 3037000500,
]  # fmt: skip
FLOATS = [
    0.0, -0.0, 1.0, -1.0, 0.5, 2.5, -2.5, 1.5, 0.1, 2.675, 1.005, 0.285, 1e-7, 1e16, 1e300, -1e300,
    1.7976931348623157e308, 5e-324, 2.0**53, 2.0**63, -(2.0**63), 0.49999999999999994,
    4503599627370495.5, 100.0, 3.14159, -0.3, math.nan, math.inf, -math.inf,
]  # fmt: skip
STRINGS = [
    "", "a", "abc", "ABC", " a ", "aXbX", "Tromsø", "ß", "İI", "👨x", "e\u0301", "a%b", "a_b", "\t a",
    "\u00a0a", "NO", "SE", "\uffff", "😀", "it's", "é", "xx", "ΑΣ", "{}", "{0}", "\\",
]  # fmt: skip
TIMES = [
    datetime(2024, 1, 1, tzinfo=UTC),
    datetime(1969, 12, 31, 23, 59, 59, 999500, UTC),
    datetime(2024, 2, 29, 23, 59, 59, 999999, UTC),
    datetime(1, 1, 1, tzinfo=UTC),
    datetime(9999, 12, 31, 23, 59, 59, 999999, UTC),
]


class Values:
    """Random values of inputs."""

    def __init__(self, random: Random) -> None:
        self._random = random

    def row(self) -> dict[str, Any]:
        """Return a value or None for each input."""
        nulls = self._random.choice([0.0, 0.15, 0.3])
        row = {
            name: None if name != "now" and self._random.random() < nulls else self.value(type_)
            for name, type_ in NAMES.items()
        }
        if self._random.random() < 0.2 and row["i1"] is not None:
            row["f1"] = float(row["i1"])  # equal only if the integer is compared as a float
        return row

    def value(self, type_: ExpressionType) -> Any:
        """Return a value."""
        if type_.element:
            items = [self.value(type_.element) for _ in range(self._random.randint(0, 4))]
            return [None if self._random.random() < 0.2 else item for item in items]
        value = _VALUES[type_.kind](self._random)
        if type_.bits == 32 and isinstance(value, int):
            value = max(-(2**31), min(value, 2**31 - 1))
        return value


def _int(random: Random) -> int:
    return random.choice(
        [random.choice(INTS), random.randint(-20, 20), random.randint(-(2**63), 2**63 - 1)]
    )


def _float(random: Random) -> float:
    return random.choice(
        [
            random.choice(FLOATS),
            round(random.uniform(-100, 1000), 2),
            random.uniform(-1, 1),
            random.uniform(-1e6, 1e6),
            random.uniform(0, 1) * 10.0 ** random.randint(-30, 30),
            random.randint(-50, 50) + 0.5,
            random.randint(-5000, 5000) / 1000,
        ]
    )


def _string(random: Random) -> str:
    letters = "".join(random.choice("abAB xø%_") for _ in range(random.randint(0, 6)))
    return random.choice([random.choice(STRINGS), letters])


def _time(random: Random) -> datetime:
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    return random.choice(
        [
            random.choice(TIMES),
            epoch + timedelta(microseconds=random.randint(-(10**15), 4 * 10**15)),
            epoch + timedelta(microseconds=random.randint(-62 * 10**15, 250 * 10**15)),
            datetime(2026, 11, 22, tzinfo=UTC)
            + timedelta(seconds=random.randint(-(10**6), 10**6)),
        ]
    )


def _date(random: Random) -> date:
    return _time(random).date()


_VALUES: dict[Kind, Callable[[Random], object]] = {
    Kind.INT: _int,
    Kind.FLOAT: _float,
    Kind.BOOL: lambda random: random.random() < 0.5,
    Kind.STRING: _string,
    Kind.TIMESTAMP: _time,
    Kind.DATE: _date,
}

_INT_LITERALS = ["0", "1", "2", "7", "60", "9007199254740993", "9223372036854775807"]
_FLOAT_LITERALS = ["0.0", "0.5", "1.5", "2.675", "1e10", "1e300", "0.1"]
SCALARS = ("int", "float", "string", "timestamp", "date")


class Expressions:
    """Random expressions of a kind, up to a depth."""

    def __init__(self, random: Random) -> None:
        self._random = random

    def text(self, kind: str, depth: int) -> str:
        """Return an expression."""
        if depth <= 0:
            return self.name(kind) if self._random.random() < 0.75 else self.literal(kind)
        templates = _TEMPLATES[kind] if self._random.random() < 0.8 else _COMMON
        return self._filled(self._random.choice(templates), kind, depth - 1)

    def each(self) -> Iterator[str]:
        """Yield an expression of each form."""
        for kind, templates in _TEMPLATES.items():
            for template in dict.fromkeys([*templates, *_COMMON]):
                yield self._filled(template, kind, 0)

    def name(self, kind: str) -> str:
        """Return an input of a kind."""
        return self._random.choice([n for n, t in NAMES.items() if t.kind == kind])

    def literal(self, kind: str) -> str:
        """Return a literal of a kind."""
        random = self._random
        literals = {
            "int": [*_INT_LITERALS, str(random.randint(0, 1000))],
            "float": [*_FLOAT_LITERALS, f"{random.uniform(0, 100):.3f}"],
            "bool": ["true", "false"],
            "string": ["'" + random.choice(STRINGS).replace("'", "''") + "'"],
            "date": [f"date '{random.choice(TIMES).date().isoformat()}'"],
            "timestamp": [f"timestamp '{random.choice(TIMES).isoformat()[:-6]}Z'"],
        }
        return random.choice(literals[kind])

    def _filled(self, template: str, kind: str, depth: int) -> str:
        """Replace the names of kinds in braces, and choices such as `{+|-}`, in a template."""
        scalar, parts = self._random.choice(SCALARS), template.split("{")
        filled = parts[0]
        for part in parts[1:]:
            inside, _, after = part.partition("}")
            filled += self._part(inside, kind, scalar, depth) + after
        return filled

    def _part(self, inside: str, kind: str, scalar: str, depth: int) -> str:
        if "|" in inside:
            return self._random.choice(inside.split("|"))
        if inside == "number":
            return self.text(self._random.choice(["int", "float"]), depth)
        return self.text({"same": kind, "scalar": scalar}.get(inside, inside), depth)


_COMMON = [
    "case when {bool} then {same} else {same} end",
    "case when {bool} then {same} when {bool} then {same} end",
    "coalesce({same}, {same})",
    "nullif({same}, {same})",
    "if({bool}, {same}, {same})",
    "if({bool}, {same})",
    "({same})",
]
_TEMPLATES = {
    "int": [
        *["({int} {+|-|*} {int})"] * 4,
        *["({int} {//|%} {int})"] * 2,
        "(-{int})",
        "abs({int})",
        "cast({round|floor|ceil}({float}) as bigint)",
        "cast({int} as int32)",
        "length({string})",
        "{hour|minute|second|year|month|day|isodow}({timestamp})",
        "{year|month|day|isodow}({date})",
        "extract({isodow|year} from {date})",
        "date_diff('{second|minute|hour|day}', {timestamp}, {timestamp})",
        "date_diff('day', {date}, {date})",
        "date_diff('hour', {date}, {timestamp})",
        "({date} - {date})",
        "len({li|ls|lf})",
        "li[{1|2|3|4}]",
        "{greatest|least}({int}, {int})",
        "sign({number})",
        "cast({bool} as bigint)",
        "{round|floor}({int})",
        "nullif({int}, {float})",
        "nullif({int}, 0)",
    ],
    "float": [
        *["({number} {+|-|*} {float})"] * 3,
        *["({number} / {number})"] * 3,
        "({float} / nullif({float}, 0))",
        "({number} / ({number} / {number}))",
        "({number} / {number} / {number} - {float})",
        "({float} % {number})",
        "(-{float})",
        "abs({float})",
        "round({float})",
        "round({float}, {1|2|3|4|15})",
        "{floor|ceil}({float})",
        "{sqrt|ln|log10|exp}({number})",
        "power({number}, {2|0.5|3|-1|f1|j1})",
        "{sin|cos|atan|asin|acos|radians}({number})",
        "{greatest|least}({float}, {number}, {float})",
        "epoch({timestamp})",
        "(epoch({timestamp}) - epoch({timestamp}))",
        "extract(epoch from {timestamp})",
        "cast({int} as double)",
        "{float}::float32",
        "atan2({float}, {float})",
        "lf[{1|2}]",
    ],
    "bool": [
        *["({scalar} {=|<>|<|<=|>|>=} {scalar})"] * 3,
        "({int} {=|<|>=} {float})",
        "({int} {=|<} 9007199254740992.0)",
        *["({bool} {and|or} {bool})"] * 2,
        "({bool} {and|or} {bool} {and|or} {bool})",
        "(not {bool})",
        "({bool} {=|<>} {bool})",
        "({scalar} is null)",
        "({scalar} is not null)",
        "({scalar} between {scalar} and {scalar})",
        "({scalar} not between {scalar} and {scalar})",
        "({int} in (1, 2, 7, 9007199254740993))",
        "({int} not in (1, 2, -7))",
        "({string} in ('NO', 'SE', 'a', '{{}}'))".replace("{{}}", "x"),
        "({float} in (1, 2.5, 0))",
        "({int} in (1, 2.5, 9007199254740993))",
        "({timestamp} in (timestamp '2024-01-01T00:00:00Z', date '2024-02-29'))",
        "{starts_with|ends_with|contains}({string}, {string})",
        "({string} like '{a%|%a|%a%|_|a_b|%||%X_X|a%b%|%ø|__%|%%|a%b|abc}')",
        "({string} not like '{a%|_%_}')",
        "list_contains(li, {int})",
        "list_contains(ls, {string})",
        "list_contains(lf, {number})",
        "({date} < {timestamp})",
    ],
    "string": [
        "{lower|upper|trim}({string})",
        "substr({string}, {1|2|3|4}, {0|1|2|4})",
        "substr({string}, {1|2|3|4})",
        "({string} || {string})",
        "({string} || {string} || {string})",
        "replace({string}, '{a|X|ø|bX}', '{|y|aa}')",
        "cast({int} as varchar)",
        "cast({bool} as varchar)",
        "ls[{1|2|3}]",
        "{greatest|least}({string}, {string})",
    ],
    "timestamp": [
        "date_trunc('{second|minute|hour|day}', {timestamp})",
        "{greatest|least}({timestamp}, {timestamp})",
        "cast({date} as timestamp)",
        "coalesce({timestamp}, {date})",
        "nullif({timestamp}, {date})",
    ],
    "date": ["cast({timestamp} as date)", "{greatest|least}({date}, {date})"],
}
