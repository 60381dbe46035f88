"""The id of the request that features are read for, in logs of served features."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_request_id: ContextVar[str | None] = ContextVar("featurekit_request_id", default=None)

current_request_id = _request_id.get
"""Returns the id of the current request; `None` if it has none."""


def set_request_id(text: str) -> None:
    """Set the id of the current request, for the rest of its task."""
    _request_id.set(text)


@contextmanager
def request_id(text: str) -> Iterator[None]:
    """Log the features that are read in the block with an id, to join labels to them later.

    ```python
    with request_id("order-8231"):
        row = reader.read("u0001")
    ```
    """
    token = _request_id.set(text)
    try:
        yield
    finally:
        _request_id.reset(token)
