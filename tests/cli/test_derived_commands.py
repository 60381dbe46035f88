"""The commands that show and read derived features."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from featurekit import FeatureStore
from tests.cli.running import run, run_json

YAML = """\
entities:
  - {name: user, join_keys: {user_id: string}}
requests:
  - name: transaction
    description: A payment.
    fields: {amount: {type: float64, min: 0}, ip_country: {type: string, default: NO}}
feature_views:
  - name: profile
    entity: user
    stream: {refresh: 1h}
    fields: {country: string, mean: float64}
  - name: risk
    tags: {tier: "1"}
    derived: {from: [profile, transaction]}
    fields:
      ratio: {type: float64, expr: amount / mean, default: 1, description: Against the mean.}
      is_abroad: {type: bool, expr: country <> ip_country}
feature_services:
  - {name: risk_v1, features: [risk, "profile:mean"]}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    path: Path = tmp_path_factory.mktemp("risk")
    url = f"memory://{uuid4().hex}"
    (path / "featurerepo.yaml").write_text(
        f"project: p\ndefinitions: [f.yaml]\nonline_store: {{url: '{url}'}}\n"
    )
    (path / "f.yaml").write_text(YAML)
    with FeatureStore(path) as store:
        store.apply()
        store.stream_writer("profile").write("u1", {"country": "SE", "mean": 2.0})
        yield str(path)


def test_get_takes_request_data_for_all_entities_and_for_each(folder: str) -> None:
    read = ["--repo", folder, "get", "risk_v1", "--entity"]
    document = run_json(*read, "user_id=u1", "--request", "amount=5,ip_country=SE")
    assert document["features"]["ratio"] == [2.5]
    assert document["features"]["is_abroad"] == [False]
    document = run_json(*read, "user_id=u1,amount=3", "--entity", "user_id=u1,amount=4")
    assert document["features"]["ratio"] == [1.5, 2.0]
    assert document["statuses"]["is_abroad"] == ["present", "present"]


def test_get_ignores_values_of_the_declaration_that_the_read_does_not_need(folder: str) -> None:
    read = ["--repo", folder, "get", "risk:ratio", "profile:mean", "--entity"]
    sent = ["user_id=u1", "--request", "ip_country=SE,amount=5"]
    assert run_json(*read, *sent)["features"]["ratio"] == [2.5]
    assert run_json(*read, "user_id=u1,amount=5,ip_country=SE")["features"]["ratio"] == [2.5]


REFUSED = {
    "missing": ([], "missing request value 'amount', a float64", "add --request amount=…"),
    "unknown": (
        ["--request", "amont=3"],
        "unknown request value 'amont'",
        "did you mean 'amount'",
    ),
    "unknown after a comma": (
        ["--request", "ip_country=SE,amont=3"],
        "unknown request value 'amont'",
        "did you mean 'amount'",
    ),
    "type": (["--request", "amount=x"], "--request amount: 'x' is not a float64", ""),
    "rule": (["--request", "amount=-1"], "value 'amount': -1.0 is below min 0", ""),
    "form": (["--request", "amount"], "'amount' is not NAME=VALUE", "for example amount=…"),
}


@pytest.mark.parametrize(("arguments", "message", "hint"), REFUSED.values(), ids=REFUSED)
def test_wrong_request_data_is_refused(
    folder: str, arguments: list[str], message: str, hint: str
) -> None:
    result = run("--repo", folder, "get", "risk_v1", "--entity", "user_id=u1", *arguments)
    assert result.exit_code == 1
    assert message in result.stderr
    assert hint in result.stderr


def test_features_without_request_data_take_none(folder: str) -> None:
    read = ["get", "profile", "--entity", "user_id=u1", "--request", "amount=1"]
    assert "these features need no request data" in run("--repo", folder, *read).stderr


def test_list_shows_derived_views_and_requests(folder: str) -> None:
    printed = run("--repo", folder, "list").stdout
    assert "risk     user    derived  -        -" in printed
    assert "transaction  amount: float64, ip_country: string  A payment." in printed
    fields = run_json("--repo", folder, "list", "fields", "ratio")
    assert [each["expr"] for each in fields] == ["amount / mean"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("risk", ["kind          derived", "request data  amount, ip_country", "tier=1"]),
        ("risk:ratio", ["computed from  transaction.amount, profile.mean", "amount / mean"]),
        ("is_abroad", ["computed as    country <> ip_country"]),
        ("risk_v1", ["risk:ratio      float64  1        -    amount / mean", "entities  user"]),
        ("transaction", ["A payment.", "ip_country  string   NO"]),
    ],
)
def test_describe_shows_what_a_feature_is_computed_from(
    folder: str, name: str, expected: list[str]
) -> None:
    printed = run("--repo", folder, "describe", name).stdout
    for text in expected:
        assert text in printed
    assert json.loads(run("--repo", folder, "describe", name, "--json").stdout)


def test_describe_names_the_nearest_derived_field(folder: str) -> None:
    assert "did you mean 'ratio'?" in run("--repo", folder, "describe", "risk:ratios").stderr


@pytest.mark.parametrize("command", [["materialize", "risk"], ["write", "risk"]])
def test_nothing_is_written_into_a_derived_view(folder: str, command: list[str]) -> None:
    result = run("--repo", folder, *command, stdin="{}")
    assert result.exit_code == 1
    assert "feature view 'risk' is derived: it is computed when it is read" in result.stderr


def test_derived_views_are_listed_in_python(folder: str) -> None:
    (view,) = FeatureStore(folder).list_on_demand_feature_views(tags={"tier": "1"})
    assert (view.entities, view.request_values) == (("user",), ("amount", "ip_country"))
    assert [(each.computation, each.default) for each in view.features] == [
        ("amount / mean", 1.0),
        ("country <> ip_country", None),
    ]


@pytest.mark.parametrize(
    ("field", "message", "hint"),
    [
        ("ratio", "field 'risk:ratio' is derived", "ask why its inputs are missing: mean"),
        ("risk:ratio", "field 'risk:ratio' is derived", "ask why its inputs are missing: mean"),
        ("profile:mean", "unknown field 'profile:mean'", "write 'mean'"),
        ("ratios", "unknown field 'ratios'", "known: country, mean"),
    ],
)
def test_why_names_the_inputs_of_a_derived_feature(
    folder: str, field: str, message: str, hint: str
) -> None:
    result = run("--repo", folder, "why", "user", "u1", field)
    assert result.exit_code == 1
    assert message in result.stderr
    assert hint in result.stderr


def test_a_service_that_no_read_returns_is_warned_of(tmp_path: Path) -> None:
    (tmp_path / "featurerepo.yaml").write_text(
        "project: p\ndefinitions: [f.yaml]\nonline_store: {url: 'memory://'}\n"
    )
    views = YAML.replace("expr: amount / mean", "expr: amount / 2")
    (tmp_path / "f.yaml").write_text(views + '  - {name: alone, features: ["risk:ratio"]}\n')
    result = run("--repo", str(tmp_path), "validate")
    assert result.exit_code == 0
    assert result.stderr.count("warning:") == 1
    assert "feature service 'alone' cannot be read" in result.stderr
