"""Any files either load or are refused with problems."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from featurekit.errors import DefinitionError
from featurekit.loader import load_repo
from tests.declare.conftest import REPO

pytestmark = pytest.mark.slow

VALID = """\
entities:
- {name: user, join_keys: {user_id: string, region: int64}, hash_tag: {join_key: region}}
feature_views:
- name: profile
  entity: user
  batch:
    refresh: 24h
    ttl: 48h
    expires: key
    source: {type: csv, path: [a.csv], timestamp_field: t, columns: {user_id: uid}}
  fields:
    country: {type: string, one_of: [NO, SE], default: NO, max_length: 2, pattern: '[A-Z]+'}
    amount: {type: decimal, min: 0, max: 1e3, default: 2.5, tags: {tier: 1}}
    scores: {type: 'array<float64>', default: [1e3, 2]}
    shape: {type: json, default: {a: [1, null]}}
- name: activity
  entity: user
  stream:
    refresh: 1m
    ordering: event_time
    source: {type: redis_stream, stream: s, format: json, field: data, where: {kind: login}}
  fields: {count_5m: int64, last: {type: timestamp, ttl: 15m, deprecated: true}}
feature_services:
- {name: fraud, features: [profile:country, activity]}
"""
PIECES = [
    *"{}[]:,-#&*!|>'\"%@`~?\n\t \\0$\x00\u200b\xa0é",
    *["null", "1e3", "{}", "[]", ": ", "- ", "\n  ", "- a\n", "<<: ", "&a ", "*a", "${", "\r\n"],
    *["name", "user", "batch", "stream", "fields", "type", "refresh", "source", "join_keys", "ttl"],
    *["csv", "sql", "kafka", "default", "one_of", "features", "key", "expires", "vector<float32, 2>"],
]  # fmt: skip
EDIT = st.tuples(st.integers(0, len(VALID)), st.integers(0, 12), st.sampled_from(PIECES))


def loaded(repo: str, definitions: str) -> None:
    with tempfile.TemporaryDirectory(prefix="fk") as folder, suppress(DefinitionError):
        (Path(folder) / "featurerepo.yaml").write_bytes(repo.encode())
        (Path(folder) / "f.yaml").write_bytes(definitions.encode())
        load_repo(folder, {"VAR": "x"})


def edited(text: str, edits: list[tuple[int, int, str]]) -> str:
    for start, length, piece in edits:
        text = text[:start] + piece + text[start + length :]
    return text


@given(st.lists(EDIT, min_size=1, max_size=5))
@settings(max_examples=150)
def test_a_mangled_definition_file_loads_or_has_problems(
    edits: list[tuple[int, int, str]],
) -> None:
    loaded(REPO, edited(VALID, edits))


@given(st.lists(EDIT, min_size=1, max_size=5))
@settings(max_examples=50)
def test_a_mangled_repo_file_loads_or_has_problems(edits: list[tuple[int, int, str]]) -> None:
    repo = f"{REPO}registry: online\nonline_store:\n  url: redis://${{VAR:-h}}\n  key_prefix: fs\n"
    near = [(start % len(repo), length, piece) for start, length, piece in edits]
    loaded(edited(repo, near), VALID)


LINES = VALID.splitlines(keepends=True)


@given(st.lists(st.sampled_from(LINES), max_size=30), st.permutations(LINES))
@settings(max_examples=50)
def test_lines_in_any_order_load_or_have_problems(some: list[str], all_of_them: list[str]) -> None:
    loaded(REPO, "".join(some))
    loaded(REPO, "".join(all_of_them))


ODD: st.SearchStrategy[Any] = st.sampled_from(
    [None, True, 5, -1, 1e300, "", "x", "a:b", "@", "Ä", "1h", "user", "name", "type", "sql"]
) | st.sampled_from(
    [[], {}, [[]], [None], {"a": {}}, {"x": 1}, {"type": "csv", "csv": {"path": 1}}, ["user", {}]]
)


def changed(draw: st.DrawFn, value: Any) -> Any:
    """Return a tree with some values and keys replaced, removed, added or renamed."""
    act = draw(st.integers(0, 30))
    if act < 3:
        return draw(ODD) if act else [value, value]
    if isinstance(value, list):
        return [changed(draw, item) for item in value]
    if not isinstance(value, dict) or not value:
        return value
    key = draw(st.sampled_from([*value]))
    tree = {name: changed(draw, item) for name, item in value.items()}
    if act in {3, 4}:
        tree[draw(st.sampled_from([f"{key}s", key[:-1], *PIECES]))] = tree.pop(key)
    elif act in {5, 6}:
        del tree[key]
    return tree


@st.composite
def trees(draw: st.DrawFn) -> Any:
    return changed(draw, yaml.safe_load(VALID))


@given(trees())
@settings(max_examples=150)
def test_definitions_of_any_shape_load_or_have_problems(tree: object) -> None:
    loaded(REPO, yaml.safe_dump(tree, sort_keys=False))
