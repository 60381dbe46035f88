"""The site: what all routes of one server share."""

from __future__ import annotations

from dataclasses import dataclass, field

from featurekit.repo import FeatureStore
from featurekit.server.auth import Tokens
from featurekit.server.request_metrics import RequestMetrics


@dataclass(frozen=True, slots=True)
class Limits:
    """What a request may cost at most.

    Attributes:
        body_bytes: Bytes of its body.
        entities: Entities, rows or events in it.
        body_timeout_s: Seconds that its body may take to arrive.
        read_timeout_s: Seconds that a read may take that names no bound of its own; `None` for
            the store's own timeouts.
    """

    body_bytes: int = 4 * 1024 * 1024
    entities: int = 10_000
    body_timeout_s: float = 10.0
    read_timeout_s: float | None = None


@dataclass(frozen=True, slots=True)
class ServerContext:
    """What all routes of one server share.

    Attributes:
        store: The feature store that is served.
        limits: What a request may cost.
        tokens: Who may do what; empty for everybody and everything.
        allow_writes: Whether the console offers what changes or destroys things.
        shared: The folder that workers leave their metrics in; empty where there is one process.
        traffic: The requests that came.
    """

    store: FeatureStore
    limits: Limits = field(default_factory=Limits)
    tokens: Tokens = field(default_factory=Tokens)
    allow_writes: bool = False
    shared: str = ""
    traffic: RequestMetrics = field(default_factory=RequestMetrics)
