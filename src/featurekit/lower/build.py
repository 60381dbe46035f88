"""Compile generated source code; the only module that calls `exec`."""

from __future__ import annotations

import hashlib
import linecache
from collections.abc import Callable
from typing import Any


def build(name: str, source: str, names: dict[str, object]) -> Callable[..., Any]:
    """Compile source code and return the object that it defines. Tracebacks show the source.

    Args:
        name: The function or class that `source` defines.
        source: Python source, built from plans only: the names in it are checked identifiers.
        names: The globals of `source`.
    """
    digest = hashlib.sha256(source.encode()).hexdigest()[:12]
    filename = f"<featurekit {name} {digest}>"
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    scope: dict[str, Any] = dict(names)
    exec(compile(source, filename, "exec"), scope)  # noqa: S102 - the source is built from plans
    built: Callable[..., Any] = scope[name]
    return built
