"""A training set is compared with what is served, and chance is not taken for drift."""

from __future__ import annotations

import json
import math
import random
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from playwright.sync_api import Browser, ConsoleMessage

from featurekit import FeatureStore
from featurekit.errors import RequestError
from featurekit.training.distributions import (
    count_numbers,
    ks,
    ks_noise,
    number_bins,
    number_histogram,
    psi,
    psi_noise,
)
from featurekit.training.drift import ColumnSample, DriftBounds, FeatureDrift, compare_feature
from featurekit.types import parse_dtype
from tests.cli.running import run
from tests.console.browsers import browser
from tests.servers import Server
from tests.training.test_point_in_time import open_store

__all__ = ["browser"]

BOUNDS = DriftBounds()
VIEWS = """
entities:
  - {name: user, join_keys: {user_id: string}}
  - {name: shop, join_keys: {shop_id: int64}}
feature_views:
  - name: profile
    entity: user
    batch: {refresh: 1h, source: {type: parquet, path: users.parquet, timestamp_field: at}}
    fields: {age: int64, visits: {type: int64, default: 0}, country: string, seen: timestamp}
  - name: sales
    entity: shop
    batch: {refresh: 1h, source: {type: parquet, path: shops.parquet, timestamp_field: at}}
    fields: {amount: float64}
feature_services:
  - {name: model, features: [profile, sales]}
"""
TIME = pa.timestamp("us", "UTC")
START = datetime.now(UTC).replace(microsecond=0) - timedelta(days=3)
ROWS = 400


def numbers(values: Sequence[float]) -> Any:
    return pa.array(values, pa.float64())


def compared(dtype: str, first: Any, second: Any) -> FeatureDrift:
    sides = ColumnSample(first), ColumnSample(second)
    return compare_feature(("f", "view", "f"), parse_dtype(dtype), *sides, BOUNDS)


def test_statistics_equal_their_definitions() -> None:
    chance = random.Random(1)
    for _ in range(30):
        first = [float(chance.randrange(12)) for _ in range(chance.randrange(1, 60))]
        second = [float(chance.randrange(3, 15)) for _ in range(chance.randrange(1, 60))]
        gaps = [
            abs(
                sum(v <= x for v in first) / len(first) - sum(v <= x for v in second) / len(second)
            )
            for x in {*first, *second}
        ]
        assert ks(numbers(first), numbers(second)) == pytest.approx(max(gaps))
        bounds = number_bins(numbers(first))
        counts = count_numbers(numbers(second), bounds)
        assert sum(counts) == len(second)
        assert counts[0] == sum(value < bounds[0] for value in second)
    expected = (0.6 - 0.4) * math.log(0.6 / 0.4) + (0.4 - 0.6) * math.log(0.4 / 0.6)
    assert psi([400_000, 600_000], [600_000, 400_000]) == pytest.approx(expected, rel=1e-4)
    assert psi([5, 0], [0, 5]) < math.inf


def test_samples_of_one_distribution_seldom_exceed_the_noise() -> None:
    chance = random.Random(2)
    worse_psi = worse_ks = 0
    for _ in range(100):
        first, second = (numbers([chance.gauss(0, 1) for _ in range(n)]) for n in (400, 150))
        bounds = number_bins(first)
        counts = [count_numbers(column, bounds) for column in (first, second)]
        worse_psi += psi(*counts) > psi_noise(len(counts[0]), 400, 150)
        worse_ks += ks(first, second) > ks_noise(400, 150)
    assert worse_psi < 6
    assert worse_ks < 6


def test_each_kind_of_difference_is_found() -> None:
    chance = random.Random(3)

    def gauss(mean: float, deviation: float = 1) -> list[float]:
        return [chance.gauss(mean, deviation) for _ in range(1000)]

    shifted = compared("float64", numbers(gauss(0)), numbers(gauss(0.4)))
    assert (shifted.level, set(shifted.causes)) == ("shifted", {"psi", "ks"})
    assert compared("float64", numbers(gauss(0)), numbers(gauss(0))).level == "stable"
    assert compared("float64", numbers(gauss(0)), numbers(gauss(1))).level == "drifted"
    assert compared("float64", numbers(gauss(0)), numbers(gauss(0, 3))).level == "drifted"
    names = pa.array(["a"] * 500 + ["b"] * 500)
    new = compared("string", names, pa.array(["a"] * 500 + ["c"] * 500))
    assert (new.level, new.measure, new.ks) == ("drifted", "category", None)
    gone = compared("int64", pa.array([1, 2] * 500), pa.array([1, 2, None, None] * 250))
    assert (gone.level, gone.causes) == ("drifted", ("missing",))
    flags = compared("bool", pa.array([True, False] * 50), pa.array([True] * 100))
    assert flags.level == "drifted"
    vectors = pa.array([[3.0, 4.0]] * 10, pa.list_(pa.float32(), 2))
    norm = compared("vector<float32, 2>", vectors, vectors)
    assert (norm.measure, norm.training.median, norm.level) == ("norm", 5, "too few")
    lists = compared("array<string>", pa.array([["x"], []]), pa.array([["x"], ["y", "z"]]))
    assert (lists.measure, lists.online.high) == ("length", 2)


