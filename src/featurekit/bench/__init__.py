"""Benchmark reads and loads on a user's own store, next to reference clients of the same server."""

from featurekit.bench.run import BenchReport, LoadBench, ReadBench, run_bench

__all__ = ["BenchReport", "LoadBench", "ReadBench", "run_bench"]
