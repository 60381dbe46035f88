"""Python functions that compute features: where they are imported, and what becomes of their errors."""

from __future__ import annotations

import json
import logging
import pickle
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featurekit import FeatureStore
from featurekit.repo.functions import FeatureFunctions

YAML = """\
entities:
  - {name: user, join_keys: {user_id: string}}
requests:
  - name: transaction
    fields: {amount: float64}
feature_views:
  - name: activity
    entity: user
    stream: {refresh: 1h}
    fields: {tx_count: int64, price: decimal}
  - name: risk
    derived: {from: [activity, transaction]}
    fields:
      points: {type: int64, callable: "points:points", inputs: [tx_count, amount], default: -1}
      seen: {type: timestamp, callable: "points:seen", inputs: [now]}
      half: {type: decimal, callable: "points:half", inputs: [price]}
feature_services:
  - {name: risk_v1, features: [risk, "activity:tx_count"]}
"""
SOURCE = """\
from __future__ import annotations

from dataclasses import dataclass

import factors


@dataclass
class Weight:
    value: "int"


def points(tx_count, amount):
    if amount == 13:
        raise RuntimeError("unlucky")
    if amount == 14:
        return "many"
    if tx_count is None:
        return None
    return Weight(factors.FACTOR).value * tx_count + int(amount)


def seen(now):
    return now


def half(price):
    return price / 2
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "featurerepo.yaml").write_text(
        f"project: p\ndefinitions: [f.yaml]\nregistry: online\n"
        f"online_store: {{url: 'memory://{uuid4().hex}'}}\n"
    )
    (tmp_path / "f.yaml").write_text(YAML)
    (tmp_path / "points.py").write_text(SOURCE)
    (tmp_path / "factors.py").write_text("FACTOR = 10\n")
    yield tmp_path
    sys.modules.pop("factors", None)


@pytest.fixture
def store(folder: Path) -> Iterator[FeatureStore]:
    with FeatureStore(folder) as store:
        store.apply()
        store.stream_writer("activity").write("u1", {"tx_count": 3, "price": Decimal("2.5")})
        yield store


def points(store: FeatureStore, amount: float, user: str = "u1") -> tuple[object, str]:
    response = store.get_online_features(
        ["risk:points", "activity:tx_count"], [{"user_id": user}], request={"amount": amount}
    )
    return response.to_dict()["points"][0], response.statuses["points"][0]


def test_a_function_gets_its_inputs_in_order(store: FeatureStore) -> None:
    row = store.online_reader("risk_v1").read("u1", request={"amount": 2})
    assert (row.points, str(row.half)) == (32, "1.25")
    assert row.seen.tzinfo is not None


@pytest.mark.parametrize(
    ("amount", "user", "expected"),
    [(2, "u2", (-1, "default")), (13, "u1", (-1, "invalid")), (14, "u1", (-1, "invalid"))],
    ids=["null", "exception", "wrong type"],
)
def test_what_a_function_does_not_return_is_the_default(
    store: FeatureStore, amount: float, user: str, expected: tuple[object, str]
) -> None:
    assert points(store, amount, user) == expected


def test_a_function_that_changes_its_arguments_changes_no_other_value(folder: Path) -> None:
    """Neither those of other features, nor of other rows, nor of the caller or of the labels."""
    (folder / "f.yaml").write_text(
        """\
entities: [{name: user, join_keys: {user_id: string}}]
requests: [{name: sent, fields: {tags: array<string>, note: json}}]
feature_views:
  - {name: profile, entity: user, fields: {codes: array<int64>},
     batch: {refresh: 24h, source: {type: parquet, path: codes.parquet, timestamp_field: at}}}
  - name: risk
    derived: {from: [profile, sent]}
    fields:
      most: {type: int64, callable: "points:most", inputs: [codes, tags, note]}
      last: {type: string, callable: "points:last", inputs: [codes, tags, note]}
"""
    )
    (folder / "points.py").write_text(
        """\
