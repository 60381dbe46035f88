"""Compile a registry, and the reads of its features, into plans.

The compiler decides everything that does not depend on rows or requests: TTLs, key layouts,
encoded defaults, column names.
"""

from __future__ import annotations

from featurekit.compiler.read import compile_read
from featurekit.compiler.repository import compile_repo

__all__ = ["compile_read", "compile_repo"]
