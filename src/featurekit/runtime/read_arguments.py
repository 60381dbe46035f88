"""Check and normalize the arguments of a read before anything is sent."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any, Protocol, TypeVar

from featurekit.errors import MissingExtraError, RequestError, name_hint
from featurekit.plan import ReadPlan
from featurekit.ports import DEFAULT_READ_OPTIONS, ReadOptions
from featurekit.runtime.request_data import NOT_SENT, RequestColumns

T_co = TypeVar("T_co", covariant=True)


class Column(Protocol[T_co]):
    """A list, a tuple or an array of values; text is not one, though it is a `Sequence[str]`."""

    def __getitem__(self, index: int, /) -> T_co:
        """Return one value."""

    def __contains__(self, value: object, /) -> bool:
        """Return whether a value is in it. That of text takes no object."""

    def __iter__(self) -> Iterator[T_co]:
        """Iterate over the values."""

    def __len__(self) -> int:
        """Return the number of values."""


class DataFrame(Protocol):
    """A data frame of pandas, polars or Arrow, or another object with an Arrow stream."""

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """Export the rows."""


Timeout = float | timedelta | None
"""Time limit of a whole call: seconds or a timedelta. `None` uses the store's own limits."""

MAX_TIMEOUT_S = 3600

EntityRows = Sequence[Mapping[str, object]] | Mapping[str, Sequence[object]] | DataFrame
"""Entities as rows, `[{"user_id": "u0001"}]`, as columns, `{"user_id": ["u0001"]}`, or as a data frame
of pandas, polars or Arrow with the join keys as columns."""

EntityColumnsFunction = Callable[[EntityRows], dict[str, list[object]]]

_PARTIAL = ReadOptions(partial=True)


def read_options(timeout: Timeout, *, partial: bool) -> ReadOptions:
    """Return the store's options for a read.

    Raises:
        RequestError: The timeout is not a duration above zero and at most an hour.
    """
    if timeout is None:
        return _PARTIAL if partial else DEFAULT_READ_OPTIONS
    seconds: Any = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
    is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if not is_number or not 0 < seconds <= MAX_TIMEOUT_S:
        raise RequestError(
            f"must be above zero and at most an hour, not {timeout!r}",
            where="timeout",
            hint="pass seconds, such as 0.05, or a timedelta",
        )
    return ReadOptions(float(seconds), partial)


def entity_columns_function(plan: ReadPlan) -> EntityColumnsFunction:
    """Return the function from entity rows to columns of join keys, in the plan's order.

    Raises (the function):
        RequestError: A join key is missing or unknown, or the columns differ in length.
    """
    names = plan.join_keys
    allowed_sizes = {len(names)}

    def entity_columns(entity_rows: EntityRows) -> dict[str, list[object]]:
        if not isinstance(entity_rows, list):
            if isinstance(entity_rows, Mapping):
                _check_columns(plan, entity_rows)
                return {name: _column_values(entity_rows[name]) for name in names}
            if (columns := _frame_columns(entity_rows)) is not None:
                check_join_keys(plan, columns)
                return {name: columns[name] for name in names}
            _check_sequence(entity_rows)
        rows: Any = entity_rows
        try:
            columns = {name: [row[name] for row in rows] for name in names}
            if set(map(len, rows)) <= allowed_sizes:
                return columns
        except (KeyError, TypeError):
            pass  # reported below, with the row's index
        for index, row in enumerate(rows):
            _check_row(plan, row, f"entity row {index}")
        raise AssertionError("entity rows failed the check as a whole, but not row by row")

    return entity_columns


def entity_list(plan: ReadPlan, entities: Any) -> Iterable[object]:
    """Return the entities of a call with many: those of a data frame as values or tuples.

    Raises:
        RequestError: It is text or a dict, or a data frame without the join keys.
    """
    if isinstance(entities, str | bytes | Mapping):
        raise RequestError(f"expected a list of entities, not {entities!r}")
    if (columns := _frame_columns(entities)) is None:
        if hasattr(type(entities), "columns"):  # such as dask's, which iterates over its names
            kind = type(entities).__name__
            raise RequestError(
                f"cannot read entities from a {kind}", hint="convert it to pandas or Arrow"
            )
        return entities if isinstance(entities, Iterator) else _column_values(entities)
    check_join_keys(plan, columns)
    names = plan.join_keys
    return columns[names[0]] if len(names) == 1 else zip(*map(columns.get, names), strict=True)


def split_entities(plan: ReadPlan, entities: Any) -> tuple[Iterable[object], RequestColumns]:
    """Return `entity_list`, and the values of the request that a data frame has beside the join keys."""
    if not plan.requests or (columns := _frame_columns(entities)) is None:
        return entity_list(plan, entities), {}
    keys, sent = _split_columns(plan, columns)
    check_join_keys(plan, keys)
    names = plan.join_keys
    values = keys[names[0]] if len(names) == 1 else zip(*(keys[n] for n in names), strict=True)
    return values, sent


def split_rows(plan: ReadPlan, entity_rows: EntityRows) -> tuple[EntityRows, RequestColumns]:
    """Return entity rows without the values of the request in them, and these.

    Raises:
        RequestError: The columns differ in length.
    """
    if not plan.requests:
        return entity_rows, {}
    if not isinstance(entity_rows, Mapping):
        if (columns := _frame_columns(entity_rows)) is not None:
            return _split_columns(plan, columns)
        return _split_each_row(plan, entity_rows)
    keys, sent = _split_columns(plan, entity_rows)
    _check_columns(plan, keys)
    for name, column in sent.items():
        if isinstance(column, str | bytes | Mapping) or not hasattr(column, "__len__"):
            raise RequestError(
                f"expected a list of values, not {column!r}", where=f"request value '{name}'"
            )
    if len({len(column) for column in (*keys.values(), *sent.values())}) > 1:
        listed = ", ".join(f"{name}: {len(column)}" for name, column in entity_rows.items())
        raise RequestError(f"the columns of entity_rows differ in length: {listed}")
    return keys, {name: _column_values(column) for name, column in sent.items()}


