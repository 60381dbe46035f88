"""The Arrow form of every type, and the functions on columns of a type."""

from __future__ import annotations

from functools import cache
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from featurekit.types.arrow.form import ArrowForm, flatten
from featurekit.types.arrow.lists import ArrayForm, VectorForm
from featurekit.types.arrow.numbers import (
    BoolForm,
    DecimalForm,
    Float32Form,
    FloatForm,
    Int32Form,
    IntForm,
)
from featurekit.types.arrow.texts import BytesForm, JsonForm, StringForm
from featurekit.types.arrow.times import DateForm, TimestampForm
from featurekit.types.codec import DType
from featurekit.types.table import codec_of

_FORMS: dict[str, type[ArrowForm]] = {
    "string": StringForm,
    "int64": IntForm,
    "int32": Int32Form,
    "float64": FloatForm,
    "float32": Float32Form,
    "bool": BoolForm,
    "timestamp": TimestampForm,
    "date": DateForm,
    "decimal": DecimalForm,
    "bytes": BytesForm,
    "json": JsonForm,
    "vector": VectorForm,
}


@cache
def _form_of(dtype: DType) -> ArrowForm:
    if dtype.element:
        return ArrayForm(codec_of(dtype), element=_form_of(DType(dtype.element)))
    return _FORMS[dtype.kind](codec_of(dtype))


def encode_array(dtype: DType, column: Any) -> tuple[Any, Any]:
    """Return the bytes of a column.

    Args:
        dtype: The type of the values.
        column: An Arrow array or chunked array of any Arrow type.

    Returns:
        A binary array, null where the column is null or its value refused, and a boolean array
        of the refused rows, or `None` if there are none.
    """
    array = flatten(column)
    if pa.types.is_null(array.type):
        return pa.nulls(len(array), pa.binary()), None
    texts = _form_of(dtype).encode(array)
    if texts is None:
        texts = pa.nulls(len(array), pa.binary())
    if texts.null_count == array.null_count:
        return texts.cast(pa.binary()), None
    return texts.cast(pa.binary()), pc.and_(array.is_valid(), texts.is_null())


def parse_array(dtype: DType, column: Any) -> tuple[Any, Any]:
    """Return the values of a column of texts, such as a column of a CSV file.

    Args:
        dtype: The type of the values.
        column: An Arrow array or chunked array of strings.

    Returns:
        An array that `encode_array` takes, null where the column is null or its text refused,
        and a boolean array of the refused rows, or `None` if there are none.
    """
    texts = flatten(column).cast(pa.string())
    values = _form_of(dtype).parse(texts)
    if values.null_count == texts.null_count:
        return values, None
    return values, pc.and_(texts.is_valid(), values.is_null())


_NUMBERS_AND_STRINGS = frozenset({"string", "int64", "int32", "float64", "float32"})
"""Types whose columns of stored bytes parse as columns of texts do."""


def decode_array(dtype: DType, data: Any) -> Any:
    """Return the values of a column of stored bytes, as readers decode them.

    Its type is that of `to_arrow`.

    Args:
        dtype: The type of the values.
        data: A binary array, null where there is no value.
    """
    if not dtype.element and dtype.kind in _NUMBERS_AND_STRINGS:
        return parse_array(dtype, data.cast(pa.string()))[0]
    encoded = data.dictionary_encode()
    decode = codec_of(dtype).decode
    values = to_arrow(dtype, [decode(value) for value in encoded.dictionary.to_pylist()])
    return values.take(encoded.indices)


def python_value(dtype: DType, scalar: Any) -> object:
    """Return the Python value of an Arrow scalar; the codec refuses it if `encode_array` does."""
    return _form_of(dtype).python_value(scalar)


def arrow_type(dtype: DType) -> Any:
    """Return the Arrow type of a column of decoded values."""
    return _form_of(dtype).arrow_type


def to_arrow(dtype: DType, values: list[object]) -> Any:
    """Return a column of decoded values, with `None` for null.

    Its type is `arrow_type(dtype)`, or decimal256(76, 38) for decimals that are too wide for it.
    """
    return _form_of(dtype).from_values(values)


def has_read_values(dtype: DType) -> bool:
    """Return whether Arrow has the values of a type that a read has.

    It has JSON as text, decimals with all their digits, and times in lists with another zone.
    """
    return (dtype.element or dtype.kind) not in {
        "json",
        "decimal",
    } and dtype.element != "timestamp"
