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
from collections.abc import Callable, Sequence
from functools import lru_cache
from operator import mul

from featurekit.lower.build import build
from featurekit.lower.window_scripts import HASH_SIZE, MAX_DISTINCT
from featurekit.plan import AggregatePlan, FieldPlan
from featurekit.types import DType, codec_of

Fold = Callable[[bytes | None, int], object]
"""Takes a stored value and the time of the read in milliseconds; returns the value, or `None`.

Raises `ROW_ERRORS` for bytes that are not tiles.
"""

_HASHES = 1 << (4 * HASH_SIZE)

MAX_SUM = 2**53
"""The greatest sum of ints in a tile: the server adds them as doubles."""

_SMALL = {b"%d" % n: n for n in range(1000)} | {b"": 0}

_HEAD = """\
def fold(v, now_ms):
 if v is None:
  return EMPTY
 if not v.startswith(HEAD):
  return other(v)
 newest, _, states = v[{skipped}:].partition(b":")
 age = now_ms // {tile_ms} - int(newest)
 p = states.split(b",")
 if age or len(p) > {shown}:
  p = p[-age if age < 0 else 0 : {shown} - age if age < {shown} else 0]
"""

_COUNT = """\
 try:
  return sum(map(SMALL, p)) or EMPTY
 except KeyError:
  return sum(map(whole, filter(None, p)))
"""

_OTHERS = """\
 p = [*filter(None, p)]
 return {value} if p else EMPTY
"""

_VALUES = {
    "min": "finite(decode(min(p, key=number)))",
    "max": "finite(decode(max(p, key=number)))",
    "mean": "mean(p)",
    "stddev": "stddev(p)",
    "count_distinct": "distinct(p)",
}


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
    source = _HEAD.format(skipped=len(head), tile_ms=plan.tile_ms, shown=plan.tiles + 1)
    if plan.function == "count":
        source += _COUNT
    elif plan.function == "sum":
        source += _OTHERS.format(value="int_sum(p)" if codec.is_integer else "float_sum(p)")
    else:
        source += _OTHERS.format(value=_VALUES[plan.function])
    names: dict[str, object] = {
        "EMPTY": 0 if plan.is_zero_if_empty else None,
        "HEAD": head,
        "SMALL": _SMALL.__getitem__,
        "decode": codec.decode,
        "finite": _finite,
        "distinct": _distinct,
        "float_sum": _float_sum,
        "int_sum": _int_sum,
        "mean": _mean,
        "number": int if codec.is_integer else float,
        "stddev": _stddev,
        "whole": _whole,
    }
    names["other"] = _other_definition(names["EMPTY"])
    return build("fold", source, names)


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


def _whole(state: bytes) -> int:
    if not state.isdigit():
        raise ValueError(f"{state!r} is not a count")
    return int(state)


def _finite(number: float) -> float:
    if not -sys.float_info.max <= number <= sys.float_info.max:
        raise OverflowError("a sum is outside float64")
    return number


def _int_sum(states: Sequence[bytes]) -> int:
    sums = [*map(int, states)]
    if max(sums) > MAX_SUM or min(sums) < -MAX_SUM:
        raise OverflowError("a sum of ints is above 2^53, and so may be rounded")
    return sum(sums)


def _float_sum(states: Sequence[bytes]) -> float:
    return _finite(math.fsum(map(float, states)))


def _mean(states: Sequence[bytes]) -> float:
    counts, (sums,) = _parts(states, 1)
    return _finite(math.fsum(sums)) / sum(counts)


def _stddev(states: Sequence[bytes]) -> float | None:
    """Return the deviation of the sample from each tile's count, mean and sum of squared deviations.

    All tiles are merged at once, as Chan, Golub and LeVeque merge two (1979).
    """
    counts, (means, squares) = _parts(states, 2)
    count = sum(counts)
    mean = math.fsum(map(mul, counts, means)) / count
    deltas = [each - mean for each in means]
    total = math.fsum(squares) + math.fsum(map(mul, counts, map(mul, deltas, deltas)))
    return _finite(math.sqrt(total / (count - 1))) if count > 1 else None


def _parts(states: Sequence[bytes], floats: int) -> tuple[list[int], list[list[float]]]:
    """Return the counts of tiles, and the floats that follow them."""
    width = 1 + floats
    parts = b"/".join(states).split(b"/")
    if len(parts) != width * len(states):
        raise ValueError("a tile has another number of parts")
    counts = [*map(int, parts[::width])]
    if min(counts) < 1:
        raise ValueError("a tile without events has a state")
    return counts, [[*map(float, parts[i::width])] for i in range(1, width)]


def _distinct(states: Sequence[bytes]) -> int:
    """Return how many hashes there are, or an estimate by the 64th (k minimum values)."""
    text = b"/".join(states)
    hashes = text.split(b"/")
    if len(text) != len(hashes) * (HASH_SIZE + 1) - 1:
        raise ValueError("a hash of a value has another length")
    hashes = sorted({*hashes})
    if len(hashes) < MAX_DISTINCT:
        return len(hashes)
    greatest = int(hashes[MAX_DISTINCT - 1], 16)
    return round((MAX_DISTINCT - 1) * _HASHES / (greatest + 1))
