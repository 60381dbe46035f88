"""`DType`, the name of a feature's type, and `Codec`, what featurekit knows about that type.

The bytes are a promise to every store already written: a new form gets a new type, and the old
one stays readable. docs/wire-format.md specifies them.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from typing_extensions import override

from featurekit.errors import ValueRefusedError

if TYPE_CHECKING:
    from numpy.typing import NDArray

DECODE_ERRORS = (ValueError, KeyError, TypeError, OverflowError)
"""Everything that `Codec.decode` and the decoder expression raise for undecodable bytes."""

Bound = int | float | Decimal
"""A value of `min` or `max`."""

JsonSchema = dict[str, Any]

_MAX_REPR = 80


ComparedAs = Literal["number", "category", "time", "norm", "length"]


@dataclass(frozen=True, slots=True)
class DType:
    """A feature's type.

    Attributes:
        kind: A scalar type, or `json`, `array` or `vector`.
        element: The scalar type of an array's elements.
        size: The number of elements of a vector.
    """

    kind: str
    element: str | None = None
    size: int = 0

    @override
    def __str__(self) -> str:
        if self.element:
            return f"array<{self.element}>"
        return f"vector<float32, {self.size}>" if self.size else self.kind


@dataclass(frozen=True, slots=True)
class Codec(ABC):
    """The forms and capabilities of one type. `decode` is the reference for the expression.

    `None` is not a value of any type: callers handle nulls first.

    Attributes:
        python_type: The annotation of a decoded value.
        also_written: Further Python types whose values a writer takes.
        json_type: The Python type of the JSON form of a scalar.
        json_ready: Whether a finite value is its own JSON form, so that `to_json` may be skipped.
        needs_exact_json: Whether JSON numbers must be read as `Decimal`, not rounded to floats.
        any_json: Whether every JSON value but null is a value.
        is_scalar: Whether it may be the element of an array; scalars are immutable.
        is_key: Whether a join key may have this type.
        compared_as: What of the values is compared when the distributions of two samples are.
        is_integer: Whether all values are integers.
        is_wide: Whether it holds integers of more than 64 bits.
        is_text_in_yaml: Whether a definition writes its values as text, such as `2026-11-22`.
        has_bounds: Whether `min` and `max` apply.
        has_nan: Whether `nan`, `inf` and `-inf` are values where a field allows them.
        has_length: Whether `max_length` applies.
        has_pattern: Whether `pattern` applies.
        has_empty_text: Whether empty text is a value.
        is_text_in_arrow: Whether Arrow columns hold its values as text.
    """

    python_type: ClassVar[str]
    also_written: ClassVar[tuple[str, ...]] = ()
    json_type: ClassVar[type] = str
    json_ready: ClassVar[bool] = False
    needs_exact_json: ClassVar[bool] = False
    any_json: ClassVar[bool] = False
    is_scalar: ClassVar[bool] = True
    is_key: ClassVar[bool] = False
    compared_as: ClassVar[ComparedAs] = "number"
    is_integer: ClassVar[bool] = False
    is_wide: ClassVar[bool] = False
    is_text_in_yaml: ClassVar[bool] = False
    has_bounds: ClassVar[bool] = False
    has_nan: ClassVar[bool] = False
    has_length: ClassVar[bool] = False
    has_pattern: ClassVar[bool] = False
    has_empty_text: ClassVar[bool] = False
    is_text_in_arrow: ClassVar[bool] = False

    dtype: DType

    @property
    def noun(self) -> str:
        """The type in a sentence, such as `an int64`."""
        name = str(self.dtype)
        return f"an {name}" if name[0] in "aeiou" else f"a {name}"

    @abstractmethod
    def encode(self, value: object) -> bytes:
        """Return the bytes of a value.

        Raises:
            ValueRefusedError: The value is not of this type; nothing is coerced.
        """

    @abstractmethod
    def decode(self, data: bytes) -> object:
        """Return the value of stored bytes.

        Raises:
            ValueError: The bytes do not decode.
        """

    def parse(self, text: str) -> object:
        """Return the value of a text, such as a cell of a CSV file.

        Raises:
            ValueRefusedError: The text does not spell a value of this type.
        """
        try:
            return self.decode(text.encode())
        except ValueError:
            raise self.refusal(text) from None

    def bytes_parser(self) -> Callable[[bytes], object]:
        """Return the fastest function that parses UTF-8 text, such as a field of a stream entry.

        Its result may be out of range; `encode` checks that.
        """
        return lambda data: self.parse(data.decode())

    def from_json(self, value: object) -> object:
        """Return the value of a JSON value, whose fractions may be floats or `Decimal`.

        Raises:
            ValueRefusedError: The JSON value does not stand for a value of this type.
        """
        self.encode(value)
        return value

    def to_json(self, value: object) -> object:
        """Return the JSON value that `from_json` reads back."""
        return value

    @abstractmethod
    def json_schema(self, *, in_request: bool) -> JsonSchema:
        """Return the JSON Schema of the JSON form.

        Args:
            in_request: Whether a caller sends the value; some types accept more forms there.
        """

    def display_text(self, value: object) -> str:
        """Return a value as people read it: its bytes, where they are text."""
        return self.encode(value).decode()

    def bound(self, _value: object) -> Bound | None:
        """Return a value of a definition as a bound for `min` or `max`; `None` if it is not one.

        Raises:
            ValueRefusedError: The bound is outside the type.
        """
        return None

    def decodes(self, _other: DType) -> bool:
        """Return whether the bytes of another type decode to the same values."""
        return False

    def encoder_expression(self, _low: Bound | None, _high: Bound | None) -> str | None:
        """Return `BYTES if CONDITION` for the variable `v`, for values within the bounds.

        `None` means that only `encode` can do it. A value that fails the condition, or for which
        the expression raises, may still be valid.
        """
        return None

    @abstractmethod
    def decoder_expression(self, data: str) -> str:
        """Return an expression for the value of the variable `data`, which holds bytes.

        It uses no globals but `decoder_globals()`, and raises only `DECODE_ERRORS`.
        """

    def decoder_globals(self) -> dict[str, object]:
        """Return the globals of `decoder_expression`; a name means the same for every codec."""
        return {}

    @property
    def number_columns(self) -> int:
        """The number of columns of a matrix of numbers that a value fills; 0 if it has no place."""
        return 0

    def to_numbers(self, cells: Sequence[bytes]) -> NDArray[Any]:
        """Return stored values as float64 numbers: `n`, or `n x number_columns` for a vector.

        Raises:
            ValueError: One is not in the usual form. `decode` finds out whether it is a value.
        """
        raise ValueError(f"{len(cells)} values of {self.dtype} are not numbers")

    def as_arrays(self) -> Codec:
        """Return the codec that decodes vectors to numpy arrays if numpy is installed."""
        return self

    def refusal(self, value: object) -> ValueRefusedError:
        """Return the error for a value that is not of this type."""
        return ValueRefusedError(f"{short_repr(value)} is not {self.noun}")

    def outside(self, value: object) -> ValueRefusedError:
        """Return the error for a value that is out of the type's range."""
        return ValueRefusedError(f"{short_repr(value)} is outside {self.dtype}")


def short_repr(value: object) -> str:
    """Return a value for a message, at most 80 characters."""
    if isinstance(value, Decimal) and value.as_tuple().exponent:
        return str(value)  # a fraction in JSON; Decimal(3) keeps its repr, unlike the int 3
    try:
        text = repr(value).replace("\n", " ")
    except ValueError:  # an int with more digits than Python prints
        text = f"<{type(value).__name__}>"
    return text if len(text) <= _MAX_REPR else text[: _MAX_REPR - 1] + "…"


def to_python_scalar(value: object) -> object:
    """Return a numpy number or boolean as its Python value; anything else unchanged.

    Times stay as they are: numpy's have no zone.
    """
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.generic) and value.dtype.kind in "biuf":
        return value.item()
    return value
