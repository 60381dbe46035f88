"""Count HTTP requests by route, method and status."""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Self

from featurekit.runtime.metrics import BOUNDS_S, Histogram, add_counts

UNMATCHED = "unmatched"
"""The label of requests that match no route."""


@dataclass(frozen=True, slots=True)
class HttpMetrics:
    """A snapshot of a server's counters.

    Attributes:
        responses: Responses by route and by `METHOD STATUS`.
        latency: Response times by route.
        reloads: Registries loaded since the process started.
        stale: Processes that serve an old registry because the new one cannot be read.
    """

    responses: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    latency: Mapping[str, Histogram] = field(default_factory=dict)
    reloads: int = 0
    stale: int = 0

    def __add__(self, other: HttpMetrics) -> HttpMetrics:
        total: HttpMetrics = add_counts(self, other)
        return total

    def to_json(self) -> str:
        """Return the snapshot as JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the snapshot that `to_json` wrote."""
        document = json.loads(text)
        latency = {
            route: Histogram(each["counts"], each["seconds"])
            for route, each in document.pop("latency").items()
        }
        return cls(**document, latency=latency)


class RouteCounter:
    """Counts the requests of one route."""

    __slots__ = ("buckets", "responses", "seconds")

    def __init__(self) -> None:
        self.responses: dict[tuple[str, int], int] = {}
        self.buckets = [0] * (len(BOUNDS_S) + 1)
        self.seconds = 0.0

    def count(self, method: str, status: int, seconds: float) -> None:
        """Count a request. Must be called from the event loop."""
        key = (method, status)
        self.responses[key] = self.responses.get(key, 0) + 1
        self.buckets[bisect_left(BOUNDS_S, seconds)] += 1
        self.seconds += seconds


class RequestMetrics:
    """The request counters of one process."""

    def __init__(self) -> None:
        self._routes: dict[str, RouteCounter] = {}

    def counter(self, route: str) -> RouteCounter:
        """Return the counter of a route."""
        return self._routes.setdefault(route, RouteCounter())

    def snapshot(self, reloads: int, *, stale: bool) -> HttpMetrics:
        """Return all counters. Thread-safe: growing dictionaries are copied first."""
        routes = {name: route for name, route in dict(self._routes).items() if route.responses}
        return HttpMetrics(
            responses={
                name: {f"{m} {status}": n for (m, status), n in dict(route.responses).items()}
                for name, route in routes.items()
            },
            latency={n: Histogram(list(r.buckets), r.seconds) for n, r in routes.items()},
            reloads=reloads,
            stale=int(stale),
        )
