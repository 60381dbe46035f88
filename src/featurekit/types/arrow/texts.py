"""Arrow forms of `string`, `bytes` and `json`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.compute as pc
from typing_extensions import override

from featurekit.errors import ValueRefusedError
from featurekit.types.arrow.form import ArrowForm, Unencodable
from featurekit.types.json_values import dump_json

_ESCAPED = r'["\\\x00-\x1f]'
"""Characters that JSON escapes in a string."""


@dataclass(frozen=True)
class StringForm(ArrowForm):
    """`string`: any Arrow type of strings."""

    arrow_type: ClassVar[Any] = pa.string()

    @override
    def encode(self, array: Any) -> Any:
        kind, types = array.type, pa.types
        is_text = (
            types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)
        )
        return array.cast(pa.binary()) if is_text else None

    @override
    def json_texts(self, texts: Any) -> Any:
        if pc.any(pc.match_substring_regex(texts, _ESCAPED)).as_py():
            return None
        return super().json_texts(texts)

    @override
    def parse(self, texts: Any) -> Any:
        return texts


@dataclass(frozen=True)
class BytesForm(ArrowForm):
    """`bytes`: any Arrow type of bytes."""

    arrow_type: ClassVar[Any] = pa.binary()

    @override
    def encode(self, array: Any) -> Any:
        kind, types = array.type, pa.types
        is_bytes = (
            types.is_binary(kind)
            or types.is_large_binary(kind)
            or types.is_fixed_size_binary(kind)
            or types.is_binary_view(kind)
        )
        return array.cast(pa.binary()) if is_bytes else None

    @override
    def json_texts(self, texts: Any) -> None:
        return None  # base64

    @override
    def parse(self, texts: Any) -> Any:
        return texts.cast(pa.binary())


@dataclass(frozen=True)
class JsonForm(ArrowForm):
    """`json`: strings of JSON, or nested values."""

    arrow_type: ClassVar[Any] = pa.string()

    @override
    def from_values(self, values: list[Any]) -> Any:
        texts = [None if value is None else dump_json(value) for value in values]
        return pa.array(texts, self.arrow_type)

    @override
    def python_value(self, scalar: Any) -> object:
        value = super().python_value(scalar)
        if not isinstance(value, str):
            return value
        try:
            return self.codec.parse(value)
        except ValueRefusedError:
            return Unencodable(repr(value))
