"""Test a service that reads features: no server, and a clock that the test moves.

A pytest plugin, installed with featurekit, gives tests the fixtures `feature_store` and `clock`; docs/testing.md
shows them. Needs the extra `testing`.
"""

from __future__ import annotations

from featurekit.testing.clock import Clock
from featurekit.testing.store import MemoryFeatureStore

__all__ = ["Clock", "MemoryFeatureStore"]
