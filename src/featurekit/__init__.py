"""featurekit: a declarative feature store over Redis or Valkey.

YAML declares entities, feature views and services. From it come a materializer, a stream
writer and a typed online reader. The names below are loaded when first used, so that
`import featurekit` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module

_HOMES = {
    "FeatureStore": "featurekit.repo",
    "FeatureKitError": "featurekit.errors",
}

__all__ = ["FeatureKitError", "FeatureStore"]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'featurekit' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
