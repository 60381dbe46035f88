"""The composition root: a feature store put together from its parts."""

from __future__ import annotations

from featurekit.repo.feature_store import FeatureStore

__all__ = ["FeatureStore"]
