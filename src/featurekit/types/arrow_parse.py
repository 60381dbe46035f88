"""Columns of texts, as CSV files hold them, as columns of values.

What a text may be is decided by `Codec.parse`; this gives the same answer faster for the
spellings that are usual, and asks it for all others.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from featurekit.errors import ValueRefusedError
from featurekit.types.arrow_cells import flat, only
from featurekit.types.arrow_types import arrow_type, to_arrow
from featurekit.types.codec import Codec
from featurekit.types.dtype import DType
from featurekit.types.table import codec_of
from featurekit.types.times import TIMESTAMP

_DAY_LENGTH = len("2026-11-22")
_USUAL = {
    "int64": "^-?[0-9]{1,18}$",
    "int32": "^-?[0-9]{1,9}$",
    "float64": r"^-?[0-9]{1,99}(\.[0-9]{1,99})?([eE][+-]?[0-9]{1,2})?$",
    "bool": "^(true|false)$",
    "timestamp": f"^{TIMESTAMP}$",
}
"""Texts that Arrow reads as `Codec.parse` does."""


def parse_array(dtype: DType, column: Any) -> tuple[Any, Any]:
    """The values of a column of texts.

    Args:
        dtype: The type they shall have.
        column: An Arrow array or chunked array of strings.

    Returns:
        An array that `arrow.encode_array` takes, null where the column is null or its text
        refused, and a boolean array of the rows refused, or `None` if none is.
    """
    texts = flat(column).cast(pa.string())
    values = _PARSERS.get(dtype.kind, _by_value)(codec_of(dtype), texts)
    if values.null_count == texts.null_count:
        return values, None
    return values, pc.and_(texts.is_valid(), values.is_null())


def _by_value(codec: Codec, texts: Any) -> Any:
    return to_arrow(codec.dtype, [_parsed(codec, text) for text in texts.to_pylist()])


def _parsed(codec: Codec, text: str | None) -> object:
    if text is None:
        return None
    try:
        return codec.parse(text)
    except ValueRefusedError:
        return None


def _as_is(codec: Codec, texts: Any) -> Any:
    return texts.cast(arrow_type(codec.dtype))


def _cast(codec: Codec, texts: Any) -> Any:
    return _mixed(codec, texts, pc.match_substring_regex(texts, _USUAL[codec.dtype.kind]))


def _mixed(codec: Codec, texts: Any, usual: Any) -> Any:
    """The usual texts by a cast, the others one by one."""
    usual = usual.fill_null(fill_value=True)
    values = only(texts, usual).cast(arrow_type(codec.dtype))
    if pc.all(usual).as_py():
        return values
    rest = pc.invert(usual)
    return pc.replace_with_mask(values, rest, _by_value(codec, texts.filter(rest)))


def _float32s(_: Codec, texts: Any) -> Any:
    # By way of float64, as Python goes. What overflows is for Python to refuse.
    wide = _cast(codec_of(DType("float64")), texts)
    near = wide.cast(pa.float32(), safe=False)
    fits = pc.or_(pc.invert(pc.is_inf(near)), pc.is_inf(wide))
    return only(near, fits)


def _dates(codec: Codec, texts: Any) -> Any:
    coded = texts.dictionary_encode()
    return _by_value(codec, coded.dictionary).take(coded.indices)


def _timestamps(codec: Codec, texts: Any) -> Any:
    usual = pc.match_substring_regex(texts, _USUAL["timestamp"])
    days = pc.utf8_slice_codeunits(texts, 0, _DAY_LENGTH)
    real = _dates(codec_of(DType("date")), only(days, usual)).is_valid()
    return _mixed(codec, texts, pc.or_(real, texts.is_null()))


_PARSERS: dict[str, Callable[[Codec, Any], Any]] = {
    "string": _as_is,
    "bytes": _as_is,
    "int64": _cast,
    "int32": _cast,
    "float64": _cast,
    "float32": _float32s,
    "bool": _cast,
    "timestamp": _timestamps,
    "date": _dates,
}