def most(codes, tags, note):
    codes.append(max(codes) + 1)
    tags.append("most")
    note["seen"]["by"] = "most"
    return codes[-1]


def last(codes, tags, note):
    return f"{codes} {tags} {note}"
"""
    )
    at, users = datetime.now(UTC), ["u1", "u2"]
    codes = pa.table({"user_id": users, "codes": [[7], [7]], "at": [at - timedelta(hours=1)] * 2})
    pq.write_table(codes, folder / "codes.parquet")
    labels = {"user_id": users, "event_timestamp": [at] * 2, "tags": [["a"]] * 2}
    request: dict[str, object] = {"tags": ["a"], "note": {"seen": {}}}
    expected = {"most": [8] * 2, "last": ["[7] ['a'] {'seen': {}}"] * 2}
    with FeatureStore(folder) as store:
        store.apply()
        store.materialize(["profile"])
        rows = store.online_reader(["risk"]).read_many(["u1", "u2"], request=request)
        assert {name: [row[name] for row in rows] for name in expected} == expected
        assert request == {"tags": ["a"], "note": {"seen": {}}}
        job = store.get_historical_features(
            pa.table(labels | {"note": ['{"seen": {}}'] * 2}), ["risk"]
        )
        assert job.to_arrow().select(list(expected)).to_pydict() == expected


def test_a_function_gets_the_same_values_in_a_training_set_as_in_a_read(folder: Path) -> None:
    (folder / "f.yaml").write_text(
        """\
entities: [{name: user, join_keys: {user_id: string}}]
requests: [{name: sent, fields: {cost: decimal, note: json, weight: float32}}]
feature_views:
  - name: profile
    entity: user
    batch: {refresh: 24h, source: {type: parquet, path: p.parquet, timestamp_field: at}}
    fields: {price: decimal, doc: json, times: array<timestamp>, day: date, data: bytes}
  - name: shown
    derived: {from: [profile, sent]}
    fields:
      text:
        type: string
        callable: "points:show"
        inputs: [price, doc, times, day, data, cost, note, weight]
