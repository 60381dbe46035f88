"""Benchmarks: `python -m tests.benchmarks`. They compare functions in one run; no test asserts them."""
