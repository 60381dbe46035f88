"""The web console: pages that show what a store holds, for any repository."""

from __future__ import annotations

from featurekit.server.console.routes import console_routes

__all__ = ["console_routes"]
