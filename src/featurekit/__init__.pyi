"""What a type checker sees of `__init__.py`, whose names are loaded when first used."""

from featurekit.errors import FeatureKitError as FeatureKitError
from featurekit.repo import FeatureStore as FeatureStore

__all__ = ["FeatureKitError", "FeatureStore"]
