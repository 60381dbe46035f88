"""A sample of the entities of a batch source."""

# ruff: noqa: S608 - all names and values in this SQL are quoted

from __future__ import annotations

from dataclasses import replace

from featurekit.lower.columns import encode_batch
from featurekit.plan import SourceColumns, ViewPlan
from featurekit.sources.selection import select
from featurekit.sources.session import Rows


def sample_keys(
    rows: Rows, view: ViewPlan, source: SourceColumns, count: int, seed: int
) -> list[bytes]:
    """Return the keys of up to `count` entities, those with the lowest hashes of their join keys.

    The same seed gives the same entities, as long as the source has them. Rows whose key does not fit
    the view are left out.
    """
    view = replace(view, fields=(), ordering="arrival")
    selection = select(view, source, rows)
    values = {
        name: value
        for name, value in zip(selection.names, selection.values, strict=True)
        if name == "json" or name in [k.name for k in view.key.join_keys]
    }
    columns = ", ".join(f"{value} AS v{i}" for i, value in enumerate(values.values()))
    chosen = ", ".join(f"any_value(v{i}) AS v{i}" for i in range(len(values)))
    present = " AND ".join(f"{key} IS NOT NULL" for key in selection.keys)
    sql = (
        f"SELECT {chosen} FROM (SELECT {columns}, hash({', '.join(selection.keys)}, {seed}) AS h "
        f"FROM {rows.source} WHERE {present}) GROUP BY h ORDER BY h LIMIT {count}"
    )
    session = rows.session
    try:
        with rows.errors():
            found = session.call(lambda: session.connection.sql(sql).to_arrow_table())
    finally:
        session.close()
    encoded = encode_batch(view, rows.form, found.rename_columns(list(values)))
    keys: list[bytes] = encoded.keys.to_pylist()
    return keys
