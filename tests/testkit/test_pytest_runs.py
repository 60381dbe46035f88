"""Runs of pytest as users start them: which repository the fixtures take, and what failures show."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.examples.places import environment

VIEWS = """\
entities: [{name: user, join_keys: {user_id: string}}]
feature_views:
  - {name: %s, entity: user, stream: {refresh: 1m}, fields: {count: int64}}
"""
ROOTS = {"nearest": "tests", "configured": "other", "marked": "tests/marked"}
TESTS = '''
import asyncio
from pathlib import Path

import pytest


def views(store):
    return [view.name for view in store.list_feature_views()]


def test_the_nearest_repository(feature_store):
    assert views(feature_store) == ["{nearest}"]


@pytest.mark.feature_repo("marked")
def test_a_marked_folder(feature_store):
    assert views(feature_store) == ["marked"]


@pytest.mark.feature_repo("""
    entities: [{{name: user, join_keys: {{user_id: string}}}}]
    feature_views:
      - {{name: inline, entity: user, stream: {{refresh: 1m}}, fields: {{count: int64}}}}
""")
@pytest.mark.asyncio
async def test_definitions_as_text(feature_store, clock):
    await feature_store.stream_writer("inline").write_async("u1", {{"count": 1}})
    clock.advance("5m")
    await asyncio.sleep(0)
    feature_store.assert_missing(["inline"], {{"user_id": "u1"}})


class TestOwnFixture:
    @pytest.fixture
    def feature_repo(self):
        return Path(__file__).parent / "marked"

    def test_a_fixture_of_its_own(self, feature_store):
        assert views(feature_store) == ["marked"]


@pytest.mark.parametrize("number", range(6))
def test_in_parallel(feature_store, number):
    view = views(feature_store)[0]
    feature_store.assert_missing([view], {{"user_id": "u1"}})
    feature_store.given_events(view, {{"user_id": "u1", "count": number}})
    feature_store.assert_served([view], {{"user_id": "u1"}}, {{"count": number}})
'''
FAILING = """
import pytest


@pytest.mark.feature_repo("/")
def test_without_a_repository(feature_store):
    pass


@pytest.mark.feature_repo("entities: 3\\n")
def test_with_wrong_definitions(feature_store):
    pass


@pytest.mark.feature_repo
def test_an_empty_marker(feature_store):
    pass


def test_a_wrong_row(feature_store):
    feature_store.given_features({"user_id": "u1", "conut": 3})


def test_a_wrong_value(feature_store):
    feature_store.given_events("tests", {"user_id": "u1", "count": 3})
    feature_store.assert_served(["tests"], {"user_id": "u1"}, {"count": 4})
"""


def write(folder: Path, test: str) -> None:
    """Write repositories of one view each, named after their folders, and a test file."""
    for path in ("tests", "other", "tests/marked"):
        (folder / path).mkdir(exist_ok=True)
        (folder / path / "featurerepo.yaml").write_text("project: shop\ndefinitions: [d.yaml]\n")
        (folder / path / "d.yaml").write_text(VIEWS % Path(path).name)
    (folder / "tests/test_it.py").write_text(test)


def run(folder: Path, *arguments: str) -> str:
    """Run pytest in a folder; return what it prints."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--strict-markers"]
    done = subprocess.run(
        [*command, *arguments, "tests"],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr


@pytest.mark.slow
def test_the_repository_is_the_nearest_or_a_marked_one(tmp_path: Path) -> None:
    write(tmp_path, TESTS.format(nearest="tests"))
    assert "10 passed" in run(tmp_path, "-q", "-n", "0")


@pytest.mark.slow
def test_an_option_names_the_repository_and_xdist_runs_tests_in_parallel(tmp_path: Path) -> None:
    write(tmp_path, TESTS.format(nearest="other"))
    (tmp_path / "pytest.ini").write_text("[pytest]\nfeature_repo = other\n")
    assert "10 passed" in run(tmp_path, "-q", "-n", "2")


@pytest.mark.slow
def test_failures_show_the_line_of_the_test_and_the_reason(tmp_path: Path) -> None:
    write(tmp_path, FAILING)
    printed = run(tmp_path, "-q", "-n", "0")
    assert "no featurerepo.yaml in / or a folder above it" in printed
    assert "definitions.yaml:1:11: " in printed
    assert "@pytest.mark.feature_repo(...)" in printed
    assert "unknown feature 'conut'" in printed
    assert "count: expected 4, served 3 (present, for 5m more)" in printed
    assert "2 failed, 3 errors" in printed
    assert re.findall(r"src/featurekit\S+", printed) == []
