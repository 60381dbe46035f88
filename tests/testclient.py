"""A test client that calls a server by a name that it accepts without tokens."""

from __future__ import annotations

import starlette.testclient
from starlette.types import ASGIApp


class TestClient(starlette.testclient.TestClient):
    """Starlette's client, with the address of this machine."""

    def __init__(self, app: ASGIApp, base_url: str = "http://localhost") -> None:
        super().__init__(app, base_url)
