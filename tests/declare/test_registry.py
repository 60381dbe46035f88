from __future__ import annotations

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurekit.errors import RegistryError
from featurekit.models import Entity, FeatureView, FieldSpec
from featurekit.registry import Registry
from tests.declare.conftest import Load

NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True)
FIELD_NAMES = NAMES.map(lambda name: f"f_{name}")
NUMBERS = st.integers(-(2**63), 2**63 - 1)
SPECS = st.one_of(
    st.builds(
        lambda low, default: {"type": "int64", "min": low, "default": default}, NUMBERS, NUMBERS
    ),
    st.builds(lambda x: {"type": "float64", "default": x, "allow_nan": True}, st.floats()),
    st.builds(
        lambda x: {"type": "decimal", "min": x, "default": f"{x:f}"},
        st.decimals(-(10**9), 10**9, places=9),
    ),
    st.builds(
        lambda text, choices: {"type": "string", "default": text, "one_of": choices},
        st.text(),
        st.lists(st.text(), min_size=1, unique=True),
    ),
    st.builds(
        lambda x: {"type": "json", "default": x},
        st.dictionaries(st.text(), st.floats(allow_nan=False) | st.lists(st.booleans())),
    ),
    st.builds(lambda ms: {"type": "bool", "ttl": f"{ms}ms"}, st.integers(1, 10**9)),
)
REGISTRIES = st.builds(
    lambda keys, fields: Registry(
        project="p",
        key_prefix="fs",
        entities=(Entity(name="e", join_keys=dict.fromkeys(keys, "string")),),
        feature_views=(
            FeatureView.model_validate(
                {"name": "v", "entity": "e", "stream": {"refresh": "1m"}, "fields": fields}
            ),
        ),
    ),
    st.lists(FIELD_NAMES, min_size=1, unique=True),
    st.dictionaries(FIELD_NAMES, SPECS, min_size=1),
)


@given(REGISTRIES)
def test_a_registry_reads_back_as_written(registry: Registry) -> None:
    again = Registry.from_json(registry.to_json())
    assert again == registry
    assert again.to_json() == registry.to_json()
    assert list(again.entities[0].join_keys) == list(registry.entities[0].join_keys)
    assert list(again.feature_views[0].fields_) == list(registry.feature_views[0].fields_)


def test_the_text_is_canonical(load: Load, fraud: str) -> None:
    registry = Registry.from_loaded(load(fraud), None)
    text = registry.to_json()
    data = json.loads(text)
    assert text == json.dumps(data, sort_keys=True, separators=(",", ":")) + "\n"
    assert data["format"] == 1
    assert data["feature_views"][1]["tags"] == {"tier": "1"}


def test_the_fingerprint_depends_on_all_declarations(load: Load, fraud: str) -> None:
    prints = {
        Registry.from_loaded(load(text), None).fingerprint
        for text in (fraud, fraud + "# the same\n", fraud.replace("cardholder", "customer"))
    }
    assert len(prints) == 2
    assert all(len(fingerprint) == 64 for fingerprint in prints)


def test_the_order_of_declarations_does_not_matter(load: Load) -> None:
    lines = [f"- {{name: {name}, join_keys: {{id: string}}}}" for name in "abc"]
    texts = ["\n".join(["entities:", *order]) for order in (lines, lines[::-1])]
    first, second = (Registry.from_loaded(load(text), None) for text in texts)
    assert first == second


def test_a_bound_of_a_decimal_keeps_its_digits() -> None:
    spec = FieldSpec.model_validate({"type": "decimal", "min": "1.50"})
    assert spec.min == Decimal("1.50")
    assert json.loads(spec.model_dump_json())["min"] == "1.50"


ENTITY = "entities: [{name: user, join_keys: {id: string}}]\n"


def view(fields: str, ordering: str = "arrival") -> str:
    return (
        f"{ENTITY}feature_views:\n- name: v\n  entity: user\n  fields: {{{fields}}}\n"
        f"  stream: {{refresh: 1m, ordering: {ordering}}}\n"
    )


def test_a_removed_field_is_retired_until_it_is_declared_again(load: Load) -> None:
    registry = Registry.from_loaded(load(view("a: int64, b: int64, c: bool")), None)
    assert registry.retired == {}
    registry = Registry.from_loaded(load(view("c: bool, b: int64")), registry)
    assert registry.retired == {"user": ("a",)}
    registry = Registry.from_loaded(load(view("c: bool")), Registry.from_json(registry.to_json()))
    assert registry.retired == {"user": ("a", "b")}
    registry = Registry.from_loaded(load(view("c: bool, a: int64")), registry)
    assert registry.retired == {"user": ("b",)}


def test_the_event_time_of_a_view_is_retired_with_it(load: Load) -> None:
    before = Registry.from_loaded(load(view("a: int64", "event_time")), None)
    assert Registry.from_loaded(load(view("a: int64")), before).retired == {"user": ("@v",)}
    assert Registry.from_loaded(load(ENTITY), before).retired == {"user": ("@v", "a")}


def test_a_removed_entity_has_no_retired_fields(load: Load) -> None:
    before = Registry.from_loaded(load(view("a: int64")), None)
    assert Registry.from_loaded(load(""), before).retired == {}


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('"format":1', '"format":2', "has format 2, this version reads 1"),
        ('"format":1', '"format":1,', "damaged"),
        ('"project":"fraud"', '"project":5', "damaged"),
        ('"key_prefix":"fs"', '"keyprefix":"fs"', "damaged"),
        ('"entity":"user"', '"entity":"usr"', "'v' refers to a missing definition"),
        ('"type":"int64"', '"type":"int46"', "damaged"),
        ('"retired":{}', '"retired":[]', "damaged"),
    ],
)
def test_a_damaged_registry_is_refused(load: Load, old: str, new: str, problem: str) -> None:
    text = Registry.from_loaded(load(view("a: int64")), None).to_json()
    assert old in text
    with pytest.raises(RegistryError, match=problem):
        Registry.from_json(text.replace(old, new))


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", "[" * 100_000])
def test_a_text_that_is_not_a_registry_is_refused(text: str) -> None:
    with pytest.raises(RegistryError, match="damaged"):
        Registry.from_json(text)
