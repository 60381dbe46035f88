"""JSON values, arrays and vectors."""

from __future__ import annotations

import json
import math
import struct
import sys
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from importlib.util import find_spec
from typing import Any

from typing_extensions import override

from featurekit.errors import ValueRefusedError
from featurekit.types.codec import Codec, short_repr, to_python_scalar
from featurekit.types.numbers import text32_of

MAX_DEPTH = 100
"""Levels that a JSON value may nest."""

_FLOAT32 = struct.Struct("<f")

_dumps = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":")
).encode


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


_READ = json.JSONDecoder(parse_constant=_no_constant).decode
_READ_FLOATS = json.JSONDecoder(parse_constant=_no_constant, parse_int=float).decode


@dataclass(frozen=True, slots=True)
class JsonCodec(Codec):
    """`json`: compact, keys sorted."""

    @property
    @override
    def noun(self) -> str:
        return "a JSON value"

    @override
    def encode(self, value: object) -> bytes:
        if value is None:
            raise self.refusal(value)
        self._check(value, MAX_DEPTH)
        try:
            return _dumps(value).encode()
        except ValueError:  # half of a surrogate pair, or an int too long to print
            raise self.refusal(value) from None

    def _check(self, value: object, depth: int) -> None:
        if depth == 0:
            raise ValueRefusedError(f"a JSON value nested deeper than {MAX_DEPTH} levels")
        if isinstance(value, dict):
            if not all(isinstance(key, str) for key in value):
                raise ValueRefusedError(f"{short_repr(value)} has a key that is not a string")
            value = list(value.values())
        if isinstance(value, list | tuple):
            for item in value:
                self._check(item, depth - 1)
        elif not _is_leaf(value):
            raise self.refusal(value)

    @override
    def decode(self, data: bytes) -> object:
        try:
            value: object = _READ(data.decode())
        except RecursionError:
            raise ValueError(f"JSON nested deeper than {MAX_DEPTH} levels") from None
        if value is None:
            raise ValueError("null is no value")
        return value

    @override
    def parse(self, text: str) -> object:
        try:
            value = self.decode(text.encode())
        except ValueError:
            raise ValueRefusedError(f"{short_repr(text)} is not JSON") from None
        self.encode(value)
        return value

    @override
    def decoder_expression(self, data: str) -> str:
        return f"_json({data})"

    @override
    def names(self) -> dict[str, object]:
        return {"_json": self.decode}


def _is_leaf(value: object) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or isinstance(value, str | int)


_FLOATS = frozenset({"float64", "float32"})
_IN_JSON = {"int64": int, "int32": int, "float64": float, "float32": float, "bool": bool}
"""Elements whose bytes are JSON as they stand, and as what JSON reads them; others are strings."""

_NOT_FINITE = frozenset({b"nan", b"inf", b"-inf"})


@dataclass(frozen=True, slots=True)
class ArrayCodec(Codec):
    """`array<T>`: compact JSON of the elements."""

    element: Codec

    @override
    def encode(self, value: object) -> bytes:
        if not isinstance(value, list | tuple):
            raise self.refusal(value)
        return b"[%b]" % b",".join([self._piece(item) for item in value])

    def _piece(self, item: object) -> bytes:
        if item is None:
            raise ValueRefusedError(f"null in {self.noun}")
        data = self.element.encode(item)
        kind = self.dtype.element
        if kind in _IN_JSON:
            if data in _NOT_FINITE:
                raise ValueRefusedError(f"{data.decode()} in {self.noun}")
            return data
        text = self.element.to_json(item) if kind == "bytes" else data.decode()
        return _dumps(text).encode()

    @override
    def decode(self, data: bytes) -> list[object]:
        kind = self.dtype.element
        try:
            items = (_READ_FLOATS if kind in _FLOATS else _READ)(data.decode())
        except RecursionError:
            items = None
        # Checked in bulk: an array may have thousands of elements.
        if not isinstance(items, list) or not set(map(type, items)) <= {_IN_JSON.get(kind, str)}:
            raise ValueError(f"{short_repr(data)} is not {self.noun}")
        if kind in _FLOATS and not all(map(math.isfinite, items)):
            raise ValueError(f"{short_repr(data)} has a number that is not finite")
        if kind in {"string", "bool", "float64"}:
            return items
        return [self.element.from_json(item) for item in items]

    @override
    def from_json(self, value: object) -> list[object]:
        if not isinstance(value, list | tuple):
            raise self.refusal(value)
        if None in value:
            raise ValueRefusedError(f"null in {self.noun}")
        return [self.element.from_json(item) for item in value]

    @override
    def to_json(self, value: object) -> object:
        if not isinstance(value, list | tuple):
            raise self.refusal(value)
        return [self.element.to_json(item) for item in value]

    @override
    def decoder_expression(self, data: str) -> str:
        return f"_array_{self.dtype.element}({data})"

    @override
    def names(self) -> dict[str, object]:
        return {f"_array_{self.dtype.element}": self.decode}


@dataclass(frozen=True, slots=True)
class VectorCodec(Codec):
    """`vector<float32, N>`: 4 x N bytes, little-endian, all finite."""

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
        return self._packed(value.tolist() if hasattr(value, "tolist") else value)

    def _packed(self, items: Sequence[Any]) -> bytes:
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
        return _reader()(data)

    @override
    def parse(self, text: str) -> object:
        try:
            value: object = _READ(text)
        except (ValueError, RecursionError):
            raise self.refusal(text) from None
        return self.from_json(value)

    @override
    def from_json(self, value: object) -> object:
        if not isinstance(value, list | tuple):
            raise self.refusal(value)
        return self.decode(self.encode(value))

    @override
    def to_json(self, value: object) -> list[float]:
        return [float(text32_of(number)) for number in _listed(self.encode(value))]

    @override
    def decoder_expression(self, data: str) -> str:
        return f"_vector_{self.dtype.size}({data})"

    @override
    def names(self) -> dict[str, object]:
        return {f"_vector_{self.dtype.size}": self.decode}


def _listed(data: bytes) -> list[float]:
    return [number for (number,) in _FLOAT32.iter_unpack(data)]


@cache
def _reader() -> Callable[[bytes], object]:
    """What makes a vector of bytes: a numpy array over them where numpy is installed."""
    if find_spec("numpy") is None:
        return _listed
    import numpy

    return partial(numpy.frombuffer, dtype="<f4")
