"""Run pytest for CI: `python -m tests.rerun [PYTEST ARGUMENT ...]`.

The machines of CI are shared, and stand still for seconds at times. If at most `MAX_FAILED` tests fail, they
run once more, one after another in one process. All must pass then, and are named in the last lines of the
output: a test that fails by chance is a fault of the test, or a race in the product.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest

MAX_FAILED = 5


def run(arguments: Sequence[str]) -> int:
    """Run the tests, and again those that failed; return the exit code."""
    with tempfile.TemporaryDirectory(prefix="fk") as folder:
        # A cache of its own contains nothing of earlier runs.
        command = [sys.executable, "-m", "pytest", *arguments, "-o", f"cache_dir={folder}"]
        code = subprocess.run(command, check=False).returncode
        failed = failed_tests(Path(folder))
        if code != pytest.ExitCode.TESTS_FAILED or not 0 < len(failed) <= MAX_FAILED:
            return code
        print(f"\n== Running again, one after another: {len(failed)} failed", flush=True)
        again = subprocess.run([*command, "-n", "0", "--last-failed"], check=False).returncode
        still = failed_tests(Path(folder))
    for test in failed:
        outcome = "failed twice" if test in still else "failed first and passed alone"
        print(f"fragile: {test} {outcome}", flush=True)
    return again


def failed_tests(cache: Path) -> list[str]:
    """Return the ids of the tests that failed, from pytest's cache."""
    file = cache / "v" / "cache" / "lastfailed"
    return sorted(json.loads(file.read_text())) if file.exists() else []


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
