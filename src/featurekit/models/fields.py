"""The model of a field: the type of one feature and the constraints on its values."""

from __future__ import annotations

import math
import re
import warnings
from decimal import Decimal
from typing import Annotated, Any, ClassVar, Literal

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

from featurekit.constraints import Constraints
from featurekit.errors import ValueRefusedError
from featurekit.models.model import APPLIED, Described
from featurekit.models.scalars import (
    Duration,
    Flag,
    NonEmptyText,
    PlainScalar,
    PositiveInt,
    Text,
    format_raw,
    resolve_plain,
)
from featurekit.pattern_safety import backtracking_risk
from featurekit.types import SCALARS, DType, codec_of, parse_dtype


def _validate_type_name(text: str) -> str:
    try:
        return str(parse_dtype(text))
    except ValueRefusedError as error:
        raise ValueRefusedError(f"unknown type {format_raw(text)}", hint=error.hint) from None


TypeName = Annotated[
    NonEmptyText,
    AfterValidator(_validate_type_name),
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
AggregateFunction = Literal["count", "sum", "min", "max", "mean", "stddev", "count_distinct"]

ALLOWED_TILES = range(2, 61)
"""How many tiles may make a window."""

_GOOD_TILES = range(12, 31)
_TILES_S = (259_200, 86_400, 21_600, 10_800, 3600, 1800, 900, 600, 300, 60, 30, 15, 5, 1)


def default_tile_ms(window_ms: int) -> int | None:
    """Return the longest tile of which 12 to 30 make a window, or else the shortest of 2 to 60.

    Stored bytes depend on it, so what it returns for a window must stay the same.

    Examples:
        >>> [default_tile_ms(s * 1000) for s in (300, 3600, 86_400)]
        [15000, 300000, 3600000]
    """
    fitting = [tile_s * 1000 for tile_s in _TILES_S if window_ms % (tile_s * 1000) == 0]
    best = [tile_ms for tile_ms in fitting if window_ms // tile_ms in _GOOD_TILES]
    others = [tile_ms for tile_ms in reversed(fitting) if window_ms // tile_ms in ALLOWED_TILES]
    return next(iter([*best, *others]), None)


def _to_json_value(dtype: DType, raw: object) -> Any:
    """Return a value of a definition as the JSON value that the type's codec reads.

    Raises:
        ValueRefusedError: The value is null.
    """
    if raw is None or (isinstance(raw, PlainScalar) and raw.value is None):
        raise ValueRefusedError(
            f"found {format_raw(raw)}, expected a value of type {dtype}",
            hint="remove the key, or quote the value if it is text",
        )
    if dtype.element and isinstance(raw, list | tuple):
        return [_to_json_value(DType(dtype.element), item) for item in raw]
    if codec_of(dtype).is_text_in_yaml and isinstance(raw, str):
        return str(raw)
    return _canonical_json(resolve_plain(raw))


def _canonical_json(value: object) -> object:
    """Sort keys, and write nan and inf as the text that codecs read."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, list):
        return [_canonical_json(item) for item in value]
    if isinstance(value, dict):
        return {key: _canonical_json(value[key]) for key in sorted(value)}
    return value


def expand_type_shorthand(raw: object) -> object:
    """Return a type alone as the mapping that it stands for."""
    is_null = isinstance(raw, PlainScalar) and raw.value is None
    return {"type": raw} if isinstance(raw, str) and not is_null else raw


class TypedValue(Described):
    """A value of a declared type, which may have a default."""

    type: TypeName = Field(
        description="Type: string, int64, int32, float64, float32, bool, timestamp, date, "
        "decimal, bytes, json, `array<T>` of these, or `vector<float32, N>`, "
        "for example `type: int64`."
    )
    default: AnyValue = Field(
        default=None,
        description="Value that readers return if there is none, for example `default: 0`.",
    )

    @property
    def dtype(self) -> DType:
        """The parsed type."""
        return parse_dtype(self.type)

    def encode(self, value: object) -> bytes:
        """Return the bytes of a declared default or choice.

        Raises:
            ValueRefusedError: The value is not of the type.
        """
        codec = codec_of(self.dtype)
        return codec.encode(codec.from_json(value))

    @property
    def default_bytes(self) -> bytes | None:
        """The bytes of the default; `None` without one."""
        return None if self.default is None else self.encode(self.default)

    @field_validator("default", mode="before")
    @classmethod
    def _validate_default(cls, raw: object, info: ValidationInfo) -> object:
        dtype = _validated_dtype(info)
        return _to_json_value(dtype, raw) if dtype else _canonical_json(resolve_plain(raw))


class ConstrainedValue(TypedValue):
    """A value that a caller or a source supplies, with rules that it must meet."""

    may_allow_nan: ClassVar[bool] = True

    min: Bound = Field(
        default=None, description="Minimum value of a number, for example `min: 0`."
    )
    max: Bound = Field(
        default=None, description="Maximum value of a number, for example `max: 100`."
    )
    one_of: Annotated[tuple[AnyValue, ...], Field(min_length=1)] | None = Field(
        default=None, description="Allowed values, for example `one_of: [NO, SE]`."
    )
    pattern: Text | None = Field(
        default=None,
        description="Python regular expression that must match the whole string, "
        "for example `pattern: '[A-Z]{2}'`. Refused if it may take very long on some texts: "
        "`(a+)+`, `\\d+\\d*`, back-references.",
    )
    max_length: PositiveInt | None = Field(
        default=None,
        description="Maximum length: characters of a string, bytes, or elements of an array, "
        "for example `max_length: 64`.",
    )
    required: Flag = Field(
        default=False, description="Refuse null on write, for example `required: true`."
    )
    allow_nan: Flag = Field(
        default=False,
        description="Allow nan, inf and -inf in a float, for example `allow_nan: true`.",
    )

    @property
    def constraints(self) -> Constraints:
        """The constraints on values, with the choices of `one_of` as bytes.

        Raises:
            ValueRefusedError: A choice is not of the type.
        """
        return Constraints(
            min=self.min,
            max=self.max,
            one_of=tuple(self.encode(choice) for choice in self.one_of or ()),
            pattern=self.pattern or None,
            max_length=self.max_length,
            required=self.required,
            allow_nan=self.allow_nan,
            may_allow_nan=self.may_allow_nan,
        )

    @field_validator("one_of", mode="before")
    @classmethod
    def _validate_one_of(cls, raw: object, info: ValidationInfo) -> object:
        dtype = _validated_dtype(info)
        if dtype is None or not isinstance(raw, list | tuple):
            return raw
        if not codec_of(dtype).is_scalar:
            raise _unsupported_type("a scalar", dtype)
        choices = [_to_json_value(dtype, item) for item in raw]
        for index, choice in enumerate(choices):
            if choice in choices[:index]:
                raise ValueRefusedError(f"{format_raw(raw[index])} is listed twice")
        return tuple(choices)

    @field_validator("min", "max", mode="plain")
    @classmethod
    def _validate_bound(cls, raw: object, info: ValidationInfo) -> object:
        dtype = _validated_dtype(info)
        if dtype is None:
            return None
        codec = codec_of(dtype)
        if not codec.has_bounds:
            raise _unsupported_type("a number", dtype)
        value = str(raw) if codec.is_text_in_yaml else resolve_plain(raw)
        try:
            bound = codec.bound(value)
        except ValueRefusedError:
            raise ValueRefusedError(f"{format_raw(raw)} is outside {dtype}") from None
        if bound is None:
            raise ValueRefusedError(f"found {format_raw(raw)}, expected {codec.noun}")
        minimum = info.data.get("min")
        if info.field_name == "max" and minimum is not None and bound < minimum:
            raise ValueRefusedError(f"{format_raw(raw)} is below min {minimum}")
        return bound

    @field_validator("pattern")
    @classmethod
    def _validate_pattern(cls, pattern: str, info: ValidationInfo) -> str:
        dtype = _validated_dtype(info)
        if dtype is not None and not codec_of(dtype).has_pattern:
            raise _unsupported_type("a string", dtype)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # the meaning may change in a later Python
                re.compile(pattern)
        except (re.error, RecursionError, OverflowError, Warning) as error:
            raise ValueRefusedError(
                f"found {format_raw(pattern)}, expected a regular expression: {error}"
            ) from None
        # An applied registry may be older than this rule, and must stay readable.
        is_declared = not (info.context and info.context.get(APPLIED))
        if is_declared and (risk := backtracking_risk(pattern)) is not None:
            raise ValueRefusedError(
                f"{format_raw(pattern)} may take very long on some texts: {risk}",
                hint="make each part begin with what the part before it cannot match",
            )
        return pattern

    @field_validator("max_length")
    @classmethod
    def _validate_max_length(cls, length: int, info: ValidationInfo) -> int:
        dtype = _validated_dtype(info)
        if dtype is not None and not codec_of(dtype).has_length:
            raise _unsupported_type("a string, bytes or an array", dtype)
        return length

    @field_validator("allow_nan")
    @classmethod
    def _validate_allow_nan(cls, flag: Any, info: ValidationInfo) -> Any:
        dtype = _validated_dtype(info)
        if flag and dtype is not None and not codec_of(dtype).has_nan:
            raise _unsupported_type("a float", dtype)
        return flag


class InputSpec(ConstrainedValue):
    """An input of a view with windows: a value of an event, which aggregates are computed of."""

    may_allow_nan: ClassVar[bool] = False


class FieldSpec(ConstrainedValue):
    """A field of a feature view: one feature."""

    ttl: Duration | None = Field(
        default=None,
        description="Time to live of this field if it differs from the view's; for stream views "
        "and for batch views with `expires: field`; for example `ttl: 15m`.",
    )
    aggregate: AggregateFunction | None = Field(
        default=None,
        description="What the field is of the events of a sliding window: `count`, `sum`, `min`, `max`, "
        "`mean`, `stddev` (of the sample) or `count_distinct`; for stream views; for example "
        "`aggregate: sum`.",
    )
    of: NonEmptyText | None = Field(
        default=None,
        description="Input that the aggregate is computed of; `count` may be without it and then counts "
        "events; for example `of: amount`.",
    )
    window: Duration | None = Field(
        default=None,
        description="Length of the window, a multiple of `tile`, at most 90d; for example `window: 1h`.",
    )
    tile: Duration | None = Field(
        default=None,
        description="Step in which the start of the window moves, in whole seconds: 2 to 60 tiles make "
        "a window; by default one of 12 to 30, such as 15s of 5m and 5m of 1h; for example `tile: 1m`.",
    )

    where: NonEmptyText | None = Field(
        default=None,
        description="Condition over the inputs that an event must meet to be in the aggregate, for "
        "example `where: status = 'declined'`.",
    )

    @property
    def tile_ms(self) -> int | None:
        """The length of the tiles in milliseconds; `None` if none fits the window."""
        return self.tile or default_tile_ms(self.window or 0)

    @property
    def has_tiles(self) -> bool:
        """Whether its window consists of whole tiles, and of as many as are allowed."""
        window_ms, tile_ms = self.window or 0, self.tile_ms or 1
        fits = not (window_ms % tile_ms or tile_ms % 1000)
        return fits and window_ms // tile_ms in ALLOWED_TILES


def _validated_dtype(info: ValidationInfo) -> DType | None:
    """Return the field's type, or `None` if it is invalid, which is reported separately."""
    name = info.data.get("type")
    return parse_dtype(name) if name else None


def _unsupported_type(supported: str, dtype: DType) -> ValueRefusedError:
    return ValueRefusedError(
        f"applies only to {supported}, and the field is {codec_of(dtype).noun}"
    )
