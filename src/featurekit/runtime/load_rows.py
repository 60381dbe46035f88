"""Encode rows given as dicts for a load, without Arrow."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from itertools import accumulate, islice
from typing import cast

from featurekit.errors import (
    BadRowError,
    FeatureKitError,
    RequestError,
    ValueRefusedError,
    join_where,
)
from featurekit.lower.keys import join_key_values
from featurekit.lower.rows import Row, json_row_decoder, key_of_line, key_of_row, row_encoder
from featurekit.lower.write_group import (
    WriteGroup,
    batch_write_group,
    command_errors,
    row_errors,
    transaction,
)
from featurekit.plan import EVENT_TIMESTAMP, ViewPlan
from featurekit.ports import Chunk, RowSpans
from featurekit.runtime.load import LoadBatch, LoadTarget, guarded_batch
from featurekit.runtime.write_arguments import event_time_to_ms
from featurekit.types import short_repr
from featurekit.wire import Reply

_ROWS_PER_BATCH = 512
_NO_LIMIT_MS = 1 << 62
_MAX_AHEAD_MS = 300_000
"""How far ahead of the clock a row's time may be: clocks of programs and servers differ."""


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


@dataclass(slots=True)
class WrittenRows:
    """What a load of rows has written so far.

    Attributes:
        keys: The key of each entity written.
        newest_event_ms: The newest time of its rows; `None` if they have none.
    """

    keys: set[bytes] = field(default_factory=set)
    newest_event_ms: int | None = None


def encode_rows(
    target: LoadTarget,
    rows: Iterable[InputRow],
    rejects: RejectedRows | None,
    written: WrittenRows,
    now_ms: Callable[[], int],
) -> Iterator[LoadBatch]:
    """Yield encoded batches of rows.

    Args:
        target: Where the rows go.
        rows: Rows with join keys and fields as Python values, and their times if the view is
            ordered by them.
        rejects: Collects rows that do not fit. `None` raises at the first one, and nothing of
            its batch is written.
        written: Filled while the rows are encoded, or with a guard, while the server replies.
        now_ms: Returns the current time.

    Raises:
        BadRowError: A row does not fit and `rejects` is `None`.
    """
    view, time_field = target.view, target.view.event_time_field
    encode = row_encoder(view)
    write_group = batch_write_group(view, target.dialect, target.guard)
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
                if time_field is not None:
                    time_ms = _time_ms(view, each.row.get(EVENT_TIMESTAMP), now_ms())
                    written.newest_event_ms = max(time_ms, written.newest_event_ms or 0)
                    fields[time_field] = b"%d" % time_ms
            except ValueRefusedError as error:
                rejected += 1
                if (key_of_rejected := _key_of(view, each)) is not None:
                    rejected_keys.append(key_of_rejected)
                _reject(view, each, error, rejects)
            else:
                groups.append((key, write_group(key, fields)))
                accepted.append(each)
        reject = partial(_reject_refused, accepted, rejects)
        encoded = _batch(target, groups, written)
        yield replace(encoded, rejected=rejected, reject=reject, rejected_keys=rejected_keys)


def _time_ms(view: ViewPlan, time: object, now_ms: int) -> int:
    """Return the time of a row in milliseconds since the epoch.

    Raises:
        ValueRefusedError: It has none, or one that is not usable or too far ahead of the clock.
    """
    if time is None:
        raise ValueRefusedError(
            "a row of a view with `ordering: event_time` must have a time", where=EVENT_TIMESTAMP
        )
    time_ms = event_time_to_ms(cast("datetime | int | str", time), now_ms, _NO_LIMIT_MS)
    if view.future_rows == "skip" and time_ms > now_ms + _MAX_AHEAD_MS:
        raise ValueRefusedError(
            f"{short_repr(time)} is more than {_MAX_AHEAD_MS // 1000} seconds in the future",
            where=EVENT_TIMESTAMP,
            hint="compare the clocks, or declare `future_rows: load` under `batch`",
        )
    return time_ms


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


def _batch(target: LoadTarget, groups: _KeyedGroups, written: WrittenRows) -> LoadBatch:
    """Return the batch of some rows, and note which entities it writes."""
    if target.guard is not None and groups:
        return _guarded_rows(target, groups, written)
    written.keys.update(key for key, _ in groups)
    return (_transactions if target.dialect.transactions else _single_commands)(groups)


def _transactions(groups: _KeyedGroups) -> LoadBatch:
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
    )


def _single_commands(groups: _KeyedGroups) -> LoadBatch:
    rows = len(groups)
    data = b"".join(group.data for _, group in groups)
    return LoadBatch(
        Chunk(data, rows, rows, rows, lambda: _spans(groups)),
        command_errors,
        lambda row: groups[row][0].decode(errors="replace"),
    )


def _guarded_rows(target: LoadTarget, groups: _KeyedGroups, written: WrittenRows) -> LoadBatch:
    data = b"".join(group.data for _, group in groups)
    batch = guarded_batch(target, data, lambda: _spans(groups), len(groups))

    def kept(replies: list[Reply]) -> int:
        own = replies[-len(groups) :]
        written.keys.update(key for (key, _), reply in zip(groups, own, strict=True) if reply == 1)
        return own.count(0)

    return replace(batch, kept=kept)


def _spans(groups: _KeyedGroups) -> RowSpans:
    return [key for key, _ in groups], list(accumulate(len(group.data) for _, group in groups))


def rows_by_id(view: ViewPlan, rows: Mapping[object, object]) -> Iterator[InputRow]:
    """Yield the rows of `{id: {field: value}}`, where the id of several join keys is a tuple.

    Of a view without an entity, the mapping is the row: `{field: value}`.
    """
    join_keys = [join_key.name for join_key in view.key.join_keys]
    if not join_keys:
        yield InputRow("row", cast("Row", dict(rows)), cast("Row", dict(rows)), 1)
        return
    for number, (entity_id, fields) in enumerate(rows.items(), 1):
        where = f"{view.name}, {entity_id!r}"
        if not isinstance(fields, Mapping):
            raise RequestError(f"expected a dict of fields, not {fields!r}", where=where)
        if misplaced := [name for name in join_keys if name in fields]:
            raise RequestError(
                f"join key '{misplaced[0]}' must be the key of the row, not one of its fields",
                where=where,
            )
        key_values = dict(zip(join_keys, join_key_values(view.key, entity_id), strict=True))
        row = key_values | dict(fields)
        yield InputRow(repr(entity_id), row, dict(row), number)


def rows_of_dicts(view: ViewPlan, rows: Iterable[object]) -> Iterator[InputRow]:
    """Yield the rows of dicts of join keys and fields."""
    for index, row in enumerate(rows):
        if not isinstance(row, Mapping):
            where = f"{view.name}, row {index}"
            raise RequestError(
                f"expected a dict of join keys and fields, not {row!r}", where=where
            )
        yield InputRow(f"row {index}", dict(row), dict(row), index + 1)


def rows_of_jsonl(view: ViewPlan, lines: Iterable[str]) -> Iterator[InputRow]:
    """Yield the rows of JSON Lines; empty lines are skipped."""
    read = json_row_decoder(view, strict=True)
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            yield InputRow(f"line {number}", read(line), line.rstrip("\n"), number)
        except ValueRefusedError as error:
            yield InputRow(f"line {number}", error, line.rstrip("\n"), number)
