from __future__ import annotations

import asyncio
import pickle
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pytest

from featurekit import FeatureStore
from featurekit.compiler import compile_read
from featurekit.errors import RequestError, ValueRefusedError
from featurekit.expressions import ExpressionType, parse
from featurekit.lower.cell_decoder import CellDecoder
from featurekit.plan import (
    DerivedColumn,
    DerivedFeature,
    DerivedInput,
    FieldPlan,
    FunctionPlan,
    ReadPlan,
    RequestColumn,
)
from featurekit.runtime.reader import OnlineReader
from featurekit.types import DType, expression_type, parse_dtype
from tests.lower.derived_plans import expected, random_cells, random_plan, random_request
from tests.promise.repos import applied
from tests.servers import Server, running, valkey_binary

AMOUNT = RequestColumn("amount", FieldPlan("amount", DType("float64")))
NOTE = RequestColumn("note", FieldPlan("note", DType("string"), default=b"none"))
COUNT_FUNCTION = FunctionPlan("features:twice", "", ("n",))


def with_derived(
    plan: ReadPlan,
    derived: dict[str, tuple[str, str]],
    requests: tuple[RequestColumn, ...] = (),
    hidden: tuple[str, ...] = (),
) -> ReadPlan:
    """Add derived features, by name with type and expression; inputs may be hidden."""
    inputs = tuple(replace(c, name=c.name) for c in plan.stored if c.name in hidden)
    shown = tuple(c for c in plan.columns if c.name not in hidden)
    stored = [c.name for c in (*shown, *inputs)]
    fields = {c.name: c.field for c in plan.columns} | {c.name: c.field for c in requests}
    types: dict[str, ExpressionType] = {}
    for name, each in fields.items():
        if (type_ := expression_type(each.dtype)) is not None:
            types[name] = type_
    sent = [c.name for c in requests]
    columns: list[Any] = list(shown)
    for name, (kind, text) in derived.items():
        wanted = expression_type(parse_dtype(kind))
        assert wanted is not None
        expression = parse(text, types).converted(wanted)
        used = [each for each in expression.names if each != "now"]
        feature = DerivedFeature(
            FieldPlan(name, parse_dtype(kind), default=b"-1" if name.endswith("_or") else None),
            tuple(DerivedInput(n, "", fields[n], n in sent) for n in used),
            expression,
        )
        places = tuple(sent.index(n) if n in sent else stored.index(n) for n in used)
        columns.append(DerivedColumn(name, "derived", feature, places))
    return replace(plan, columns=tuple(columns), inputs=inputs, requests=requests)


def reader_of(store: FeatureStore, plan: ReadPlan, **options: Any) -> OnlineReader:
    return OnlineReader(plan, store.readers._handle, store._counters, **options)


@pytest.fixture
def ratio(shop: FeatureStore) -> OnlineReader:
    plan = compile_read(shop.compiled, ["profile:tx_count_7d", "profile:country"])
    return reader_of(
        shop,
        with_derived(plan, {"per_day": ("float64", "tx_count_7d / 7")}, hidden=("tx_count_7d",)),
    )


@pytest.fixture
def amounts(shop: FeatureStore) -> OnlineReader:
    plan = compile_read(shop.compiled, ["profile:tx_count_7d"])
    derived = {
        "ratio": ("float64", "amount / nullif(tx_count_7d, 0)"),
        "text": ("string", "note || '!'"),
        "second": ("float64", "epoch(now)"),
    }
    return reader_of(shop, with_derived(plan, derived, (AMOUNT, NOTE)))


def test_derived_features_are_read_like_stored_ones(ratio: OnlineReader) -> None:
    row = ratio.read("u14")
    assert (row.per_day, row.country) == (2.0, "NO")
    assert row.to_dict() == {"country": "NO", "per_day": 2.0}
    assert row.statuses == {"country": "present", "per_day": "present"}
    assert pickle.loads(pickle.dumps(row)) == row
    response = ratio.get([{"user_id": "u7"}, {"user_id": "nobody"}])
    assert response.to_dict() == {
        "user_id": ["u7", "nobody"], "country": ["NO", None], "per_day": [1.0, 0.0]
    }  # fmt: skip
    assert response.statuses == {
        "country": ["present", "missing"], "per_day": ["present", "present"]
    }  # fmt: skip
    assert response.found == [True, False]
    assert response.to_arrow()["per_day"].to_pylist() == [1.0, 0.0]
    assert list(response.to_pandas()["per_day"]) == [1.0, 0.0]
    assert pickle.loads(pickle.dumps(response)).statuses == response.statuses
    assert "per_day" in response._repr_html_()


