"""The state that all routes of one server share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request

from featurekit.errors import RequestError
from featurekit.repo import FeatureStore
from featurekit.server.auth import Tokens
from featurekit.server.request_metrics import RequestMetrics

_SHUTTING_DOWN = "featurekit.shutting_down"


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one request.

    Attributes:
        body_bytes: Largest body, in bytes.
        entities: Most entities, rows or events.
        cells: Most values: entities or rows, times features or columns.
        body_timeout_s: Seconds for the body to arrive.
        read_timeout_s: Timeout of a read that sets none, in seconds; `None` for the store's own
            timeouts.
    """

    body_bytes: int = 4 * 1024 * 1024
    entities: int = 10_000
    cells: int = 1_000_000
    body_timeout_s: float = 10.0
    read_timeout_s: float | None = None

    def check_size(self, rows: int, columns: int, noun: str = "entities") -> None:
        """Check the size of a request before it costs anything.

        Args:
            rows: The number of entities, rows or events.
            columns: The number of features, or of columns.
            noun: What the rows are.

        Raises:
            RequestError: There are too many rows.
            HTTPException: 413 for too many values.
        """
        if rows > self.entities:
            raise RequestError(
                f"a request may have at most {self.entities} {noun}, not {rows}",
                hint="send several requests, or raise --max-entities",
            )
        if rows * columns > self.cells:
            raise HTTPException(
                413,
                f"a request may have at most {self.cells} values, not {rows} {noun} of {columns} "
                "each; send several requests, or raise --max-cells",
            )


@dataclass(frozen=True, slots=True)
class ServerContext:
    """The state that all routes of one server share.

    Attributes:
        store: The feature store to serve.
        limits: The limits of one request.
        tokens: The accepted bearer tokens. If there are none, every client may read and write.
        allowed_hosts: Without tokens, the host names by which the server may be called, besides
            loopback names and IP addresses.
        cors_origins: Origins of web pages of other sites that may use the server.
        allow_writes: Whether the console offers actions that change or delete data.
        metrics_dir: The folder in which workers share their metrics; `None` for a single process.
        request_metrics: Counters of HTTP requests.
    """

    store: FeatureStore
    limits: Limits = field(default_factory=Limits)
    tokens: Tokens = field(default_factory=Tokens)
    allowed_hosts: frozenset[str] = frozenset()
    cors_origins: frozenset[str] = frozenset()
    allow_writes: bool = False
    metrics_dir: str | None = None
    request_metrics: RequestMetrics = field(default_factory=RequestMetrics)


def mark_shutting_down(scope: Any) -> None:
    """Mark a request so that its endless response ends."""
    scope[_SHUTTING_DOWN] = True


def is_shutting_down(request: Request) -> bool:
    """Return whether the server of this request is shutting down."""
    return _SHUTTING_DOWN in request.scope
