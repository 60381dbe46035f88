"""Requests: what a caller asks for, taken apart and checked before anything is sent."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from featurekit.errors import RequestError, name_hint
from featurekit.plan import ReadPlan
from featurekit.ports import DEFAULT_READ_OPTIONS, ReadOptions

Timeout = float | timedelta | None
"""The bound of a whole call: seconds, or a timedelta; `None` for the store's own timeouts."""

MAX_TIMEOUT_S = 3600

EntityRows = Sequence[Mapping[str, object]] | Mapping[str, Sequence[object]]
"""Entities as rows, `[{"user_id": "u0001"}]`, or as columns, `{"user_id": ["u0001"]}`."""


_PARTIAL = ReadOptions(partial=True)

ColumnsOf = Callable[[EntityRows], dict[str, list[object]]]


def read_options(timeout: Timeout, *, partial: bool) -> ReadOptions:
    """What a caller says about time and servers that are away, as the store takes it.

    Raises:
        RequestError: The timeout is no span of time, is not above zero, or is over an hour.
    """
    if timeout is None:
        return _PARTIAL if partial else DEFAULT_READ_OPTIONS
    seconds: Any = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
    is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if not is_number or not 0 < seconds <= MAX_TIMEOUT_S:
        raise RequestError(
            f"{timeout!r} is no timeout",
            where="timeout",
            hint="give seconds, as 0.05, or a timedelta: above zero, an hour at most",
        )
    return ReadOptions(float(seconds), partial)


def entity_columns_function(plan: ReadPlan) -> ColumnsOf:
    """The function from a request to its join keys as columns of one length, in the plan's order.

    Raises (the function):
        RequestError: A join key is lacking or unknown, or the columns differ in length.
    """
    names = plan.join_keys
    size = {len(names)}

    def columns_of(entity_rows: EntityRows) -> dict[str, list[object]]:
        if not isinstance(entity_rows, list):
            if isinstance(entity_rows, Mapping):
                _check_columns(plan, entity_rows)
                return {name: list(entity_rows[name]) for name in names}
            _check_sequence(entity_rows)
        try:
            columns = {name: [row[name] for row in entity_rows] for name in names}
            if set(map(len, entity_rows)) <= size:
                return columns
        except (KeyError, TypeError):
            pass  # said below, with the row's number
        for index, row in enumerate(entity_rows):
            _check_row(plan, row, f"entity row {index}")
        raise AssertionError("a request was refused as a whole and fits row by row")

    return columns_of


def _check_columns(plan: ReadPlan, entity_rows: Mapping[str, Any]) -> None:
    check_names(plan, entity_rows)
    for name, column in entity_rows.items():
        if isinstance(column, str | bytes | Mapping) or not hasattr(column, "__len__"):
            raise RequestError(
                f"a list of values is expected, not {column!r}", where=f"join key {name}"
            )
    lengths = {name: len(column) for name, column in entity_rows.items()}
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{name}: {length}" for name, length in lengths.items())
        raise RequestError(f"the columns of entity_rows differ in length: {shown}")


def _check_sequence(entity_rows: Any) -> None:
    if isinstance(entity_rows, str | bytes) or not isinstance(entity_rows, Sequence):
        kind = type(entity_rows).__name__
        raise RequestError(f"entity_rows is a list of dicts, or a dict of lists; got {kind}")


def _check_row(plan: ReadPlan, row: Any, where: str) -> None:
    if not isinstance(row, Mapping):
        raise RequestError(f"a dict of join keys is expected, not {row!r}", where=where)
    check_names(plan, row, where=where)


def check_names(plan: ReadPlan, given: Mapping[str, object], *, where: str = "") -> None:
    """Raise unless the names given are just the plan's join keys."""
    names = plan.join_keys
    for name in given:
        if name not in names:
            raise RequestError(
                f"unknown join key '{name}'", where=where, hint=name_hint(str(name), names)
            )
    if lacking := [name for name in names if name not in given]:
        raise RequestError(
            f"the join key {', '.join(lacking)} is lacking",
            where=where,
            hint=f"{plan.name} is read by {', '.join(names)}",
        )
