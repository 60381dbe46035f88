from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import BaseModel

from featurekit.errors import ValueRefusedError
from featurekit.models import (
    Definitions,
    RepoConfig,
    definitions_json_schema,
    format_duration,
    parse_duration,
    repo_json_schema,
)
from tests.declare.conftest import REPO


@given(st.integers(1, 3650 * 86_400_000 - 1))
def test_a_duration_reads_back_as_written(duration_ms: int) -> None:
    assert parse_duration(format_duration(duration_ms)) == duration_ms


@pytest.mark.parametrize(
    ("text", "duration_ms"),
    [("90s", 90_000), ("5m", 300_000), ("24h", 86_400_000), ("1h30m", 5_400_000), ("250ms", 250)],
)
def test_a_duration_is_whole_milliseconds(text: str, duration_ms: int) -> None:
    assert parse_duration(text) == duration_ms


@pytest.mark.parametrize(
    "text", ["", "5", "0s", "-5s", "1.5h", "5 m", "30m1h", "5m5m", "3650d", "5M", "1w", "9" * 30 + "s"]
)  # fmt: skip
def test_an_invalid_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueRefusedError, match="found"):
        parse_duration(text)


def _models(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    for below in model.__subclasses__():
        yield below
        yield from _models(below)


def test_every_key_is_described_with_an_example() -> None:
    for model in _models(Definitions.__mro__[1]):
        for name, info in model.model_fields.items():
            assert info.description, (model, name)
            assert "`" in info.description, (model, name)


@cache
def _validator(json_schema: Callable[[], dict[str, Any]]) -> Draft202012Validator:
    schema = json_schema()
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def _valid(json_schema: Callable[[], dict[str, Any]], text: str) -> bool:
    return bool(_validator(json_schema).is_valid(yaml.safe_load(text)))


def test_the_schema_accepts_what_the_loader_accepts(fraud: str) -> None:
    assert _valid(definitions_json_schema, fraud)
    assert _valid(definitions_json_schema, "{}")
    assert _valid(repo_json_schema, REPO)


PROJECT = Path(__file__).parents[2]
FILES = [
    *PROJECT.glob("examples/**/*.yaml"),
    *PROJECT.glob("src/featurekit/cli/template/**/*.yaml"),
    PROJECT / "featurerepo.yaml",
]
PAGES = [*PROJECT.glob("docs/*.md"), PROJECT / "README.md"]
BLOCKS = [
    (f"{page.name} {number}", text)
    for page in PAGES
    for number, text in enumerate(re.findall("```yaml\n(.*?)```", page.read_text(), re.DOTALL))
]


OWN = re.compile("^(project|entities|feature_views|feature_services):", re.MULTILINE)
"""A key of our files; other examples configure Prometheus, Kubernetes and the like."""
EXAMPLES = [*((str(path.relative_to(PROJECT)), path.read_text()) for path in FILES), *BLOCKS]


@pytest.mark.parametrize(
    "text", [pytest.param(text, id=name) for name, text in EXAMPLES if OWN.search(text)]
)
def test_the_schema_accepts_every_example(text: str) -> None:
    schemas = (definitions_json_schema, repo_json_schema)
    assert any(_valid(schema, text) for schema in schemas)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("refresh: 1m", "refresh: 60"),
        ("refresh: 1m", "refresh: 1 minute"),
        ("refresh: 1m", "refresh: 1m\n      ttll: 5m"),
        ("refresh: 1m", "refresh: 1m\n      ttl: null"),
        ("refresh: 1m", "refresh: 1m\n      ordering: arival"),
        ("stream: user-activity", "strm: user-activity"),
        ("type: redis_stream", "type: redis"),
        ("ttl: 15m", "ttl: 15"),
        ("country_iso: string", "country_iso: strng"),
        ("country_iso: string", "_country: string"),
        ("join_keys: {user_id: string}", "join_keys: {user_id: float64}"),
        ("join_keys: {user_id: string}", "join_keys: {}"),
        ("name: user_profile", "name: User"),
        ("    stream:", "    streem:"),
        ("features: [user_profile:tx_count_7d, user_activity]", "features: []"),
        ("description: A cardholder.", "hash_tag: {}"),
        ("description: A cardholder.", "hash_tag: {literal: a, join_key: user_id}"),
        ("    stream:", "    batch: {refresh: 1h}\n    stream:"),
    ],
)
def test_the_schema_refuses_what_the_loader_refuses(fraud: str, old: str, new: str) -> None:
    assert old in fraud
    assert not _valid(definitions_json_schema, fraud.replace(old, new))


@pytest.mark.parametrize("text", ["project: P\ndefinitions: .", "project: p", f"{REPO}url: x"])
def test_the_schema_of_the_repo_file_refuses_too(text: str) -> None:
    assert not _valid(repo_json_schema, text)


def test_a_config_does_not_show_its_url() -> None:
    config = RepoConfig.model_validate(
        {"project": "p", "definitions": ".", "online_store": {"url": "redis://:SECRET@h"}}
    )
    assert "SECRET" not in repr(config)
