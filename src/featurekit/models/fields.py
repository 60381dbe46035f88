"""Fields: the type of one feature and what its values must hold to."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    JsonValue,
    PlainSerializer,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)

from featurekit.errors import ValueRefusedError
from featurekit.models.model import Described
from featurekit.models.plain import Plain, found, resolve
from featurekit.models.scalars import Count, Duration, FilledText, Flag, Text
from featurekit.types import SCALARS, DType, parse_dtype

_INTS = {"int64": 64, "int32": 32}
_FLOATS = ("float64", "float32")
_AS_TEXT = ("string", "timestamp", "date", "decimal", "bytes")


def _type_name(text: str) -> str:
    try:
        return str(parse_dtype(text))
    except ValueRefusedError as error:
        raise ValueRefusedError(f"no type named {found(text)}", hint=error.hint) from None


TypeName = Annotated[
    FilledText,
    AfterValidator(_type_name),
    WithJsonSchema(
        {
            "anyOf": [
                {"enum": [*SCALARS, "json"]},
                {"type": "string", "pattern": rf"^array<\s*({'|'.join(SCALARS)})\s*>$"},
                {"type": "string", "pattern": r"^vector<\s*float32\s*,\s*[1-9][0-9]{0,4}\s*>$"},
            ]
        }
    ),
]

Bound = Annotated[
    int | float | Decimal | None,
    PlainSerializer(lambda bound: str(bound) if isinstance(bound, Decimal) else bound),
    WithJsonSchema({"type": ["number", "string"]}),
]
AnyValue = Annotated[JsonValue, BeforeValidator(lambda raw: raw)]


def meant(dtype: DType, raw: object) -> Any:
    """A value of a definition as the JSON value that the type's codec reads.

    Raises:
        ValueRefusedError: It is null.
    """
    if raw is None or (isinstance(raw, Plain) and raw.value is None):
        raise ValueRefusedError(
            f"found {found(raw)}, expected a value of type {dtype}",
            hint="leave the key out, or quote what is meant as text",
        )
    if dtype.kind == "array" and isinstance(raw, list | tuple):
        return [meant(DType(dtype.element), item) for item in raw]
    if dtype.kind in _AS_TEXT and isinstance(raw, str):
        return str(raw)
    return _json(resolve(raw))


def _json(value: object) -> object:
    """As canonical JSON has it: keys sorted, and nan and inf as the text that codecs read."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, list):
        return [_json(item) for item in value]
    if isinstance(value, dict):
        return {key: _json(value[key]) for key in sorted(value)}
    return value


