"""`bool`, stored as `true` or `false`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from typing_extensions import override

from featurekit.types.codec import (
    Bound,
    Codec,
    ComparedAs,
    JsonSchema,
    short_repr,
    to_python_scalar,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

_STORED = {b"true": True, b"false": False}
_WRITTEN = {
    spelling: value
    for text, value in (("true", True), ("false", False))
    for spelling in (text, text.title(), text.upper())
}


@dataclass(frozen=True, slots=True)
class BoolCodec(Codec):
    """`bool`: `true` or `false`."""

    python_type: ClassVar[str] = "bool"
    compared_as: ClassVar[ComparedAs] = "category"
    json_ready: ClassVar[bool] = True
    json_type: ClassVar[type] = bool

    @override
    def encode(self, value: object) -> bytes:
        flag = to_python_scalar(value)
        if not isinstance(flag, bool):
            raise self.refusal(value)
        return b"true" if flag else b"false"

    @override
    def decode(self, data: bytes) -> bool:
        try:
            return _STORED[data]
        except KeyError:
            raise ValueError(f"{short_repr(data)} is not {self.noun}") from None

    @override
    def parse(self, text: str) -> bool:
        try:
            return _WRITTEN[text]
        except KeyError:
            raise self.refusal(text) from None

    @override
    def json_schema(self, *, in_request: bool) -> JsonSchema:
        return {"type": "boolean"}

    @property
    @override
    def number_columns(self) -> int:
        return 1

    @override
    def to_numbers(self, cells: Sequence[bytes]) -> NDArray[Any]:
        import numpy as np

        try:
            return np.array([_STORED[cell] for cell in cells], np.float64)
        except KeyError as error:
            raise ValueError(f"{error} is not {self.noun}") from None

    @override
    def encoder_expression(self, _low: Bound | None, _high: Bound | None) -> str:
        return "b'true' if v is True else b'false' if v is False"

    @override
    def decoder_expression(self, data: str) -> str:
        return f"_bools[{data}]"

    @override
    def decoder_globals(self) -> dict[str, object]:
        return {"_bools": _STORED}
