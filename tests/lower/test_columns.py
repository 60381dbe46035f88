from __future__ import annotations

import json
from typing import Any

import hypothesis.strategies as st
import pyarrow as pa
from hypothesis import given

from featurekit.errors import ValueRefusedError
from featurekit.lower.columns import EncodedBatch, encode_batch
from featurekit.lower.rows import EncodedRow, row_encoder
from featurekit.plan import ViewPlan
from featurekit.types import DType, codec_of
from featurekit.types.arrow import to_arrow
from tests.lower.strategies import rows, texts, views

Row = dict[str, Any]
Outcome = EncodedRow | str

ODD = ("1", "-0", "007", "1e3", "TRUE", "NaN", " 1", "null", "2026-02-29", "[1,", "1.50")


@st.composite
def loads(draw: st.DrawFn) -> tuple[ViewPlan, list[Row]]:
    view = draw(views(constrained=True))
    return view, draw(rows(view))


def columns(view: ViewPlan) -> dict[str, DType]:
    return {k.name: k.dtype for k in view.key.join_keys} | {f.name: f.dtype for f in view.fields}


def _fact(message: str) -> str:
    """Return a refusal without its value, which Arrow may spell differently."""
    return message.partition(" ")[2]


def by_value(view: ViewPlan, given_rows: list[Row]) -> list[Outcome]:
    """Return the reference: the key and bytes of each row, or its error."""
    encode = row_encoder(view)
    outcomes: list[Outcome] = []
    for row in given_rows:
        try:
            outcomes.append(encode(row))
        except ValueRefusedError as error:
            outcomes.append("a key" if "join key" in error.where else _fact(error.message))
    return outcomes


def by_column(view: ViewPlan, encoded: EncodedBatch, count: int) -> list[Outcome]:
    keys = encoded.keys.to_pylist()
    values = zip(*(v.to_pylist() for v in encoded.values), strict=True)
    names = [f.name for f in view.fields]
    good = iter([(k, dict(zip(names, v, strict=True))) for k, v in zip(keys, values, strict=True)])
    errors = {i: encoded.errors(i)[0] for i in encoded.rejected}
    join_keys = [k.name for k in view.key.join_keys]
    refusals = {
        i: "a key" if f.field.removeprefix("join key ") in join_keys else _fact(f.reason)
        for i, f in errors.items()
    }
    return [refusals[i] if i in refusals else next(good) for i in range(count)]


@given(loads())
def test_native_columns_give_the_same_bytes_and_errors_as_their_rows(
    load: tuple[ViewPlan, list[Row]],
) -> None:
    view, some = load
    arrays = {
        name: to_arrow(dtype, [row[name] for row in some]) for name, dtype in columns(view).items()
    }
    encoded = encode_batch(view, "native", pa.record_batch(arrays))
    assert by_column(view, encoded, len(some)) == by_value(view, some)


def text_of(dtype: DType, value: Any) -> str | None:
    if value is None:
        return None
    codec = codec_of(dtype)
    if dtype.kind in ("vector", "bytes"):
        return json.dumps(codec.to_json(value))
    return codec.encode(value).decode()


@st.composite
def text_loads(draw: st.DrawFn) -> tuple[ViewPlan, list[dict[str, str | None]]]:
    """Rows of a CSV file, some with texts that do not parse."""
    view = draw(views(constrained=True))
    spelled = [
        {n: text_of(d, row[n]) for n, d in columns(view).items()} for row in draw(rows(view))
    ]
    for row in spelled:
        if draw(st.integers(0, 1)):
            row[draw(st.sampled_from(sorted(row)))] = draw(texts | st.sampled_from(ODD))
    return view, spelled


@given(text_loads())
def test_columns_of_text_give_the_same_bytes_and_errors_as_their_parsed_rows(
    load: tuple[ViewPlan, list[dict[str, str | None]]],
) -> None:
    view, some = load
    arrays = {name: pa.array([row[name] for row in some], pa.string()) for name in columns(view)}
    encoded = encode_batch(view, "text", pa.record_batch(arrays))
    expected: list[EncodedRow | None] = []
    for row in some:
        try:
            parsed = {
                name: None if row[name] is None else codec_of(dtype).parse(str(row[name]))
                for name, dtype in columns(view).items()
            }
        except ValueRefusedError:
            expected.append(None)
            continue
        [outcome] = by_value(view, [parsed])
        expected.append(None if isinstance(outcome, str) else outcome)
    found = by_column(view, encoded, len(some))
    assert [None if isinstance(o, str) else o for o in found] == expected


@given(loads())
def test_lines_of_json_give_the_same_bytes_and_errors_as_their_rows(
    load: tuple[ViewPlan, list[Row]],
) -> None:
    view, some = load
    lines = []
    for row in some:
        members = {
            name: None if row[name] is None else codec_of(dtype).to_json(row[name])
            for name, dtype in columns(view).items()
        }
        lines.append(json.dumps(members))
    encoded = encode_batch(view, "json", pa.record_batch({"json": pa.array(lines, pa.string())}))
    assert by_column(view, encoded, len(some)) == by_value(view, some)
