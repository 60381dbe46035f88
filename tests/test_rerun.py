"""CI runs a few failed tests once more, and names those that pass then."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.rerun import MAX_FAILED

ROOT = Path(__file__).parent.parent
PASSES = "def test_passes(): pass\n"
FAILS_ONCE = """
from pathlib import Path

def test_fails_once():
    marker = Path(__file__).with_suffix(".ran")
    if not marker.exists():
        marker.touch()
        raise AssertionError("first run")
"""
FAILS = "def test_fails(): raise AssertionError\n"
MANY = f"""
import pytest

@pytest.mark.parametrize("n", range({MAX_FAILED + 1}))
def test_many(n): raise AssertionError
"""


def rerun(folder: Path, *sources: str, workers: int = 0) -> subprocess.CompletedProcess[str]:
    folder.mkdir()
    (folder / "pytest.ini").write_text("[pytest]\n")
    for number, source in enumerate(sources):
        (folder / f"test_{number}.py").write_text(source)
    return subprocess.run(
        [sys.executable, "-m", "tests.rerun", "-q", f"-n{workers}", "--rootdir", folder, folder],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )


@pytest.mark.slow
def test_a_few_failed_tests_run_again_alone(tmp_path: Path) -> None:
    once = rerun(tmp_path / "once", PASSES, FAILS_ONCE)
    assert once.returncode == 0, once.stdout
    [*_, summary, last] = once.stdout.splitlines()
    assert summary.startswith("1 passed")
    assert last == "fragile: test_1.py::test_fails_once failed first and passed alone"
    both = rerun(tmp_path / "both", PASSES, FAILS_ONCE, FAILS, workers=2)
    assert both.returncode == 1
    assert "fragile: test_1.py::test_fails_once failed first and passed alone" in both.stdout
    assert "fragile: test_2.py::test_fails failed twice" in both.stdout


@pytest.mark.slow
def test_many_failures_and_other_errors_run_once(tmp_path: Path) -> None:
    many = rerun(tmp_path / "many", MANY)
    assert (many.returncode, "again" in many.stdout) == (1, False)
    broken = rerun(tmp_path / "broken", PASSES, "import nothing_of_this_name\n")
    assert (broken.returncode, "again" in broken.stdout) == (2, False)
