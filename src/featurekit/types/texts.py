"""Strings and bytes: as they are."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass

from typing_extensions import override

from featurekit.errors import ValueRefusedError
from featurekit.types.codec import Codec, short_repr


@dataclass(frozen=True, slots=True)
class StringCodec(Codec):
    """`string`: UTF-8."""

    @override
    def encode(self, value: object) -> bytes:
        if not isinstance(value, str):
            raise self.refusal(value)
        try:
            return str.encode(value)
        except UnicodeEncodeError:
            raise ValueRefusedError(f"{short_repr(value)} has half of a surrogate pair") from None

    @override
    def decode(self, data: bytes) -> str:
        return data.decode()

    @override
    def parse(self, text: str) -> str:
        self.encode(text)
        return text

    @override
    def decoder_expression(self, data: str) -> str:
        return f"{data}.decode()"


@dataclass(frozen=True, slots=True)
class BytesCodec(Codec):
    """`bytes`: as they are; base64 in JSON."""

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
    def decoder_expression(self, data: str) -> str:
        return data
