"""The Arrow form of each type: whole columns to the bytes of the codecs, and to values.

`Codec.encode` and `Codec.parse` decide for single values; the Arrow forms give the same result
for columns, faster. Only loading imports this package, because it imports pyarrow.
"""

from __future__ import annotations

from featurekit.types.arrow.table import (
    arrow_type,
    decode_array,
    encode_array,
    has_read_values,
    parse_array,
    python_value,
    to_arrow,
)

__all__ = [
    "arrow_type",
    "decode_array",
    "encode_array",
    "has_read_values",
    "parse_array",
    "python_value",
    "to_arrow",
]
