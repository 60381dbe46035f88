"""Derived views and request data: what is checked, what the registry keeps, and what is compiled."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurekit.changes import diff
from featurekit.compiler import compile_read, compile_repo
from featurekit.errors import RegistryError, RequestError, UnknownNameError, name_hint
from featurekit.plan import DerivedColumn, FunctionPlan, ReadPlan, RepoPlan
from featurekit.registry import Registry
from tests.declare.conftest import Load, Problems

STORED = """\
entities:
  - {name: user, join_keys: {user_id: string}}
  - {name: shop, join_keys: {shop_id: string}}
requests:
  - name: transaction
    fields: {amount: float64, ip_country: {type: string, default: NO}}
feature_views:
  - name: user_profile
    entity: user
    batch: {refresh: 24h}
    fields: {country_iso: string, avg_amount: float64, last_login: timestamp, score: int32}
  - name: user_money
    entity: user
    stream: {refresh: 1m}
    fields: {price: decimal, ratio: float64}
  - name: shop_profile
    entity: shop
    batch: {refresh: 24h}
    fields: {country: string, rating: {type: float32, default: 0.5}}
  - name: rates
    stream: {refresh: 1h}
    fields: {rate: float64}
"""
VIEWS = (
    STORED
    + """\
  - name: tx_risk
    derived: {from: [user_profile, shop_profile, rates, transaction]}
    fields:
      amount_ratio: {type: float64, expr: "amount * rate / nullif(avg_amount, 0)", default: 1}
      is_abroad: {type: bool, expr: "country_iso <> ip_country"}
      idle_hours: {type: float64, expr: "(epoch(now) - epoch(last_login)) / 3600"}
      is_risky: {type: bool, expr: "amount_ratio > 3 or is_abroad and rating < 0.2"}
"""
)
SERVICES = """\
feature_services:
  - {name: risk_v1, features: [tx_risk, user_profile:score]}
