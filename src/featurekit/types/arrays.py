"""`array<T>` of a scalar type, stored as compact JSON."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import ClassVar

from typing_extensions import override

from featurekit.errors import ValueRefusedError
from featurekit.types.codec import Codec, ComparedAs, DType, JsonSchema, short_repr
from featurekit.types.json_values import (
    check_surrogates,
    dump_json,
    load_json,
    load_json_floats,
)

_NOT_FINITE = frozenset({b"nan", b"inf", b"-inf"})


@dataclass(frozen=True, slots=True)
class ArrayCodec(Codec):
    """`array<T>`: compact JSON of the elements; floats must be finite."""

    python_type: ClassVar[str] = "list[Any]"
    compared_as: ClassVar[ComparedAs] = "length"
    is_scalar: ClassVar[bool] = False
    has_length: ClassVar[bool] = True

    element: Codec

    @property
    @override
    def json_ready(self) -> bool:  # type: ignore[override]
        return self.element.json_ready

    @property
    @override
    def needs_exact_json(self) -> bool:  # type: ignore[override]
        return self.element.needs_exact_json

    @override
    def encode(self, value: object) -> bytes:
        numpy = sys.modules.get("numpy")
        if numpy is not None and isinstance(value, numpy.ndarray):
            # Python has no nanoseconds, so numpy's own times stay, and are refused.
            value = list(value) if value.dtype.kind in "mM" else value.tolist()
        if not isinstance(value, list | tuple):
            raise self.refusal(value)
        return b"[%b]" % b",".join([self._encode_element(item) for item in value])

    def _encode_element(self, item: object) -> bytes:
        if item is None:
            raise ValueRefusedError(f"null in {self.noun}")
        if self.element.json_type is str:
            return dump_json(self.element.to_json(item)).encode()
        data = self.element.encode(item)
        if data in _NOT_FINITE:
            raise ValueRefusedError(f"{data.decode()} in {self.noun}")
        return data

    @override
    def decode(self, data: bytes) -> list[object]:
        json_type = self.element.json_type
        try:
            items = (load_json_floats if json_type is float else load_json)(data.decode())
        except RecursionError:
            items = None
        # Checked in bulk: an array may have thousands of elements.
        if not isinstance(items, list) or not set(map(type, items)) <= {json_type}:
            raise ValueError(f"{short_repr(data)} is not {self.noun}")
        if json_type is float and not all(map(math.isfinite, items)):
            raise ValueError(f"{short_repr(data)} has a number that is not finite")
        check_surrogates(data, items)
        if self.element.json_ready and not self.element.is_integer:
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
    def json_schema(self, *, in_request: bool) -> JsonSchema:
        return {"type": "array", "items": self.element.json_schema(in_request=in_request)}

    @override
    def decodes(self, other: DType) -> bool:
        return other.element is not None and self.element.decodes(DType(other.element))

    @override
    def decoder_expression(self, data: str) -> str:
        return f"_array_{self.dtype.element}({data})"

    @override
    def decoder_globals(self) -> dict[str, object]:
        return {f"_array_{self.dtype.element}": self.decode}
