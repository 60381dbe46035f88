"""Metrics snapshots, and the counters behind them."""

from __future__ import annotations

from featurekit.ports import ConnectionStats
from featurekit.runtime.counters import AtomicCounter
from featurekit.runtime.metrics import BOUNDS_S, Histogram, Metrics, ViewMetrics


def test_a_quantile_is_the_bound_that_this_share_of_calls_stayed_within() -> None:
    latency = Histogram([2, 0, 0, 0, 0, 1, *[0] * (len(BOUNDS_S) - 6), 1], 100.1)
    assert latency.calls == 4
    assert [latency.quantile(share) for share in (0.5, 0.75, 1)] == [5e-05, 0.0025, float("inf")]
    assert Histogram().quantile(0.5) is None


def test_an_atomic_counter_counts_up_and_starts_again() -> None:
    counter = AtomicCounter()
    assert [next(counter.increments) for _ in range(3)] == [None] * 3
    assert counter.value == 3
    counter.reset()
    next(counter.increments)
    assert counter.value == 1


def test_of_two_states_of_a_view_the_first_counts() -> None:
    late, on_time = (
        Metrics(views={"v": ViewMetrics("batch", s, 1000)}) for s in ("late", "on time")
    )
    assert (late + on_time).views == late.views
    assert (late + Metrics()).views == (Metrics() + late).views == late.views


def test_connection_stats_of_two_stores_add_up() -> None:
    assert ConnectionStats(1, 2, 3, 4, 5, 6) + ConnectionStats(
        10, 20, 30, 40, 50, 60
    ) == ConnectionStats(11, 22, 33, 44, 55, 66)
