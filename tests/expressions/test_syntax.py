"""The parser has sqlglot's tree, and refuses the rest at its place."""

from __future__ import annotations

from random import Random

import pytest
import sqlglot
from sqlglot import exp

from featurekit.expressions import ExpressionError, parse
from featurekit.expressions.syntax import Syntax, parse_syntax
from tests.expressions.random_expressions import NAMES, Expressions

FLAT = [
    "i1 + i2 * j1 - j2 // 2 % 3", "not b1 and b2 or b1 = b2", "f1 - -f2 * 2", "s1 || s2 like 'a%'",
    "i1 between 1 and 2 and b1", "not i1 in (1, 2) or b2", "i1 + 1 > f1 * 2 and s1 is not null",
    "-f1 / f2", "- f1 % 2", "i1 not between 1 and j1 + 1", "not f1 > 1", "f1 is null or not f2 is null",
    "i1::double / 2", "-i1::double", "s1 || 'a' = s2", "i1 * -2", "not not b1", "i1 - i2 - j1",
    "f1 / f2 / f3", "b1 or b2 and b1 or b2", "li[1] + 2 * li[2]::double", "i1 not in (1, 2) and b1",
    "case when b1 then 1 when b2 or b1 then 2 else 3 end + 1", "s1 not like '_' or b1",
    "s1 || s2 || s3 = 'a' || 'b'", "i1 != i2", "extract(hour from t1) + 1", "CASE WHEN B1 THEN 1 END",
    "-1 + 2", "1 - -1", ".5 + 1.", "1e3 * 2E-1", "s1 = 'it''s'", "ps.amount / tx.amount",
]  # fmt: skip


@pytest.mark.parametrize("text", FLAT)
def test_operators_bind_as_in_sql(text: str) -> None:
    assert _oracle(text) == _oracle(_shown(parse_syntax(text, NAMES)))


@pytest.mark.parametrize("count", [6, pytest.param(100, marks=pytest.mark.slow)])
def test_random_expressions_have_the_tree_of_the_oracle(count: int) -> None:
    random = Random(5)
    expressions = Expressions(random)
    for kind in ("int", "float", "bool", "string", "timestamp", "date") * count:
        text = expressions.text(kind, 3)
        if len(text) < 2000:
            assert _oracle(text) == _oracle(_shown(parse_syntax(text, NAMES))), text


def _oracle(text: str) -> object:
    tree = exp.Paren(this=sqlglot.parse_one(text, dialect="duckdb"))
    for paren in reversed([*tree.find_all(exp.Paren)]):
        if paren is not tree:
            paren.replace(paren.this)
    for like in [each for each in tree.find_all(exp.Like) if each.args.get("negate")]:
        like.replace(exp.Not(this=exp.Like(this=like.this, expression=like.expression)))
    return tree


SQL_TYPES = {"float64": "double", "int64": "bigint", "string": "varchar"}


def _shown(node: Syntax) -> str:
    """Return a tree as text, with all brackets."""
    args = [_shown(arg) for arg in node.args]
    quoted = "'" + node.value.replace("'", "''") + "'"
    if node.op == "case":
        whens = [f"when {c} then {v}" for c, v in zip(args[::2], args[1::2], strict=False)]
        rest = f" else {args[-1]}" if len(args) % 2 else ""
        return f"(case {' '.join(whens)}{rest} end)"
    if node.op in ("and", "or", "||") and len(args) > 2:
        text = args[0]
        for arg in args[1:]:
            text = f"({text} {node.op} {arg})"
        return text
    forms = {
        "name": node.value, "number": node.value, "string": quoted, "date literal": f"date {quoted}",
        "timestamp literal": f"timestamp {quoted}", "call": f"{node.value}({', '.join(args)})",
        "neg": "(-{0})", "not": "(not {0})", "is null": "({0} is null)",
        "in": f"({args[0] if args else ''} in ({', '.join(args[1:])}))",
        "between": "({0} between {1} and {2})", "cast": f"cast({{0}} as {SQL_TYPES.get(node.value, node.value)})",
        "item": "{0}[{1}]", "extract": f"extract({node.value} from {{0}})",
        "true": "true", "false": "false", "null": "null",
    }  # fmt: skip
    if node.op in ("name", "number", "string", "date literal", "timestamp literal", "call", "in"):
        return forms[node.op]
    return forms.get(node.op, f"({{0}} {node.op} {{1}})").format(*args)