class FieldSpec(Described):
    """A field of a feature view: one feature."""

    type: TypeName = Field(
        description="Its type: string, int64, int32, float64, float32, bool, timestamp, date, "
        "decimal, bytes, json, `array<T>` of these, or `vector<float32, N>`; as `type: int64`."
    )
    default: AnyValue = Field(
        default=None,
        description="What a reader gives where nothing is stored; as `default: 0`.",
    )
    min: Bound = Field(default=None, description="Least value, for numbers; as `min: 0`.")
    max: Bound = Field(default=None, description="Greatest value, for numbers; as `max: 100`.")
    one_of: Annotated[tuple[AnyValue, ...], Field(min_length=1)] | None = Field(
        default=None, description="The only values allowed; as `one_of: [NO, SE]`."
    )
    pattern: Text | None = Field(
        default=None,
        description="A regular expression, as Python has them, that the whole string matches; "
        "as `pattern: '[A-Z]{2}'`.",
    )
    max_length: Count | None = Field(
        default=None,
        description="Most characters of a string, bytes, or elements of an array; "
        "as `max_length: 64`.",
    )
    required: Flag = Field(
        default=False, description="Whether null is refused when written; as `required: true`."
    )
    allow_nan: Flag = Field(
        default=False,
        description="Whether nan, inf and -inf are values of a float; as `allow_nan: true`.",
    )
    ttl: Duration | None = Field(
        default=None,
        description="How long a written value lives, where it differs from the view's ttl: for "
        "fields of stream views and of batch views with `expires: field`; as `ttl: 15m`.",
    )

    @property
    def dtype(self) -> DType:
        """The type, parsed."""
        return parse_dtype(self.type)

    @field_validator("default", mode="before")
    @classmethod
    def _default_of_type(cls, raw: object, info: ValidationInfo) -> object:
        dtype = _dtype_in(info)
        return meant(dtype, raw) if dtype else _json(resolve(raw))

    @field_validator("one_of", mode="before")
    @classmethod
    def _choices_of_type(cls, raw: object, info: ValidationInfo) -> object:
        dtype = _dtype_in(info)
        if dtype is None or not isinstance(raw, list | tuple):
            return raw
        if dtype.kind in {"json", "array", "vector"}:
            raise _misplaced("a scalar", dtype)
        choices = [meant(dtype, item) for item in raw]
        for index, choice in enumerate(choices):
            if choice in choices[:index]:
                raise ValueRefusedError(f"found {found(raw[index])} twice")
        return tuple(choices)

    @field_validator("min", "max", mode="plain")
    @classmethod
    def _bound_of_type(cls, raw: object, info: ValidationInfo) -> object:
        dtype = _dtype_in(info)
        if dtype is None:
            return None
        if dtype.kind not in _BOUNDS:
            raise _misplaced("a number", dtype)
        bound = _BOUNDS[dtype.kind](raw)
        if bound is None:
            raise ValueRefusedError(f"found {found(raw)}, expected {_of(dtype)}")
        if isinstance(bound, int) and dtype.kind in _INTS:
            _fit(bound, dtype, raw)
        least = info.data.get("min")
        if info.field_name == "max" and least is not None and bound < least:
            raise ValueRefusedError(f"{found(raw)} is below min {least}")
        return bound

    @field_validator("pattern")
    @classmethod
    def _pattern_of_string(cls, pattern: str, info: ValidationInfo) -> str:
        dtype = _dtype_in(info)
        if dtype is not None and dtype.kind != "string":
            raise _misplaced("a string", dtype)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # a pattern that may come to mean something else
                re.compile(pattern)
        except (re.error, RecursionError, OverflowError, Warning) as error:
            raise ValueRefusedError(
                f"found {found(pattern)}, expected a regular expression: {error}"
            ) from None
        return pattern

    @field_validator("max_length")
    @classmethod
    def _max_length_of_sized(cls, count: int, info: ValidationInfo) -> int:
        dtype = _dtype_in(info)
        if dtype is not None and dtype.kind not in {"string", "bytes", "array"}:
            raise _misplaced("a string, bytes or an array", dtype)
        return count

    @field_validator("allow_nan")
    @classmethod
    def _allow_nan_of_float(cls, flag: Any, info: ValidationInfo) -> Any:
        dtype = _dtype_in(info)
        if flag and dtype is not None and dtype.kind not in _FLOATS:
            raise _misplaced("a float", dtype)
        return flag


def _dtype_in(info: ValidationInfo) -> DType | None:
    """The field's type; `None` where it did not parse, which is an error of its own."""
    name = info.data.get("type")
    return parse_dtype(name) if name else None


def _of(dtype: DType) -> str:
    return f"{'an' if dtype.kind[0] in 'aeiou' else 'a'} {dtype}"


def _misplaced(need: str, dtype: DType) -> ValueRefusedError:
    return ValueRefusedError(f"it is for {need}, and this is {_of(dtype)}")


def _fit(bound: int, dtype: DType, raw: object) -> None:
    if bound >> (_INTS[dtype.kind] - 1) not in {0, -1}:
        raise ValueRefusedError(f"{found(raw)} is outside {dtype}")


def _int(raw: object) -> int | None:
    value = resolve(raw)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _number(raw: object) -> int | float | None:
    value = resolve(raw)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if math.isfinite(value) else None


def _decimal(raw: object) -> Decimal | None:
    try:
        value = Decimal(str(raw))
    except InvalidOperation:
        return None
    return value if value.is_finite() else None


_BOUNDS: dict[str, Callable[[object], int | float | Decimal | None]] = {
    "int64": _int,
    "int32": _int,
    "float64": _number,
    "float32": _number,
    "decimal": _decimal,
}