"""


def derived(*fields: str, sources: str = "user_profile, user_money, transaction") -> str:
    """Return the definitions with a derived view of these fields, from line 26 on."""
    lines = "".join(f"      {field}\n" for field in fields)
    return f"{STORED}  - name: risk\n    derived: {{from: [{sources}]}}\n    fields:\n{lines}"


def compiled(load: Load, text: str) -> RepoPlan:
    registry = Registry.from_loaded(load(text), None)
    assert Registry.from_json(registry.to_json()) == registry
    return compile_repo(registry)


def column(plan: ReadPlan, name: str) -> DerivedColumn:
    found = next(each for each in plan.columns if each.name == name)
    assert isinstance(found, DerivedColumn)
    return found


PROBLEMS = {
    "unknown name": (
        'a: {type: float64, expr: "amount / avg_amonut"}',
        "26:42: field 'risk:a': expr: unknown name 'avg_amonut' | did you mean 'avg_amount'?",
    ),
    "type error": (
        'a: {type: float64, expr: "amount + ip_country"}',
        "26:42: field 'risk:a': expr: found string, expected a number | write a || b",
    ),
    "type of the field": (
        'a: {type: bool, expr: "amount"}',
        "26:30: field 'risk:a': expr: the expression gives float64, and the field is bool"
        " | compare the value",
    ),
    "type without expressions": (
        'a: {type: decimal, expr: "amount"}',
        "26:17: field 'risk:a': no expression has the type decimal | declare another type",
    ),
    "input without expressions": (
        'a: {type: bool, expr: "price > 1"}',
        "26:30: field 'risk:a': expr: 'price' is of type decimal, which expressions do not have",
    ),
    "field of itself": (
        'a: {type: bool, expr: "not a"}',
        "26:34: field 'risk:a': expr: 'a' is the feature itself",
    ),
    "neither": ("a: {type: bool}", "26:7: field 'risk:a': found neither 'expr' nor 'callable'"),
    "both": (
        'a: {type: bool, expr: "true", callable: "risks:rate"}',
        "26:37: field 'risk:a': found both 'expr' and 'callable', expected exactly one",
    ),
    "shorthand": ("a: bool", "26:10: field 'risk:a': found 'bool', expected a mapping"),
    "constraint": (
        'a: {type: bool, expr: "true", min: 1}',
        "26:37: unknown key 'min' in field 'risk:a'",
    ),
    "inputs of an expression": (
        'a: {type: bool, expr: "true", inputs: [amount]}',
        "26:37: field 'risk:a': inputs has no effect, because the field has an expr",
    ),
    "default": (
        'a: {type: int64, expr: "score", default: many}',
        "26:48: field 'risk:a': default: 'many' is not an int64",
    ),
    "join key": (
        'user_id: {type: bool, expr: "true"}',
        "26:7: field 'risk:user_id' has the name of a join key of entity 'user'",
    ),
    "reserved": (
        'found: {type: bool, expr: "true"}',
        "26:7: field 'risk:found' has a reserved name",
    ),
    "no module": (
        'a: {type: bool, callable: "others:rate", inputs: [amount]}',
        "26:33: field 'risk:a': no module 'others' in the repository's folder"
        " | expected the file others.py",
    ),
    "no function": (
        'a: {type: bool, callable: "risks:rat", inputs: [amount]}',
        "26:33: field 'risk:a': no function 'rat' in risks.py | did you mean 'rate'?",
    ),
    "other arguments": (
        'a: {type: bool, callable: "risks:rate", inputs: [amount]}',
        "26:33: field 'risk:a': the function 'rate' takes 2 positional arguments, and inputs has 1",
    ),
    "no inputs": (
        'a: {type: bool, callable: "risks:rate"}',
        "26:23: field 'risk:a': the function has no inputs",
    ),
    "unknown input": (
        'a: {type: bool, callable: "risks:rate", inputs: [amount, pric]}',
        "26:64: field 'risk:a': inputs: unknown name 'pric' | did you mean 'price'?",
    ),
    "default that is no number": (
        'a: {type: float64, expr: "amount", default: .nan}',
        "26:51: field 'risk:a': default: .nan is not finite",
    ),
}


@pytest.mark.parametrize(("field", "expected"), PROBLEMS.values(), ids=PROBLEMS)
def test_a_wrong_derived_field_is_one_problem_at_its_place(
    problems: Problems, tmp_path: Path, field: str, expected: str
) -> None:
    (tmp_path / "risks.py").write_text("def rate(a, b):\n    return a\n")
    (found,) = problems(derived(field))
    assert found.startswith(f"f.yaml:{expected}")
    assert "allow_nan" not in found


def test_a_mistake_in_folded_text_is_reported_at_its_own_line(problems: Problems) -> None:
    text = derived(
        "a:", "  type: float64", "  expr: >", "    amount", "      / nullif(avg,", "      0)"
    )
    (found,) = problems(text)
    assert found.startswith("f.yaml:30:22: field 'risk:a': expr: unknown name 'avg'")


def test_all_mistakes_are_reported_at_once(problems: Problems) -> None:
    text = derived(
        'a: {type: bool, expr: "contry_iso = 1"}',
        'b: {type: int64, expr: "amount"}',
        'c: {type: string, expr: "upper("}',
        sources="user_profil, transaction",
    )
    places = [problem.split(" ", 1)[0] for problem in problems(text)]
    assert places == ["f.yaml:24:22:", "f.yaml:26:30:", "f.yaml:27:31:", "f.yaml:28:38:"]


def test_a_field_that_two_inputs_have_is_named_with_its_view(
    load: Load, problems: Problems
) -> None:
    text = derived(
        'ratio: {type: float64, expr: "ratio * 2"}', 'b: {type: bool, expr: "ratio > 1"}'
    )
    (found,) = problems(text)
    assert found == (
        "f.yaml:27:30: field 'risk:b': expr: 'ratio' is a field of several inputs"
        " | write user_money.ratio or risk.ratio"
    )
    plan = compiled(load, text.replace('"ratio > 1"', '"risk.ratio > user_money.ratio"'))
    feature = plan.derived_views[0].feature("b")
    assert [each.name for each in feature.inputs] == ["user_money.ratio"]


CYCLES = {
    "of two fields": (
        ('a: {type: bool, expr: "not b"}', "b: {type: bool, expr: not a}"),
        "f.yaml:26:34: field 'risk:a': expr: the feature depends on itself: risk:a -> risk:b -> risk:a",
    ),
    "that another field uses": (
        ('x: {type: bool, expr: "c"}', 'c: {type: bool, expr: "d"}', 'd: {type: bool, expr: "c"}'),
        "f.yaml:27:30: field 'risk:c': expr: the feature depends on itself: risk:c -> risk:d -> risk:c",
    ),
}


@pytest.mark.parametrize(("fields", "expected"), CYCLES.values(), ids=CYCLES)
def test_a_cycle_is_one_problem(
    problems: Problems, fields: tuple[str, ...], expected: str
) -> None:
    (found,) = problems(derived(*fields))
    assert found.startswith(expected)


def test_views_that_inline_each_other_are_too_large(problems: Problems) -> None:
    fields = ['f0: {type: float64, expr: "amount + amount"}']
    fields += [f'f{i}: {{type: float64, expr: "f{i - 1} + f{i - 1}"}}' for i in range(1, 12)]
    found = problems(derived(*fields))
    assert len(found) >= 1
    assert all("with its derived inputs: " in each for each in found)


WRONG_REQUESTS = {
    "join key": (
        "requests:\n  - {name: more, fields: {user_id: string}}\n",
        "field 'more:user_id' has the name of a join key of entity 'user'",
    ),
    "twice": (
        "requests:\n  - {name: more, fields: {amount: int64}}\n",
        "field 'more:amount': request 'transaction' (f.yaml:6:14) already declares 'amount'",
    ),
    "view": (
        "requests:\n  - {name: rates, fields: {other: int64}}\n",
        "request 'rates' has the name of a feature view (f.yaml:20:11)",
    ),
    "now": (
        "requests:\n  - {name: more, fields: {now: timestamp}}\n",
        "field 'more:now' has the name of the time of a read",
    ),
    "default": (
        "requests:\n  - {name: more, fields: {other: {type: int64, default: 2, max: 1}}}\n",
        "field 'more:other': default: 2 is above max 1",
    ),
    "ttl": (
        "requests:\n  - {name: more, fields: {other: {type: int64, ttl: 1m}}}\n",
        "unknown key 'ttl' in field 'more:other'",
    ),
}


@pytest.mark.parametrize(("text", "expected"), WRONG_REQUESTS.values(), ids=WRONG_REQUESTS)
def test_a_wrong_request_is_one_problem(
    problems: Problems, load: Load, tmp_path: Path, text: str, expected: str
) -> None:
    (tmp_path / "g.yaml").write_text(text)
    (found,) = problems(STORED, "project: fraud\ndefinitions: [f.yaml, g.yaml]\n")
    assert expected in found


@pytest.mark.parametrize("key", ["entity: user", "batch: {refresh: 1h}", "stream: {refresh: 1h}"])
def test_a_derived_view_has_no_keys_of_stored_views(problems: Problems, key: str) -> None:
    text = derived('a: {type: bool, expr: "amount > 1"}').replace(
        "    derived:", f"    {key}\n    derived:"
    )
    (found,) = problems(text)
    name = key.partition(":")[0]
    assert f"f.yaml:24:5: unknown key '{name}' in a derived feature view" in found


def test_a_misspelled_derived_is_one_problem(problems: Problems) -> None:
    text = derived('a: {type: bool, expr: "amount > 1"}').replace("derived:", "derivd:")
    (found,) = problems(text)
    assert "unknown key 'derivd'" in found
    assert "did you mean 'derived'?" in found


def test_inputs_are_stored_features_and_request_values(load: Load) -> None:
    view = compiled(load, VIEWS).derived_views[0]
    inputs = {each.field.name: [i.name for i in each.inputs] for each in view.features}
    assert inputs == {
        "amount_ratio": ["transaction.amount", "rates.rate", "user_profile.avg_amount"],
        "is_abroad": ["user_profile.country_iso", "transaction.ip_country"],
        "idle_hours": ["user_profile.last_login"],
        "is_risky": [
            "transaction.amount",
            "rates.rate",
            "user_profile.avg_amount",
            "user_profile.country_iso",
            "transaction.ip_country",
            "shop_profile.rating",
        ],
    }
    assert view.feature("idle_hours").compute.names == ("now", "user_profile.last_login")


def test_a_derived_input_counts_with_its_default_and_its_type(load: Load) -> None:
    text = derived(
        'half: {type: int32, expr: "score * 3", default: -7}',
        'b: {type: int64, expr: "half + 1"}',
        'name: {type: string, expr: "upper(country_iso)", default: "it\'s"}',
        'c: {type: bool, expr: "name = country_iso"}',
    )
    view = compiled(load, text).derived_views[0]
    plain = derived(
        'b: {type: int64, expr: "coalesce(cast(score * 3 as int32), -7) + 1"}',
        "c: {type: bool, expr: \"coalesce(upper(country_iso), 'it''s') = country_iso\"}",
    )
    expected = compiled(load, plain).derived_views[0]
    for name in "bc":
        assert view.feature(name).compute == expected.feature(name).compute


def test_a_service_reads_only_the_inputs_that_it_needs(load: Load) -> None:
    plan = compile_read(compiled(load, VIEWS + SERVICES), "risk_v1")
    assert [each.name for each in plan.columns] == [
        *("amount_ratio", "is_abroad", "idle_hours", "is_risky", "score"),
    ]
    assert [(each.view, each.field.name) for each in plan.stored] == [
        ("user_profile", "score"),
        ("rates", "rate"),
        ("user_profile", "avg_amount"),
        ("user_profile", "country_iso"),
        ("user_profile", "last_login"),
        ("shop_profile", "rating"),
    ]
    assert [each.name for each in plan.requests] == ["amount", "ip_country"]
    assert plan.ignored_request_values == ()
    assert [group.fields for group in plan.groups] == [
        ("score", "avg_amount", "country_iso", "last_login"),
        ("rate",),
        ("rating",),
    ]
    assert column(plan, "is_risky").arguments == (0, 1, 2, 3, 1, 5)
    assert plan.join_keys == ("user_id", "shop_id")
    assert pickle.loads(pickle.dumps(plan)) == plan


def test_one_feature_reads_one_input(load: Load) -> None:
    plan = compile_read(compiled(load, VIEWS), ["tx_risk:idle_hours"])
    assert [group.fields for group in plan.groups] == [("last_login",)]
    assert (plan.requests, plan.ignored_request_values) == ((), ())


def test_the_other_values_of_a_request_are_ignored(load: Load) -> None:
    plan = compile_read(compiled(load, VIEWS), ["tx_risk:amount_ratio"])
    assert [each.name for each in plan.requests] == ["amount"]
    assert plan.ignored_request_values == ("ip_country",)


def test_a_wrong_default_of_a_derived_input_is_one_problem(problems: Problems) -> None:
    text = derived('a: {type: int64, expr: "score", default: x}', 'b: {type: int64, expr: "a"}')
    (found,) = problems(text)
    assert "field 'risk:a': default: 'x' is not an int64" in found


def test_a_derived_view_under_an_alias_reads_its_inputs_for_these_join_keys(load: Load) -> None:
    item = {"view": "tx_risk", "as": "sender", "join_keys": {"user_id": "from_user"}}
    plan = compile_read(compiled(load, VIEWS), [item, "tx_risk:idle_hours"])
    assert [each.name for each in plan.columns][-2:] == ["sender__is_risky", "idle_hours"]
    assert [(group.name, group.key.join_keys[:1]) for group in plan.groups if group.alias] == [
        ("sender", plan.groups[1].key.join_keys)
    ]
    assert plan.join_keys == ("from_user", "shop_id", "user_id")
    with pytest.raises(RequestError, match="unknown join key 'user'"):
        compile_read(compiled(load, VIEWS), [{**item, "join_keys": {"user": "from_user"}}])


def test_a_feature_with_the_name_of_a_request_value_gets_its_full_name(load: Load) -> None:
    text = derived('amount: {type: float64, expr: "transaction.amount * 2"}')
    repo = compiled(load, text)
    plan = compile_read(repo, ["risk", "rates"])
    assert [each.name for each in plan.columns] == ["risk__amount", "rate"]
    with pytest.raises(RequestError, match="none of these features is stored"):
        compile_read(repo, ["risk"])


def test_a_join_key_is_not_renamed_to_a_request_value(load: Load, problems: Problems) -> None:
    item = "{view: tx_risk, as: sender, join_keys: {user_id: amount}}"
    (found,) = problems(VIEWS + SERVICES.replace("tx_risk", item))
    assert "join key 'user_id' would have the name of the request value 'amount'" in found
    listed = {"view": "tx_risk", "as": "sender", "join_keys": {"user_id": "amount"}}
    with pytest.raises(RequestError, match="the value 'amount' of request 'transaction'"):
        compile_read(compiled(load, VIEWS), [listed])


def test_ages_are_those_of_the_views_of_the_inputs(load: Load) -> None:
    repo = compiled(load, VIEWS)
    plan = compile_read(repo, ["tx_risk:idle_hours"], max_age_ms={"user_profile": 1000})
    assert plan.inputs[0].min_remaining_ttl_ms is not None
    with pytest.raises(RequestError, match="'tx_risk' is derived"):
        compile_read(repo, ["tx_risk:idle_hours"], max_age_ms={"tx_risk": 1000})


def test_unknown_names_of_derived_views_are_reported(load: Load) -> None:
    repo = compiled(load, VIEWS)
    with pytest.raises(UnknownNameError, match="unknown field 'idle_hour'"):
        compile_read(repo, ["tx_risk:idle_hour"])
    with pytest.raises(UnknownNameError, match="did you mean 'tx_risk'"):
        compile_read(repo, ["tx_rsk"])
    with pytest.raises(RequestError, match="'tx_risk' is a feature view"):
        compile_read(repo, "tx_risk")


def test_a_service_with_a_wrong_derived_feature_is_refused(problems: Problems) -> None:
    (found,) = problems(VIEWS + SERVICES.replace("tx_risk,", '"tx_risk:idle_hour",'))
    assert (
        "unknown field 'idle_hour' in feature view 'tx_risk' | did you mean 'idle_hours'?" in found
    )


def test_a_function_has_its_arguments_and_the_hash_of_its_module(
    load: Load, tmp_path: Path
) -> None:
    (tmp_path / "risks.py").write_text("def rate(when, amount, price):\n    return 1\n")
    text = derived(
        'a: {type: float64, callable: "risks:rate", inputs: [now, amount, user_money.price]}'
    )
    feature = compiled(load, text).derived_views[0].feature("a")
    assert [each.name for each in feature.inputs] == ["transaction.amount", "user_money.price"]
    assert isinstance(feature.compute, FunctionPlan)
    assert feature.compute.names == ("now", "transaction.amount", "user_money.price")
    assert feature.compute.callable == "risks:rate"
    assert len(feature.compute.source_hash) == 64


def test_the_module_of_a_function_is_not_imported(load: Load, tmp_path: Path) -> None:
    (tmp_path / "risks.py").write_text("raise SystemExit\ndef rate(a): return a\n")
    compiled(load, derived('a: {type: bool, callable: "risks:rate", inputs: [amount]}'))


CHANGED = {
    "expression": (
        "country_iso <> ip_country",
        "country_iso = ip_country",
        [
            "compatible field tx_risk:is_abroad: expr country_iso <> ip_country -> "
            "country_iso = ip_country: holds from the next read; nothing is loaded again",
            "compatible field tx_risk:is_risky: another input: holds from the next read; nothing is "
            "loaded again",
        ],
    ),
    "spaces": ("country_iso <> ip_country", "country_iso  <>  ip_country", []),
    "default": (
        "default: 1}",
        "default: 2}",
        [
            "compatible field tx_risk:amount_ratio: default 1 -> 2: holds from the next read; "
            "nothing is loaded again",
            "compatible field tx_risk:is_risky: another input: holds from the next read; nothing is "
            "loaded again",
        ],
    ),
    "removed": (
        '      idle_hours: {type: float64, expr: "(epoch(now) - epoch(last_login)) / 3600"}\n',
        "",
        ["remove field tx_risk:idle_hours"],
    ),
    "renamed": (
        "tx_risk",
        "tx_danger",
        [
            "add feature view tx_danger: derived: computed when it is read",
            "remove feature view tx_risk: derived: nothing of it is stored",
        ],
    ),
    "request value": (
        "{amount: float64, ip_country: {type: string, default: NO}}",
        "{amount: int64, ip_country: string, city: string, note: {type: string, default: a}}",
        [
            "compatible request transaction: amount float64 -> int64: callers must send an int64",
            "compatible request transaction: ip_country string, default NO -> string: callers must "
            "send it",
            "compatible request transaction: city none -> string: callers must send it",
            "compatible request transaction: note none -> string, default a",
        ],
    ),
}


@pytest.mark.parametrize(("old", "new", "expected"), CHANGED.values(), ids=CHANGED)
def test_a_change_of_what_is_computed_is_reported(
    load: Load, old: str, new: str, expected: list[str]
) -> None:
    before = Registry.from_loaded(load(VIEWS), None)
    after = Registry.from_loaded(load(VIEWS.replace(old, new)), before)
    changes = diff(compile_repo(before), compile_repo(after))
    assert [str(change) for change in changes][: len(expected)] == expected
    assert not changes.views_to_load
    assert not changes.breaking


def test_a_registry_without_derived_views_keeps_its_document(load: Load) -> None:
    document = json.loads(Registry.from_loaded(load(STORED), None).to_json())
    assert "derived_views" not in document
    del document["requests"]
    text = STORED.replace(
        "requests:\n  - name: transaction\n"
        "    fields: {amount: float64, ip_country: {type: string, default: NO}}\n",
        "",
    )
    assert json.loads(Registry.from_loaded(load(text), None).to_json()) == document


DAMAGE = st.recursive(
    st.none()
    | st.integers()
    | st.text(max_size=8)
    | st.sampled_from(["name", "+", "call", "now"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=12,
)


@given(tree=DAMAGE)
def test_a_damaged_tree_is_a_registry_error(tree: object) -> None:
    document = json.loads(REGISTRY)
    document["derived_views"][0]["fields"][0][1]["tree"] = tree
    with pytest.raises(RegistryError):
        Registry.from_json(json.dumps(document))


HOSTILE = {
    "unknown name": ("tree", ["name", "__import__"]),
    "attribute": ("tree", ["name", "amount.__class__"]),
    "function": ("tree", ["call", "eval", ["name", "amount"]]),
    "other type": ("tree", ["string", "text"]),
    "deep": ("tree", ["neg"] * 3000),
    "no tree": ("tree", None),
    "type": ("type", "decimal"),
    "default": ("default", "text"),
}


@pytest.mark.parametrize(("key", "value"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_registry_is_refused(key: str, value: object) -> None:
    document = json.loads(REGISTRY)
    if value == ["neg"] * 3000:
        value = ["name", "amount"]
        for _ in range(300):
            value = ["neg", value]
    document["derived_views"][0]["fields"][0][1][key] = value
    with pytest.raises(RegistryError, match="the registry is damaged"):
        Registry.from_json(json.dumps(document))


def test_a_registry_with_a_cycle_is_refused() -> None:
    document = json.loads(REGISTRY)
    spec = document["derived_views"][0]["fields"][0][1]
    spec["tree"] = ["name", "b"]
    other = {**spec, "tree": ["name", "a"]}
    document["derived_views"][0]["fields"].append(["b", other])
    with pytest.raises(RegistryError, match="the feature depends on itself: v:a -> v:b -> v:a"):
        Registry.from_json(json.dumps(document))


REGISTRY = json.dumps(
    {
        "format": 1,
        "project": "p",
        "key_prefix": "fs",
        "entities": [],
        "feature_views": [],
        "feature_services": [],
        "retired": {},
        "requests": [{"name": "r", "fields": [["amount", {"type": "float64"}]]}],
        "derived_views": [
            {
                "name": "v",
                "derived": {"from": ["r"]},
                "fields": [
                    [
                        "a",
                        {
                            "type": "float64",
                            "expr": "-amount",
                            "tree": ["neg", ["name", "amount"]],
                        },
                    ]
                ],
            }
        ],
    }
)


def test_the_registry_of_these_tests_is_valid() -> None:
    assert Registry.from_json(REGISTRY).derived_views[0].fields_["a"].expr == "-amount"


def test_a_function_is_not_offered_inputs_that_it_cannot_take(problems: Problems) -> None:
    fields = derived(
        'b: {type: float64, expr: "amount"}',
        'a: {type: bool, callable: "risks:rate", inputs: [amount, pric]}',
    )
    (found,) = (each for each in problems(fields) if "pric" in each)
    names = found.partition("known: ")[2].split(", ")
    assert "price" in names
    assert "b" not in names


def test_a_hint_lists_a_name_once() -> None:
    assert name_hint("user", ["user_id", "amount", "user_id"]) == (
        "did you mean 'user_id'? known: amount, user_id"
    )


def test_a_file_that_is_not_python_is_named_with_its_line(
    problems: Problems, tmp_path: Path
) -> None:
    (tmp_path / "risks.py").write_text("x = 1\ndef rate(:\n")
    (found,) = problems(derived('a: {type: bool, callable: "risks:rate", inputs: [amount]}'))
    assert "risks.py is not valid Python: invalid syntax (risks.py, line 2)" in found
