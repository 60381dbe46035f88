"""The functions that generated code calls. Their arguments are never null; results of some are."""

from __future__ import annotations

import math
import struct
from datetime import UTC, date, datetime

_WHOLE = 4503599627370496.0
"""Floats from here on, 2**52, have no fraction."""

_FLOAT32 = struct.Struct("<f")
_LOWER = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}
_UPPER = {code: code - 32 for code in range(ord("a"), ord("z") + 1)}


def round_half_away(x: float) -> float:
    """Return the nearest whole number, and of two the one that is farther from zero."""
    if not -_WHOLE < x < _WHOLE:
        return x
    whole = float(int(x))
    rest = x - whole
    if rest >= 0.5:  # noqa: PLR2004 - one half
        return whole + 1.0
    return whole - 1.0 if rest <= -0.5 else whole  # noqa: PLR2004


def round_digits(x: float, scale: float, limit: float) -> float:
    """Return `x` rounded to a multiple of `1 / scale`, if it is below a limit that has such digits."""
    return round_half_away(x * scale) / scale if -limit < x < limit else x


def power(x: float, y: float) -> float | None:
    """Return `x` to the power of `y`; null if that is too large, complex or infinite."""
    try:
        return math.pow(x, y)
    except (OverflowError, ValueError):
        return None


def exponential(x: float) -> float | None:
    """Return e to the power of `x`; null if that is too large."""
    try:
        return math.exp(x)
    except OverflowError:
        return None


def float32(x: float) -> float | None:
    """Return the nearest float32; null beyond the largest."""
    try:
        (rounded,) = _FLOAT32.unpack(_FLOAT32.pack(x))
    except OverflowError:
        return None
    return float(rounded)


def quotient(a: int, b: int) -> int:
    """Return a quotient, toward zero."""
    result = abs(a) // abs(b)
    return result if (a < 0) == (b < 0) else -result


def remainder(a: int, b: int) -> int:
    """Return a remainder, with the sign of the dividend."""
    result = abs(a) % abs(b)
    return -result if a < 0 else result


def greatest(*values: object) -> object:
    """Return the greatest value that is not null."""
    return max((value for value in values if value is not None), default=None)  # type: ignore[type-var]


def least(*values: object) -> object:
    """Return the least value that is not null."""
    return min((value for value in values if value is not None), default=None)  # type: ignore[type-var]


def midnight(day: date) -> datetime:
    """Return the first moment of a day in UTC."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def lower(text: str) -> str:
    """Return a text with the letters A to Z in lower case."""
    return text.lower() if text.isascii() else text.translate(_LOWER)


def upper(text: str) -> str:
    """Return a text with the letters a to z in upper case."""
    return text.upper() if text.isascii() else text.translate(_UPPER)


def like(text: str, first: str, rest: tuple[str, ...]) -> bool:
    """Return whether a text matches a pattern, split at `%`, without backtracking."""
    if not rest:
        return len(text) == len(first) and _matches(text, first, 0)
    if not _matches(text, first, 0):
        return False
    position = len(first)
    for part in rest[:-1]:
        position = _find(text, part, position)
        if position < 0:
            return False
        position += len(part)
    last = len(text) - len(rest[-1])
    return last >= position and _matches(text, rest[-1], last)


def _find(text: str, part: str, position: int) -> int:
    """Return where a part of a pattern matches first, from a position on; -1 if nowhere."""
    if "_" not in part:
        return text.find(part, position)
    ends = range(position, len(text) - len(part) + 1)
    return next((at for at in ends if _matches(text, part, at)), -1)


def _matches(text: str, part: str, position: int) -> bool:
    """Return whether a part of a pattern matches at a position; `_` matches any character."""
    if "_" not in part:
        return text.startswith(part, position)
    found = text[position : position + len(part)]
    return len(found) == len(part) and all(p in ("_", c) for p, c in zip(part, found, strict=True))


FUNCTIONS: dict[str, object] = {
    "round": round_half_away,
    "round_digits": round_digits,
    "power": power,
    "exp": exponential,
    "float32": float32,
    "quotient": quotient,
    "remainder": remainder,
    "greatest": greatest,
    "least": least,
    "midnight": midnight,
    "lower": lower,
    "upper": upper,
    "like": like,
    "ln": math.log,
    **{
        name: getattr(math, name)
        for name in (
            "sqrt", "log10", "sin", "cos", "asin", "acos", "atan", "atan2", "fmod", "floor", "ceil",
        )
    },
}  # fmt: skip
"""By the name that the code generator uses, without its prefix."""