def test_freshness_is_the_least_of_the_inputs(shop: FeatureStore) -> None:
    shop.write_batch("scores", {"u1": {"risk": 0.5, "model": "m"}})
    plan = compile_read(shop.compiled, ["profile:tx_count_7d", "scores:risk", "scores:model"])
    derived = {"both": ("float64", "tx_count_7d * risk"), "constant": ("float64", "1.5")}
    reader = reader_of(shop, with_derived(plan, derived), freshness=True)
    row = reader.read("u1")
    assert row.freshness["both"] == row.freshness["risk"]
    assert 0 < row.freshness["risk"] < row.freshness["tx_count_7d"]
    assert row.freshness["constant"] is None


def test_request_data_is_one_mapping_or_one_for_each_row(amounts: OnlineReader) -> None:
    assert amounts.read("u2", request={"amount": 9}).ratio == 4.5
    shared = amounts.read_many(["u2", "u4"], request={"amount": 8.0, "note": "a"})
    assert [(row.ratio, row.text) for row in shared] == [(4.0, "a!"), (2.0, "a!")]
    each = amounts.read_many(
        ["u2", "u2"], request=[{"amount": 2.0}, {"amount": 4.0, "note": None}]
    )
    assert [(row.ratio, row.text) for row in each] == [(1.0, "none!"), (2.0, "none!")]
    assert pickle.loads(pickle.dumps(each)) == each


@pytest.mark.parametrize(
    "rows",
    [
        [{"user_id": "u2", "amount": 2.0}, {"user_id": "u2", "amount": 4.0, "note": "b"}],
        {"user_id": ["u2", "u2"], "amount": [2.0, 4], "note": ["none", "b"]},
    ],
)
def test_request_data_may_be_columns_beside_the_join_keys(
    amounts: OnlineReader, rows: Any
) -> None:
    response = amounts.get(rows)
    assert response.to_dict()["ratio"] == [1.0, 2.0]
    assert response.to_dict()["text"] == ["none!", "b!"]
    assert list(response.entities) == ["user_id"]
    given = amounts.get([{"user_id": "u2", "note": "c"}], request={"amount": 2.0})
    assert given.to_dict()["text"] == ["c!"]


def test_a_data_frame_may_have_request_data(amounts: OnlineReader) -> None:
    import pandas as pd

    frame = pd.DataFrame({"user_id": ["u2", "u4"], "amount": [2.0, 8.0]})
    assert amounts.get(frame).to_dict()["ratio"] == [1.0, 2.0]
    assert [row.ratio for row in amounts.read_many(frame)] == [1.0, 2.0]


def test_ints_of_a_data_frame_with_missing_values_are_ints(shop: FeatureStore) -> None:
    """Pandas holds them as floats, which a training set takes."""
    import pandas as pd

    points = RequestColumn("points", FieldPlan("points", DType("int64"), default=b"7"))
    plan = compile_read(shop.compiled, ["profile:tx_count_7d"])
    reader = reader_of(shop, with_derived(plan, {"twice": ("int64", "points * 2")}, (points,)))
    frame = pd.DataFrame({"user_id": ["u2", "u4", "u5"], "points": [2, None, 0]})
    assert reader.get(frame).to_dict()["twice"] == [4, 14, 0]


