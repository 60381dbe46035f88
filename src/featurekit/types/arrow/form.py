"""`ArrowForm`, the columnar form of a type, and operations on Arrow columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.compute as pc
from typing_extensions import override

from featurekit.errors import ValueRefusedError
from featurekit.types.codec import Codec


class Unencodable:
    """A value that every codec refuses, shown in messages as its text."""

    def __init__(self, text: str) -> None:
        self._text = text

    @override
    def __repr__(self) -> str:
        return self._text


@dataclass(frozen=True)
class ArrowForm:
    """The columnar form of one type. The methods here go value by value through the codec.

    Attributes:
        arrow_type: The Arrow type of a column of decoded values.
        wide_type: A wider Arrow type for values that do not fit `arrow_type`.
        usual_text: A regular expression for texts that Arrow's cast reads as `Codec.parse` does.
    """

    codec: Codec

    arrow_type: ClassVar[Any]
    wide_type: ClassVar[Any] = None
    usual_text: ClassVar[str] = ""

    def encode(self, array: Any) -> Any:
        """Return the bytes of a flat array, null where the value is null or refused.

        `None` means that the array's Arrow type has no values of this type.
        """
        return self.encode_values(array)

    def encode_values(self, array: Any) -> Any:
        """Return the bytes of an array of any type, one Python value at a time."""
        return pa.array([self._encode_scalar(scalar) for scalar in array], pa.binary())

    def _encode_scalar(self, scalar: Any) -> bytes | None:
        if not scalar.is_valid:
            return None
        try:
            return self.codec.encode(self.python_value(scalar))
        except ValueRefusedError:
            return None

    def encode_where(self, texts: Any, array: Any, mask: Any) -> Any:
        """Return `texts`, with the bytes of `array` by Python where the mask is true."""
        mask = mask.fill_null(fill_value=False)
        if not pc.any(mask).as_py():
            return texts
        values = self.encode_values(array.filter(mask))
        return pc.replace_with_mask(texts.cast(pa.binary()), mask, values)

    def json_texts(self, texts: Any) -> Any:
        """Return the JSON of encoded elements, null where refused; `None` if Python must do it."""
        return pc.binary_join_element_wise(b'"', texts, b'"', b"")

    def parse(self, texts: Any) -> Any:
        """Return the values of an array of strings, null where the text is null or refused."""
        if not self.usual_text:
            return self.parse_values(texts)
        return self.parse_usual(texts, pc.match_substring_regex(texts, self.usual_text))

    def parse_usual(self, texts: Any, is_usual: Any) -> Any:
        """Return the values of texts: the usual ones by Arrow's cast, the others by Python."""
        is_usual = is_usual.fill_null(fill_value=True)
        values = keep_where(texts, is_usual).cast(self.arrow_type)
        if pc.all(is_usual).as_py():
            return values
        rest = pc.invert(is_usual)
        return pc.replace_with_mask(values, rest, self.parse_values(texts.filter(rest)))

    def parse_values(self, texts: Any) -> Any:
        """Return the values of texts, one at a time."""
        return self.from_values([self._parse_text(text) for text in texts.to_pylist()])

    def _parse_text(self, text: str | None) -> object:
        if text is None:
            return None
        try:
            return self.codec.parse(text)
        except ValueRefusedError:
            return None

    def from_values(self, values: list[Any]) -> Any:
        """Return a column of decoded values, with `None` for null."""
        try:
            return pa.array(values, self.arrow_type)
        except pa.ArrowInvalid:
            if self.wide_type is None:
                raise
            return pa.array(values, self.wide_type)

    def python_value(self, scalar: Any) -> object:
        """Return the Python value of an Arrow scalar; the codec refuses it where `encode` does."""
        kind = scalar.type
        if pa.types.is_timestamp(kind) and kind.tz is not None:
            scalar = scalar.cast(
                pa.timestamp(kind.unit, "UTC")
            )  # its local year may be 0 or 10000
        options = {"maps_as_pydicts": "strict"} if pa.types.is_nested(kind) else {}
        try:
            value: object = scalar.as_py(**options)
        except (ValueError, OverflowError, KeyError):
            return Unencodable(f"{kind} {getattr(scalar, 'value', '')}".rstrip())
        return value


def flatten(column: Any) -> Any:
    """Return a column as one plain array: no chunks, dictionaries, runs or extension types."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(array, pa.ChunkedArray):  # of a dictionary type, in older versions
        array = pa.concat_arrays(array.chunks)
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    if pa.types.is_run_end_encoded(array.type):
        array = pc.run_end_decode(array)
    return array.dictionary_decode() if pa.types.is_dictionary(array.type) else array


def keep_where(array: Any, mask: Any) -> Any:
    """Return the array with null where the mask is not true, so that a cast skips those values."""
    return pc.if_else(mask, array, pa.scalar(None, array.type))


def keep_within(array: Any, low: int, high: int) -> Any:
    """Return an array of integers with null where one is out of bounds."""
    bounds = pc.min_max(array).as_py()
    if bounds["min"] is None:
        return array
    if bounds["max"] > high:
        array = keep_where(array, pc.less_equal(array, pa.scalar(high, array.type)))
    if bounds["min"] < low:
        array = keep_where(array, pc.greater_equal(array, pa.scalar(low, array.type)))
    return array


def spread(rows: Any, mask: Any) -> Any:
    """Return the rows at the places where the mask is true, with null between them."""
    places = pc.subtract(pc.cumulative_sum(mask.cast(pa.int64())), 1)
    return rows.take(keep_where(places, mask))