def _split_columns(
    plan: ReadPlan, columns: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the columns that are join keys or unknown, and those of request data that the plan needs."""
    names = {column.name for column in plan.requests}
    taken = names.union(plan.ignored_request_values)
    keys = {name: column for name, column in columns.items() if name not in taken}
    return keys, {name: column for name, column in columns.items() if name in names}


def _split_each_row(plan: ReadPlan, rows: Any) -> tuple[EntityRows, RequestColumns]:
    names = [column.name for column in plan.requests]
    if not isinstance(rows, Sequence) or not all(isinstance(row, Mapping) for row in rows):
        return rows, {}  # refused as entity rows
    taken = {*names, *plan.ignored_request_values}
    keys = [{name: row[name] for name in row if name not in taken} for row in rows]
    sent = {name: [row.get(name, NOT_SENT) for row in rows] for name in names}
    return keys, {
        name: column for name, column in sent.items() if any(v is not NOT_SENT for v in column)
    }


def join_key_values(plan: ReadPlan, entity: Any) -> Sequence[object]:
    """Return the join keys of one row of several entities, in the plan's order.

    Raises:
        RequestError: It lacks a join key or has an unknown one.
    """
    names = plan.join_keys
    if isinstance(entity, Mapping):
        check_join_keys(plan, entity)
        return [entity[name] for name in names]
    values = entity if isinstance(entity, tuple) else (entity,)
    if len(values) != len(names):
        raise RequestError(
            f"{plan.name} has features of several entities: expected a dict or a tuple of "
            f"{', '.join(names)}, not {entity!r}"
        )
    return values


def check_join_keys(plan: ReadPlan, given: Mapping[str, object], *, where: str = "") -> None:
    """Raise `RequestError` unless the names given are exactly the plan's join keys."""
    names = plan.join_keys
    for name in given:
        if name not in names:
            raise RequestError(
                f"unknown join key '{name}'", where=where, hint=name_hint(str(name), names)
            )
    if missing := [name for name in names if name not in given]:
        raise RequestError(
            f"missing join key {', '.join(map(repr, missing))}",
            where=where,
            hint=f"a read of {plan.name} needs {', '.join(names)}",
        )


def _check_columns(plan: ReadPlan, entity_rows: Mapping[str, Any]) -> None:
    check_join_keys(plan, entity_rows)
    for name, column in entity_rows.items():
        if isinstance(column, str | bytes | Mapping) or not hasattr(column, "__len__"):
            raise RequestError(
                f"expected a list of values, not {column!r}", where=f"join key '{name}'"
            )
    lengths = {name: len(column) for name, column in entity_rows.items()}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{name}: {length}" for name, length in lengths.items())
        raise RequestError(f"the columns of entity_rows differ in length: {listed}")


def _check_sequence(entity_rows: Any) -> None:
    if isinstance(entity_rows, str | bytes) or not isinstance(entity_rows, Sequence):
        kind = type(entity_rows).__name__
        raise RequestError(
            f"entity_rows must be a list of dicts or a dict of lists, or a data frame, not {kind}"
        )


def _check_row(plan: ReadPlan, row: Any, where: str) -> None:
    if not isinstance(row, Mapping):
        raise RequestError(f"expected a dict of join keys, not {row!r}", where=where)
    check_join_keys(plan, row, where=where)


def _frame_columns(data: Any) -> dict[str, list[object]] | None:
    """Return the columns of a data frame as Python values; `None` if it is not a data frame.

    Raises:
        RequestError: Two columns have the same name.
        MissingExtraError: Only pyarrow can read it, and is not installed.
    """
    library = type(data).__module__.partition(".")[0]
    if library not in {"pandas", "polars"} and not hasattr(type(data), "__arrow_c_stream__"):
        return None
    if library == "pandas":
        names = [str(name) for name in getattr(data, "columns", ())]
        return _unique(names, [_series_values(data.iloc[:, i]) for i in range(len(names))])
    if library == "polars":
        names = list(getattr(data, "columns", ()))
        return _unique(names, [data[name].to_list() for name in names])
    try:
        import pyarrow as pa
    except ImportError as error:
        raise MissingExtraError.of("batch", "entity rows from Arrow data") from error
    if isinstance(data, pa.ChunkedArray):
        return None
    table = pa.RecordBatchReader.from_stream(data).read_all()
    return _unique(table.schema.names, [column.to_pylist() for column in table.columns])


def _column_values(column: Any) -> list[object]:
    """Return a list, array or series as a list of Python values."""
    return column.to_pylist() if hasattr(column, "to_pylist") else list(column)


def _series_values(series: Any) -> list[object]:
    """Return the values of a series of pandas; nan, NA and NaT are null, as in labels.

    Because of a null, pandas holds ints as floats.
    """
    values: list[Any] = series.tolist()
    if not series.hasnans:
        return values
    found = [None if null else v for v, null in zip(values, series.isna(), strict=True)]
    if all(v is None or (isinstance(v, float) and v.is_integer()) for v in found):
        return [None if v is None else int(v) for v in found]
    return list(found)


def _unique(names: list[str], columns: list[list[object]]) -> dict[str, list[object]] | None:
    """Return the columns by name; `None` for a series, which has none."""
    if twice := [name for name in names if names.count(name) > 1]:
        raise RequestError(f"two columns are named '{twice[0]}'", where="entity_rows")
    return dict(zip(names, columns, strict=True)) or None