def test_odd_columns_are_compared() -> None:
    empty = compared("float64", numbers([]), numbers([1.0]))
    assert (empty.psi, empty.training.median, empty.level) == (None, None, "too few")
    nothing = compared("string", pa.array([None], pa.string()), pa.array([None], pa.string()))
    assert nothing.histogram is None
    odd = numbers([math.nan, math.inf, -math.inf, 0.0, 1e300, *range(40)])
    assert compared("float64", odd, odd).psi == pytest.approx(0)
    few = compared("float64", numbers([1, 2, 3]), numbers([7, 8, 9]))
    assert few.level == "too few"  # as few values can differ by chance
    one = compared("float64", numbers([5]), numbers([5] * 1000))
    assert one.level == "too few"
    one = compared("string", pa.array(["a"]), pa.array(["a"] * 1000))
    assert one.level == "too few"
    absent = pa.nulls(1000, pa.float64())
    assert compared("float64", absent, absent).level == "stable"
    assert compared("float64", absent[:9], absent[:9]).level == "too few"
    with pytest.raises(RequestError, match="'f' is string"):
        compared("int64", pa.array(["x"]), pa.array([1]))


def test_bins_suit_the_values() -> None:
    whole = number_histogram(numbers(range(100)), numbers(range(100)))
    assert {round(share, 3) for share in whole.first[:-1]} == {0.04}
    skewed = [math.exp(i / 50) for i in range(500)] + [0.0]
    assert number_histogram(numbers(skewed), numbers(skewed)).scale == "log"
    few = number_histogram(numbers([1, 2, 2, 5]), numbers([5]))
    assert (few.scale, few.labels, few.first) == ("values", ("1", "2", "5"), (0.25, 0.5, 0.25))


def users(at: datetime, older: int = 0) -> Any:
    count = range(ROWS)
    return pa.table(
        {
            "user_id": [f"u{i}" for i in count],
            "at": pa.array([at] * ROWS, TIME),
            "age": pa.array([20 + i % 50 + older for i in count], pa.int64()),
            "visits": pa.array([None if i % 4 == 0 else i % 9 for i in count], pa.int64()),
            "country": [("NO", "<b>", "DE")[i % 3] for i in count],
            "seen": pa.array([at - timedelta(minutes=i) for i in count], TIME),
        }
    )


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    """Values of three days ago as a training set, and those of today online."""
    folder = tmp_path_factory.mktemp("compare")
    now = datetime.now(UTC) - timedelta(seconds=5)
    old, new = users(START), users(now, older=30)
    pq.write_table(pa.concat_tables([old, new]), folder / "users.parquet")
    shops = {"shop_id": list(range(20)), "at": pa.array([START] * 20, TIME), "amount": [1.5] * 20}
    pq.write_table(pa.table(shops), folder / "shops.parquet")
    store = open_store(folder, VIEWS)
    store.materialize()
    labels = {
        "user_id": [f"u{i % ROWS}" for i in range(900)],
        "shop_id": [i % 20 for i in range(900)],
        "event_timestamp": pa.array([START + timedelta(seconds=5)] * 900, TIME),
    }
    job = store.get_historical_features(pa.table(labels), "model", statuses=True)
    job.persist(folder / "train")
    return store


def by_name(features: Sequence[FeatureDrift]) -> dict[str, FeatureDrift]:
    return {feature.name: feature for feature in features}


def test_a_training_set_is_compared_with_values_of_its_keys(store: FeatureStore) -> None:
    report = store.compare(store.path / "train", "model", sample=600)
    assert report.drifted == ("age",)
    assert report.features[0].name == "age"
    found = by_name(report.features)
    assert found["age"].training.rows == 900
    assert found["age"].online.rows == 600
    assert found["visits"].training.statuses == {"present": 0.75, "default": 0.25}
    assert found["visits"].online.statuses["default"] == pytest.approx(0.25, abs=0.06)
    assert found["country"].level == found["amount"].level == "stable"
    # Times of three days ago and of today, but seconds to hours before the label or the read.
    assert (found["seen"].measure, found["seen"].level) == ("age", "stable")
    assert "online values of 600 of its rows" in report.online
    assert json.loads(json.dumps(report.to_dict()))["drifted"] == ["age"]


def test_any_parquet_file_and_keys_of_the_store_will_do(store: FeatureStore) -> None:
    whole = pq.read_table(store.path / "train" / "data.parquet")
    path = store.path / "other.parquet"
    pq.write_table(whole.select(["age", "country"]), path)
    report = store.compare(path, "model", sample=100)
    assert report.drifted == ("age",)
    assert report.only_online == ("visits", "seen", "amount")
    assert "stored entities" in report.online
    full = whole.select(["age"]).rename_columns(["profile__age"])
    assert store.compare(full, ["profile"], sample=100).drifted == ("profile__age",)
    with pytest.raises(RequestError, match="no join key 'user_id'"):
        store.compare(path, "model", keys="training")
    with pytest.raises(RequestError, match="no feature of model"):
        store.compare(whole.select(["user_id", "shop_id"]), "model")
    with pytest.raises(RequestError, match="no Parquet file"):
        store.compare(store.path / "nowhere", "model")


