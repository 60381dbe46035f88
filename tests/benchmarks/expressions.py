"""10,000 values of an expression, inside a generated function and called, compared with lambdas by hand."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from itertools import count
from typing import Any

from featurekit.bench.timing import time_in_turns
from featurekit.expressions import FLOAT64, INT64, STRING, TIMESTAMP, parse, python_source
from featurekit.lower.build import build
from tests.benchmarks.results import Measurement, measurements

CALLS = 10_000
NAMES = {
    **dict.fromkeys(("amount", "mean", "deviation"), FLOAT64),
    **dict.fromkeys(("count_5m", "count_1h"), INT64),
    **dict.fromkeys(("country", "home", "email"), STRING),
    "last": TIMESTAMP,
}
VALUES: dict[str, Any] = {
    "amount": 19.9, "mean": 12.3, "deviation": 2.5, "count_5m": 4, "count_1h": 17, "country": "NO", "home": "SE",
    "email": "ada.lovelace@example.no", "last": datetime(2026, 11, 1, 8, tzinfo=UTC),
    "now": datetime(2026, 11, 2, 9, 30, tzinfo=UTC),
}  # fmt: skip
BY_HAND: dict[str, Callable[..., Any]] = {
    "amount / nullif(mean, 0)": lambda amount, mean: amount / mean if amount is not None and mean else None,
    "coalesce(count_5m, 0) > 3 and amount > 100": (
        lambda count_5m, amount: (count_5m or 0) > 3 and amount is not None and amount > 100
    ),
    "(amount - mean) / nullif(coalesce(deviation, 1), 0)": (
        lambda amount, mean, deviation: (amount - mean) / (1.0 if deviation is None else deviation)
        if amount is not None and mean is not None and deviation != 0 else None
    ),
    "count_5m * 12 - count_1h": lambda a, b: a * 12 - b if a is not None and b is not None else None,
    "case when country <> home then 'abroad' when amount > 10 then 'large' else 'other' end": (
        lambda country, home, amount: "abroad" if country is not None and home is not None and country != home
        else "large" if amount is not None and amount > 10 else "other"
    ),
    "ln(1 + amount)": lambda amount: math.log(1 + amount) if amount is not None and amount > -1 else None,
    "round(amount, 2)": lambda amount: round(amount, 2) if amount is not None else None,
    "lower(email) like '%@example.no'": (
        lambda email: email.lower().endswith("@example.no") if email is not None else None
    ),
    "(epoch(now) - epoch(last)) / 3600": (
        lambda now, last: (now - last).total_seconds() / 3600 if last is not None else None
    ),
}  # fmt: skip


def measure(seconds: float) -> Iterator[Measurement]:
    """Measure each expression against the lambda."""
    for text, by_hand in BY_HAND.items():
        loops = _loops(text, by_hand)
        values = [VALUES[name] for name in parse(text, NAMES).names]
        acts = {name: partial(loop, *values) for name, loop in loops.items()}
        yield from measurements(text, time_in_turns(acts, seconds), "lambda", "")


def _loops(text: str, by_hand: Callable[..., Any]) -> dict[str, Callable[..., Any]]:
    """Return functions that compute the value many times."""
    expression = parse(text, NAMES)
    variables = {name: f"v{index}" for index, name in enumerate(expression.names)}
    numbers = count()
    generated = python_source(expression, variables, lambda: f"t{next(numbers)}")
    args = ", ".join(variables.values())
    head, loop = f"def f({args}):", f"    for _ in range({CALLS}):"
    function = build("f", f"{head} return {generated.source}", generated.helpers)
    inline = build("f", f"{head}\n{loop} {generated.source}", generated.helpers)
    called = f"{head}\n{loop} g({args})"
    return {
        "expression, inline": inline,
        "expression, called": build("f", called, {"g": function}),
        "lambda": build("f", called, {"g": by_hand}),
    }
