"""Encode rows given as dicts for a load, without Arrow."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import accumulate, islice

from featurekit.errors import BadRowError, FeatureKitError, ValueRefusedError, join_where
from featurekit.lower.rows import Row, key_of_line, key_of_row, row_encoder
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

_ROWS_PER_BATCH = 512


@dataclass(slots=True)
class RejectedRows:
    """Rows that did not fit the view, or that the store refused, as given, and the reasons."""

    rows: list[InputRow] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)

    def add(self, row: InputRow, reason: str) -> None:
        """Add a row."""
        self.rows.append(row)
        self.reasons.append(reason)


@dataclass(frozen=True, slots=True)
class InputRow:
    """A row to load.

    Attributes:
        where: Its position, such as `line 17`.
        row: Its join keys and fields, or the error of parsing it.
        original: The row as given, or its line, for the file of rejected rows.
        number: Its number, from 1, for the same.
    """

    where: str
    row: Row | FeatureKitError
    original: Mapping[str, object] | str
    number: int = 0


def encode_rows(
    view: ViewPlan,
    rows: Iterable[InputRow],
    rejects: RejectedRows | None,
    keys: set[bytes],
    dialect: Dialect,
) -> Iterator[LoadBatch]:
    """Yield encoded batches of rows.

    Args:
        view: The compiled view.
        rows: Rows with join keys and fields as Python values.
        rejects: Collects rows that do not fit. `None` raises at the first one, and nothing of
            its batch is written.
        keys: Collects the key of each row.
        dialect: The commands that the server has.

    Raises:
        BadRowError: A row does not fit and `rejects` is `None`.
    """
    encode = row_encoder(view)
    write_group = batch_write_group(view, dialect)
    batch_of = _transactions if dialect.transactions else _single_commands
    remaining = iter(rows)
    while batch := list(islice(remaining, _ROWS_PER_BATCH)):
        groups: list[tuple[bytes, WriteGroup]] = []
        accepted: list[InputRow] = []
        rejected = 0
        rejected_keys: list[bytes] = []
        for each in batch:
            try:
                if isinstance(each.row, FeatureKitError):
                    raise each.row
                key, fields = encode(each.row)
            except ValueRefusedError as error:
                rejected += 1
                if (key_of_rejected := _key_of(view, each)) is not None:
                    rejected_keys.append(key_of_rejected)
                _reject(view, each, error, rejects)
            else:
                keys.add(key)
                groups.append((key, write_group(key, fields)))
                accepted.append(each)
        encoded = batch_of(groups, rejected)
        reject = partial(_reject_refused, accepted, rejects)
        yield replace(encoded, reject=reject, rejected_keys=rejected_keys)


def _reject_refused(
    rows: list[InputRow], rejects: RejectedRows | None, errors: dict[int, str]
) -> None:
    if rejects is not None:
        for index, error in errors.items():
            rejects.add(rows[index], error)


def _reject(
    view: ViewPlan, row: InputRow, error: ValueRefusedError, rejects: RejectedRows | None
) -> None:
    where = join_where(view.name, row.where, error.where)
    if rejects is None:
        bad = BadRowError(error.message, where=where, hint=error.hint)
        key = _key_of(view, row)
        bad.keys = [key] if key is not None else []
        raise bad from error
    rejects.add(row, f"{error.where}: {error.message}" if error.where else error.message)


def _key_of(view: ViewPlan, row: InputRow) -> bytes | None:
    """Return the key of a row that does not fit; `None` if it has none."""
    if isinstance(row.original, str):
        return key_of_line(view, row.original, is_source=False)
    return key_of_row(view, row.original)


_KeyedGroups = list[tuple[bytes, WriteGroup]]


def _transactions(groups: _KeyedGroups, rejected: int) -> LoadBatch:
    # One transaction for each row, so that a refused row does not affect others. Rows given as
    # dicts are few.
    chunk = Chunk(
        data=b"".join(transaction(group) for _, group in groups),
        replies=sum(group.commands + 2 for _, group in groups),
        reply_lines=sum(group.commands + 2 + group.reply_lines for _, group in groups),
        rows=len(groups),
    )
    return LoadBatch(
        chunk,
        lambda replies: row_errors(replies, [group.commands for _, group in groups], 1),
        lambda row: groups[row][0].decode(errors="replace"),
        rejected,
    )


def _single_commands(groups: _KeyedGroups, rejected: int) -> LoadBatch:
    rows = len(groups)
    ends = list(accumulate(len(group.data) for _, group in groups))
    data = b"".join(group.data for _, group in groups)
    return LoadBatch(
        Chunk(data, rows, rows, rows, lambda: ([key for key, _ in groups], ends)),
        command_errors,
        lambda row: groups[row][0].decode(errors="replace"),
        rejected,
    )
