"""Run benchmarks and print a table of times and ratios.

To compare two checkouts, run each one's own benchmarks, with its own environment, in short alternating
runs on an idle machine:

    (cd before && .venv/bin/python -m tests.benchmarks reads --json /tmp/before.json)
    (cd after && .venv/bin/python -m tests.benchmarks reads --baseline /tmp/before.json)

The last column is then the median (or the rate) as a multiple of the baseline's. Ratios to prepared
bytes and to redis-py compare better than times, since a machine's speed drifts between runs.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from types import ModuleType

from tests.benchmarks import (
    cluster_reads,
    concurrency,
    derived_reads,
    expressions,
    http,
    loads,
    matrix,
    metrics_overhead,
    reads,
    spark_loads,
    spark_training,
    startup,
    streams,
    training,
    window_reads,
    window_writes,
)
from tests.benchmarks.results import TABLE_HEAD, Measurement, machine, table_row

MODULES: tuple[ModuleType, ...] = (
    startup, reads, matrix, concurrency, cluster_reads, metrics_overhead, loads, spark_loads, streams, http,
    training, expressions, derived_reads, window_reads, window_writes, spark_training,
)  # fmt: skip


def main() -> None:
    """Run the benchmarks named on the command line, or all; print each result at once."""
    options = _parser().parse_args()
    functions = _functions(options.seconds, options.rows)
    baseline = _read(options.baseline) if options.baseline else {}
    results: list[Measurement] = []
    print(TABLE_HEAD)
    for name in options.benchmarks or functions:
        for measured in functions[name]():
            print(table_row(measured, baseline.get(measured.key)), flush=True)
            results.append(measured)
    print(f"\n{machine()}")
    if options.json:
        document = {"machine": machine(), "rows": [asdict(each) for each in results]}
        options.json.write_text(json.dumps(document, indent=1) + "\n")


def _parser() -> argparse.ArgumentParser:
    names = [_name(module) for module in MODULES]
    lines = [f"  {_name(module):18}{(module.__doc__ or '').splitlines()[0]}" for module in MODULES]
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks",
        description=__doc__,
        epilog="\n".join(["benchmarks, each of which can run alone:", *lines]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "benchmarks", nargs="*", metavar="BENCHMARK", help="which to run; all by default",
        choices=[*names, []],
    )  # fmt: skip
    parser.add_argument("--seconds", type=float, default=3.0, help="for each kind of call")
    parser.add_argument(
        "--rows", type=int, default=1_000_000, help="rows of a load, labels of a training set"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results to a file")
    parser.add_argument(
        "--baseline", type=Path, metavar="FILE", help="compare with results written by --json"
    )
    return parser


def _name(module: ModuleType) -> str:
    return module.__name__.rpartition(".")[2]


def _functions(seconds: float, rows: int) -> dict[str, Callable[[], Iterator[Measurement]]]:
    timed = (
        reads,
        matrix,
        concurrency,
        cluster_reads,
        metrics_overhead,
        streams,
        http,
        expressions,
        derived_reads,
        window_reads,
        window_writes,
    )
    functions: dict[str, Callable[[], Iterator[Measurement]]] = {
        _name(module): lambda module=module: module.measure(seconds)  # type: ignore[misc]
        for module in timed
    }
    functions |= {"startup": startup.measure, "loads": lambda: loads.measure(rows)}
    functions["spark_loads"] = lambda: spark_loads.measure(rows)
    functions["training"] = lambda: training.measure(rows)
    functions["spark_training"] = lambda: spark_training.measure(rows)
    return {_name(module): functions[_name(module)] for module in MODULES}


def _read(path: Path) -> dict[tuple[str, str], Measurement]:
    rows = [Measurement(**row) for row in json.loads(path.read_text())["rows"]]
    return {each.key: each for each in rows}


if __name__ == "__main__":
    main()
