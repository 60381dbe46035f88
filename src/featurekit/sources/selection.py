"""Selections: what a view takes from rows, as SQL expressions.

Columns are compared with their case, which DuckDB itself would not do.
"""

# ruff: noqa: S608 - all names and values in this SQL are quoted

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from featurekit.errors import SourceError, nearest
from featurekit.plan import SourcePlan, ViewPlan
from featurekit.sources.session import Rows, name, text
from featurekit.types import DType

_DAY = "[0-9]{4}-[0-9]{2}-[0-9]{2}"
_TIME = "[0-9]{2}:[0-9]{2}(:[0-9]{2}([.][0-9]{1,9})?)?"
_RFC3339 = f"{_DAY}([T ]{_TIME}(Z|[+-][0-9]{{2}}:?[0-9]{{2}})?)?"
_HUGE = ("HUGEINT", "UHUGEINT")


@dataclass(frozen=True, slots=True)
class Selection:
    """What a view takes from rows.

    Attributes:
        names: The columns of the result, in order.
        values: Their expressions.
        keys: What tells entities apart.
        order: What tells newer rows, most important first; arrival comes after.
        time: When a row became true; empty where nothing says so.
        window: The condition of the rows to be read.
    """

    names: tuple[str, ...]
    values: tuple[str, ...]
    keys: tuple[str, ...]
    order: tuple[str, ...]
    time: str
    window: str

    @property
    def complete(self) -> str:
        """The condition of a row that belongs to an entity and a time."""
        parts = [*self.keys, *([self.time] if self.time else [])]
        return " AND ".join(f"{part} IS NOT NULL" for part in parts)


def select(
    view: ViewPlan,
    source: SourcePlan,
    rows: Rows,
    start_ms: int | None = None,
    end_ms: int | None = None,
) -> Selection:
    """What a view takes from rows.

    Raises:
        SourceError: Columns are lacking, the timestamp's type is no time, or there is a window
            and nothing to hold against it.
    """
    if rows.form != "json":
        check_columns(view, source, rows.columns, rows.where)
    time = _time(rows, source.timestamp_field)
    created = _created(rows, source.created_timestamp_field)
    outputs = _outputs(view, source, rows)
    if time:
        outputs["event_timestamp"] = f"CAST({time} AS TIMESTAMPTZ)"
    return Selection(
        names=tuple(outputs),
        values=tuple(outputs.values()),
        keys=tuple(_key(rows, source.column(k.name), k.dtype) for k in view.key.join_keys),
        order=tuple(part for part in (time, created) if part),
        time=time,
        window=_window(rows, source.timestamp_field, time, start_ms, end_ms),
    )


def _outputs(view: ViewPlan, source: SourcePlan, rows: Rows) -> dict[str, str]:
    if rows.form == "json":
        return {"json": "json"}
    wanted = {k.name: k.dtype for k in view.key.join_keys}
    wanted |= {f.name: f.dtype for f in view.fields}
    columns = {n: source.column(n) for n in wanted}
    whole = _whole(rows, {columns[n] for n, dtype in wanted.items() if dtype.kind != "decimal"})
    return {
        n: f"CAST({name(column)} AS BIGINT)" if column in whole else name(column)
        for n, column in columns.items()
    }


def _whole(rows: Rows, columns: set[str]) -> set[str]:
    """Those columns of 128-bit integers, as `sum` gives them, whose values all fit into 64."""
    huge = sorted(c for c in columns if rows.columns[c] in _HUGE)
    if not huge:
        return set()
    fits = ", ".join(f"count({name(c)}) = count(TRY_CAST({name(c)} AS BIGINT))" for c in huge)
    (answers,) = rows.session.rows(f"SELECT {fits} FROM {rows.source}")
    return {c for c, fit in zip(huge, answers, strict=True) if fit}


def columns_of(view: ViewPlan, source: SourcePlan) -> list[tuple[str, str]]:
    """Pairs of (use, column of the source), as `("field age", "AGE")`."""
    uses = [(f"join key {k.name}", source.column(k.name)) for k in view.key.join_keys]
    uses += [(f"field {f.name}", source.column(f.name)) for f in view.fields]
    uses += [
        ("timestamp_field", source.timestamp_field),
        ("created_timestamp_field", source.created_timestamp_field),
    ]
    return [(use, column) for use, column in uses if column]


