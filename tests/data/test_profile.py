"""`profile` describes what a load would write, or what is stored."""

from __future__ import annotations

import json
import math
import random
import statistics
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from playwright.sync_api import Browser

from featurekit import FeatureStore
from featurekit.sources import statistics as column_statistics
from featurekit.sources.statistics import QUANTILES, ColumnStatistics
from tests.cli.running import run
from tests.console.browsers import browser
from tests.data.repos import profile, row, write_repo, write_users

__all__ = ["browser"]


def fields_of(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {each["name"]: each for each in document["fields"]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = [row(n, segment="low" if n % 4 else "high") for n in range(100)]
    rows += [row(n, age=0, score=None) for n in range(100, 120)]
    write_users(write_repo(tmp_path, profile()), [*rows, row(200, age=-1)])
    return tmp_path


def test_the_newest_rows_of_the_source_are_described(folder: Path) -> None:
    report = json.loads(run("--repo", str(folder), "profile", "profile", "--json").stdout)
    fields = fields_of(report)
    assert report["rows"] == 120
    assert "rows that do not fit the view: 1;" in report["notes"][0]
    assert fields["segment"]["top"] == [["low", 95], ["high", 25]]
    assert fields["age"]["top"][0] == ["0", 20]
    assert (fields["score"]["nulls"], fields["score"]["distinct"]) == (20, 100)
    assert fields["score"]["numbers"]["median"] == 24.5
    for each in fields.values():
        assert math.isclose(sum(each["histogram"]["first"]), 1)


def test_stored_values_are_described_with_their_statuses(folder: Path) -> None:
    with FeatureStore(folder) as store:
        store.apply()
        store.materialize("profile", on_bad_row="skip")
        report = store.data.profile("profile", online=True, sample=500)
        few = store.data.profile("profile", online=True, sample=30)
    fields = {each.name: each for each in report.fields}
    assert (report.rows, few.rows) == (120, 30)
    assert fields["score"].statuses == {"present": 100, "missing": 20}
    assert fields["score"].nulls == 20


def test_the_table_shows_histograms_and_frequent_values(folder: Path) -> None:
    result = run("--repo", str(folder), "profile", "profile")
    lines = {line.split()[0]: line for line in result.stdout.splitlines()}
    assert "low 79%, high 21%" in lines["segment"]
    assert "█" in lines["score"]
    assert "17%" in lines["score"]


@pytest.mark.slow
def test_the_page_is_complete_in_itself(folder: Path, browser: Browser) -> None:
    page_file = folder / "page.html"
    result = run("--repo", str(folder), "profile", "profile", "--html", str(page_file))
    assert result.exit_code == 0
    assert "http" not in page_file.read_text().replace("http-equiv", "").replace(
        "http://www.w3.org/2000/svg", ""
    )
    for scheme in ("light", "dark"):
        context = browser.new_context(
            viewport={"width": 390, "height": 800},
            color_scheme=scheme,
        )
        page = context.new_page()
        page.goto(page_file.as_uri())
        assert page.locator(".card").count() == 4
        assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_names_in_the_page_are_text(tmp_path: Path) -> None:
    write_users(write_repo(tmp_path, profile()), [])
    (tmp_path / "features.yaml").write_text(
        (tmp_path / "features.yaml").read_text().replace("one_of: [low, high]", "max_length: 99")
    )
    write_users(tmp_path, [row(n, segment="<script>alert(1)</script>") for n in range(3)])
    with FeatureStore(tmp_path) as store:
        page = store.data.profile("profile").to_html()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


def test_a_source_without_rows_gives_an_empty_profile(tmp_path: Path) -> None:
    write_users(write_repo(tmp_path, profile()), [])
    with FeatureStore(tmp_path) as store:
        report = store.data.profile("profile")
    assert report.rows == 0
    assert [each.histogram for each in report.fields] == [None, None, None]
    assert "There is no value." in report.to_html()


def test_wrong_usage_is_refused(folder: Path) -> None:
    (folder / "features.yaml").write_text(
        (folder / "features.yaml").read_text()
        + "  - {name: own, entity: user, stream: {refresh: 1m}, fields: {n: int64}}\n"
    )
    assert "--online" in run("--repo", str(folder), "profile", "own").stderr
    assert run("--repo", str(folder), "profile", "profiles").exit_code == 1
    assert run("--repo", str(folder), "profile", "profile", "--sample", "0").exit_code == 2


@pytest.mark.parametrize("exact_rows", [10_000, 100])
def test_statistics_equal_their_definitions(
    monkeypatch: pytest.MonkeyPatch, exact_rows: int
) -> None:
    monkeypatch.setattr(column_statistics, "EXACT_ROWS", exact_rows)
    chance = random.Random(3)
    values = [chance.gauss(5, 2) for _ in range(4000)] + [0.0] * 50
    columns = ColumnStatistics(["x"])
    for start in range(0, len(values), 1000):
        columns.add("x", pa.array(values[start : start + 1000], pa.float64()))
    found = columns.numbers("x")
    assert found is not None
    assert (found.min, found.max) == (min(values), max(values))
    assert math.isclose(found.mean, statistics.fmean(values))
    assert math.isclose(found.std, statistics.stdev(values))
    ordered = sorted(values)
    for share, value in zip(QUANTILES, found.quantiles, strict=True):
        assert abs(value - ordered[int(share * (len(values) - 1))]) < 0.3
    assert columns.distinct("x") == 4001
    assert columns.top("x", 1) == [(0.0, 50)]
    assert columns.bins("x", [0.0, 5.0]) == [
        sum(v < 0 for v in values),
        sum(0 <= v < 5 for v in values),
        sum(v >= 5 for v in values),
    ]
    columns.close()
