"""Define the benchmark's data: a view of ten features of a cardholder, its ids and its values."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from featurekit.errors import MissingExtraError
from featurekit.keys import JoinKey, KeyPlan
from featurekit.plan import FieldPlan, ReadColumn, ReadGroup, ReadPlan, ViewPlan
from featurekit.types import DType

SIZES = (1, 100, 1000)
"""Entities in one read."""

FIELDS = {
    "country": "string",
    "segment": "string",
    "account_age_days": "int64",
    "tx_count_7d": "int64",
    "tx_count_30d": "int64",
    "chargebacks_180d": "int64",
    "devices": "int64",
    "avg_amount_30d": "float64",
    "max_amount_30d": "float64",
    "risk": "float64",
}
TTL_MS = 600_000
_LIMITS = {"account_age_days": 4000, "tx_count_7d": 60, "tx_count_30d": 250}


def view_plan(key_prefix: str) -> ViewPlan:
    """Return the plan of the view that the benchmark loads and reads."""
    key = KeyPlan(key_prefix, "user", (JoinKey("user_id", DType("string")),))
    fields = tuple(FieldPlan(name, DType(kind)) for name, kind in FIELDS.items())
    return ViewPlan("bench", "batch", key, fields, "key", TTL_MS, TTL_MS // 2)


def read_plan(view: ViewPlan) -> ReadPlan:
    """Return the plan that reads every field of the view."""
    columns = tuple(
        ReadColumn(field.name, view.name, field, 0, slot) for slot, field in enumerate(view.fields)
    )
    return ReadPlan("bench", (ReadGroup(view.key, tuple(FIELDS)),), columns)


def entity_ids(count: int) -> list[str]:
    """Return the first `count` entity ids."""
    return [f"u{number:07d}" for number in range(count)]


def sample_columns(count: int) -> dict[str, list[Any]]:
    """Return ids and realistic values for `count` rows; the same `count` gives the same values."""
    draw = random.Random(count)  # noqa: S311 - repeatable values, not a secret

    def value(name: str, kind: str) -> Any:
        if kind == "string":
            return draw.choice(
                ["NO", "SE", "DK"] if name == "country" else ["low", "medium", "high"]
            )
        if kind == "int64":
            return draw.randrange(_LIMITS.get(name, 10))
        return draw.random() if name == "risk" else draw.randrange(100_000) / 100

    columns: dict[str, list[Any]] = {"user_id": entity_ids(count)}
    return columns | {n: [value(n, kind) for _ in range(count)] for n, kind in FIELDS.items()}


def sample_table(count: int) -> Any:
    """Return `sample_columns` as a `pyarrow.Table`."""
    try:
        import pyarrow as pa
    except ImportError as error:
        raise MissingExtraError.of("batch", "measuring a load") from error
    return pa.table(sample_columns(count))


def decode_by_hand(rows: Sequence[Sequence[bytes]]) -> list[tuple[Any, ...]]:
    """Decode rows as hand-written code does when it knows that every value is present."""
    return [
        (a.decode(), b.decode(), int(c), int(d), int(e), int(f), int(g), float(h), float(i), float(j))
        for a, b, c, d, e, f, g, h, i, j in rows
    ]  # fmt: skip
