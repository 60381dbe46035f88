"""Columns of data frames: pandas, polars, Arrow tables, and other objects with an Arrow stream."""

from __future__ import annotations

from typing import Any, Protocol

from featurekit.errors import MissingExtraError, RequestError


class DataFrame(Protocol):
    """A data frame of pandas, polars or Arrow, or another object with an Arrow stream."""

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """Export the rows."""


def frame_columns(data: Any) -> dict[str, list[object]] | None:
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
        return _unique(names, [data.iloc[:, i].tolist() for i in range(len(names))])
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


def column_values(column: Any) -> list[object]:
    """Return a list, array or series as a list of Python values."""
    return column.to_pylist() if hasattr(column, "to_pylist") else list(column)


def _unique(names: list[str], columns: list[list[object]]) -> dict[str, list[object]] | None:
    """Return the columns by name; `None` for a series, which has none."""
    if twice := [name for name in names if names.count(name) > 1]:
        raise RequestError(f"two columns are named '{twice[0]}'", where="entity_rows")
    return dict(zip(names, columns, strict=True)) or None
