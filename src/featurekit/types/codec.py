"""What a codec is: one object for each type that turns values into bytes and back.

Bytes are a promise to every store already written: a new form gets a new type, and the old one
stays readable. docs/wire-format.md is the text of that promise.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from dataclasses import dataclass

from featurekit.errors import ValueRefusedError
from featurekit.types.dtype import DType

DECODE_ERRORS = (ValueError, KeyError, TypeError, OverflowError)
"""All that a decoder, be it the method or the expression, raises for bytes that do not decode."""

_SHOWN = 80


@dataclass(frozen=True, slots=True)
class Codec(ABC):
    """The Python form of one type. `decode` is the reference for `decoder_expression`.

    `None` is no value of any type: whoever calls has dealt with nulls before.
    """

    dtype: DType

    @property
    def noun(self) -> str:
        """The type in a sentence, as `an int64`."""
        name = str(self.dtype)
        return f"an {name}" if name[0] in "aeiou" else f"a {name}"

    @abstractmethod
    def encode(self, value: object) -> bytes:
        """The bytes of a value.

        Raises:
            ValueRefusedError: It is not of this type; nothing is coerced.
        """

    @abstractmethod
    def decode(self, data: bytes) -> object:
        """The value of some bytes.

        Raises:
            ValueError: They do not decode.
        """

    def parse(self, text: str) -> object:
        """The value of a text out of a CSV file.

        Raises:
            ValueRefusedError: It is no text of this type.
        """
        try:
            return self.decode(text.encode())
        except ValueError:
            raise self.refusal(text) from None

    def from_json(self, value: object) -> object:
        """The value that a JSON value stands for.

        Raises:
            ValueRefusedError: It stands for none of this type.
        """
        self.encode(value)
        return value

    def to_json(self, value: object) -> object:
        """A value as the JSON value that `from_json` reads back."""
        return value

    @abstractmethod
    def decoder_expression(self, data: str) -> str:
        """An expression for the value of the variable `data`, which holds bytes.

        It uses no globals but `names()`, and raises one of `DECODE_ERRORS`.
        """

    def names(self) -> dict[str, object]:
        """The globals of `decoder_expression`; a name means the same in every codec of one type."""
        return {}

    def refusal(self, value: object) -> ValueRefusedError:
        """The error for a value that is not of this type."""
        return ValueRefusedError(f"{short_repr(value)} is not {self.noun}")

    def outside(self, value: object) -> ValueRefusedError:
        """The error for a value of the right kind that the type has no room for."""
        return ValueRefusedError(f"{short_repr(value)} is outside {self.dtype}")


def short_repr(value: object) -> str:
    """A value for a message, cut at 80 characters."""
    try:
        text = repr(value).replace("\n", " ")
    except ValueError:  # an int of more digits than Python is willing to print
        text = f"<{type(value).__name__}>"
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def to_python_scalar(value: object) -> object:
    """A numpy scalar as the Python value it is; anything else as it stands.

    Times are left alone: numpy's have no zone.
    """
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.generic) and value.dtype.kind in "biuf":
        return value.item()
    return value
