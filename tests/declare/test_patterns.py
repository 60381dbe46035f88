"""Which regular expressions `pattern` refuses, because they may backtrack without bound."""

from __future__ import annotations

import re
import time

import pytest
from pydantic import ValidationError

from featurekit.constraints import Constraints, constraint_tests
from featurekit.models import Entity, FeatureView, FieldSpec
from featurekit.pattern_safety import backtracking_risk
from featurekit.registry import Registry
from featurekit.types import codec_of, parse_dtype

AMBIGUOUS = "can divide one text in several ways"
EMPTY = "repeats what may be empty"
ADJACENT = "can match the same text"

REFUSED = {
    r"(a+)+": f"the quantifier in `(a+)+` {AMBIGUOUS}",
    r"(a*)*b": f"the quantifier in `(a*)*` {EMPTY}",
    r"(a|ab|b)*c": f"the quantifier in `(a|ab|b)*` {AMBIGUOUS}",
    r"([a-zA-Z0-9]+)*": f"the quantifier in `([a-zA-Z0-9]+)*` {AMBIGUOUS}",
    r"(\w+\s?)+": f"the quantifier in `(\\w+\\s?)+` {AMBIGUOUS}",
    r"(a|a)*": f"the quantifier in `(a(?:|))*` {AMBIGUOUS}",
    r"(xa?|xb?)+": f"the quantifier in `(x(?:a?|b?))+` {AMBIGUOUS}",
    r"(x(a?){2})+": f"the quantifier in `(x(a?){{2}})+` {AMBIGUOUS}",
    r"(.*a){20}": f"the quantifier in `(.*a){{20}}` {AMBIGUOUS}",
    r"(x+x+)+y": f"the quantifier in `(x+x+)+` {AMBIGUOUS}",
    r"(\d{1,3})+": f"the quantifier in `(\\d{{1,3}})+` {AMBIGUOUS}",
    r"([\w.-]+)+@x": f"the quantifier in `([\\w\\.\\-]+)+` {AMBIGUOUS}",
    r"^(([a-z])+.)+[A-Z]([a-z])+$": f"the quantifier in `(([a-z])+.)+` {AMBIGUOUS}",
    r"(?:(?:\d+,?)+;?)+": f"the quantifier in `(?:\\d+,?)+` {AMBIGUOUS}",
    r"(?=(a+)+b)x": f"the quantifier in `(a+)+` {AMBIGUOUS}",
    r"(?>(a+)+b)": f"the quantifier in `(a+)+` {AMBIGUOUS}",
    r"(?:a+?)+?b": f"the quantifier in `(?:a+?)+?` {AMBIGUOUS}",
    r"(?i)(ab|AB?)+": f"the quantifier in `(ab|AB?)+` {AMBIGUOUS}",
    r"(\w*)+x": f"the quantifier in `(\\w*)+` {EMPTY}",
    r"(a?){30}a{30}": f"the quantifier in `(a?){{30}}` {EMPTY}",
    "a?" * 30 + "a" * 30: "many optional parts in a row that can match the same text",
    r"\d+\d+": f"the adjacent quantifiers `\\d+` and `\\d+` {ADJACENT}",
    r"\d+\.?\d*": f"the adjacent quantifiers `\\d+` and `\\d*` {ADJACENT}",
    r"\s*.*\s*": f"the adjacent quantifiers `.*` and `\\s*` {ADJACENT}",
    r"(ab)*(ab)*c": f"the adjacent quantifiers `(ab)*` and `(ab)*` {ADJACENT}",
    r"\w{0,5000}\w{0,5000}": f"the adjacent quantifiers `\\w{{0,5000}}` and `\\w{{0,5000}}` {ADJACENT}",
    "[\u03b1-\u03bc]+[\u03b4-\u03c9]+": f"the adjacent quantifiers `[\u03b1-\u03bc]+` and `[\u03b4-\u03c9]+` {ADJACENT}",
    r"(.)\1": "a back-reference",
    r"(?P<x>a)(?P=x)": "a back-reference",
    r"(a)?(?(1)b|c)": "a back-reference",
}  # fmt: skip

