"""Benchmarks: `python -m tests.benchmarks`. Ratios within one run; no test asserts them."""
