"""Feature types: for each type its bytes, text, JSON and Arrow forms, and its capabilities.

`codec_of` returns the codec of a type. `featurekit.types.arrow` holds the Arrow forms; only
loading imports it, so that serving does not need pyarrow.
"""

from __future__ import annotations

from featurekit.types.codec import DECODE_ERRORS, Codec, short_repr
from featurekit.types.dtype import KEY_TYPES, SCALARS, DType, parse_dtype
from featurekit.types.table import codec_of

__all__ = [
    "DECODE_ERRORS",
    "KEY_TYPES",
    "SCALARS",
    "Codec",
    "DType",
    "codec_of",
    "parse_dtype",
    "short_repr",
]