REFUSED = [
    ("", "", "the expression is empty"),
    ("f1 +", "", "found the end, expected a value"),
    ("f1 + * 2", "*", "found '*', expected a value"),
    ("(f1", "", "found the end, expected ')'"),
    ("f1)", ")", "found ')', expected an operator or the end"),
    ("f1 f2", "f2", "found 'f2', expected an operator or the end"),
    ("f1,", ",", "found ',', expected an operator or the end"),
    ("i1 in 1", "1", "found '1', expected '('"),
    ("i1 in ()", ")", "found ')', expected a value"),
    ("i1 between 1 or 2", "or", "found 'or', expected 'and'"),
    ("case end", "end", "found 'end', expected 'when'"),
    ("case when b1 end", "end", "found 'end', expected 'then'"),
    ("case f1 when 1 then 2 end", "f1", "hint: write case when x = ... then ... end"),
    ("cast(f1 as)", ")", "')' is not a type here"),
    ("cast(f1 as float)", "float", "hint: write double"),
    ("b1 is true", "true", "found 'true', expected 'null'"),
    ("f1 < f2 < f3", "<", "comparisons do not follow each other"),
    ("f1 = f2 is null", "is", "comparisons do not follow each other"),
    ("f1 == f2", "==", "hint: write ="),
    ("f1 ^ 2", "^", "hint: write power(x, y)"),
    ("f1 -- a comment", "--", "hint: leave comments to YAML"),
    ('"f1" + 1', '"', "hint: strings stand in single quotes, names without quotes"),
    ("s1 = 'a", "'a", "the string has no closing quote"),
    ("f1; select 1", ";", "';' is not part of an expression"),
    ("f1\x00", "\x00", "U+0000 is not part of an expression"),
    ("f1\u00a0+ 1", "\u00a0", "U+00A0 is not part of an expression"),
    ("é + 1", "é", "'é' is not part of an expression"),
    ("1_000", "1_000", "'1_000' is not a number"),
    ("0x10", "0x10", "'0x10' is not a number"),
    ("1.2.3", "1.2.3", "'1.2.3' is not a number"),
    ("9223372036854775808", "9223372036854775808", "is outside int64"),
    ("1e400", "1e400", "is outside float64"),
    ("f1.", "", "found the end, expected a name after the point"),
    ("(select 1)", "select", "without queries"),
    ("s1 ilike 'a%'", "ilike", "hint: write lower(x) like '...'"),
    ("interval '1' day", "interval", "(epoch(a) - epoch(b)) / 3600"),
    ("f1 + noww", "noww", "hint: did you mean 'now'?"),
    ("no", "no", "hint: strings stand in single quotes"),
    ("sum(f1)", "sum(f1)", "hint: aggregates of events are fields with aggregate:"),
    ("squrt(f1)", "squrt(f1)", "hint: did you mean 'sqrt'?"),
    ("now()", "now()", "hint: write now, without brackets"),
    ("log(f1)", "log(f1)", "write ln(x) or log10(x)"),
    ("concat(s1, s2)", "concat(s1, s2)", "write a || b"),
    ("round(f1, 2, 3)", "round(f1, 2, 3)", "hint: write round(x[, digits])"),
    ("round(f1, i1)", "i1", "the number of digits is a literal"),
    ("round(f1, 16)", "16", "the number of digits is from 0 to 15"),
    ("f1 + s1", "s1", "hint: write a || b to join strings"),
    ("t1 - t2", "t1 - t2", "hint: write epoch(a) - epoch(b) for seconds"),
    ("f1 * b1", "b1", "found bool, expected a number"),
    ("f1 // 2", "f1 // 2", "hint: write floor(x / y)"),
    ("f1 > 'x'", "f1 > 'x'", "float64 and string do not fit together"),
    ("f1 = null", "f1 = null", "hint: write x is null"),
    ("b1 < b2", "b1 < b2", "bools have no order"),
    ("li = li", "li = li", "arrays are not compared"),
    ("f1 and b1", "f1", "found float64, expected a condition"),
    ("case when f1 then 1 end", "f1", "found float64, expected a condition"),
    ("case when b1 then 1 else 'x' end", "case when b1 then 1 else 'x' end", "int64 and string"),
    ("i1 in (1, null)", "null", "literals only, not null"),
    ("i1 in (1, i2)", "i2", "literals only, not null"),
    ("i1 in li", "li", "found 'li', expected '('"),
    ("s1 like s2", "s2", "the pattern of like is a literal"),
    (r"s1 like 'a\%'", r"'a\%'", "patterns have no backslashes"),
    ("s1 || i1", "i1", "hint: write cast(x as varchar)"),
    ("cast(f1 as bigint)", "cast(f1 as bigint)", "cast round(x), floor(x) or ceil(x)"),
    ("s1::double", "s1::double", "string is not converted to float64"),
    ("f1::varchar", "f1::varchar", "engines write floats in different ways"),
    ("substr(s1, 0)", "substr(s1, 0)", "substr starts at 1 or later"),
    ("substr(s1, -2)", "substr(s1, -2)", "substr starts at 1 or later"),
    ("replace(s1, '', 'x')", "''", "text that is not empty"),
    ("li[0]", "0", "an index is a literal from 1"),
    ("li[i1]", "i1", "an index is a literal from 1"),
    ("s1[1]", "s1", "found string, expected an array"),
    ("list_contains(li, s1)", "s1", "found string, expected int64"),
    ("length(li)", "length(li)", "hint: write len(array)"),
    ("len(s1)", "len(s1)", "hint: write length(string)"),
    ("hour(d1)", "d1", "found date, expected a timestamp"),
    ("extract(dow from t1)", "extract(dow from t1)", "write isodow(x), 1 for Monday"),
    ("extract(century from t1)", "extract(century from t1)", "hint: parts are hour"),
    ("date_diff('week', t1, t2)", "'week'", "hint: units are second, minute, hour, day"),
    ("date_diff('hour', d1, d2)", "'hour'", "dates differ by days"),
    ("date_trunc(s1, t1)", "s1", "the unit is a literal"),
    ("date '2024-02-30'", "date '2024-02-30'", "'2024-02-30' is not a date"),
    ("timestamp '2024-01-01 00:00:00'", "timestamp '2024-01-01 00:00:00'", "in UTC"),
    ("greatest(b1, b2)", "greatest(b1, b2)", "bool has no order"),
    ("nullif(f1, null)", "nullif(f1, null)", "nullif compares two values"),
    ("null", "null", "the expression is always null"),
    ("coalesce(null, null)", "coalesce(null, null)", "the expression is always null"),
    ("null + 1", "null", "found null, expected a number"),
    ("f1 +\n  lower(s1)", "lower(s1)", "found string, expected a number"),
    ("s1 = '\x07'", "'\x07'", "the control character U+0007"),
    ("+f1", "+", "found '+', expected a value"),
    ("f1 not 2", "not", "found 'not', expected an operator or the end"),
    ("f1 =< 2", "<", "hint: comparisons are = <> < <= > >="),
]


