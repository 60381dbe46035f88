"""Spools: rows that can be had only once, kept so that they can be read again.

They are kept in a table of the session, which DuckDB moves to disk as it grows.
"""

from __future__ import annotations

from typing import Any

from featurekit.plan import SourcePlan, ViewPlan
from featurekit.sources.selection import check_columns, columns_of
from featurekit.sources.session import Rows, name

_TABLE = "spooled"


def spool(rows: Rows, relation: Any, view: ViewPlan, plan: SourcePlan) -> Rows:
    """Keep those columns of a relation that the view needs; `rows` says how they are called.

    Raises:
        SourceError: Columns are lacking; nothing was read yet.
    """
    columns = dict(zip(relation.columns, map(str, relation.types), strict=True))
    check_columns(view, plan, columns, rows.where)
    needed = dict.fromkeys(column for _, column in columns_of(view, plan))
    wanted = relation.project(", ".join(map(name, needed)))
    rows.session.run(lambda: wanted.create(_TABLE))
    kept = {column: columns[column] for column in needed}
    return Rows(rows.session, _TABLE, rows.form, rows.where, kept)
