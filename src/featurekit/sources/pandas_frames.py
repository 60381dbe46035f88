"""Data frames of pandas as Arrow tables, with the values that the same cells have as Python values.

pyarrow's own conversion takes `nan` for null, gives each dict of a column the keys of all others, and
takes a time without a zone for UTC if the column has a time with one.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import numpy
from pandas.api.types import infer_dtype

from featurekit.errors import SourceError, ValueRefusedError
from featurekit.plan import ViewPlan
from featurekit.types import Codec, codec_of, short_repr


def table_of_frame(pa: Any, frame: Any, view: ViewPlan, where: str) -> Any:
    """Return a pandas data frame as a table, without its index.

    Raises:
        SourceError: A column has times with and without a time zone, or values without an Arrow
            type; or two columns have the same name.
    """
    if repeated := [str(name) for name in frame.columns[frame.columns.duplicated()]]:
        raise SourceError(
            f"the data frame has several columns named '{repeated[0]}'",
            where=where,
            hint="rename or drop one of them",
        )
    codecs = _codecs_by_column(view)
    converted: dict[int, Any] = {}
    for index, name in enumerate(frame.columns):
        column, codec = frame.iloc[:, index], codecs.get(str(name))
        if column.dtype == object and infer_dtype(column) != "string":
            _check_time_zones(column, where, str(name))
        if codec is not None and (array := _convert(pa, column, codec)) is not None:
            converted[index] = array
    others = [index for index in range(len(frame.columns)) if index not in converted]
    table = _table_of_columns(pa, frame.iloc[:, others], where)
    arrays = dict(zip(others, table.columns, strict=True)) | converted
    names = [str(name) for name in frame.columns]
    return pa.Table.from_arrays([arrays[index] for index in range(len(names))], names)


def _table_of_columns(pa: Any, frame: Any, where: str) -> Any:
    """Return pandas columns as a table, by pyarrow's own conversion."""
    try:
        return pa.Table.from_pandas(frame, preserve_index=False)
    except (OverflowError, UnicodeEncodeError, pa.ArrowException) as error:
        for name in frame.columns:
            for row, cell in enumerate(frame[name]):
                try:
                    pa.array([cell], from_pandas=True)
                except (OverflowError, UnicodeEncodeError, pa.ArrowException):
                    raise SourceError(
                        f"{short_repr(cell)} has no Arrow type",
                        where=f"{where}, row {row}, {name}",
                    ) from error
        raise SourceError(f"the data frame has no Arrow form: {error}", where=where) from error


def _codecs_by_column(view: ViewPlan) -> dict[str, Codec]:
    """Return the codecs of fields by their names and by the columns of the view's source."""
    column_of = view.source.column if view.source else str
    codecs = {field.name: codec_of(field.dtype) for field in view.event_fields}
    return codecs | {column_of(name): codec for name, codec in codecs.items()}


def _convert(pa: Any, column: Any, codec: Codec) -> Any:
    """Return a column as an Arrow array; `None` if pyarrow converts it with the same values."""
    if (
        codec.has_nan
        and isinstance(column.dtype, numpy.dtype)
        and numpy.issubdtype(column.dtype, numpy.floating)
    ):
        return pa.array(column.to_numpy(), from_pandas=False)
    if column.dtype != object or not (codec.any_json or codec.has_nan):
        return None
    cells = list(zip(column, column.isna(), strict=True))
    if codec.any_json:
        texts = [None if is_null else _json_text(cell, codec) for cell, is_null in cells]
        return pa.array(texts, pa.string())
    is_nan = [is_null and isinstance(cell, float) for cell, is_null in cells]
    if not any(is_nan):
        return None
    return pa.array(
        [
            cell if nan or not null else None
            for (cell, null), nan in zip(cells, is_nan, strict=True)
        ],
        from_pandas=False,
    )


def _json_text(cell: object, codec: Codec) -> str:
    """Return the JSON of a cell, of which text is JSON already; a text that is refused if it has none."""
    if isinstance(cell, str):
        return cell
    try:
        return codec.encode(_without_numpy(cell)).decode()
    except ValueRefusedError:
        return repr(cell)


def _without_numpy(value: Any) -> Any:
    """Return a value with lists and Python scalars instead of numpy's."""
    if isinstance(value, dict):
        return {name: _without_numpy(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_numpy(item) for item in value]
    return _without_numpy(value.tolist()) if type(value).__module__ == "numpy" else value


def _check_time_zones(column: Any, where: str, name: str) -> None:
    first: datetime | None = None
    for row, cell in enumerate(column):
        for time in cell if isinstance(cell, list | tuple) else (cell,):
            if not isinstance(time, datetime) or time != time:  # noqa: PLR0124 - pandas' NaT
                continue
            first = time if first is None else first
            if (time.utcoffset() is None) != (first.utcoffset() is None):
                raise SourceError(
                    f"{short_repr(time)} and {short_repr(first)} differ in having a time zone",
                    where=f"{where}, row {row}, {name}",
                    hint="add the zone to each time, for example with pandas.to_datetime(utc=True)",
                )
