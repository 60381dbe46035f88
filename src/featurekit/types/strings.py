"""`string` and `bytes`, stored unchanged."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from typing_extensions import override

from featurekit.errors import ValueRefusedError
from featurekit.types.codec import Bound, Codec, ComparedAs, JsonSchema, short_repr

_BASE64 = r"^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"


@dataclass(frozen=True, slots=True)
class StringCodec(Codec):
    """`string`: UTF-8."""

    python_type: ClassVar[str] = "str"
    compared_as: ClassVar[ComparedAs] = "category"
    json_ready: ClassVar[bool] = True
    is_key: ClassVar[bool] = True
    is_text_in_yaml: ClassVar[bool] = True
    has_length: ClassVar[bool] = True
    has_pattern: ClassVar[bool] = True
    has_empty_text: ClassVar[bool] = True
    is_text_in_arrow: ClassVar[bool] = True

    @override
    def encode(self, value: object) -> bytes:
        if not isinstance(value, str):
            raise self.refusal(value)
        try:
            return str.encode(value)
        except UnicodeEncodeError:
            raise ValueRefusedError(
                f"{short_repr(value)} contains half of a surrogate pair"
            ) from None

    @override
    def decode(self, data: bytes) -> str:
        return data.decode()

    @override
    def parse(self, text: str) -> str:
        self.encode(text)
        return text

    @override
    def bytes_parser(self) -> Callable[[bytes], object]:
        return bytes.decode

    @override
    def to_json(self, value: object) -> str:
        return self.encode(value).decode()

    @override
    def json_schema(self, *, in_request: bool) -> JsonSchema:
        return {"type": "string"}

    @override
    def encoder_expression(self, _low: Bound | None, _high: Bound | None) -> str:
        return "v.encode() if v.__class__ is str"

    @override
    def decoder_expression(self, data: str) -> str:
        return f"{data}.decode()"


@dataclass(frozen=True, slots=True)
class BytesCodec(Codec):
    """`bytes`: unchanged; base64 in JSON."""

    python_type: ClassVar[str] = "bytes"
    compared_as: ClassVar[ComparedAs] = "length"
    is_text_in_yaml: ClassVar[bool] = True
    has_length: ClassVar[bool] = True
    has_empty_text: ClassVar[bool] = True

    @property
    @override
    def noun(self) -> str:
        return "bytes"

    @override
    def encode(self, value: object) -> bytes:
        if isinstance(value, bytes):
            return value
        if isinstance(value, bytearray | memoryview):
            return bytes(value)
        raise self.refusal(value)

    @override
    def decode(self, data: bytes) -> bytes:
        return data

    @override
    def bytes_parser(self) -> Callable[[bytes], object]:
        return self.decode

    @override
    def from_json(self, value: object) -> bytes:
        if not isinstance(value, str):
            raise self.refusal(value)
        try:
            return base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            raise ValueRefusedError(f"{short_repr(value)} is not base64") from None

    @override
    def to_json(self, value: object) -> str:
        return base64.b64encode(self.encode(value)).decode()

    @override
    def json_schema(self, *, in_request: bool) -> JsonSchema:
        return {"type": "string", "contentEncoding": "base64", "pattern": _BASE64}

    @override
    def display_text(self, value: object) -> str:
        return repr(value)

    @override
    def decoder_expression(self, data: str) -> str:
        return data