@pytest.mark.parametrize("kind", ["float64", "Float64", "object"])
def test_a_missing_value_of_a_data_frame_is_null(amounts: OnlineReader, kind: str) -> None:
    import pandas as pd

    values = pd.array([2.0, None], dtype=kind)
    notes = pd.Series(["a", None])
    frame = pd.DataFrame({"user_id": ["u2", "u4"], "amount": values, "note": notes})
    response = amounts.get(frame)
    assert response.to_dict()["ratio"] == [1.0, None]
    assert response.to_dict()["text"] == ["a!", "none!"]
    assert [row.ratio for row in amounts.read_many(frame)] == [1.0, None]


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (None, r"request: missing request value 'amount'"),
        ({}, r"request: missing request value 'amount'"),
        ({"amout": 1.0}, r"request: unknown request value 'amout'"),
        ({"amount": "9"}, r"request, value 'amount': .*float64"),
        ([{"amount": 1.0}], r"request: 1 mappings for 2 rows"),
        ([{"amount": 1.0}, {}], r"request of row 1: missing request value 'amount'"),
        ([{"amount": 1.0}, None], r"request of row 1: expected a mapping"),
        ("amount", r"request: expected a mapping or a list of mappings, not 'amount'"),
    ],
)
def test_wrong_request_data_is_refused_by_name(
    amounts: OnlineReader, request_: Any, message: str
) -> None:
    with pytest.raises((RequestError, ValueRefusedError), match=message):
        amounts.read_many(["u2", "u2"], request=request_)


def test_wrong_request_data_in_rows_is_refused_by_row(amounts: OnlineReader) -> None:
    rows: Any = [{"user_id": "u2", "amount": 1.0}, {"user_id": "u2"}]
    with pytest.raises(RequestError, match="request of row 1: missing request value 'amount'"):
        amounts.get(rows)
    with pytest.raises(RequestError, match="request of row 0: 'amount' is also a column"):
        amounts.get(rows, request={"amount": 1.0})
    with pytest.raises(RequestError, match="unknown join key 'amout'"):
        amounts.get([{"user_id": "u2", "amout": 1.0}])
    with pytest.raises(RequestError, match="differ in length"):
        amounts.get({"user_id": ["u2", "u2"], "amount": [1.0]})


def test_no_rows_need_no_request_data(amounts: OnlineReader) -> None:
    assert amounts.read_many([]) == []
    assert amounts.get([]).to_dict()["ratio"] == []
    assert amounts.get({"user_id": [], "amount": []}).to_dict()["ratio"] == []


def test_a_list_belongs_to_one_feature_of_one_row(shop: FeatureStore) -> None:
    plan = compile_read(shop.compiled, ["profile:tags"])
    derived = {"copied": ("array<string>", "coalesce(tags, tags)")}
    row = reader_of(shop, with_derived(plan, derived)).read("u1")
    assert row.copied == row.tags == ["a"]
    assert row.copied is not row.tags


def test_a_server_that_is_away_makes_inputs_unavailable(tmp_path: Path) -> None:
    with running(valkey_binary()) as server, applied(tmp_path / "repo", server.url) as store:
        plan = compile_read(store.compiled, ["profile:tx_count_7d"])
        derived = {
            "ratio_or": ("float64", "amount / tx_count_7d"),
            "double": ("float64", "amount * 2"),
            "later": ("bool", "now > timestamp '2020-01-01T00:00:00Z'"),
        }
        reader = reader_of(store, with_derived(plan, derived, (AMOUNT,)))
        reader.read("u1", request={"amount": 2.0})
        server.stop()
        row = reader.read("u1", request={"amount": 2.0}, partial=True)
        assert row.to_dict() == {
            "tx_count_7d": 0, "ratio_or": -1.0, "double": 4.0, "later": True
        }  # fmt: skip
        assert list(row.statuses.values()) == ["unavailable", "unavailable", "present", "present"]
        rows: Any = {"user_id": ["u1", "u2"], "amount": [1.0, 2.0]}
        response = reader.get(rows, partial=True)
        assert response.statuses["ratio_or"] == ["unavailable"] * 2
        assert response.to_dict()["double"] == [2.0, 4.0]


