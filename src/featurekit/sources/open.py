"""Which source reads a plan."""

from __future__ import annotations

from pathlib import Path

from featurekit.errors import UnknownNameError
from featurekit.plan import SourcePlan
from featurekit.ports import BatchSource
from featurekit.sources.files import FORMATS, FileSource
from featurekit.sources.python import PythonSource
from featurekit.sources.sql import SqlSource


def open_source(plan: SourcePlan, root: Path, *, batch_rows: int = 16384) -> BatchSource:
    """The source of a plan; nothing is read yet.

    Args:
        plan: What to read.
        root: The repository's folder, which paths and modules are relative to.
        batch_rows: Most rows of a record batch.

    Raises:
        UnknownNameError: There is no such type of source.
    """
    if plan.type in FORMATS:
        return FileSource(plan, root, batch_rows)
    if plan.type == "sql":
        return SqlSource(plan, root, batch_rows)
    if plan.type == "python":
        return PythonSource(plan, root, batch_rows)
    raise UnknownNameError.among("type of source", plan.type, [*FORMATS, "sql", "python"])
