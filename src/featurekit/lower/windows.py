"""Fold the tiles of a window into the value of its feature.

A field holds the states of its tiles as text, newest first, after their length in seconds, the digits of
the definition and the number of the newest tile since 1970:

    60.3fa@29930652:1,2,,1,2

A read at time `t` counts the events from the start of the tile of `t` minus the window up to `t`: the tile
under way and those of the window before it. Which these are, the clock of the reader decides, so that
tiles leave a window in time although nothing is written. A tile that is ahead of the clock waits.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from functools import lru_cache
from operator import mul
from typing import Any

from featurekit.lower.build import build
from featurekit.lower.window_scripts import HASH_SIZE, MAX_DISTINCT
from featurekit.plan import AggregatePlan, FieldPlan
from featurekit.types import DType, codec_of

Fold = Callable[[bytes | None, int], object]
"""Takes a stored value and the time of the read in milliseconds; returns the value, or `None`.

Raises `ROW_ERRORS` for bytes that are not tiles.
"""

RECENT = 1024
"""How many values of a field are kept, of the tile in which it was last read."""

_HASHES = 1 << (4 * HASH_SIZE)

_HEAD = """\
def fold(v, now_ms):
 if v is None:
  return EMPTY
 tile = now_ms // {tile_ms}
 known, seen = recent[0]
 if known == tile:
  x = seen.get(v, seen)
  if x is not seen:
   return x
 else:
  seen = {{}}
  recent[0] = (tile, seen)
 if not v.startswith(HEAD):
  return other(v)
 i = v.index(b":")
 age = tile - int(v[{skipped}:i])
 s = v[i + 1 :]
"""
"""Within a tile, equal bytes have equal values: the last ones are kept. Threads whose clocks are in
different tiles do not share them."""

_TAIL = """\
 if len(seen) >= {recent}:
  seen.clear()
 seen[v] = x
 return x
"""

_NUMBERS = """\
 holes = b",," in s
 if holes:
  s = s.replace(b",,", {hole}).replace(b",,", {hole})
 p = {numbers}
 if age or len(p) > {most}:
  p = p[-age * {width} if age < 0 else 0 : {most} - age * {width} if age < {shown} else 0]
 if holes:
  p = [x for x in p if x is not None]
"""
"""All states of a tile have the same number of numbers, so tiles are cut from their list."""

_HASHES_OF_TILES = """\
 if age or s.count(b",") >= {shown}:
  p = s.split(b",")
  s = b",".join(p[-age if age < 0 else 0 : {shown} - age if age < {shown} else 0])
 s = s.strip(b",")
 x = distinct(s) if s else EMPTY
"""

_RESULTS = {
    "count": """\
 total = sum(p)
 if total.__class__ is not int or total < 0:
  raise ValueError("not a count")
 x = total or EMPTY
""",
    "min": " x = finite(from_json(min(p))) if p else EMPTY\n",
    "max": " x = finite(from_json(max(p))) if p else EMPTY\n",
    "mean": " x = mean(p) if p else EMPTY\n",
    "stddev": " x = stddev(p) if p else EMPTY\n",
    "int_sum": " x = int_sum(p) if p else EMPTY\n",
    "float_sum": " x = finite(fsum(p)) if p else EMPTY\n",
}

_WIDTHS = {"mean": 2, "stddev": 3}
"""How many numbers the state of a tile has, if not one."""


def fold_function(field: FieldPlan) -> Fold:
    """Return the function that computes a windowed feature from what is stored.

    A window without events is `None`, or 0 where the plan says so. A deviation of fewer than two events is
    `None`. The number of distinct values is exact below 64; from there on it is an estimate.
    """
    if field.aggregate is None:
        raise TypeError(f"field {field.name} is not an aggregate")
    return _fold_function(field.aggregate, field.dtype)


@lru_cache(maxsize=4096)
def _fold_function(plan: AggregatePlan, dtype: DType) -> Fold:
    codec, head = codec_of(dtype), plan.head.encode()
    source = _HEAD.format(skipped=len(head), tile_ms=plan.tile_ms)
    shown = plan.tiles + 1
    loads = _json_parser()
    if plan.function == "count_distinct":
        source += _HASHES_OF_TILES.format(shown=shown)
    else:
        width = _WIDTHS.get(plan.function, 1)
        flat = 's.replace(b"/", b",")' if width > 1 else "s"
        source += _NUMBERS.format(
            hole=b"," + b"/".join([b"null"] * width) + b",",
            numbers=f'loads(b"[%b]" % {flat})' if loads else f"parse_numbers({flat})",
            width=width,
            shown=shown,
            most=shown * width,
        )
        sums = "int_sum" if codec.is_integer else "float_sum"
        source += _RESULTS[sums if plan.function == "sum" else plan.function]
    source += _TAIL.format(recent=RECENT)
    empty = 0 if plan.is_zero_if_empty else None
    names: dict[str, object] = {
        "EMPTY": empty,
        "HEAD": head,
        "distinct": _distinct,
        "finite": _finite,
        "from_json": codec.from_json,
        "fsum": math.fsum,
        "int_sum": _int_sum,
        "loads": loads,
        "mean": _mean,
        "other": _other_definition(empty),
        "parse_numbers": parse_numbers,
        "recent": [(0, {})],
        "stddev": _stddev,
    }
    return build("fold", source, names)


def _json_parser() -> Callable[[bytes], Any] | None:
    """Return orjson's parser, which parses numbers three times as fast; `None` if it is not installed."""
    try:
        from orjson import loads
    except ImportError:
        return None
    return loads


