from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import hypothesis.strategies as st
import pyarrow as pa
import pytest
from hypothesis import given

from featurekit.keys import JoinKey, KeyPlan
from featurekit.lower.chunks import (
    ROWS_PER_TRANSACTION,
    EncodedChunk,
    build_chunk,
    build_guarded_chunk,
)
from featurekit.lower.scripts import MISSING, MISSING_NEWEST, NEWEST, Script
from featurekit.lower.write_group import Dialect, batch_write_group, row_errors
from featurekit.plan import FieldPlan, ViewPlan
from featurekit.types import DType
from featurekit.wire import EXEC, MULTI, ErrorReply, Reply
from tests.lower.strategies import cells, ids, views

Row = tuple[bytes, dict[str, bytes | None]]

KEY = KeyPlan("fs", "user", (JoinKey("user_id", DType("string")),))
OWNER = ViewPlan("v", "batch", KEY, (FieldPlan("a", DType("int64")),), "key", 1000, 500)


def by_row(view: ViewPlan, rows: list[Row], dialect: Dialect) -> tuple[bytes, int, int]:
    """Return the reference: write groups in transactions, row by row."""
    group_of = batch_write_group(view, dialect)
    groups = [group_of(key, row) for key, row in rows]
    blocks = [
        groups[i : i + ROWS_PER_TRANSACTION] for i in range(0, len(groups), ROWS_PER_TRANSACTION)
    ]
    data = b"".join(MULTI + b"".join(g.data for g in block) + EXEC for block in blocks)
    replies = sum(g.commands for g in groups) + 2 * len(blocks)
    lines = replies + sum(g.reply_lines for g in groups)
    return data, replies, lines


def chunk_of(view: ViewPlan, rows: list[Row], dialect: Dialect) -> EncodedChunk:
    keys = pa.array([key for key, _ in rows], pa.binary())
    values = [pa.array([row[f.name] for _, row in rows], pa.binary()) for f in view.fields]
    return build_chunk(view, keys, values, dialect)


def by_column(view: ViewPlan, rows: list[Row], dialect: Dialect) -> tuple[bytes, int, int]:
    chunk = chunk_of(view, rows, dialect)
    return bytes(chunk.data), chunk.replies, chunk.reply_lines


@st.composite
def loads(draw: st.DrawFn) -> tuple[ViewPlan, list[Row]]:
    view = draw(views())
    density = draw(st.sampled_from([0, 1, 5, 10]))
    cell = st.integers(1, 10).flatmap(lambda draw_: st.none() if draw_ <= density else cells)
    row = st.fixed_dictionaries({f.name: cell for f in view.fields})
    return view, draw(st.lists(st.tuples(ids.map(str.encode), row), min_size=1, max_size=70))


@given(loads())
def test_a_chunk_contains_the_write_groups_of_its_rows_in_transactions(
    load: tuple[ViewPlan, list[Row]],
) -> None:
    view, rows = load
    for hsetex in (True, False):
        dialect = Dialect(hsetex=hsetex)
        assert by_column(view, rows, dialect) == by_row(view, rows, dialect)


@given(loads())
def test_without_transactions_a_chunk_has_one_command_for_each_row(
    load: tuple[ViewPlan, list[Row]],
) -> None:
    view, rows = load
    for hsetex in (True, False):
        dialect = Dialect(hsetex=hsetex, transactions=False)
        group_of, chunk = batch_write_group(view, dialect), chunk_of(view, rows, dialect)
        groups = [group_of(key, row) for key, row in rows]
        starts = [0, *chunk.row_ends()]
        assert [bytes(chunk.data[a:b]) for a, b in pairwise(starts)] == [g.data for g in groups]
        assert (chunk.replies, chunk.reply_lines) == (len(rows), len(rows))
        assert {(g.commands, g.reply_lines) for g in groups} == {(1, 1)}


@pytest.mark.parametrize("guard", [NEWEST, MISSING, MISSING_NEWEST])
@given(loads())
def test_with_a_guard_a_chunk_has_one_call_for_each_row(
    guard: Script, load: tuple[ViewPlan, list[Row]]
) -> None:
    view, rows = load
    if guard is not MISSING:
        view = replace(view, ordering="event_time")
        rows = [(key, {"@v": b"%d" % (7**i), **row}) for i, (key, row) in enumerate(rows)]
    keys = pa.array([key for key, _ in rows], pa.binary())
    values = [pa.array([row[name] for _, row in rows], pa.binary()) for name in view.hash_fields]
    for hsetex in (True, False):
        dialect = Dialect(hsetex=hsetex)
        chunk = build_guarded_chunk(view, keys, values, dialect, guard)
        group_of = batch_write_group(view, dialect, guard)
        assert bytes(chunk.data) == b"".join(group_of(key, row).data for key, row in rows)
        assert (chunk.replies, chunk.reply_lines) == (len(rows), len(rows))


def test_an_error_names_its_row_in_a_chunk_of_single_commands() -> None:
    dialect = Dialect(hsetex=True, transactions=False)
    chunk = chunk_of(OWNER, [(b"fs:user:1", {"a": b"1"})] * 3, dialect)
    assert chunk.row_errors([1, ErrorReply("WRONGTYPE no hash"), 1]) == {1: "WRONGTYPE no hash"}


@pytest.mark.parametrize(
    "n",
    [
        1,
        ROWS_PER_TRANSACTION - 1,
        ROWS_PER_TRANSACTION,
        ROWS_PER_TRANSACTION + 1,
        3 * ROWS_PER_TRANSACTION,
    ],
)
def test_a_transaction_holds_at_most_one_block_of_rows(n: int) -> None:
    rows: list[Row] = [(b"fs:user:%d" % i, {"a": b"1"}) for i in range(n)]
    data, replies, _ = by_column(OWNER, rows, Dialect(hsetex=True))
    assert data.count(MULTI) == data.count(EXEC) == -(-n // ROWS_PER_TRANSACTION)
    assert replies == 2 * n + 2 * data.count(EXEC)


def test_an_error_in_a_transaction_names_its_row() -> None:
    done: list[Reply] = [1, 1, ErrorReply("WRONGTYPE no hash"), 0, 1, 1]
    replies: list[Reply] = [b"OK", *([b"QUEUED"] * 6), done]
    assert row_errors(replies, [2, 2, 2], 32) == {1: "WRONGTYPE no hash"}


def test_a_discarded_transaction_fails_all_its_rows() -> None:
    aborted = ErrorReply("EXECABORT dropped")
    full = ErrorReply("OOM full")
    replies: list[Reply] = [b"OK", full, b"QUEUED", aborted, b"OK", b"QUEUED", b"QUEUED", [1, 1]]
    assert row_errors(replies, [1, 1, 1, 1], 2) == {0: "OOM full", 1: "OOM full"}


def test_a_field_that_did_not_get_its_expiry_is_an_error() -> None:
    replies: list[Reply] = [b"OK", b"QUEUED", b"QUEUED", [2, [1, -2]]]
    assert row_errors(replies, [2], 32) == {0: "HPEXPIRE answered [1, -2]"}
