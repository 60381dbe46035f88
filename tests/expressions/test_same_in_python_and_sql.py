"""Random expressions have the same value in Python and in DuckDB, and wrong choices are found."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from itertools import count
from random import Random

import duckdb
import pytest

from featurekit.expressions import Expression, parse, python_source, select_sql
from featurekit.lower.build import build
from featurekit.lower.expressions import compile_row_function
from tests.expressions.compare import Case, Function, cases, evaluated
from tests.expressions.random_expressions import NAMES


@pytest.mark.parametrize("count", [60, pytest.param(1000, marks=pytest.mark.slow)])
def test_python_and_duckdb_agree(count: int) -> None:
    for case in cases(count, seed=17):
        assert case.differences(compile_row_function(case.expression)) == []


def _pattern(old: str, new: str) -> Callable[[str], str]:
    return lambda source: re.sub(old, new, source)


MUTANTS: dict[str, tuple[str, Callable[[str], str], Mapping[str, object]]] = {
    "half even": ("round(f1, 1)", str, {"_fx_round_digits": lambda x, _scale, _limit: round(x, 1)}),
    "Python's %": ("i1 % j1", str, {"_fx_remainder": lambda a, b: a % b}),
    "Python's //": ("i1 // j1", str, {"_fx_quotient": lambda a, b: a // b}),
    "no int64 bound": (
        "i1 * i2", _pattern(r"-9223372036854775808 <= (\(t\d+ := .*?\)) <= \d+", r"\1 is not None"), {}
    ),
    "exact comparisons": ("i1 = f1", _pattern(r"\((v\d+) \+ 0\.0\)", r"\1"), {}),
    "Unicode letters": ("lower(s1)", str, {"_fx_lower": str.lower}),
    "Unicode spaces": ("trim(s1)", _pattern(r"\.strip\(' '\)", ".strip()"), {}),
    "no finite check": (
        "f1 * f2", _pattern(r"-1\.\d+e\+308 <= (\(?\w.*?) <= 1\.\d+e\+308", r"\1 is not None"), {}
    ),
    "no finite check of a divisor": ("1 / f1", _pattern(r"-1\.\d+e\+308 <= v0 <= 1\.\d+e\+308 and", ""), {}),
    "elapsed hours": (
        "date_diff('hour', t1, t2)",
        _pattern(r"\(\((\w+) - \w+\) // (\w+) - \((\w+) - \w+\) // \w+\)", r"((\1 - \3) // \2)"), {},
    ),
    "signed zeros": ("-f1", _pattern(r" or 0\.0\)", ")"), {}),
    "Python's % of floats": ("f1 % f2", str, {"_fx_fmod": lambda a, b: a % b}),
}  # fmt: skip
"""Wrong choices: an expression that has another value then, and how its source is changed."""


@pytest.fixture(scope="module")
def evaluated_cases() -> dict[str, Case]:
    texts = [text for text, _, _ in MUTANTS.values()]
    return {case.text: case for case in evaluated(texts, Random(17), 600)}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_wrong_choice_is_found(name: str, evaluated_cases: dict[str, Case]) -> None:
    text, edit, helpers = MUTANTS[name]
    case = evaluated_cases[text]
    assert case.differences(_mutated(case.expression, str, {})) == []
    assert case.differences(_mutated(case.expression, edit, helpers))


def _mutated(
    expression: Expression, edit: Callable[[str], str], helpers: Mapping[str, object]
) -> Function:
    variables = {name: f"v{index}" for index, name in enumerate(expression.names)}
    generated = python_source(expression, variables, _temporaries().__next__)
    source = f"def f({', '.join(variables.values())}): return {edit(generated.source)}"
    return build("f", source, {**generated.helpers, **helpers})


def _temporaries() -> Iterator[str]:
    return (f"t{number}" for number in count())


NESTED = {
    "case": "case when coalesce(b1, b2) then f1 else {} / f2 end",
    "case in a condition": "case when {} > f2 then f1 else f3 end",
    "nullif": "nullif({}, f1)",
    "between": "case when {} not between f1 and f2 then f1 else f2 end",
    "greatest": "greatest({}, f1)",
    "round": "round({}, 2)",
    "power": "power({}, f1)",
    "atan2": "atan2({}, f1)",
    "item": "coalesce({}, lf[1])",
    "in": "case when {} in (1, 2) then f1 else f2 end",
}


@pytest.mark.parametrize("name", NESTED)
def test_nesting_does_not_repeat_text(name: str) -> None:
    sizes = []
    for levels in (6, 12):
        text = "f3"
        for _ in range(levels):
            text = NESTED[name].format(text)
        expression = parse(text, NAMES)
        function = compile_row_function(expression)
        assert function(*[None] * len(expression.names)) is None
        source = python_source(expression, {n: n for n in NAMES}, _temporaries().__next__).source
        sql = select_sql({"x": expression}, "inputs", {n: n for n in NAMES})
        sizes.append((len(source), len(sql)))
    for short, long in zip(*sizes, strict=True):
        assert long < 3 * short


def test_deep_queries_run() -> None:
    text = "f3"
    for _ in range(12):
        text = NESTED["case"].format(text)
    columns = {name: f"NULL::{'BOOLEAN' if name[0] == 'b' else 'DOUBLE'}" for name in NAMES}
    sql = select_sql(
        {"x": parse(text, NAMES), 'odd "name"': parse("f1", NAMES)}, "range(3)", columns
    )
    assert duckdb.sql(sql).fetchall() == [(None, None)] * 3
    assert duckdb.sql(sql).columns == ["x", 'odd "name"']


def test_the_columns_of_a_source_are_kept() -> None:
    expressions = {"x": parse("f1 / f2", NAMES), "y": parse("power(f1, 2)", NAMES)}
    source = """(SELECT 3.0 AS "a{0}""b", 2.0 AS f2)"""
    for keep, columns in (("*", ['a{0}"b', "f2", "x", "y"]), ("f2", ["f2", "x", "y"])):
        sql = select_sql(expressions, source, {"f1": '"a{0}""b"', "f2": "f2"}, keep=keep)
        found = duckdb.sql(sql)
        assert (found.columns, found.fetchall()[0][-2:]) == (columns, (1.5, 9.0))
