"""SQL expressions for the times of rows, and for the order of rows with equal times."""

# ruff: noqa: S608 - all names and values in this SQL are quoted

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from featurekit.errors import SourceError
from featurekit.sources.session import Rows, quote_text

_DATE = "[0-9]{4}-[0-9]{2}-[0-9]{2}"
_CLOCK = "[0-9]{2}:[0-9]{2}(:[0-9]{2}([.][0-9]{1,9})?)?"
_OFFSET = "[+-](0[0-9]|1[0-5])(:?[0-5][0-9])?"
_RFC3339 = f"{_DATE}([T ]{_CLOCK}(Z|{_OFFSET})?)?"
_TIME = f"{_DATE}([T ]{_CLOCK}( ?Z| UTC| ?{_OFFSET})?)?"
"""RFC 3339 and how databases spell it: `+00` (Postgres), ` UTC` (BigQuery), ` +0000` (Snowflake)."""

_NUMBER = "-?[0-9]{1,19}([.][0-9]{1,18})?(E[+]?[0-9]{1,2})?"
_EXACT = "DECIMAL(38, 18)"

_NUMBER_TYPES = (
    *("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT"),
    *("UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "UHUGEINT", "DECIMAL"),
)
_FLOAT_TYPES = ("FLOAT", "DOUBLE")


@dataclass(frozen=True, slots=True)
class CreatedOrder:
    """How `created_timestamp_field` orders rows of equal times.

    Attributes:
        order: The expressions to order by, descending, with null last.
        text: For a column of texts, the expression that is `number`, `time`, or for any other
            text, that text after a `=`; empty if the column's type is a number or a time.
    """

    order: tuple[str, ...] = ()
    text: str = ""


def event_time(rows: Rows, column: str, value: str, kind: str) -> str:
    """Return the expression of a time; text that is not a time is null, and rejected later.

    Args:
        rows: The rows, for errors.
        column: The name of the column.
        value: The expression of its value.
        kind: Its DuckDB type.
    """
    if _is_time(kind):
        return value
    if _is_text(kind):
        return _parsed_time(value)
    raise SourceError(
        f"timestamp_field '{column}' is {kind}, not a time",
        where=rows.where,
        hint="make it a timestamp, a date, or RFC 3339 text; in a sql source: "
        f"make_timestamp({column} * 1000) for milliseconds, "
        f"make_timestamp({column} * 1000000) for seconds",
    )


def created_order(rows: Rows, column: str, value: str, kind: str) -> CreatedOrder:
    """Return how a column orders rows of equal times; the arguments are those of `event_time`."""
    if kind.partition("(")[0] in _NUMBER_TYPES or _is_time(kind) or "NULL" in kind:
        return CreatedOrder((value,))
    if kind in _FLOAT_TYPES:  # NaN would be the largest number
        return CreatedOrder((f"CASE WHEN NOT isnan({value}) THEN {value} END",))
    if not _is_text(kind):
        raise SourceError(
            f"created_timestamp_field '{column}' is {kind}, not a time or a number",
            where=rows.where,
            hint="cast the column in a `type: sql` source",
        )
    number, time = _parsed_number(value), _parsed_time(value)
    return CreatedOrder(
        (number, time),
        f"CASE WHEN {value} IS NULL THEN NULL WHEN ({number}) IS NOT NULL THEN 'number' "
        f"WHEN ({time}) IS NOT NULL THEN 'time' ELSE '=' || left(CAST({value} AS VARCHAR), 40) END",
    )


def check_created_texts(rows: Rows, column: str, index: str, text: str) -> None:
    """Raise `SourceError` unless all texts of `created_timestamp_field` are numbers, or times.

    Args:
        rows: The rows, for errors.
        column: The name of the column.
        index: The FROM clause to read.
        text: The column of `index` with `CreatedOrder.text`.
    """
    ((numbers, times, other),) = rows.session.fetch_all(
        f"SELECT count(*) FILTER ({text} = 'number'), count(*) FILTER ({text} = 'time'), "
        f"min({text}) FILTER (starts_with({text}, '=')) FROM {index}"
    )
    if other is not None:
        problem = f"contains '{other[1:]}', which is neither a number nor a time"
    elif numbers and times:
        problem = "contains numbers and times, which have no common order"
    else:
        return
    raise SourceError(
        f"created_timestamp_field '{column}' {problem}",
        where=rows.where,
        hint="it orders rows with equal times: use a column of numbers or of times",
    )


def time_comparison(time: str, kind: str, sign: str, ms: int) -> str:
    """Return the comparison of a time of DuckDB type `kind` with milliseconds since the epoch."""
    is_naive = kind == "DATE" or (kind.startswith("TIMESTAMP") and not _has_zone(kind))
    literal = "TIMESTAMP" if is_naive else "TIMESTAMPTZ"
    value = f"CAST({time} AS TIMESTAMPTZ)" if kind == "TIMESTAMPTZ_NS" else time
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)
    # A literal lets DuckDB skip row groups of a file.
    return f"{value} {sign} {literal} {quote_text(moment.replace(tzinfo=None).isoformat(sep=' '))}"


def is_number(kind: str) -> bool:
    """Return whether a DuckDB type is one of numbers."""
    return kind.partition("(")[0] in _NUMBER_TYPES or kind in _FLOAT_TYPES


def _is_time(kind: str) -> bool:
    return kind.startswith("TIMESTAMP") or kind == "DATE"


def _has_zone(kind: str) -> bool:
    return "TIME ZONE" in kind or "TIMESTAMPTZ" in kind


def _is_text(kind: str) -> bool:
    return kind == "VARCHAR" or kind.startswith("ENUM") or "NULL" in kind


def _parsed_time(value: str) -> str:
    text = f"upper(CAST({value} AS VARCHAR))"
    spelled = f"replace(replace(replace({text}, ' +', '+'), ' -', '-'), ' Z', 'Z')"
    return (
        f"CASE WHEN regexp_full_match({text}, '{_RFC3339}') THEN TRY_CAST({text} AS TIMESTAMPTZ) "
        f"WHEN regexp_full_match({text}, '{_TIME}') THEN TRY_CAST({spelled} AS TIMESTAMPTZ) END"
    )


def _parsed_number(value: str) -> str:
    text = f"upper(CAST({value} AS VARCHAR))"
    parsed = f"TRY_CAST({text} AS {_EXACT})"
    return f"CASE WHEN regexp_full_match({text}, '{_NUMBER}') THEN {parsed} END"
