"""The compiler: from what is declared to plans, which are plain data.

It decides whatever can be decided before the first row: TTLs, keys, bytes of defaults, names.
"""

from __future__ import annotations

from featurekit.compiler.read import compile_read
from featurekit.compiler.repository import compile_repo

__all__ = ["compile_read", "compile_repo"]
