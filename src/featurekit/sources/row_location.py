"""Where a row came from, for the message about it."""

# ruff: noqa: S608 - all names and values in this SQL are quoted

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from featurekit.plan import SourcePlan, ViewPlan
from featurekit.sources.formats import FILE_COLUMN
from featurekit.sources.selection import Selection, select
from featurekit.sources.session import Rows, name, text

Find = Callable[[Sequence[str]], Rows]


def find(
    view: ViewPlan, plan: SourcePlan, open_rows: Find, files: Sequence[str], row: dict[str, object]
) -> tuple[str, int] | None:
    """The file and number, from 1, of the newest row with these join keys and time, or with this line."""
    if "json" not in row and any(k.name not in row for k in view.key.join_keys):
        return None
    found = _newest(view, plan, open_rows(files), row)
    if found is None or len(files) == 1:
        return found
    return _newest(view, plan, open_rows([found[0]]), row)


def _newest(
    view: ViewPlan, plan: SourcePlan, rows: Rows, row: dict[str, object]
) -> tuple[str, int] | None:
    selection = select(view, plan, rows)
    order = [f"o{i} DESC NULLS LAST" for i in range(len(selection.order))]
    columns = [
        f"({_matches(view, selection, row)}) AS hit",
        *(f"{part} AS o{i}" for i, part in enumerate(selection.order)),
        f"{name(FILE_COLUMN)} AS file",
        "row_number() OVER () AS rn",
    ]
    with rows.session.errors(rows.where):
        found = rows.session.rows(
            f"SELECT file, rn FROM (SELECT {', '.join(columns)} FROM {rows.source}) "
            f"WHERE hit ORDER BY {', '.join([*order, 'rn DESC'])} LIMIT 1"
        )
    rows.session.close()
    return (str(found[0][0]), int(found[0][1])) if found else None


def _matches(view: ViewPlan, selection: Selection, row: dict[str, object]) -> str:
    """The condition of the row."""
    if "json" in row:
        return f"json = {text(str(row['json']))}"
    parts = [
        _equals(key, row[k.name])
        for k, key in zip(view.key.join_keys, selection.keys, strict=True)
    ]
    if selection.time and "event_timestamp" in row:
        parts.append(_at(selection.time, row["event_timestamp"]))
    return " AND ".join(parts)


def _equals(key: str, value: object) -> str:
    return f"{key} IS NULL" if value is None else f"CAST({key} AS VARCHAR) = {text(str(value))}"


def _at(time: str, value: object) -> str:
    if value is None:
        return f"{time} IS NULL"
    if isinstance(value, datetime):
        value = value.replace(tzinfo=value.tzinfo or UTC).isoformat()
    return f"CAST({time} AS TIMESTAMPTZ) = TRY_CAST({text(str(value))} AS TIMESTAMPTZ)"
