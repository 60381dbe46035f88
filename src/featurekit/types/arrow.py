"""The Arrow form of the codecs: whole columns to the same bytes, and back into columns.

Scalars, vectors and arrays do not become Python values on the way, but for the few that Arrow
spells in another way. What a cell may be is decided by `Codec.encode` on `python_value`; this
gives the same answer faster.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from featurekit.types.arrow_cells import by_value, flat, python_value
from featurekit.types.arrow_lists import arrays, vectors
from featurekit.types.arrow_parse import parse_array
from featurekit.types.arrow_scalars import SCALARS
from featurekit.types.arrow_types import arrow_type, to_arrow
from featurekit.types.dtype import DType
from featurekit.types.table import codec_of

__all__ = ["arrow_type", "encode_array", "parse_array", "python_value", "to_arrow"]

_ENCODERS = {**SCALARS, "json": by_value, "array": arrays, "vector": vectors}


def encode_array(dtype: DType, column: Any) -> tuple[Any, Any]:
    """The bytes of a column.

    Args:
        dtype: The type it shall have.
        column: An Arrow array or chunked array of any type.

    Returns:
        A binary array, null where the column is null or its value is refused, and a boolean
        array of the rows refused, or `None` if none is.
    """
    array = flat(column)
    if pa.types.is_null(array.type):
        return pa.nulls(len(array), pa.binary()), None
    texts = _ENCODERS[dtype.kind](codec_of(dtype), array)
    if texts is None:
        texts = pa.nulls(len(array), pa.binary())
    if texts.null_count == array.null_count:
        return texts.cast(pa.binary()), None
    return texts.cast(pa.binary()), pc.and_(array.is_valid(), texts.is_null())