"""
    )
    (folder / "points.py").write_text("def show(*values):\n    return repr(values)\n")
    at, note = datetime.now(UTC), {"b": [1, 2.5, None]}
    values = {"price": [Decimal("1.50"), None], "doc": ['{"a": {}}', '"x"'], "data": [b"\0", b""]}
    times = {"times": [[at], []], "day": [at.date()] * 2, "at": [at - timedelta(hours=1)] * 2}
    users = {"user_id": ["u1", "u2"]}
    pq.write_table(pa.table(users | values | times), folder / "p.parquet")
    sent = {"cost": [Decimal("0.10")] * 2, "note": [json.dumps(note)] * 2, "weight": [0.5] * 2}
    labels = pa.table(users | sent | {"event_timestamp": [at] * 2})
    with FeatureStore(folder) as store:
        store.apply()
        store.materialize(["profile"])
        request = {"cost": Decimal("0.10"), "note": note, "weight": 0.5}
        rows = store.online_reader(["shown"]).read_many(["u1", "u2"], request=request)
        trained = store.get_historical_features(labels, ["shown"]).to_arrow()
    assert trained["text"].to_pylist() == [row.text for row in rows]
    assert "Decimal('0.1'), {'b': [1, 2.5, None]}, 0.5" in rows[0].text


def test_a_changed_module_is_called_again_once_it_is_applied(
    store: FeatureStore, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert points(store, 1) == (31, "present")
    (folder / "points.py").write_text(SOURCE.replace("* tx_count", "- tx_count"))
    other = FeatureStore(folder)
    with caplog.at_level(logging.WARNING, "featurekit.functions"):
        assert points(other, 1) == (-1, "invalid")
        assert points(other, 1) == (-1, "invalid")
    assert [record.getMessage() for record in caplog.records] == [
        "function points:points is not called, its features are invalid: points.py is not the "
        "version that was applied\n  hint: run `featurekit apply`, or update the file"
    ]
    (change, *_) = other.apply()
    assert "another source of the function" in change.detail
    assert points(other, 1) == (8, "present")
    store.reload()
    assert points(store, 1) == (8, "present")


def test_a_module_of_that_name_that_is_loaded_stays(store: FeatureStore) -> None:
    sys.modules["points"] = logging
    try:
        assert points(store, 1) == (31, "present")
        assert sys.modules["points"] is logging
    finally:
        del sys.modules["points"]


def test_a_reader_pickles_without_the_code(store: FeatureStore) -> None:
    reader = store.online_reader("risk_v1")
    data = pickle.dumps(reader)
    assert b"tx_count" in data
    assert b"Weight" not in data
    again = pickle.loads(data)
    assert again.read("u1", request={"amount": 2}).points == 32
    assert again.read_many(["u1"], request={"amount": 2})[0].points == 32


def test_without_yaml_a_function_must_be_allowed(store: FeatureStore, folder: Path) -> None:
    other = FeatureStore.from_registry(store.url, "p", root=folder)
    assert points(other, 1) == (-1, "invalid")
    (first, *_) = other.readers.function_problems()
    assert first == (
        "risk:points: invalid, as points:points is not called: the definitions here do not declare "
        "it; allow it with --allow-functions"
    )
    allowed = FeatureStore.from_registry(store.url, "p", root=folder, allow_functions=True)
    assert allowed.readers.function_problems() == []
    assert points(allowed, 1) == (31, "present")
    assert points(pickle.loads(pickle.dumps(allowed)), 1) == (31, "present")


def test_a_registry_cannot_name_another_function_of_the_folder(
    store: FeatureStore, folder: Path
) -> None:
    (folder / "f.yaml").write_text(YAML.replace("points:seen", "points:half"))
    other = FeatureStore(folder)
    found = other.readers.function_problems()
    assert len(found) == 1
    assert found[0].startswith("risk:seen: invalid, as points:seen is not called: the definitions")


BROKEN = {
    "missing": (None, "no module 'points' in the repository's folder"),
    "exception": ("1 / 0\n", "points.py cannot be imported: ZeroDivisionError: division by zero"),
    "exit": ("raise SystemExit(3)\n", "points.py cannot be imported: SystemExit: 3"),
}


@pytest.mark.parametrize(("source", "expected"), BROKEN.values(), ids=BROKEN)
def test_a_module_that_cannot_be_imported_is_reported(
    store: FeatureStore, folder: Path, source: str | None, expected: str
) -> None:
    if source is None:
        (folder / "points.py").unlink()
        functions = FeatureFunctions(folder, None)
        found = functions.problems(store.compiled)
    else:
        (folder / "points.py").write_text(SOURCE + source)
        with FeatureStore(folder) as other:
            other.apply()
            found = other.readers.function_problems()
    assert len(found) == 3
    assert all(expected in each for each in found)


def test_a_module_in_a_package_imports_its_siblings(tmp_path: Path) -> None:
    package = tmp_path / f"risk_{uuid4().hex}"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "factors.py").write_text("FACTOR = 3\n")
    (package / "points.py").write_text(
        "from .factors import FACTOR\n\ndef points(count):\n    return count * FACTOR\n"
    )
    (tmp_path / "featurerepo.yaml").write_text(
        f"project: p\ndefinitions: [f.yaml]\nonline_store: {{url: 'memory://{uuid4().hex}'}}\n"
    )
    (tmp_path / "f.yaml").write_text(
        "entities: [{name: user, join_keys: {user_id: string}}]\n"
        "feature_views:\n"
        "  - {name: a, entity: user, stream: {refresh: 1h}, fields: {count: int64}}\n"
        "  - name: b\n"
        "    derived: {from: [a]}\n"
        f"    fields: {{c: {{type: int64, callable: '{package.name}.points:points', inputs: [count]}}}}\n"
    )
    with FeatureStore(tmp_path) as store:
        store.apply()
        store.stream_writer("a").write("u1", {"count": 2})
        assert store.get_online_features(["b"], [{"user_id": "u1"}]).to_dict()["c"] == [6]
