"""Feature types: for each type its bytes, text, JSON and Arrow forms, and its capabilities.

`codec_of` returns the codec of a type. `featurekit.types.arrow` holds the Arrow forms; only
loading imports it, so that serving does not need pyarrow.
"""

from __future__ import annotations

from featurekit.types.codec import DECODE_ERRORS, Bound, Codec, DType, JsonSchema, short_repr
from featurekit.types.table import (
    KEY_TYPES,
    SCALARS,
    codec_of,
    expression_type,
    json_value,
    parse_dtype,
    type_hint,
)

__all__ = [
    "DECODE_ERRORS",
    "KEY_TYPES",
    "SCALARS",
    "Bound",
    "Codec",
    "DType",
    "JsonSchema",
    "codec_of",
    "expression_type",
    "json_value",
    "parse_dtype",
    "short_repr",
    "type_hint",
]
