"""Cast Arrow columns whose types DuckDB cannot read to types that hold the same values.

float16 becomes float32. A decimal with a negative scale, or of 256 bits, becomes a decimal of 128
bits; a value that does not fit it is an error that names the column.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from featurekit.errors import SourceError

_MAX_DIGITS = 38
_USUAL_SCALE = 18
"""The fraction digits of the type that `OnlineResponse.to_arrow` gives decimals."""


def readable_schema(schema: Any) -> Any:
    """Return a schema (`pyarrow.Schema`) with types that DuckDB reads."""
    import pyarrow as pa

    fields = [field.with_type(_readable_type(pa, field.type)) for field in schema]
    return pa.schema(fields, schema.metadata)


def cast_table(table: Any, schema: Any, where: str) -> Any:
    """Return a table or batch with the types of `schema`.

    Raises:
        SourceError: A value does not fit; the error names its column.
    """
    if table.schema.equals(schema):
        return table
    columns = [
        _cast_column(column, field, where)
        for column, field in zip(table.columns, schema, strict=True)
    ]
    return type(table).from_arrays(columns, schema=schema)


def cast_batches(batches: Iterable[Any], schema: Any, where: str) -> Iterator[Any]:
    """Yield the same record batches with the types of `schema`; raises as `cast_table` does."""
    for batch in batches:
        yield cast_table(batch, schema, where)


def _readable_type(pa: Any, kind: Any) -> Any:
    types = pa.types
    if types.is_float16(kind):
        return pa.float32()
    if types.is_decimal(kind) and (types.is_decimal256(kind) or kind.scale < 0):
        scale = max(kind.scale, 0)
        digits = kind.precision - kind.scale + scale
        is_too_wide = digits > _MAX_DIGITS
        return pa.decimal128(
            _MAX_DIGITS if is_too_wide else digits,
            min(scale, _USUAL_SCALE) if is_too_wide else scale,
        )
    if not (types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)):
        return kind
    element = kind.value_field.with_type(_readable_type(pa, kind.value_type))
    size = kind.list_size if types.is_fixed_size_list(kind) else -1
    return pa.large_list(element) if types.is_large_list(kind) else pa.list_(element, size)


def _cast_column(column: Any, field: Any, where: str) -> Any:
    import pyarrow as pa

    if column.type == field.type:
        return column
    try:
        return column.cast(field.type)
    except pa.ArrowInvalid as error:
        raise SourceError(
            f"column '{field.name}' is {column.type}, and a value does not fit {field.type}: "
            f"{error}",
            where=where,
            hint=f"cast the column to a decimal of at most {_MAX_DIGITS} digits",
        ) from error