ALLOWED = [
    "", ".*", ".+", r"\S+", "[A-Z]{2}", "^[a-z]+$", r"u\d+", r"[\w-]+", "[0-9a-f]{64}", "[\u0410-\u042f]+",
    r"\d{3}-\d{4}", r"\d+,\d+", r"(\w+)-(\w+)", ".*@.*", r"(\d|\w)+", "a++a++", "(?>a+)b",
    r"[^@\s]+@[^@\s]+\.[^@\s]+", r"[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,}",
    r"(?:[a-z0-9-]+\.)+[a-z]{2,}", "[a-z]([a-z0-9-]{0,61}[a-z0-9])?", "[a-z]{1,10}[a-z0-9]{0,20}",
    r"(\d{1,3}\.){3}\d{1,3}",
    r"(?:25[0-5]|2[0-4]\d|1?\d?\d)(?:\.(?:25[0-5]|2[0-4]\d|1?\d?\d)){3}",
    "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", r"https?://[^\s/]+(/[^\s]*)?",
    r"-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?", r"\d{4}-\d{2}-\d{2}(T\d{2}:\d{2}(:\d{2})?)?",
    "(foo|bar|baz)(,(foo|bar|baz))*", "[^,]+(,[^,]+)*", "[a-z]+(?:_[a-z]+)*", r"\w+( \w+)*",
    r"(?=.*\d)(?=.*[a-z]).{8,}", "(?:(?!foo).)*", "([a-z]{2}){3}", "(ab|cd){3}", r"(?i)[a-z]+\d*",
    r"\+?[1-9]\d{1,14}", r"([01]\d|2[0-3]):[0-5]\d", r"\$?\d{1,3}(,\d{3})*(\.\d\d)?",
    r"[A-Z]{1,2}\d[A-Z\d]? ?\d[A-Z]{2}", "#[0-9a-fA-F]{3}([0-9a-fA-F]{3})?",
    r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)", r'"(?:[^"\\]|\\.)*"',
    "(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?",
]  # fmt: skip


@pytest.mark.parametrize("pattern", REFUSED)
def test_a_pattern_that_may_backtrack_without_bound_is_refused(pattern: str) -> None:
    re.compile(pattern)
    assert backtracking_risk(pattern) == REFUSED[pattern]


@pytest.mark.parametrize("pattern", ALLOWED)
def test_a_harmless_pattern_is_allowed(pattern: str) -> None:
    assert backtracking_risk(pattern) is None


@pytest.mark.parametrize("pattern", ALLOWED)
def test_a_pattern_that_is_allowed_ends_quickly(pattern: str) -> None:
    texts = [
        part * 60 + "!" for part in ("a", "1", "ab", "a.", "a,", "A1", " ", "a@a.", '\\"', "ab1 ")
    ]
    began = time.process_time()
    for text in texts:
        re.fullmatch(pattern, text)
    assert time.process_time() - began < 1


def test_the_length_is_tested_before_the_pattern() -> None:
    constraints = Constraints(pattern="(a+)+", max_length=10)
    value = "a" * 64 + "!"
    first = constraint_tests(codec_of(parse_dtype("string")), constraints)[0]
    assert "above max_length 10" in str(first(value, value.encode()))


def test_a_registry_that_was_applied_with_a_risky_pattern_stays_readable() -> None:
    with pytest.raises(ValidationError, match="may take very long"):
        FieldSpec.model_validate({"type": "string", "pattern": "(a+)+"})
    view = FeatureView.model_validate(
        {
            "name": "v",
            "entity": "e",
            "batch": {"refresh": "1h"},
            "fields": {"f": {"type": "string", "pattern": "[a]+"}},
        }
    )
    entity = Entity.model_validate({"name": "e", "join_keys": {"e_id": "string"}})
    text = Registry("p", "fs", (entity,), (view,), ()).to_json()
    registry = Registry.from_json(text.replace("[a]+", "(a+)+"))
    assert registry.feature_views[0].fields_["f"].pattern == "(a+)+"
