"""Invent the stored fields of views with windows: tiles that all have events, and a full guard."""

from __future__ import annotations

import base64
import random
from collections.abc import Callable
from dataclasses import replace

from featurekit.constraints import Constraints
from featurekit.lower.window_scripts import HASH_SIZE, ID_SIZE, MAX_IDS
from featurekit.plan import AggregatePlan, FieldPlan, ViewPlan
from featurekit.types import DType, codec_of

DISTINCT = 3
"""How many distinct values each tile is taken to have."""


def with_guard(view: ViewPlan) -> ViewPlan:
    """Return a view whose fields include the one that finds repeated events, if it has one."""
    if view.guard_field is None:
        return view
    guard = FieldPlan(view.guard_field, DType("string"), Constraints())
    return replace(view, fields=(*view.fields, guard))


def invented_window(view: ViewPlan, field: FieldPlan, chance: random.Random, now_ms: int) -> bytes:
    """Return what is stored of a field of a view with windows."""
    if field.aggregate is None:
        return _guard(view, chance).encode()
    plan = field.aggregate
    states = (_state(plan, field, chance) for _ in range(plan.tiles + 2))
    return f"{plan.head}{now_ms // plan.tile_ms}:{','.join(states)}".encode()


def _state(plan: AggregatePlan, field: FieldPlan, chance: random.Random) -> str:
    """Return the state of a tile, as docs/wire-format.md has it."""
    count = chance.randint(1, 99)
    number = chance.randint(1, 9999)
    amount = str(number if codec_of(field.dtype).is_integer else number / 100)
    states: dict[str, Callable[[], str]] = {
        "count": lambda: str(count),
        "mean": lambda: f"{count}/{amount}",
        "stddev": lambda: f"{count}/{chance.uniform(1, 100)!r}/{chance.uniform(1, 10_000)!r}",
        "count_distinct": lambda: "/".join(
            f"{chance.getrandbits(4 * HASH_SIZE):0{HASH_SIZE}x}" for _ in range(DISTINCT)
        ),
    }
    return states.get(plan.function, lambda: amount)()


def _guard(view: ViewPlan, chance: random.Random) -> str:
    if view.windows is not None and view.windows.once == "offset":
        return f"{chance.getrandbits(32):08x} 0:{chance.randrange(10**6, 10**8)}"
    ids = (chance.randbytes(ID_SIZE * 3 // 4) for _ in range(MAX_IDS))
    return "".join(base64.b64encode(each).decode() for each in ids)