def check_columns(view: ViewPlan, source: SourcePlan, columns: Iterable[str], where: str) -> None:
    """Refuse a source that lacks columns, with all that it lacks.

    Raises:
        SourceError: It does.
    """
    known = list(columns)
    lacking = [(use, column) for use, column in columns_of(view, source) if column not in known]
    if lacking:
        raise SourceError(
            "no column " + ", ".join(f"'{column}' ({use})" for use, column in lacking),
            where=where,
            hint=f"{nearest(lacking[0][1], known)}; "
            "say which column a field comes from by `columns: {field: column}`",
        )


def _column(rows: Rows, column: str) -> str:
    """A column's value; for JSON the text of a member."""
    if rows.form != "json":
        return name(column)
    pointer = "/" + column.replace("~", "~0").replace("/", "~1")
    return f"json_extract_string(json, {text(pointer)})"


def _key(rows: Rows, column: str, dtype: DType) -> str:
    """What tells entities apart: text such as `007` and `7` is one int."""
    value = _column(rows, column)
    if rows.form == "native" or not dtype.kind.startswith("int"):
        return value
    number = f"CAST(TRY_CAST({value} AS HUGEINT) AS VARCHAR)"
    return f"CASE WHEN regexp_full_match({value}, '-?0[0-9]+|-0') THEN {number} ELSE {value} END"


def _time(rows: Rows, column: str) -> str:
    """A column of times; text that is none is null, so that its row is refused later on."""
    if not column:
        return ""
    value, kind = _column(rows, column), _kind(rows, column)
    if kind.startswith("TIMESTAMP") or kind == "DATE":
        return value
    if kind == "VARCHAR" or kind.startswith("ENUM") or "NULL" in kind:
        written = f"upper(CAST({value} AS VARCHAR))"
        parsed = f"TRY_CAST({written} AS TIMESTAMPTZ)"
        return f"CASE WHEN regexp_full_match({written}, '{_RFC3339}') THEN {parsed} END"
    raise SourceError(
        f"timestamp_field '{column}' is {kind}, not a time",
        where=rows.where,
        hint="make it a timestamp, a date, or RFC 3339 text; in a sql source: "
        f"make_timestamp({column} * 1000) for milliseconds",
    )


def _created(rows: Rows, column: str) -> str:
    """A column that breaks ties: times, or whatever else has an order."""
    if not column or _kind(rows, column) != "VARCHAR":
        return _column(rows, column) if column else ""
    return _time(rows, column)


def _kind(rows: Rows, column: str) -> str:
    return "VARCHAR" if rows.form == "json" else rows.columns[column]


def _window(rows: Rows, column: str, time: str, start_ms: int | None, end_ms: int | None) -> str:
    bounds = [(">=", start_ms), ("<", end_ms)]
    given = [(sign, ms) for sign, ms in bounds if ms is not None]
    if not given:
        return "true"
    if not time:
        raise SourceError(
            "a start or end needs a timestamp_field",
            where=rows.where,
            hint="add `timestamp_field:` to the source, or load all of it",
        )
    kind = _kind(rows, column)
    zone = "" if kind == "DATE" or (kind.startswith("TIMESTAMP") and not _zoned(kind)) else "TZ"
    held = f"CAST({time} AS TIMESTAMPTZ)" if kind == "TIMESTAMPTZ_NS" else time
    within = " AND ".join(f"{held} {sign} TIMESTAMP{zone} '{_instant(ms)}'" for sign, ms in given)
    return f"({within}) OR {time} IS NULL"


def _zoned(kind: str) -> bool:
    return "TIME ZONE" in kind or "TIMESTAMPTZ" in kind


def _instant(ms: int) -> str:
    """A time as a literal, which lets DuckDB skip row groups of a file."""
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)
    return moment.replace(tzinfo=None).isoformat(sep=" ")
