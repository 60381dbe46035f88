"""Time several functions in turns, so that their ratios survive a machine whose speed drifts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median, quantiles
from time import perf_counter

TURN_S = 0.02
"""Length of one turn. Short, so that adjacent turns run at the same machine speed."""


@dataclass(frozen=True, slots=True)
class Timings:
    """Call durations in seconds: for each function a list of turns, for each turn a list of calls."""

    turns: dict[str, list[list[float]]]

    def times(self, name: str) -> list[float]:
        """Return every call duration of one function."""
        return [time for turn in self.turns[name] for time in turn]

    def median(self, name: str) -> float:
        """Return the median call duration of one function."""
        return median(self.times(name))

    def p99(self, name: str) -> float:
        """Return the 99th percentile of the call durations of one function."""
        times = self.times(name)
        return quantiles(times, n=100)[-1] if len(times) > 1 else times[0]

    def ratio(self, name: str, other: str) -> float:
        """Return how long `name` takes as a multiple of `other`: the median over adjacent turns."""
        pairs = zip(self.turns[name], self.turns[other], strict=True)
        return median(median(mine) / median(theirs) for mine, theirs in pairs)


def time_in_turns(functions: Mapping[str, Callable[[], object]], seconds: float) -> Timings:
    """Call each function once to warm up, then time them in short alternating turns."""
    turns: dict[str, list[list[float]]] = {name: [] for name in functions}
    for function in functions.values():
        function()
    end = perf_counter() + seconds
    while not all(turns.values()) or perf_counter() < end:
        for name, function in functions.items():
            turns[name].append(_time_turn(function))
    return Timings(turns)


def _time_turn(function: Callable[[], object]) -> list[float]:
    times = []
    end = perf_counter() + TURN_S
    while (start := perf_counter()) < end:
        function()
        times.append(perf_counter() - start)
    return times