def test_values_of_the_declaration_that_the_read_does_not_need_are_ignored(
    amounts: OnlineReader, shop: FeatureStore
) -> None:
    plan = replace(amounts.plan, ignored_request_values=("channel",))
    reader = reader_of(shop, plan)
    whole: dict[str, Any] = {"amount": 4.0, "note": "a", "channel": object()}
    expected = reader.read("u2", request={"amount": 4.0, "note": "a"})
    assert reader.read("u2", request=whole).ratio == expected.ratio
    assert reader.read_many(["u2"], request=[whole])[0].ratio == expected.ratio
    rows = reader.get([{"user_id": "u2"} | whole])
    assert rows.to_dict()["ratio"] == [expected.ratio]
    assert "channel" not in rows.to_dict()
    columns = {"user_id": ["u2"]} | {name: [value] for name, value in whole.items()}
    frame = pa.table(columns | {"channel": ["web"]})
    for given in (columns, frame):
        assert reader.get(given).to_dict().keys() == rows.to_dict().keys()
        assert reader.get(given).to_dict()["text"] == ["a!"]
    assert reader.read_many(frame)[0].ratio == expected.ratio
    with pytest.raises(RequestError, match="unknown request value 'chanel'"):
        reader.read("u2", request={"amount": 4.0, "chanel": "web"})
    with pytest.raises(RequestError, match="unknown join key 'chanel'"):
        reader.get([{"user_id": "u2", "amount": 4.0, "chanel": "web"}])


def test_a_read_without_request_data_refuses_it(ratio: OnlineReader) -> None:
    for request in ({"amount": 1.0}, [{"amount": 1.0}]):
        with pytest.raises(RequestError, match="unknown request value 'amount'"):
            ratio.read_many(["u2"], request=request)
    assert ratio.read("u7", request={}).per_day == 1.0


async def test_asyncio_reads_compute_the_same(amounts: OnlineReader, shop: FeatureStore) -> None:
    request = [{"amount": float(i)} for i in range(600)]
    entities = ["u2", "u4", "nobody"] * 200
    rows = await amounts.read_many_async(entities, request=request)
    plain = amounts.read_many(entities, request=request)
    assert [row.ratio for row in rows] == [row.ratio for row in plain]
    assert len({row.second for row in rows}) == 1
    columns: Any = {"user_id": entities, "amount": [float(i) for i in range(600)]}
    response, blocking = await amounts.get_async(columns), amounts.get(columns)
    assert response.to_dict()["ratio"] == blocking.to_dict()["ratio"]
    assert (await amounts.read_async("u2", request={"amount": 1.0})).ratio == 0.5
    await shop.close_async()


def test_a_matrix_has_derived_features(shop: FeatureStore, amounts: OnlineReader) -> None:
    plan = compile_read(shop.compiled, ["profile:tx_count_7d"])
    derived = {
        "ratio": ("float64", "amount / nullif(tx_count_7d, 0)"),
        "big": ("bool", "amount > 3"),
    }
    reader = reader_of(shop, with_derived(plan, derived, (AMOUNT,)))
    assert reader.matrix_columns == ["tx_count_7d", "ratio", "big"]
    matrix, statuses = reader.read_matrix(
        ["u2", "u0"], request=[{"amount": 4.0}, {"amount": 3.0}], fill=-1, statuses=True
    )
    assert matrix.tolist() == [[2, 2, 1], [0, -1, 0]]
    assert statuses.tolist() == [["present"] * 3, ["present", "missing", "present"]]
    rows: Any = {"user_id": ["u2", "u0"], "amount": [4.0, 3.0]}
    assert reader.get(rows).to_numpy(fill=-1).tolist() == matrix.tolist()


def test_absent_values_of_inputs_and_derived_features_are_counted(
    shop: FeatureStore, amounts: OnlineReader
) -> None:
    amounts.read_many(["u0", "nobody"], request={"amount": 1.0})
    features = shop.metrics().features
    assert (features["derived"]["missing"], features["derived"]["present"]) == (2, 4)  # 1 / 0
    assert (features["profile"]["default"], features["profile"]["present"]) == (1, 1)


def test_a_stale_input_makes_the_value_stale(shop: FeatureStore) -> None:
    plan = compile_read(shop.compiled, ["profile:tx_count_7d"], max_age_ms={"profile": 1})
    shop.handle.store.call("PEXPIRE", "fs:user:u2", 3_600_000, key="fs:user:u2")
    derived = {"next": ("int64", "tx_count_7d + 1"), "next_or": ("int64", "tx_count_7d + 1")}
    row = reader_of(shop, with_derived(plan, derived)).read("u2")
    assert row.to_dict() == {"tx_count_7d": 0, "next": None, "next_or": -1}
    assert set(row.statuses.values()) == {"stale"}


