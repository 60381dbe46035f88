"""Columns of logs from stored bytes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import pyarrow as pa

from featurekit.errors import ValueRefusedError
from featurekit.keys import KeyPlan
from featurekit.lower.keys import parse_entity_id
from featurekit.types import DType
from featurekit.types.arrow import arrow_type, decode_array, to_arrow

TIMESTAMP = pa.timestamp("us", tz="UTC")


def time_column(times_ms: Sequence[int | None]) -> Any:
    """Return a column of times in milliseconds since the epoch."""
    us = [None if time is None else time * 1000 for time in times_ms]
    return pa.array(us, pa.int64()).cast(TIMESTAMP)


def key_fields(plan: KeyPlan) -> list[Any]:
    """Return the fields of a schema for the join keys of an entity."""
    return [pa.field(part.name, arrow_type(part.dtype)) for part in plan.join_keys]


def key_columns(plan: KeyPlan, keys: Sequence[bytes]) -> list[Any]:
    """Return the columns of the join keys in the keys of hashes."""
    values = [_join_key_values(plan, key) for key in keys]
    columns = zip(*values, strict=True) if values else [()] * len(plan.join_keys)
    return [
        to_arrow(part.dtype, list(column))
        for part, column in zip(plan.join_keys, columns, strict=True)
    ]


@lru_cache(maxsize=4096)
def _join_key_values(plan: KeyPlan, key: bytes) -> tuple[object, ...]:
    entity = parse_entity_id(plan, key.decode().removeprefix(plan.entity_prefix))
    return (entity,) if len(plan.join_keys) == 1 else tuple(entity)  # type: ignore[arg-type]


def value_column(dtype: DType, data: Sequence[bytes | None]) -> Any:
    """Return a column of stored values.

    Raises:
        ValueRefusedError: A decimal is too wide for its column.
    """
    column = decode_array(dtype, pa.array(data, pa.binary()))
    if column.type != arrow_type(dtype):
        raise ValueRefusedError(f"a decimal does not fit {arrow_type(dtype)}")
    return column
