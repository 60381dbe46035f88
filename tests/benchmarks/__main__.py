"""Run benchmarks: `python -m tests.benchmarks [PART ...] [--json FILE]`; `--help` lists the parts."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

from tests.benchmarks import cluster_reads, http, loads, metrics_overhead, reads, startup, streams
from tests.benchmarks.results import HEAD, Row, line, machine


def main() -> None:
    """Measure what is asked for, or all; print a table as it grows."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument(
        "parts",
        nargs="*",
        help="starts, reads, clusters, counting, loads, streams, http; all of them by default",
    )
    parser.add_argument("--seconds", type=float, default=3.0, help="for each kind of read")
    parser.add_argument("--rows", type=int, default=1_000_000, help="of a load")
    parser.add_argument("--json", type=Path, help="a file for the figures")
    options = parser.parse_args()
    parts: dict[str, Callable[[], Iterator[Row]]] = {
        "starts": startup.measure,
        "reads": lambda: reads.measure(options.seconds),
        "clusters": lambda: cluster_reads.measure(options.seconds),
        "counting": lambda: metrics_overhead.measure(options.seconds),
        "loads": lambda: loads.measure(options.rows),
        "streams": lambda: streams.measure(options.seconds),
        "http": lambda: http.measure(options.seconds),
    }
    if odd := set(options.parts) - set(parts):
        parser.error(f"unknown part {', '.join(sorted(odd))}")
    rows: list[Row] = []
    print(HEAD)
    for name in options.parts or parts:
        for row in parts[name]():
            print(line(row), flush=True)
            rows.append(row)
    print(f"\n{machine()}")
    if options.json:
        found = {"machine": machine(), "rows": [asdict(row) for row in rows]}
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
