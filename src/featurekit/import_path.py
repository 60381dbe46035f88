"""Import modules from a repository's folder."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def import_path(root: Path) -> Iterator[None]:
    """Put a folder first on `sys.path`."""
    before = sys.path[:]
    sys.path.insert(0, str(root))
    try:
        yield
    finally:
        sys.path[:] = before
