"""The HTTP feature server: online reads for any language, over the same compiled readers.

The names below need the extra `server`; they are imported at their first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from featurekit.server.prometheus import MetricsCollector, exposition

__all__ = ["MetricsCollector", "exposition"]

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module 'featurekit.server' has no attribute '{name}'")
        from featurekit.server import prometheus

        return getattr(prometheus, name)
