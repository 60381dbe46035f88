"""Compile generated source code; the only module that calls `exec`."""

from __future__ import annotations

import linecache
import weakref
from collections.abc import Callable
from itertools import count
from typing import Any

_numbers = count(1)


def build(name: str, source: str, names: dict[str, object]) -> Callable[..., Any]:
    """Compile source code and return the object that it defines.

    Tracebacks show the source as long as the object is in use.

    Args:
        name: The function or class that `source` defines.
        source: Python source, built from plans only: the names in it are checked identifiers.
        names: The globals of `source`.
    """
    filename = f"<featurekit {name} {next(_numbers)}>"
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    scope: dict[str, Any] = dict(names)
    exec(compile(source, filename, "exec"), scope)  # noqa: S102 - the source is built from plans
    built: Callable[..., Any] = scope.pop(name)  # without a cycle, it is freed with its last user
    weakref.finalize(built, linecache.cache.pop, filename, None).atexit = False
    return built
