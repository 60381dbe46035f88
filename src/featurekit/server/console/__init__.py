"""The console: pages that show a store to people, for any repository."""

from __future__ import annotations

from featurekit.server.console.routes import console_routes

__all__ = ["console_routes"]