def parse_numbers(text: bytes) -> list[int | float | None]:
    """Return numbers that commas separate; an int has no point and no exponent, and `null` is `None`."""
    return [
        None
        if each == b"null"
        else int(each)
        if each.removeprefix(b"-").isdigit()
        else float(each)
        for each in text.split(b",")
    ]


def _other_definition(empty: object) -> Callable[[bytes], object]:
    """Return the function for tiles of another length or meaning: none of them is in the window."""

    def other(data: bytes) -> object:
        head, at, states = data.partition(b"@")
        seconds, point, definition = head.partition(b".")
        if not (at and point and seconds.isdigit() and b":" in states):
            raise ValueError("not the tiles of a window")
        int(definition, 16)
        return empty

    return other


def _count(counts: list[Any]) -> int:
    """Return the sum of counts, none of which is 0."""
    total: int = sum(counts)
    if total.__class__ is not int or min(counts) < 1:
        raise ValueError("a tile has something else than a count")
    return total


def _int_sum(sums: list[Any]) -> int:
    total: int = sum(sums)
    if total.__class__ is not int:
        raise ValueError("a tile has something else than an int, or a sum that may be rounded")
    return total


def _finite(number: Any) -> Any:
    if not -sys.float_info.max <= number <= sys.float_info.max:
        raise OverflowError("a number is outside float64")
    return number


def _mean(parts: list[Any]) -> float:
    if len(parts) % 2:
        raise ValueError("a tile lacks a count or a sum")
    mean: float = _finite(math.fsum(parts[1::2])) / _count(parts[::2])
    return mean


def _stddev(parts: list[Any]) -> float | None:
    """Return the deviation of the sample from each tile's count, mean and sum of squared deviations.

    All tiles are merged at once, as Chan, Golub and LeVeque merge two (1979).
    """
    counts, means, squares = parts[::3], parts[1::3], parts[2::3]
    count = _count(counts)
    if len(parts) % 3:
        raise ValueError("a tile lacks a count, a mean or squares")
    mean = math.fsum(map(mul, counts, means)) / count
    between = [n * (each - mean) ** 2 for n, each in zip(counts, means, strict=True)]
    if count == 1:
        return None
    deviation: float = _finite(math.sqrt(math.fsum(squares + between) / (count - 1)))
    return deviation


def _distinct(text: bytes) -> int:
    """Return how many hashes there are, or an estimate by the 64th (k minimum values)."""
    if b",," in text:
        text = b",".join(filter(None, text.split(b",")))
    hashes = text.replace(b",", b"/").split(b"/")
    if len(text) != len(hashes) * (HASH_SIZE + 1) - 1:
        raise ValueError("a hash of a value has another length")
    distinct = {*hashes}
    if len(distinct) < MAX_DISTINCT:
        return len(distinct)
    greatest = int(sorted(distinct)[MAX_DISTINCT - 1], 16)
    return round((MAX_DISTINCT - 1) * _HASHES / (greatest + 1))