def with_function(shop: FeatureStore) -> ReadPlan:
    plan = compile_read(shop.compiled, ["profile:tx_count_7d"])
    count = plan.stored[0].field
    feature = DerivedFeature(
        FieldPlan("twice", DType("int64")), (DerivedInput("n", "", count),), COUNT_FUNCTION
    )
    return replace(plan, columns=(*plan.columns, DerivedColumn("twice", "derived", feature, (0,))))


def test_a_function_computes_a_feature_once(shop: FeatureStore) -> None:
    calls = []

    def twice(count: int) -> object:
        calls.append(count)
        return {3: None, 4: "text", 5: 1 // (count - 5) if count == 5 else 0}.get(count, count * 2)

    reader = reader_of(shop, with_function(shop), functions={COUNT_FUNCTION: twice})
    rows = reader.read_many(["u2", "u3", "u4", "u5"])
    assert [row.twice for row in rows] == [4, None, None, None]
    assert [row.statuses["twice"] for row in rows] == ["present", "missing", "invalid", "invalid"]
    copies = pickle.loads(pickle.dumps(rows))
    assert copies == rows
    assert calls == [2, 3, 4, 5]
    assert reader.read_matrix(["u2"]).tolist() == [[2, 4]]


def test_a_function_that_is_not_available_gives_invalid(shop: FeatureStore) -> None:
    for functions in ({}, {COUNT_FUNCTION: None}):
        row = reader_of(shop, with_function(shop), functions=functions).read("u2")
        assert row.statuses == {"tx_count_7d": "present", "twice": "invalid"}
        assert row.error == ""


def test_several_entities_are_joined_for_a_derived_feature(shop: FeatureStore) -> None:
    plan = compile_read(shop.compiled, ["profile:tx_count_7d", "shop:sales"])
    reader = reader_of(shop, with_derived(plan, {"share": ("float64", "tx_count_7d / sales")}))
    row = reader.read(("u7", 7))
    assert row.share == 0.1
    assert asyncio.run(_read_async(reader, shop)) == 0.1


async def _read_async(reader: OnlineReader, shop: FeatureStore) -> float:
    row = await reader.read_async(("u7", 7))
    await shop.close_async()
    return float(row.share)


def test_random_reads_are_what_the_plain_rule_gives(shop: FeatureStore, valkey: Server) -> None:
    with valkey.client() as client:
        for seed in range(4):
            random = Random(seed)
            plan = random_plan(random)
            decoder, reader = CellDecoder(plan), reader_of(shop, plan)
            now = decoder.layout.now
            users = [f"r{seed}x{i}" for i in range(4)]
            stored = [random_cells(random, plan, spoilt=False) for _ in users]
            for user, cells in zip(users, stored, strict=True):
                pairs = dict(zip(plan.groups[0].fields, cells, strict=True))
                if found := {name: cell for name, cell in pairs.items() if cell is not None}:
                    client.hset(f"fs:user:{user}", mapping=found)
            sent = [random_request(random, plan) for _ in users]
            given = [{n: v for n, v in each.items() if v is not None} for each in sent]
            if any(map(len, sent)) and given != sent:
                with pytest.raises(RequestError, match="missing request value"):
                    reader.read_many(users, request=given)
            rows = reader.read_many(users, request=sent)
            response = reader.get({"user_id": users}, request=sent)
            for i, row in enumerate(rows):
                at = row._cells[now] if now is not None else None
                right = expected(plan, stored[i], sent[i], at)
                shown = zip(row.to_dict().values(), row.statuses.values(), strict=True)
                assert repr(list(shown)) == repr(right), seed
                assert repr([getattr(row, c.name) for c in plan.columns]) == repr(
                    [value for value, _ in right]
                )
                later = response._rows[i][-1][now] if now is not None else None
                right = expected(plan, stored[i], sent[i], later)
                assert list(response.statuses_by_row()[i]) == [status for _, status in right]
