"""Rows given as dicts, prepared for a load without Arrow."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import accumulate, islice

from featurekit.errors import BadRowError, FeatureKitError, ValueRefusedError
from featurekit.lower.rows import Row, row_encoder
from featurekit.lower.write_group import (
    Dialect,
    WriteGroup,
    batch_write_group,
    command_errors,
    row_errors,
    transaction,
)
from featurekit.plan import ViewPlan
from featurekit.ports import Chunk
from featurekit.runtime.load import LoadBatch

_ROWS = 512


@dataclass(slots=True)
class RejectedRows:
    """Rows that were refused, as given, and why."""

    rows: list[object] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class InputRow:
    """A row, or what kept it from being one, and where it came from (`line 17`)."""

    where: str
    row: Row | FeatureKitError
    original: object


def encode_rows(
    view: ViewPlan,
    rows: Iterable[InputRow],
    rejects: RejectedRows | None,
    seen: set[bytes],
    dialect: Dialect,
) -> Iterator[LoadBatch]:
    """Encode rows and yield them in batches.

    Args:
        view: The compiled view.
        rows: Rows with join keys and fields as Python values.
        rejects: Takes the rows that do not fit; without it the first one raises, and nothing
            of its batch is written.
        seen: Takes the keys.
        dialect: How the server is told what belongs together.

    Raises:
        BadRowError: A row does not fit and there is nowhere to put it.
    """
    encode = row_encoder(view)
    unit_of = batch_write_group(view, dialect)
    prepared = _in_transactions if dialect.transactions else _in_commands
    source = iter(rows)
    while batch := list(islice(source, _ROWS)):
        units: list[tuple[bytes, WriteGroup]] = []
        bad = 0
        for given in batch:
            try:
                if isinstance(given.row, FeatureKitError):
                    raise given.row
                key, fields = encode(given.row)
            except ValueRefusedError as error:
                bad += 1
                _reject(view, given, error, rejects)
            else:
                seen.add(key)
                units.append((key, unit_of(key, fields)))
        yield prepared(units, bad)


def _reject(
    view: ViewPlan, given: InputRow, error: ValueRefusedError, rejects: RejectedRows | None
) -> None:
    where = ", ".join(part for part in (view.name, given.where, error.where) if part)
    if rejects is None:
        raise BadRowError(error.message, where=where, hint=error.hint) from error
    rejects.rows.append(given.original)
    rejects.reasons.append(f"{where}: {error.message}")


_Units = list[tuple[bytes, WriteGroup]]


def _in_transactions(units: _Units, bad: int) -> LoadBatch:
    # One row to a transaction: rows that come as dicts are few, and one refused row is one row.
    chunk = Chunk(
        data=b"".join(transaction(unit) for _, unit in units),
        replies=sum(unit.commands + 2 for _, unit in units),
        reply_lines=sum(unit.commands + 2 + unit.lines for _, unit in units),
        rows=len(units),
    )
    return LoadBatch(
        chunk,
        lambda replies: row_errors(replies, [unit.commands for _, unit in units], 1),
        lambda row: units[row][0].decode(errors="replace"),
        bad,
    )


def _in_commands(units: _Units, bad: int) -> LoadBatch:
    n = len(units)
    ends = list(accumulate(len(unit.data) for _, unit in units))
    data = b"".join(unit.data for _, unit in units)
    return LoadBatch(
        Chunk(data, n, n, n, lambda: ([key for key, _ in units], ends)),
        command_errors,
        lambda row: units[row][0].decode(errors="replace"),
        bad,
    )
