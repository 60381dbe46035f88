"""Generate typed Python from a registry: rows, readers, writers and a feature store."""

from __future__ import annotations

from featurekit.codegen.python.module import python_module, python_package

__all__ = ["python_module", "python_package"]
