"""Columns of folder names (`store=47/`), with types that do not depend on the folders of the day.

DuckDB would take `store=47` for a number until a folder `store=none` appears. Here they are text
unless the view needs a number or a date.
"""

# ruff: noqa: S608 - all names and values in this SQL are quoted

from __future__ import annotations

import re
from collections.abc import Sequence

from featurekit.plan import FileSourcePlan, ViewPlan
from featurekit.sources.session import quote_identifier, quote_text

_TYPES = {
    "int64": ("BIGINT", "-?[0-9]{1,19}"),
    "int32": ("BIGINT", "-?[0-9]{1,19}"),
    "float64": ("DOUBLE", "-?[0-9]+([.][0-9]+)?"),
    "float32": ("DOUBLE", "-?[0-9]+([.][0-9]+)?"),
    "date": ("DATE", "[0-9]{4}-[0-9]{2}-[0-9]{2}"),
}
"""Maps types to the DuckDB type of their column, and the texts that it takes."""


def typed_partitions(
    source: str, files: Sequence[str], view: ViewPlan, plan: FileSourcePlan
) -> str:
    """Return a FROM clause whose folder columns have the types that the view needs."""
    names = {
        name for file in files for name in re.findall(r"[/\\]([^/\\=]+)=(?=[^/\\]*[/\\])", file)
    }
    dtypes = {k.name: k.dtype for k in view.key.join_keys}
    dtypes |= {f.name: f.dtype for f in view.event_fields}
    columns = {plan.column(name): str(dtype) for name, dtype in dtypes.items()}
    casts = [
        f"{_cast(column, dtype)} AS {quote_identifier(column)}"
        for column, dtype in columns.items()
        if column in names and dtype in _TYPES
    ]
    return f"(SELECT * REPLACE ({', '.join(casts)}) FROM {source})" if casts else source


def _cast(column: str, dtype: str) -> str:
    kind, texts = _TYPES[dtype]
    name = quote_identifier(column)
    problem = f"{quote_text(f'folder {column}=')} || {name} || {quote_text(f' is not {dtype}')}"
    return (
        f"CASE WHEN {name} IS NULL OR regexp_full_match({name}, {quote_text(texts)}) "
        f"THEN CAST({name} AS {kind}) ELSE error({problem}) END"
    )