def test_files_can_be_compared_with_files(store: FeatureStore) -> None:
    train = store.path / "train"
    report = store.compare(train, "model", current=train)
    assert report.drifted == ()
    assert [feature.psi for feature in report.features] == pytest.approx([0] * 5)


def test_of_many_rows_a_sample_is_compared(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("featurekit.training.column_files.MAX_ROWS", 300)
    train = store.path / "train"
    report = store.compare(train, "model", sample=200)
    assert report.drifted == ("age",)
    assert 200 < report.features[0].training.rows < 400
    assert report.notes == ("a sample of the 900 rows of the training set is compared",)
    assert store.compare(train, "model", sample=200).features[0] == report.features[0]


@pytest.mark.slow
def test_a_training_set_is_compared_with_what_was_served(
    store: FeatureStore, tmp_path: Path, valkey: Server
) -> None:
    logged = VIEWS.replace(
        "features: [profile, sales]}", "features: [profile, sales], logging: {path: served}}"
    )
    for name in ("users.parquet", "shops.parquet"):
        shutil.copy(store.path / name, tmp_path / name)
    train = store.path / "train"
    with open_store(tmp_path, logged, valkey.url) as other:
        other.materialize()
        rows = [{"user_id": f"u{i}", "shop_id": i % 20} for i in range(ROWS)]
        other.get_online_features("model", rows)
        other.compare(train, "model", sample=50)
        other.verify("model", sample=50)
        assert other.metrics(views=False).reads["model"].calls == 1
    with FeatureStore(tmp_path) as other:
        report = other.compare(train, "model", log=True)
        with pytest.raises(RequestError, match="only a feature service has a log"):
            other.compare(train, ["profile"], log=True)
    assert report.drifted == ("age",)
    assert {feature.online.rows for feature in report.features} == {
        ROWS
    }  # of users, not of checks
    assert by_name(report.features)["visits"].online.statuses == {"present": 0.75, "default": 0.25}
    assert by_name(report.features)["seen"].level == "stable"
    with pytest.raises(RequestError, match="does not log what it serves"):
        store.compare(train, "model", log=True)


def test_bounds_decide_what_has_drifted(store: FeatureStore) -> None:
    train = store.path / "train"
    wide = DriftBounds(psi=100, ks=0.99)
    assert store.compare(train, "model", sample=300, bounds=wide).drifted == ()


def test_the_page_refers_to_nothing_outside_of_itself(store: FeatureStore) -> None:
    page = store.compare(store.path / "train", "model", sample=300).to_html()
    assert "<b>" not in page
    assert "&lt;b&gt;" in page
    for text in ("<script", "http://", "https://", "url(", "@import", "<link", "<img"):
        assert text not in page.replace("http://www.w3.org/2000/svg", "")
    assert page.count("<section") == 1 + 5
    assert "Drifted by PSI and KS" in page


def test_the_command_exits_with_1_if_a_feature_has_drifted(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, page = str(store.path / "train"), store.path / "page.html"
    monkeypatch.setattr("featurekit.cli.context.CliContext.open_store", lambda _: store)
    result = run("compare", train, "--service", "model", "--html", str(page))
    assert result.exit_code == 1
    assert result.stdout.splitlines()[1].split()[:2] == ["age", "drifted"]
    assert "drifted: 1 feature: age" in result.stderr
    assert page.read_text().startswith("<!doctype html>")
    result = run("compare", train, "--service", "model", "--current", train, "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["drifted"] == []
    result = run("compare", train, "--service", "model", "--html", "/nowhere/page.html")
    assert (result.exit_code, "cannot be written" in result.stderr) == (1, True)


def test_a_comparison_of_too_few_values_is_not_ok(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pq.write_table(pa.table({"age": [20, 21], "country": ["NO", "DE"]}), tmp_path / "few.parquet")
    few = str(tmp_path / "few.parquet")
    monkeypatch.setattr("featurekit.cli.context.CliContext.open_store", lambda _: store)
    result = run("compare", few, "--service", "model", "--current", few)
    assert result.exit_code == 1
    assert "not compared: no feature has enough values" in result.stderr
    assert "ok" not in result.stderr
    train = str(store.path / "train")
    result = run("compare", train, "--service", "model", "--current", train)
    assert result.exit_code == 0
    assert "compared, none has drifted" in result.stderr


@pytest.mark.slow
def test_the_page_fits_a_phone_and_a_desktop(
    store: FeatureStore, browser: Browser, tmp_path: Path
) -> None:
    path = tmp_path / "page.html"
    path.write_text(store.compare(store.path / "train", "model", sample=300).to_html())
    for width in (390, 1280):
        page = browser.new_page(viewport={"width": width, "height": 800})
        problems: list[ConsoleMessage] = []
        page.on("console", lambda message: problems.append(message))  # noqa: B023, PLW0108
        page.goto(path.as_uri())
        page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
        assert page.evaluate("document.documentElement.scrollWidth") == width
        assert page.locator("svg[role=img]").count() >= 3
        assert problems == []
        page.close()
