from __future__ import annotations

import linecache

import hypothesis.strategies as st
from hypothesis import given

from featurekit.keys import JoinKey, KeyPlan
from featurekit.lower.build import build
from featurekit.lower.cell_decoder import CellDecoder
from featurekit.lower.read import requests_function
from featurekit.lower.records import record_class
from featurekit.lower.row_decoder import row_function
from featurekit.plan import FieldPlan, ReadColumn, ReadGroup, ReadPlan
from featurekit.types import DType, codec_of
from featurekit.wire import ErrorReply, command
from tests.lower.strategies import dtypes, values

KEY = KeyPlan("fs", "user", (JoinKey("user_id", DType("string")),))


def plan_of(*fields: FieldPlan) -> ReadPlan:
    columns = [ReadColumn(f.name, "v", f, 0, i) for i, f in enumerate(fields)]
    return ReadPlan("s", (ReadGroup(KEY, tuple(f.name for f in fields)),), tuple(columns))


@st.composite
def reads(draw: st.DrawFn) -> tuple[ReadPlan, list[bytes | None]]:
    fields, cells = [], []
    for index, dtype in enumerate(draw(st.lists(dtypes(), min_size=1, max_size=5))):
        encoded = values(dtype).map(codec_of(dtype).encode)
        default = draw(st.none() | encoded)
        fields.append(FieldPlan(f"f{index}", dtype, default=default))
        cells.append(draw(st.none() | encoded | st.binary(max_size=9)))
    return plan_of(*fields), cells


@given(reads())
def test_the_generated_decoder_gives_what_the_plain_one_gives(
    read: tuple[ReadPlan, list[bytes | None]],
) -> None:
    plan, cells = read
    careful, statuses = CellDecoder(plan).decode(cells)
    fast = row_function(plan, lambda _: None)(cells)
    if "invalid" in statuses:
        assert fast is None
    else:
        assert repr(fast) == repr((*careful, cells))


def test_each_value_has_its_status() -> None:
    count = FieldPlan("n", DType("int64"), default=b"0")
    plain = FieldPlan("m", DType("int64"))
    plan = plan_of(count, plain)
    assert CellDecoder(plan).decode([b"5", b"6"]) == ((5, 6), ("present", "present"))
    assert CellDecoder(plan).decode([None, None]) == ((0, None), ("default", "missing"))
    assert CellDecoder(plan).decode([b"x", b""]) == ((0, None), ("invalid", "invalid"))
    wrong = ErrorReply("WRONGTYPE")
    assert CellDecoder(plan).decode([wrong, wrong]) == ((0, None), ("invalid", "invalid"))
    away = ErrorReply("UNAVAILABLE no answer")
    assert CellDecoder(plan).decode([away, away]) == ((0, None), ("unavailable", "unavailable"))


def test_a_list_default_belongs_to_one_row() -> None:
    plan = plan_of(FieldPlan("f", DType("array", element="int64"), default=b"[1]"))
    row = row_function(plan, lambda _: None)
    first, second = row([None])[0], row([None])[0]
    assert first == second == [1]
    assert first is not second


@given(st.lists(st.binary(max_size=300), max_size=5))
def test_a_request_is_its_commands_for_each_key(keys: list[bytes]) -> None:
    names = [b"a", "ø".encode()]
    values_ = [command(b"HMGET", key, *names) for key in keys]
    of_fields = [command(b"HPTTL", key, b"FIELDS", b"1", "ø".encode()) for key in keys]
    of_key = [command(b"PTTL", key) for key in keys]
    for how, before in (
        ({}, []),
        ({"ttls": ["ø"]}, [of_fields]),
        ({"key_ttl": True}, [of_key]),
        ({"ttls": ["ø"], "key_ttl": True}, [of_fields, of_key]),
    ):
        requests, width = requests_function(["a", "ø"], **how)
        parts = zip(*before, values_, strict=True)
        assert (requests(keys), width) == ([b"".join(each) for each in parts], len(before) + 1)


def test_a_feature_may_have_the_name_of_an_attribute_of_its_row() -> None:
    names = ["found", "statuses", "error", "freshness", "to_dict", "s", "values", "raw", "n"]
    plan = plan_of(*(FieldPlan(name, DType("int64")) for name in names))
    cells = [b"%d" % i for i in range(len(names))]
    values_, _ = CellDecoder(plan).decode(cells)
    row = record_class(plan)(values_, cells)  # type: ignore[call-arg]
    assert row.found is True
    assert row["found"] == 0
    assert row.statuses["statuses"] == "present"
    assert (row.s, row.values, row.raw, row.n) == (5, 6, 7, 8)  # type: ignore[attr-defined]
    assert list(row) == names


def test_rows_of_vectors_can_be_compared() -> None:
    plan = plan_of(FieldPlan("v", DType("vector", size=2)))
    made = [
        record_class(plan)(CellDecoder(plan).decode([data])[0], [data])  # type: ignore[call-arg]
        for data in (b"\0" * 8, b"\0" * 8, b"\1" * 8)
    ]
    assert made[0] == made[1]
    assert made[0] != made[2]


def test_the_source_of_a_generated_function_is_kept_as_long_as_the_function() -> None:
    names = set(linecache.cache)
    function = build("double", "def double(x):\n return x * 2\n", {})
    [name] = set(linecache.cache) - names
    assert (function(2), linecache.getline(name, 2)) == (4, " return x * 2\n")
    del function
    assert name not in linecache.cache
