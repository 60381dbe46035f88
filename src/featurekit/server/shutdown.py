"""Stopping: how answers that go on for ever learn that their server is asked to end."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request

_STOPPING = "featurekit.stopping"


def stop(scope: Any) -> None:
    """Tell the answer to this request that the server ends."""
    scope[_STOPPING] = True


def is_stopping(request: Request) -> bool:
    """Whether the server that answers this request is asked to end."""
    return _STOPPING in request.scope
