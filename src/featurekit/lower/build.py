"""The one place that runs `exec`. Generated sources show in tracebacks like any other."""

from __future__ import annotations

import hashlib
import linecache
from collections.abc import Callable
from typing import Any


def build(name: str, source: str, names: dict[str, object]) -> Callable[..., Any]:
    """Compile `source` and return the thing that it defines as `name`.

    Args:
        name: A function or class that `source` defines.
        source: Python text, made from plans alone: names in it are checked identifiers.
        names: The globals it sees.
    """
    digest = hashlib.sha256(source.encode()).hexdigest()[:12]
    filename = f"<featurekit {name} {digest}>"
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    scope: dict[str, Any] = dict(names)
    exec(compile(source, filename, "exec"), scope)  # noqa: S102 - the sources are ours, made from plans
    made: Callable[..., Any] = scope[name]
    return made
