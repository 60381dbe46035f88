"""RequestMetrics: the requests that came, by route and status, counted as those of the store are."""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Self

from featurekit.runtime.metrics import BOUNDS_S, Histogram, add_counts

UNMATCHED = "unmatched"
"""The route of requests that no route takes."""


@dataclass(frozen=True, slots=True)
class HttpMetrics:
    """Requests since the process started, as plain data.

    Attributes:
        answers: How many, by route and by `METHOD STATUS`.
        latency: How long they took, by route.
        reloads: How often another registry was taken over.
        stale: How many processes serve an old registry, since the new one cannot be read.
    """

    answers: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    latency: Mapping[str, Histogram] = field(default_factory=dict)
    reloads: int = 0
    stale: int = 0

    def __add__(self, other: HttpMetrics) -> HttpMetrics:
        total: HttpMetrics = add_counts(self, other)
        return total

    def to_json(self) -> str:
        """As JSON, which `from_json` reads back."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """What `to_json` wrote."""
        told = json.loads(text)
        latency = {
            route: Histogram(each["counts"], each["seconds"])
            for route, each in told.pop("latency").items()
        }
        return cls(**told, latency=latency)


class RouteCount:
    """The requests of one route."""

    __slots__ = ("answers", "buckets", "seconds")

    def __init__(self) -> None:
        self.answers: dict[tuple[str, int], int] = {}
        self.buckets = [0] * (len(BOUNDS_S) + 1)
        self.seconds = 0.0

    def answered(self, method: str, status: int, seconds: float) -> None:
        """Count a request; from the event loop alone."""
        key = (method, status)
        self.answers[key] = self.answers.get(key, 0) + 1
        self.buckets[bisect_left(BOUNDS_S, seconds)] += 1
        self.seconds += seconds


class RequestMetrics:
    """The requests of one process."""

    def __init__(self) -> None:
        self._routes: dict[str, RouteCount] = {}

    def of(self, route: str) -> RouteCount:
        """The count of a route."""
        return self._routes.setdefault(route, RouteCount())

    def metrics(self, reloads: int, *, stale: bool) -> HttpMetrics:
        """All of it so far; from any thread, so what grows is copied first."""
        routes = {route: count for route, count in dict(self._routes).items() if count.answers}
        return HttpMetrics(
            answers={
                route: {f"{m} {status}": n for (m, status), n in dict(count.answers).items()}
                for route, count in routes.items()
            },
            latency={r: Histogram(list(c.buckets), c.seconds) for r, c in routes.items()},
            reloads=reloads,
            stale=int(stale),
        )
