"""The fold of a window: from the text of its tiles to the value of a feature, by the clock of the reader."""

from __future__ import annotations

import hashlib
import json
import math
import random
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from featurekit.lower import windows
from featurekit.lower.read import ROW_ERRORS
from featurekit.lower.window_scripts import MAX_DISTINCT
from featurekit.lower.windows import RECENT, fold_function, parse_numbers
from featurekit.plan import AggregatePlan, FieldPlan
from featurekit.plan.fields import AggregateFunction
from featurekit.types import parse_dtype

TILE_MS = 60_000
NOW = 29_930_652 * TILE_MS + 1234
"""A time in tile 29930652."""


def field(
    function: AggregateFunction,
    dtype: str = "float64",
    *,
    tiles: int = 5,
    tile_ms: int = TILE_MS,
    zero: bool = False,
) -> FieldPlan:
    plan = AggregatePlan(
        function=function,
        window_ms=tiles * tile_ms,
        tile_ms=tile_ms,
        definition="3fa",
        is_zero_if_empty=zero,
    )
    return FieldPlan("f", parse_dtype(dtype), aggregate=plan)


COUNT = field("count", "int64", zero=True)


def hashed(value: object) -> str:
    return hashlib.sha1(str(value).encode()).hexdigest()[:12]


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        (None, 0),
        (b"60.3fa@29930652:1,2,,1,2", 6),
        (b"60.3fa@29930652:1,2,3,4,5,6,7,8", 21),  # the sixth tile is the start of the window
        (b"60.3fa@29930652:5000,2", 5002),
        (b"60.3fa@29930650:1,2,3,4,5", 10),  # two tiles later
        (b"60.3fa@29930647:1,2,3,4,5", 1),
        (b"60.3fa@29930646:1,2,3,4,5", 0),
        (b"60.3fa@29930653:7,1,2", 3),  # the newest tile is ahead and waits
        (b"60.3fa@29930655:7,7,7,1,2", 3),
        (b"60.3fa@29930700:7", 0),
        (b"300.3fa@5986130:1,2", 0),  # another tile
        (b"60.3fb@29930652:1,2", 0),  # another definition
    ],
)
def test_a_count_adds_the_tiles_that_are_in_the_window(
    stored: bytes | None, expected: int
) -> None:
    assert fold_function(COUNT)(stored, NOW) == expected
    without_zero = fold_function(field("count", "int64"))(stored, NOW)
    assert without_zero == (expected or None)


@pytest.mark.parametrize(
    ("of", "states", "expected"),
    [
        (field("sum", "int64"), "9007199254740991,-3,1", 9007199254740989),
        (field("sum"), "0.1,,0.2,0.3", math.fsum([0.1, 0.2, 0.3])),
        (field("sum"), "1e308,-1e308", 0.0),
        (field("min", "int32"), "7,,-3,20", -3),
        (field("max", "int64"), "9007199254740993,9007199254740992", 9007199254740993),
        (field("min"), "7.5,1e-9", 1e-9),
        (field("max", "float32"), "0.1,0.05", 0.10000000149011612),
        (field("mean"), "2/3,,1/6", 3.0),
        (field("stddev"), "1/2/0", None),
        (field("stddev"), "1/2/0,1/4/0", math.sqrt(2)),
        (field("stddev"), "2/3/2,,2/7/2", math.sqrt(20 / 3)),
        (field("count_distinct", "int64"), f"{hashed(1)}/{hashed(2)},,{hashed(1)}", 2),
    ],
)
def test_each_aggregate_folds_its_states(of: FieldPlan, states: str, expected: object) -> None:
    value = fold_function(of)(f"60.3fa@29930652:{states}".encode(), NOW)
    assert value == expected
    assert type(value) is type(expected)


@pytest.mark.parametrize(
    ("of", "stored"),
    [
        *((COUNT, stored) for stored in (b"", b"5", b"60@1:5", b"60.3fa@", b"60.3fa@x:1")),
        *((COUNT, stored) for stored in (b"60.3fa@29930652:x", b"60.3fa@29930652:-1")),
        *((COUNT, stored) for stored in (b"60.xyz@29930652:1", b"\xff\xfe")),
        (field("sum", "int64"), b"60.3fa@29930652:1.5"),
        (field("sum", "int64"), b"60.3fa@29930652:1,nan"),  # may be rounded
        *((field("sum"), b"60.3fa@29930652:" + each) for each in (b"inf", b",", b"1,")),
        (field("sum"), b"60.3fa@29930652:nan,1"),
        (field("sum"), b"60.3fa@29930652:1e308,1e308"),
        (field("min", "int64"), b"60.3fa@29930652:x"),
        *((field("mean"), b"60.3fa@29930652:" + each) for each in (b"1", b"0/1", b"1/2/3")),
        *((field("stddev"), b"60.3fa@29930652:" + each) for each in (b"1/2", b"0/0/0", b"x/0/0")),
        (field("stddev"), b"60.3fa@29930652:1/1/0,1/2/-9"),
        (field("count_distinct", "int64"), b"60.3fa@29930652:abc"),
    ],
)
def test_bytes_that_are_no_tiles_do_not_decode(of: FieldPlan, stored: bytes) -> None:
    with pytest.raises(ROW_ERRORS):
        fold_function(of)(stored, NOW)


