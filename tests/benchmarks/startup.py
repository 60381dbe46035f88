"""CPU time of starting Python, `import featurekit` and the CLI."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

from tests.benchmarks.results import Measurement

RUNS = 10
COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "python -c 'import featurekit'": ["-c", "import featurekit"],
    "featurekit --help": ["-m", "featurekit", "--help"],
}


def measure() -> Iterator[Measurement]:
    """Measure user and system time of whole processes."""
    for name, arguments in COMMANDS.items():
        times = sorted(_cpu_ms(arguments) for _ in range(RUNS))
        yield Measurement(name, "CPU", times[0], times[RUNS // 2])


def _cpu_ms(arguments: list[str]) -> float:
    process = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return (usage.ru_utime + usage.ru_stime) * 1000
