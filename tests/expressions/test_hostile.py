"""Texts and trees of an attacker give an expression over the inputs, or an `ExpressionError`."""

from __future__ import annotations

import json
import pickle
from datetime import date, datetime, timedelta, timezone
from random import Random
from typing import Any

import pytest

from featurekit.expressions import (
    DATE,
    FLOAT32,
    FLOAT64,
    INT32,
    INT64,
    STRING,
    TIMESTAMP,
    Expression,
    ExpressionError,
    from_document,
    parse,
    select_sql,
    substitute,
)
from featurekit.lower.expressions import compile_row_function
from tests.expressions.random_expressions import NAMES, Expressions

TEXTS = [
    "__import__('os').system('id')", "read_csv('/etc/passwd')", "(select 1)", "getenv('HOME')",
    "(select secret from duckdb_secrets())", "f1 in (select f1 from t)", "exists(select 1)",
    "f1; drop table t", "f1 -- x", "f1 /* x */ + 1", '"f1"" + 1"', "t.f1", "f1::struct(a int)",
    "'a' || chr(39) || 'b'", "'{}'.format", "repeat('a', 1000000000)", "range(1000000000)",
    "f1 over (partition by s1)", "sum(f1)", "random()", "now()", "current_user", "pragma_version()",
    "{{ x }}", "$1", "?", "@f1", "*", "columns('f.*')", "struct_pack(a := 1)", "s1 ~ '(a+)+$'",
    "list_transform(li, x -> x + 1)", "[1,2,3]", "{'a': 1}", "f1 is true", "try(f1)", "error('x')",
    "regexp_matches(s1, '(a+)+$')", "s1 ilike 'a%'", "case s1 when 'a' then 1 end", "f1 = any(li)",
    "1e400", "9223372036854775808", "0x10", "1_000", "'\x00'", "f1 <=> f2", "interval '1' day",
    "x'00'", "f1 is distinct from f2", "cast(s1 as json)", "i1 & 3", "i1 << 3", "~i1", "f1 ^ 2",
    "f1 ** 2", "nullif(1, null)", "coalesce(null, null)", "null", "null + 1", "b1 = null",
    "s1 in (null)", "s1 not in ('a', null)", "lambda: 0", "f1 if b1 else f2", "v0", "_fx_len", "None",
    "s1.upper()", "f1.real", "i1.__class__", "s1[1]", "'a' 'b'", "e'\\x41'", "f1\u2028+ 1", "\ud800",
    "'\ud800'", "f1 := 2", "(f1, f2)", "()", "f1 collate nocase", "s1 like 'a' escape 'b'", "1 .e", "..",
    "'" * 999, "(" * 1999, "in" * 300, "case " * 399, "not " * 499, "f1" + "[1]" * 300, "." * 500,
]  # fmt: skip


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_a_hostile_text_is_refused(text: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        parse(text, NAMES)
    assert 0 <= caught.value.span[0] <= caught.value.span[1] <= len(text)
    assert len(str(caught.value)) < 700


QUOTED = [
    "'''; drop table inputs; --'", "s1 = ''' or 1=1 --'", "s1 = '\\' or s1 = ' or 1=1 --'", "'{0}{x}{{'",
    "'%s %(x)s'", "s1 like '{0}%'", "replace(s1, '{', '}}')", "s1 in ('{0}', '\\n', '''')",
    "'\"' || s1", "s1 like '" + "%a" * 200 + "'", "s1 like '" + "_%" * 200 + "'", "'\n\t'",
]  # fmt: skip


@pytest.mark.parametrize("text", QUOTED)
def test_hostile_strings_are_values_in_both_forms(text: str) -> None:
    import duckdb

    expression = parse(text, NAMES)
    value = compile_row_function(expression)(*["a" * 1000] * len(expression.names))
    sql = select_sql({"x": expression}, "(SELECT repeat('a', 1000) AS s)", {"s1": "s"})
    assert duckdb.sql(sql).fetchall() == [(value,)]


WORDS: list[str] = [*"+-*/%=<>,()[].;:'\"`{}@$#\\?!|&^~", *TEXTS[:40], *["f1", "i1", "s1", "b1", "t1", "d1", "li", "1", "2.5", "'a'", "null", "true", "case", "when", "then", "else", "end", "and", "or", "not", "in", "is", "between", "like", "cast", "as", "bigint", "date", "timestamp", "coalesce", "round", "::", "//", "||", "<>", "<=", "--", "/*", "*/", "extract", "from", "hour", "é", "0x", "e'", "now"], "\n", "\x00"]  # fmt: skip


def test_mutated_texts_raise_nothing_else() -> None:
    random = Random(3)
    expressions = Expressions(random)
    for _ in range(300):
        _parse_and_compile(_mutated(random, expressions))


@pytest.mark.slow
def test_many_mutated_texts_raise_nothing_else() -> None:
    random = Random()
    expressions = Expressions(random)
    for _ in range(20_000):
        _parse_and_compile(_mutated(random, expressions))


def _mutated(random: Random, expressions: Expressions) -> str:
    if random.random() < 0.4:
        return " ".join(random.choice(WORDS) for _ in range(random.randint(1, 12)))
    text: str = expressions.text(random.choice(["int", "bool", "string", "float"]), 2)
    at = random.randint(0, len(text))
    return text[:at] + random.choice(WORDS) + text[at + random.randint(0, 3) :]


def _parse_and_compile(text: str) -> None:
    try:
        expression = parse(text, NAMES)
    except ExpressionError:
        return
    assert from_document(json.loads(json.dumps(expression.document())), NAMES) == expression
    _compile(expression)


def _compile(expression: Expression) -> None:
    """Generate both forms, and evaluate the one of Python for nulls."""
    compile_row_function(expression)(*[None] * len(expression.names))
    select_sql({"x": expression}, "t", {name: name for name in NAMES})


@pytest.mark.parametrize("count", [200, pytest.param(5000, marks=pytest.mark.slow)])
def test_mutated_documents_raise_nothing_else(count: int) -> None:
    random = Random(4)
    expressions = Expressions(random)
    for _ in range(count):
        document = parse(
            expressions.text(random.choice(["int", "bool", "string"]), 2), NAMES
        ).document()
        for _ in range(random.randint(1, 3)):
            _mutate(document, random)
        try:
            expression = from_document(document, NAMES)
        except ExpressionError:
            continue
        _compile(expression)


ODD: list[Any] = [
    None, True, 0, -1, 1.5, "", "f1", "__class__", "1e999", "²", "call", [], {}, [[]], ["name"], ["name", 1],
    ["name", "f1", "f2"], ["name", "missing"], ["number", "1_0"], ["number", " 1"], ["number", "-1"],
    ["number", "inf"], ["number", "٣"], ["cast", "int", ["null"]], ["cast", "float64"],
    ["call", "eval", ["string", "1"]], ["call", "pi"], ["extract", "lower", ["name", "s1"]],
    ["string", "\ud800"], ["string", "x" * 3000], ["case", ["true"]], ["in", ["name", "i1"]], ["name", "now"],
    ["in", ["name", "i1"], ["name", "i2"]], ["between", ["null"], ["null"], ["null"]], ["name", ["f1"]],
    ["item", ["name", "li"], ["number", "99999999999999999999"]], ["and", ["true"]], ["like", ["null"], ["null"]],
    ["date literal", "2024-13-01"], ["timestamp literal", "x"], ["timestamp literal", "9999-12-31T23:59:60Z"],
    ["neg", ["number", "9223372036854775809"]], ["neg", ["number", "abc"]], ["constructor"], ["__proto__", []],
]  # fmt: skip


def _mutate(document: list[Any], random: Random) -> None:
    """Replace, remove or add a part of a document."""
    node = document
    while (
        below := [part for part in node if isinstance(part, list) and part]
    ) and random.random() < 0.8:
        node = random.choice(below)
    at = random.randint(0, len(node))
    node[at : at + random.randint(0, 2)] = [random.choice(ODD)][: random.randint(0, 1)]


@pytest.mark.parametrize(
    "document", [*ODD, ["not"] * 2, [["name", "f1"]], ("name",), b"x", object()]
)
def test_an_odd_document_is_refused(document: object) -> None:
    try:
        expression = from_document(document, NAMES)
    except ExpressionError:
        return
    assert document in (["name", "now"], ["call", "pi"]), expression


def test_deep_and_wide_documents_are_refused() -> None:
    deep: list[Any] = ["name", "b1"]
    for _ in range(100_000):
        deep = ["not", deep]
    loop: list[Any] = ["not"]
    loop.append(loop)
    shared: list[Any] = ["name", "b1"]
    for _ in range(39):
        shared = ["and", shared, shared]
    wide = ["and", *[["name", "b1"]] * 100_000]
    for document in (deep, loop, shared, wide):
        with pytest.raises(ExpressionError, match="too large"):
            from_document(document, NAMES)
    while len(deep) > 1:  # freed level by level: the interpreter's own stack is limited
        deep = deep[1] if isinstance(deep[1], list) else ["end"]


def test_an_expression_is_equal_after_json_and_pickle() -> None:
    random = Random(9)
    expressions = Expressions(random)
    for kind in ("int", "float", "bool", "string", "timestamp", "date") * 10:
        expression = parse(expressions.text(kind, 3), NAMES)
        assert from_document(json.loads(json.dumps(expression.document())), NAMES) == expression
        assert pickle.loads(pickle.dumps(expression)) == expression
        assert hash(pickle.loads(pickle.dumps(expression))) == hash(expression)


def test_a_deep_expression_can_be_pickled_and_compiled() -> None:
    text = "f1"
    for _ in range(38):
        text = f"round({text}, 1)"
    expression = pickle.loads(pickle.dumps(parse(text, NAMES)))
    assert compile_row_function(expression)(1.26) == 1.3


def test_a_document_with_other_types_is_refused() -> None:
    document = parse("i1 + 1", NAMES).document()
    with pytest.raises(ExpressionError, match="found string, expected a number"):
        from_document(document, {"i1": STRING})
    with pytest.raises(ExpressionError, match="unknown name 'i1'"):
        from_document(document, {})


def test_texts_do_not_grow_without_bound() -> None:
    text = "s1"
    for _ in range(7):
        text = f"replace({text}, 'a', 'aa')"
    assert len(str(value(parse(text, NAMES), "a"))) == 128
    with pytest.raises(ExpressionError, match="may become more than 200 times as long"):
        parse(f"replace({text}, 'a', 'aa')", NAMES)
    with pytest.raises(ExpressionError, match="may become more than 200 times as long"):
        parse(f"replace({text} || {text}, 'b', 'cc')", NAMES)


def test_patterns_are_matched_without_backtracking() -> None:
    assert value(parse("s1 like '" + "%a" * 30 + "%b'", NAMES), "a" * 100_000) is False
    assert value(parse("s1 like '" + "%_a" * 30 + "%_b'", NAMES), "a" * 3000) is False


def value(expression: Expression, *inputs: object) -> object:
    return compile_row_function(expression)(*inputs)


def test_a_result_is_converted_to_its_field() -> None:
    assert value(parse("i1", NAMES).converted(FLOAT64), 2**53 + 1) == 2.0**53
    assert value(parse("i1", NAMES).converted(INT32), 2**31) is None
    assert value(parse("i1", NAMES).converted(INT32), -(2**31)) == -(2**31)
    assert value(parse("f1", NAMES).converted(FLOAT32), 0.1) == 0.10000000149011612
    assert value(parse("f1", NAMES).converted(FLOAT32), 1e39) is None
    assert parse("j1", NAMES).converted(INT32).root.op == "name"
    with pytest.raises(ExpressionError, match="gives float64, and the field is int64") as caught:
        parse("f1 * 2", NAMES).converted(INT64)
    assert caught.value.hint.startswith("write cast(round(...) as bigint)")
    with pytest.raises(
        ExpressionError, match=r"gives array<int64>, and the field is array<string>"
    ):
        parse("li", NAMES).converted(NAMES["ls"])
    for name, type_ in NAMES.items():
        assert parse(name, NAMES).converted(type_).type.kind is type_.kind


def test_an_input_is_replaced_by_another_expression() -> None:
    outer, inner = (
        parse("a * 2 + b", {"a": FLOAT64, "b": INT64}),
        parse("c / b", {"c": INT64, "b": INT64}),
    )
    whole = substitute(outer, "a", inner)
    assert whole.names == ("c", "b")
    assert value(whole, 6, 4) == 7.0
    assert value(substitute(outer, "a", inner.or_default(-1.5)), 6, 0) == -3.0
    with pytest.raises(ExpressionError, match="found string, expected a number"):
        substitute(outer, "a", parse("s", {"s": STRING}))


def test_substitution_does_not_pass_the_bounds() -> None:
    expression = parse("a + a", {"a": INT64})
    for _ in range(3):
        expression = substitute(expression, "a", parse("a + a + a", {"a": INT64}))
    with pytest.raises(ExpressionError, match="more than 300 parts"):
        substitute(expression, "a", parse("a + a + a + a", {"a": INT64}))


@pytest.mark.parametrize(
    ("type_", "default"),
    [
        (FLOAT64, -0.5), (FLOAT64, 1e300), (INT64, -(2**63)), (INT64, 2**63 - 1), (STRING, "it's \n"), (DATE, date(1, 1, 1)),
        (TIMESTAMP, datetime(2024, 1, 1, 2, 3, 4, 5, timezone(timedelta(hours=2)))), (NAMES["b1"], False),
    ],
)  # fmt: skip
def test_a_default_replaces_null(type_: Any, default: object) -> None:
    expression = parse("x", {"x": type_}).or_default(default)
    assert value(expression, None) == default
    assert value(from_document(expression.document(), {"x": type_}), default) == default


def test_now_is_a_timestamp_unless_an_input_has_its_name() -> None:
    assert parse("hour(now)", {}).inputs == (("now", TIMESTAMP),)
    assert value(parse("hour(now)", {}), None) is None
    assert value(parse("now || '!'", {"now": STRING}), "x") == "x!"


def test_a_default_of_another_type_is_refused() -> None:
    with pytest.raises(ExpressionError):
        parse("x", {"x": INT64}).or_default("a")
    with pytest.raises(ExpressionError, match="a default of type list"):
        parse("li", NAMES).or_default([1])
