"""`vector<float32, N>`, stored as 4 x N bytes, which Redis' vector index reads."""

from __future__ import annotations

import math
import struct
import sys
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cache, partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar

from typing_extensions import override

from featurekit.errors import ValueRefusedError
from featurekit.types.codec import (
    Codec,
    ComparedAs,
    DType,
    JsonSchema,
    short_repr,
    to_python_scalar,
)
from featurekit.types.floats import Float32Codec, shortest_text32
from featurekit.types.json_values import load_json

if TYPE_CHECKING:
    from numpy.typing import NDArray

_DISPLAYED = 4
"""Elements that `display_text` writes."""

_FLOAT32 = struct.Struct("<f")

_LARGE, _LARGE_NEGATIVE = 0x7F, 0xFF
"""The high byte of a number from 2**127 on, and of one that is not finite."""


@dataclass(frozen=True, slots=True)
class VectorCodec(Codec):
    """`vector<float32, N>`: little-endian float32s, all finite."""

    python_type: ClassVar[str] = "list[float]"
    compared_as: ClassVar[ComparedAs] = "norm"
    is_scalar: ClassVar[bool] = False

    @override
    def as_arrays(self) -> Codec:
        return VectorArrayCodec(self.dtype) if _has_numpy() else self

    @property
    @override
    def number_columns(self) -> int:
        return self.dtype.size

    @override
    def to_numbers(self, cells: Sequence[bytes]) -> NDArray[Any]:
        import numpy as np

        if set(map(len, cells)) - {4 * self.dtype.size}:
            raise ValueError("a vector of another size")
        with np.errstate(invalid="ignore"):  # checked below
            found = np.frombuffer(b"".join(cells), "<f4").astype(np.float64)
        if not np.isfinite(found).all():
            raise ValueError("a number that is not finite")
        return found.reshape(len(cells), self.dtype.size)

    @override
    def encode(self, value: object) -> bytes:
        numpy = sys.modules.get("numpy")
        if numpy is not None and isinstance(value, numpy.ndarray):
            if value.ndim != 1 or value.dtype.kind not in "iuf":
                raise self.refusal(value)
        elif not isinstance(value, list | tuple | array):
            raise self.refusal(value)
        if len(value) != self.dtype.size:
            raise ValueRefusedError(f"{len(value)} numbers are not {self.noun}")
        return self._pack(value.tolist() if hasattr(value, "tolist") else value)

    def _pack(self, items: Sequence[Any]) -> bytes:
        if not set(map(type, items)) <= {float, int}:
            items = [self._number(item) for item in items]
        try:
            data = struct.pack(f"<{len(items)}f", *items)
        except OverflowError:
            raise self.outside(items) from None
        if not all(map(math.isfinite, items)):
            raise ValueRefusedError(f"{short_repr(items)} has a number that is not finite")
        return data

    def _number(self, item: object) -> float:
        number = to_python_scalar(item)
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise ValueRefusedError(f"{short_repr(item)} in {self.noun}")
        return number

    @override
    def decode(self, data: bytes) -> object:
        if len(data) != 4 * self.dtype.size:
            raise ValueError(f"{len(data)} bytes are not {self.noun}")
        # Such numbers are rare, so that most vectors are checked without a look at each number.
        high = data[3::4]
        if (_LARGE in high or _LARGE_NEGATIVE in high) and not all(
            map(math.isfinite, _unpack(data))
        ):
            raise ValueError(f"{self.noun} has a number that is not finite")
        return self._reader()(data)

    @override
    def parse(self, text: str) -> object:
        try:
            value: object = load_json(text)
        except (ValueError, RecursionError):
            raise self.refusal(text) from None
        return self.from_json(value)

    @override
    def bytes_parser(self) -> Callable[[bytes], object]:
        """Return a function that decodes the stored form: a stream entry holds binary data."""

        def parse(data: bytes) -> object:
            try:
                return self.decode(data)
            except ValueError:
                raise self.refusal(data) from None

        return parse

    @override
    def from_json(self, value: object) -> object:
        if not isinstance(value, list | tuple):
            raise self.refusal(value)
        if Decimal in set(map(type, value)):
            value = [float(item) if isinstance(item, Decimal) else item for item in value]
        return self.decode(self.encode(value))

    @override
    def to_json(self, value: object) -> list[float]:
        return [float(shortest_text32(number)) for number in _unpack(self.encode(value))]

    @override
    def json_schema(self, *, in_request: bool) -> JsonSchema:
        size, number = self.dtype.size, Float32Codec(DType("float32"))
        items = number.json_schema(in_request=in_request)
        return {"type": "array", "items": items, "minItems": size, "maxItems": size}

    @override
    def display_text(self, value: object) -> str:
        head = ", ".join(f"{number:g}" for number in self.to_json(value)[:_DISPLAYED])
        size = self.dtype.size
        return f"[{head}, … {size} numbers]" if size > _DISPLAYED else f"[{head}]"

    @override
    def decoder_expression(self, data: str) -> str:
        return f"_vector_{self.dtype.size}({data})"

    @override
    def decoder_globals(self) -> dict[str, object]:
        return {f"_vector_{self.dtype.size}": self._fast_decoder()}

    def _fast_decoder(self) -> Callable[[bytes], object]:
        """Return `decode` without its look-ups, which take longer than the rest."""
        size, read, decode = 4 * self.dtype.size, self._reader(), self.decode

        def decode_usual(data: bytes) -> object:
            high = data[3::4]
            if len(data) != size or _LARGE in high or _LARGE_NEGATIVE in high:
                return decode(data)
            return read(data)

        return decode_usual

    def _reader(self) -> Callable[[bytes], object]:
        """Return the function from bytes of the right length to the value."""
        unpack = struct.Struct(f"<{self.dtype.size}f").unpack
        return lambda data: [*unpack(data)]


@dataclass(frozen=True, slots=True)
class VectorArrayCodec(VectorCodec):
    """The same as numpy arrays over the bytes, which orjson writes by each float32's shortest text."""

    python_type: ClassVar[str] = "NDArray[float32]"
    json_ready: ClassVar[bool] = True

    @override
    def decoder_expression(self, data: str) -> str:
        return f"_array_of_vector_{self.dtype.size}({data})"

    @override
    def decoder_globals(self) -> dict[str, object]:
        return {f"_array_of_vector_{self.dtype.size}": self._fast_decoder()}

    @override
    def _reader(self) -> Callable[[bytes], object]:
        return _array_reader()


def _unpack(data: bytes) -> list[float]:
    return [number for (number,) in _FLOAT32.iter_unpack(data)]


@cache
def _has_numpy() -> bool:
    return find_spec("numpy") is not None


@cache
def _array_reader() -> Callable[[bytes], object]:
    import numpy

    return partial(numpy.frombuffer, dtype=numpy.dtype("<f4"))
