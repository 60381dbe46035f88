"""Windows computed from all events, and from the bytes that are stored: two ways that must agree."""

from __future__ import annotations

import hashlib
import math
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from featurekit.keys import JoinKey, KeyPlan
from featurekit.lower.windows import fold_function
from featurekit.plan import AggregatePlan, FieldPlan, KafkaTopicPlan, ViewPlan, WindowsPlan
from featurekit.ports import AsyncOnlineStore
from featurekit.runtime.write_arguments import Event, PositionedEvent
from featurekit.stores.open import create_async_store, create_store
from featurekit.stores.url import StoreUrl
from featurekit.types import parse_dtype
from tests.servers import patient

KEY = KeyPlan("fs", "user", (JoinKey("user_id", parse_dtype("string")),))
TOPIC = KafkaTopicPlan(group="g", topic="tx", bootstrap_servers="x")
INPUTS = {"amount": "float64", "points": "int64", "shop": "string"}
MINUTE, HOUR = 60_000, 3_600_000

FEATURES: dict[str, tuple[str, str, str | None, int, int]] = {
    "count_5m": ("int64", "count", None, 5 * MINUTE, MINUTE),
    "count_1h": ("int64", "count", None, HOUR, 5 * MINUTE),
    "count_24h": ("int64", "count", None, 24 * HOUR, HOUR),
    "amounts_10m": ("int64", "count", "amount", 10 * MINUTE, MINUTE),
    "sum_1h": ("float64", "sum", "amount", HOUR, 5 * MINUTE),
    "points_1h": ("int64", "sum", "points", HOUR, 5 * MINUTE),
    "mean_1h": ("float64", "mean", "amount", HOUR, 5 * MINUTE),
    "max_24h": ("float64", "max", "amount", 24 * HOUR, HOUR),
    "min_5m": ("float64", "min", "amount", 5 * MINUTE, MINUTE),
    "stddev_1h": ("float64", "stddev", "amount", HOUR, 5 * MINUTE),
    "shops_1h": ("int64", "count_distinct", "shop", HOUR, 5 * MINUTE),
}
"""Type, function, input, window and tile of each feature."""


def windowed_view(
    once: Any = "offset", features: dict[str, Any] = FEATURES, **others: Any
) -> ViewPlan:
    """A view with windows over a topic."""
    fields = [
        FieldPlan(
            name=name,
            dtype=parse_dtype(dtype),
            aggregate=AggregatePlan(function=function, of=of, window_ms=window, tile_ms=tile),
        )
        for name, (dtype, function, of, window, tile) in features.items()
    ]
    inputs = tuple(FieldPlan(name, parse_dtype(dtype)) for name, dtype in INPUTS.items())
    windows = WindowsPlan(
        inputs=inputs,
        once=once,
        event_id="tx_id" if once == "event_id" else None,
        max_mark_age_ms=5 * MINUTE,
    )
    settings: dict[str, Any] = {"stream": TOPIC, "max_ahead_ms": MINUTE} | others
    return ViewPlan(
        name="tx",
        kind="stream",
        key=KEY,
        fields=tuple(fields),
        expires="field",
        ttl_ms=HOUR,
        refresh_ms=MINUTE,
        windows=windows,
        **settings,
    )


@dataclass(frozen=True)
class Sent:
    """An event, when it arrived, and where it is in its partition."""

    arrived_ms: int
    time_ms: int
    values: dict[str, Any]
    offset: int = 0


def random_log(rng: random.Random, base_ms: int, size: int) -> list[Sent]:
    """A log of the events of one entity: late, out of order, with nulls."""
    span = rng.choice([20, 120, 400, 3600, 20_000, 200_000]) * 1000
    shops, with_decimals = rng.choice([3, 150]), rng.random() < 0.5
    log = []
    for _ in range(size):
        time_ms = base_ms + rng.randint(0, span)
        time_ms -= time_ms % MINUTE if rng.random() < 0.3 else 0
        amount = round(rng.uniform(-100, 1000), 2) if with_decimals else float(rng.randint(-9, 9))
        values: dict[str, Any] = {
            "amount": None if rng.random() < 0.1 else amount,
            "points": rng.randint(-(10**6), 10**6),
            "shop": f"shop{rng.randint(0, shops)}",
        }
        if rng.random() < 0.1:
            del values[rng.choice(list(values))]
        late = 0 if rng.random() < 0.6 else rng.randint(0, rng.choice([2, 60, 400, 4000]) * 1000)
        log.append((time_ms + late, time_ms, values))
    log.sort(key=lambda each: each[0])
    return [Sent(*each, offset=offset) for offset, each in enumerate(log)]


def brute_force(feature: str, events: Sequence[Sent], now_ms: int) -> Any:
    """The feature at a time, from the events themselves."""
    _, function, of, window, tile = FEATURES[feature]
    start = now_ms // tile * tile - window
    values: list[Any] = [
        event.values.get(of) if of else 1 for event in events if start <= event.time_ms < now_ms
    ]
    values = [value for value in values if value is not None]
    if function == "count":
        return len(values)
    if function == "count_distinct":
        hashes = sorted({hashlib.sha1(value.encode()).hexdigest()[:12] for value in values})
        return _estimate(hashes)
    if not values or (function == "stddev" and len(values) < 2):
        return None
    mean = math.fsum(values) / len(values)
    results = {
        "sum": math.fsum(values) if isinstance(values[0], float) else sum(values),
        "min": min(values),
        "max": max(values),
        "mean": mean,
        "stddev": math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1 or 1)),
    }
    return results[function]


def from_stored(feature: str, data: bytes | None, now_ms: int) -> Any:
    """The feature at a time, from its stored bytes."""
    value = fold_function(windowed_view().field(feature))(data, now_ms)
    is_count = FEATURES[feature][1] in ("count", "count_distinct")
    return 0 if value is None and is_count else value


def _estimate(hashes: list[str]) -> int:
    if len(hashes) < 64:
        return len(hashes)
    return round(63 * 2**48 / (int(hashes[63], 16) + 1))


def is_close(feature: str, one: Any, other: Any) -> bool:
    """Whether two values of a feature agree: floats within 1e-9, others exactly."""
    if one is None or other is None:
        return one is other
    if FEATURES[feature][1] in ("sum", "mean", "stddev") and FEATURES[feature][0] == "float64":
        return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-6)
    return bool(one == other)


class Handle:
    """A store with a clock that a test sets."""

    def __init__(self, url: str, now_ms: int | None = None) -> None:
        parsed = StoreUrl.parse(patient(url))
        self.store = create_store(parsed)
        self._async_store = create_async_store(parsed)
        self.clock_ms = now_ms

    def async_store(self) -> AsyncOnlineStore:
        return self._async_store

    def now_ms(self) -> int:
        return int(time.time() * 1000) if self.clock_ms is None else self.clock_ms

    def close(self) -> None:
        self.store.close()

    def check_store(self) -> None:
        """Nothing is applied to the stores of these tests."""

    def is_check_due(self) -> bool:
        return False


def positioned(entity: str, event: Sent, position: str | None) -> Event:
    """An event as a worker writes it."""
    result = PositionedEvent((entity, event.values, event.time_ms))
    result.position = position  # type: ignore[assignment]
    return cast("Event", result)
