"""Generate typed Python from a registry: row classes, so that editors know each feature."""

from __future__ import annotations

from featurekit.codegen.python.module import python_module

__all__ = ["python_module"]