@pytest.mark.parametrize(("text", "part", "message"), REFUSED, ids=[r[0][:30] for r in REFUSED])
def test_a_mistake_is_reported_at_its_place(text: str, part: str, message: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        parse(text, NAMES)
    assert message in str(caught.value)
    assert text[slice(*caught.value.span)] == part


def test_a_long_text_is_refused() -> None:
    with pytest.raises(ExpressionError, match="has 2003 characters, and at most 2000 are allowed"):
        parse("1 +" + " " * 1999 + "1", NAMES)


LARGE = {
    "brackets": "(" * 900 + "1" + ")" * 900,
    "not": "not " * 480 + "b1",
    "minus": "- " * 900 + "f1",
    "long chain": "+".join(["f1"] * 140),
    "longer chain": "+".join(["f1"] * 600),
    "nested case": "case when b1 then " * 80 + "1" + " end" * 80,
    "nested calls": "round(" * 60 + "f1" + ")" * 60,
    "casts": "f1" + "::double" * 100,
    "items": "li" + "[1]" * 100,
    "in": "i1 in (" + ",".join(map(str, range(350))) + ")",
}


@pytest.mark.parametrize("text", LARGE.values(), ids=LARGE)
def test_a_large_expression_is_refused(text: str) -> None:
    with pytest.raises(
        ExpressionError, match=r"more than (40 levels|300 parts)|expected an array"
    ):
        parse(text, NAMES)


def test_long_conditions_are_taken() -> None:
    parse(" and ".join(["i1 > 1"] * 90), NAMES)
    parse(" || ".join(["s1"] * 290), NAMES)
    parse("case " + "when i1 = 1 then 1 " * 55 + "end", NAMES)
    parse("i1 in (" + ",".join(map(str, range(290))) + ")", NAMES)


def test_names_win_over_words_of_other_dialects() -> None:
    assert parse("select + all", {**NAMES, "select": NAMES["i1"], "all": NAMES["i1"]}).names
    assert parse("v.select + v.end", {"v.select": NAMES["i1"], "v.end": NAMES["i1"]}).names
    assert parse("date", {"date": NAMES["d1"]}).names == ("date",)
