"""Test a service that reads features: no server, and a clock that the test moves.

A pytest plugin, installed with featurekit, gives tests the fixtures `feature_store` and `clock`; docs/testing.md
shows them. Needs the extra `testing`.

The names below are imported at their first use: the plugin in this package is part of every run of pytest.
"""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False  # type checkers take it as true
if TYPE_CHECKING:
    from featurekit.testing.clock import Clock
    from featurekit.testing.store import MemoryFeatureStore

__all__ = ["Clock", "MemoryFeatureStore"]

_MODULES = {"Clock": "featurekit.testing.clock", "MemoryFeatureStore": "featurekit.testing.store"}

if not TYPE_CHECKING:  # a type checker must not accept every name

    def __getattr__(name: str) -> object:
        if name not in _MODULES:
            raise AttributeError(f"module 'featurekit.testing' has no attribute '{name}'")
        return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