def test_distinct_values_are_exact_below_64_and_estimated_from_there_on() -> None:
    fold = fold_function(field("count_distinct", "int64"))

    def tiles(*counts: tuple[int, int]) -> bytes:
        kept = [sorted(map(hashed, range(a, b)))[:MAX_DISTINCT] for a, b in counts]
        return f"60.3fa@29930652:{','.join(map('/'.join, kept))}".encode()

    assert fold(tiles((0, 40), (20, 63)), NOW) == 63
    errors = [abs(fold(tiles((s, s + 500), (s + 250, s + 1000)), NOW) - 1000) for s in range(0, 9000, 1000)]  # type: ignore[operator]  # fmt: skip
    assert 0 < sum(errors) / len(errors) < 200


def brute_force(function: str, values: Sequence[float]) -> float | None:
    if not values and function not in ("count", "count_distinct"):
        return None
    mean = math.fsum(values) / max(len(values), 1)
    squares = math.fsum((x - mean) ** 2 for x in values)
    results: dict[str, float | None] = {
        "count": len(values),
        "count_distinct": len({*values}),
        "sum": math.fsum(values),
        "mean": mean,
        "stddev": math.sqrt(squares / (len(values) - 1)) if len(values) > 1 else None,
        "min": min(values, default=None),
        "max": max(values, default=None),
    }
    return results[function]


def state(function: str, values: Sequence[float]) -> str:
    """The state of a tile with some events, as the script writes it."""
    if not values:
        return ""
    mean = math.fsum(values) / len(values)
    squares = math.fsum((x - mean) ** 2 for x in values)
    forms = {
        "count": str(len(values)),
        "count_distinct": "/".join(sorted({hashed(x) for x in values})[:MAX_DISTINCT]),
        "mean": f"{len(values)}/{math.fsum(values)!r}",
        "stddev": f"{len(values)}/{mean!r}/{squares!r}",
    }
    return forms.get(function) or repr(brute_force(function, values))


FUNCTIONS: tuple[AggregateFunction, ...] = (
    *("count", "sum", "min", "max", "mean", "stddev", "count_distinct"),
)


@pytest.mark.parametrize("text", [b"1", b"-7,0.5,1e+16,null,-0", b"9007199254740993,1.7e-300"])
def test_numbers_are_parsed_alike_with_and_without_orjson(text: bytes) -> None:
    values, others = parse_numbers(text), json.loads(b"[%b]" % text)
    assert [*map(repr, values)] == [*map(repr, others)] or text.endswith(b"-0")
    assert values == others


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("parser", ["orjson", "python"])
def test_a_fold_equals_brute_force_over_the_events(
    function: AggregateFunction, parser: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock of the reader moves on after the last event, or is behind it."""
    if parser == "python":
        monkeypatch.setattr(windows, "_json_parser", lambda: None)
    windows._fold_function.cache_clear()
    rng = random.Random(function)
    for _ in range(100):
        tiles, tile_ms = rng.choice([(2, 1000), (5, 60_000), (24, 3_600_000), (60, 15_000)])
        is_count = function in ("count", "count_distinct")
        dtype = "int64" if is_count else "float64"
        of = field(function, dtype, tiles=tiles, tile_ms=tile_ms, zero=is_count)
        newest = rng.randrange(10**6)
        kept = [
            [float(rng.choice([rng.randrange(-5, 5), rng.gauss(0, 1e6)])) for _ in range(rng.choice([0, 0, 1, 3]))]
            for _ in range(tiles + 2)
        ]  # fmt: skip
        while kept and not kept[0]:
            kept.pop(0)
        while kept and not kept[-1]:
            kept.pop()
        text = ",".join(state(function, values) for values in kept)
        stored = f"{tile_ms // 1000}.3fa@{newest}:{text}".encode() if kept else None
        now = newest + rng.randrange(-2, tiles + 3)
        shown = [
            x for i, values in enumerate(kept) for x in values if now - tiles <= newest - i <= now
        ]
        value = fold_function(of)(stored, now * tile_ms + rng.randrange(tile_ms))
        expected = brute_force(function, shown)
        assert value == (None if expected is None else pytest.approx(expected, rel=1e-9, abs=1e-6))


@pytest.mark.skipif(shutil.which("node") is None, reason="Node.js is not installed")
def test_the_reader_of_the_documentation_reads_the_same() -> None:
    page = Path(__file__).parents[2] / "docs" / "wire-format.md"
    [code] = re.findall(r"```js\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    rng = random.Random(1)
    cases = []
    for _ in range(200):
        states = ",".join(rng.choice(["", "3/12.5", "2/-1", "14/0.25"]) for _ in range(9))
        states = states.strip(",") or "1/1"
        stored = rng.choice([None, f"60.3fa@{29930652 + rng.randrange(-9, 3)}:{states}"])
        expected = fold_function(field("mean"))(stored.encode() if stored else None, NOW)
        cases.append((stored, expected))
    given = json.dumps([stored for stored, _ in cases])
    code += f"""
    const found = {given}.map((text) => mean(tiles(text, "60.3fa@", 60000, 300000, {NOW})));
    console.log(JSON.stringify(found));
    """
    node = subprocess.run(["node", "-"], input=code, capture_output=True, text=True, check=True)
    assert json.loads(node.stdout) == pytest.approx([expected for _, expected in cases])


def test_a_value_that_was_folded_is_not_taken_for_that_of_another_tile() -> None:
    fold, stored = (
        fold_function(COUNT),
        [b"60.3fa@29930652:%d,2" % i for i in range(1, RECENT + 50)],
    )
    for later in (0, 1, 0, 6, 7, 0):
        now_ms = NOW + later * TILE_MS
        for _ in range(2):
            counts = [fold(each, now_ms) for each in stored]
            shown = max(0, 6 - later)
            expected = [sum((i, 2)[:shown]) for i in range(1, RECENT + 50)]
            assert counts == expected
