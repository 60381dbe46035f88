"""Open the batch source that a plan describes."""

from __future__ import annotations

from pathlib import Path
from typing import assert_never

from featurekit.errors import SourceError
from featurekit.history_ports import SampledSource
from featurekit.plan import (
    PythonSourcePlan,
    SourceFiles,
    SourcePlan,
    SqlSourcePlan,
    TableSourcePlan,
)
from featurekit.sources.files import FileSource
from featurekit.sources.python import PythonSource
from featurekit.sources.session import BATCH_ROWS
from featurekit.sources.sql import SqlSource


def open_source(
    plan: SourcePlan, root: Path, *, batch_rows: int = BATCH_ROWS, skip_unreadable: bool = False
) -> FileSource | SqlSource | PythonSource:
    """Return the source of a plan; nothing is read yet.

    Args:
        plan: What to read.
        root: The repository's folder, which paths and modules are relative to.
        batch_rows: The most rows in a record batch.
        skip_unreadable: Return lines of local CSV and JSON Lines files that cannot be read as rows
            with a problem; otherwise they are errors.
    """
    _check_local(plan)
    match plan:
        case SourceFiles():
            return FileSource(plan, root, batch_rows, skip_unreadable=skip_unreadable)
        case SqlSourcePlan():
            return SqlSource(plan, root, batch_rows)
        case PythonSourcePlan():
            return PythonSource(plan, root, batch_rows)
        case TableSourcePlan():
            raise _spark_error(f"the table {plan.table} is in Spark's catalog")
        case _:
            assert_never(plan)


def open_sampled(plan: SourcePlan, root: Path) -> SampledSource | None:
    """Return the source of a plan, to sample its entities; `None` if its type allows none."""
    if isinstance(plan, PythonSourcePlan | TableSourcePlan):
        return None
    source = open_source(plan, root)
    return None if isinstance(source, PythonSource) else source


def _check_local(plan: SourcePlan) -> None:
    """Raise `SourceError` if only Spark runs the query of a plan."""
    if isinstance(plan, SqlSourcePlan) and plan.dialect == "spark":
        raise _spark_error("the query is in Spark's SQL (`dialect: spark`)")


def _spark_error(message: str) -> SourceError:
    return SourceError(message, hint="load it with --engine spark (engine='spark')")
