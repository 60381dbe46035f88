"""Generated Python reads and writes, and refuses a registry that differs where it matters."""

from __future__ import annotations

import asyncio
import pickle
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from featurekit import FeatureStore, OnlineReader
from featurekit.codegen.python import python_package
from featurekit.errors import RegistryError, RequestError, UnknownNameError, ValueRefusedError
from tests.codegen.repositories import (
    DEFINITIONS,
    HOSTILE,
    PAYMENTS,
    SHOP,
    load,
    source,
    write_repo,
)
from tests.servers import Server

GOLDEN = Path(__file__).parents[1] / "golden" / "python"


@pytest.fixture
def shop(tmp_path: Path, valkey: Server) -> Iterator[tuple[FeatureStore, Any]]:
    """A store, and the module generated for it."""
    yield from _opened(tmp_path, valkey, SHOP)


@pytest.fixture
def hostile(tmp_path: Path, valkey: Server) -> Iterator[tuple[FeatureStore, Any]]:
    yield from _opened(tmp_path, valkey, HOSTILE)


@pytest.fixture
def payments(tmp_path: Path, valkey: Server) -> Iterator[tuple[FeatureStore, Any]]:
    yield from _opened(tmp_path, valkey, PAYMENTS)


def _opened(folder: Path, server: Server, definitions: str) -> Iterator[tuple[FeatureStore, Any]]:
    write_repo(folder, definitions, server.url)
    with FeatureStore(folder) as store:
        store.apply()
        (folder / "generated.py").write_text(source(folder))
        yield store, load("generated", folder / "generated.py")
        del sys.modules["generated"]


def changed(store: FeatureStore, old: str, new: str) -> FeatureStore:
    """Apply the definitions with a part replaced."""
    file = store.path / "definitions.yaml"
    text = file.read_text()
    assert text.count(old) == 1
    file.write_text(text.replace(old, new))
    store.reload_definitions()
    store.apply(allow_breaking=True)
    return store


@pytest.mark.parametrize(("name", "definitions"), DEFINITIONS.items())
def test_the_generated_module_is_the_golden_file(
    tmp_path: Path, name: str, definitions: str
) -> None:
    # Written again with: python -m tests.codegen.golden
    text = source(write_repo(tmp_path, definitions))
    assert text == (GOLDEN / f"{name}.py").read_text()


def test_a_row_has_its_features_as_attributes_in_slots(shop: tuple[FeatureStore, Any]) -> None:
    store, code = shop
    code.ProfileWriter(store).write([{"user_id": "u1", "age": 41, "email": "a@b.c"}])
    row = code.GreetingReader(store).read(user_id="u1")
    assert isinstance(row, code.GreetingRow)
    assert (row.age, row.tier, row.clicks_5m) == (41, "basic", 0)
    assert not hasattr(row, "__dict__")
    assert row.statuses == {"age": "present", "tier": "default", "clicks_5m": "default"}
    assert repr(row) == "GreetingRow(age=41, tier='basic', clicks_5m=0)"
    assert row == store.online_reader("greeting").read("u1")
    assert pickle.loads(pickle.dumps(row)) == row
    assert isinstance(pickle.loads(pickle.dumps(row)), code.GreetingRow)


def test_an_unknown_entity_has_defaults_and_nothing_else(shop: tuple[FeatureStore, Any]) -> None:
    store, code = shop
    row = code.ProfileReader(store).read(user_id="nobody")
    assert (row.age, row.tier, row.email, row.found) == (None, "basic", None, False)


def test_many_entities_are_read_by_columns_of_join_keys(shop: tuple[FeatureStore, Any]) -> None:
    store, code = shop
    stock = code.StockWriter(store)
    now = datetime.now(UTC)
    assert stock.write(shop="a", item_id=7, options={"event_timestamp": now}, units=3)
    reader = code.StockReader(store)
    rows = reader.read_many(shop=["a", "a"], item_id=(7, 8))
    assert [row.units for row in rows] == [3, 0]
    assert reader.read_many(shop=[], item_id=[]) == []
    with pytest.raises(RequestError, match="the columns shop, item_id differ in length"):
        reader.read_many(shop=["a"], item_id=[])
    with pytest.raises(RequestError, match="expected a list of values, not 'ab'"):
        reader.read_many(shop="ab", item_id=[1, 2])
    with pytest.raises(RequestError, match="expected a list of entities, not 'u1'"):
        code.ProfileReader(store).read_many(user_id="u1")


def test_join_keys_of_a_service_may_come_in_another_order(shop: tuple[FeatureStore, Any]) -> None:
    store, code = shop
    now = datetime.now(UTC)
    code.ActivityWriter(store).write(user_id="u1", clicks_5m=5)
    code.StockWriter(store).write(shop="u1", item_id=1, options={"event_timestamp": now}, units=9)
    changed(store, "[profile, activity, stock]", "[stock, profile, activity]")
    reader = code.RankingReader(store)
    assert list(store.online_reader("ranking").plan.join_keys) == ["shop", "item_id", "user_id"]
    row = reader.read(user_id="u1", shop="u1", item_id=1)
    assert (row.clicks_5m, row.units) == (5, 9)
    [row] = reader.read_many(user_id=["u1"], shop=["u1"], item_id=[1])
    assert (row.clicks_5m, row.units) == (5, 9)


async def test_asyncio_forms_do_the_same(shop: tuple[FeatureStore, Any]) -> None:
    store, code = shop
    writer, reader = code.ActivityWriter(store), code.ActivityReader(store)
    assert await writer.write_async(user_id="u1", clicks_5m=4, last_page="home")
    assert (await reader.read_async(user_id="u1")).clicks_5m == 4
    report = await writer.write_many_async([("u2", {"clicks_5m": 1}), ("u1", {"last_page": None})])
    assert report.written == 2
    rows = await reader.read_many_async(user_id=["u1", "u2"], options={"partial": True})
    assert [(row.clicks_5m, row.last_page) for row in rows] == [(4, None), (1, None)]
    await code.ProfileWriter(store).write_async([{"user_id": "u1", "email": "x"}])
    assert (await code.ProfileReader(store).read_async(user_id="u1")).email == "x"
    await store.close_async()


def test_an_event_leaves_other_fields_alone_and_none_deletes(
    shop: tuple[FeatureStore, Any],
) -> None:
    store, code = shop
    writer, reader = code.ActivityWriter(store), code.ActivityReader(store)
    assert writer.write(user_id="u1", clicks_5m=3, last_page="home", options={"ttl": 60})
    assert writer.write(user_id="u1", last_page=None)
    row = reader.read(user_id="u1", options={"timeout": 1.0})
    assert (row.clicks_5m, row.last_page) == (3, None)
    with pytest.raises(ValueRefusedError, match="clicks_5m"):
        writer.write(user_id="u1", clicks_5m="3")
    report = writer.write_many(
        [("u2", {"clicks_5m": 1}), ("u2", {"clicks_5m": 2}, time.time_ns() // 10**6)]
    )
    assert report.written == 2


def test_readers_and_writers_pickle(shop: tuple[FeatureStore, Any]) -> None:
    store, code = shop
    pickle.loads(pickle.dumps(code.ActivityWriter(store))).write(user_id="u1", clicks_5m=3)
    pickle.loads(pickle.dumps(code.ProfileWriter(store))).write([{"user_id": "u1", "email": "e"}])
    reader = pickle.loads(pickle.dumps(code.GreetingReader(store)))
    assert type(reader.read(user_id="u1")).__mro__[1] is code.GreetingRow
    assert repr(reader) == "<GreetingReader of greeting>"
    assert repr(code.ActivityWriter(store)) == "<ActivityWriter of activity>"


def test_freshness_and_ages_are_chosen_when_a_reader_is_made(
    shop: tuple[FeatureStore, Any],
) -> None:
    store, code = shop
    code.ActivityWriter(store).write(user_id="u1", clicks_5m=3)
    reader = code.GreetingReader(store, freshness=True, max_age={"activity": "10s"})
    row = reader.read(user_id="u1")
    assert row.freshness["clicks_5m"] > 200
    assert isinstance(reader.reader, OnlineReader)


def test_the_store_of_a_project_knows_the_rows_of_its_services(
    shop: tuple[FeatureStore, Any],
) -> None:
    plain, code = shop
    with code.ShopFeatureStore(plain.path) as store:
        code.ActivityWriter(store).write(user_id="u1", clicks_5m=3)
        row = store.online_reader("greeting").read("u1")
        assert isinstance(row, code.GreetingRow)
        assert (
            store.online_reader("greeting", full_feature_names=True).read("u1").profile__age
            is None
        )
        assert store.online_reader(["activity:clicks_5m"]).read("u1").clicks_5m == 3
        response = store.get_online_features("greeting", [{"user_id": "u1"}])
        assert response.to_dict() == {
            "user_id": ["u1"],
            "age": [None],
            "tier": ["basic"],
            "clicks_5m": [3],
        }

        async def read() -> Any:
            got = await store.get_online_features_async("greeting", {"user_id": ["u1"]})
            await store.close_async()
            return got.to_rows()

        assert asyncio.run(read()) == response.to_rows()
        assert isinstance(pickle.loads(pickle.dumps(store)), code.ShopFeatureStore)
    copy = code.ShopFeatureStore(plain.path)
    changed(plain, "tier: {type: string, one_of: [basic, gold], default: basic}", "tier: int64")
    with pytest.raises(RegistryError, match="field tier is int64, not string"):
        copy.get_online_features("greeting", [{"user_id": "u1"}])
    copy.close()


CHANGES = [
    ("age: {type: int64,", "age: {type: string,", "field age is string, not int64"),
    ("tier: {type: string, one_of: [basic, gold], default: basic}",
     "tier: {type: string, one_of: [basic, gold]}", "field tier has no default, so that it may be None"),
    ("[basic, gold]", "[basic, gold, silver]", "field tier may also be 'silver'"),
    ("one_of: [basic, gold], ", "", "field tier may be any string"),
    ('["profile:age", "profile:tier", "activity:clicks_5m"]', '["profile:age", "activity:clicks_5m"]',
     "field tier is gone"),
    ('"activity:clicks_5m"]}', '"activity:clicks_5m", stock]}',
     "join key shop is new; join key item_id is new"),
    ("join_keys: {user_id: string}", "join_keys: {user_id: int64}", "join key user_id is int64, not string"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "difference"), CHANGES)
def test_a_reader_refuses_a_registry_that_would_give_other_values(
    shop: tuple[FeatureStore, Any], old: str, new: str, difference: str
) -> None:
    store, code = shop
    changed(store, old, new)
    with pytest.raises(RegistryError) as refused:
        code.GreetingReader(store)
    message = "the generated code of feature service greeting does not fit the registry: "
    assert refused.value.message == message + difference
    assert refused.value.where == "generated"
    assert "run `featurekit generate python` again" in refused.value.hint


def test_a_reader_of_a_service_that_is_gone_says_so(shop: tuple[FeatureStore, Any]) -> None:
    store, code = shop
    changed(store, "name: greeting", "name: hello")
    with pytest.raises(UnknownNameError, match="unknown feature service 'greeting'"):
        code.GreetingReader(store)


WRITE_CHANGES = [
    ("clicks_5m: {type: int64", "clicks_5m: {type: float64", "field clicks_5m is float64, not int64"),
    ("last_page: string", "last_page: {type: string, required: true}", "field last_page is required"),
    ("last_page: string", "last_page: {type: string, one_of: [a]}", "field last_page must be one of 'a'"),
    ("last_page: string", "page: string", "field last_page is gone"),
    ("name: activity\n    entity: user\n    stream: {refresh: 1m}",
     "name: activity\n    entity: user\n    stream: {refresh: 1m, ordering: event_time}",
     "each write needs a time"),
    ("name: activity\n    entity: user\n    stream: {refresh: 1m}",
     "name: activity\n    entity: user\n    batch: {refresh: 1m, expires: field}",
     "feature view activity is a batch view, not a stream view"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "difference"), WRITE_CHANGES)
def test_a_writer_refuses_a_registry_that_would_refuse_its_writes(
    shop: tuple[FeatureStore, Any], old: str, new: str, difference: str
) -> None:
    store, code = shop
    changed(store, old, new)
    with pytest.raises(RegistryError) as refused:
        code.ActivityWriter(store)
    assert refused.value.message.endswith(f"does not fit the registry: {difference}")


def test_a_batch_writer_refuses_a_new_field_that_each_row_must_have(
    shop: tuple[FeatureStore, Any],
) -> None:
    store, code = shop
    changed(store, "email: {", "phone: {type: string, required: true}\n      email: {")
    with pytest.raises(RegistryError, match="field phone is new and required"):
        code.ProfileWriter(store)
    assert code.GreetingReader(store).read(user_id="u1").age is None
    changed(store, "one_of: [basic, gold], default: basic", "one_of: [basic], default: basic")
    with pytest.raises(RegistryError, match="field tier may not be 'gold'"):
        code.ProfileWriter(store)


COMPATIBLE = [
    ("last_page: string", "last_page: string\n      next_page: string"),
    ("clicks_5m: {type: int64, default: 0}", "clicks_5m: {type: int32, default: 7}"),
    ("stream: {refresh: 1m}", "stream: {refresh: 1m, ttl: 10m}"),
    ("last_page: string", 'last_page: {type: string, default: ""}'),
    ('"activity:clicks_5m"]}', '"activity:clicks_5m", "profile:email"]}'),
    ("last_page: string", "last_page: {type: string, max_length: 30, owner: us}"),
]


@pytest.mark.parametrize(("old", "new"), COMPATIBLE)
def test_compatible_changes_pass(shop: tuple[FeatureStore, Any], old: str, new: str) -> None:
    store, code = shop
    changed(store, old, new)
    code.ActivityWriter(store).write(user_id="u1", clicks_5m=3, last_page="p")
    row = code.GreetingReader(store).read(user_id="u1")
    assert (row.age, row.clicks_5m) == (None, 3)
    assert code.ActivityReader(store).read(user_id="u1").last_page == "p"


def test_names_that_mean_something_in_python_work_as_features_and_join_keys(
    hostile: tuple[FeatureStore, Any],
) -> None:
    store, code = hostile
    now = datetime.now(UTC).replace(microsecond=0)
    key = {"self": "x:y", "options": 4, "date": date(2026, 1, 2)}
    fields = {"int": 5, "dict": [1, 2], "values": {"a": [None]}, "get": "g", "self_": True}
    writer = code.StreamViewWriter(store)
    assert writer.write(**key, _options={"event_timestamp": now}, **fields)
    assert writer.write_many([(("x:y", 5, date(2026, 1, 2)), {"copy": 6}, now)]).written == 1
    odd = code.Stream_Writer(store)
    assert odd.write(values=3, str="s", options="o", self=8, me="m", _options={"ttl": 60})
    row = code.TypedServiceReader(store).read(**key, values=3, str="s")
    assert (row.int, row.dict, row.self_, row.me, row.cls) == (5, [1, 2], True, "m", None)
    [row, other] = code.StreamViewReader(store).read_many(
        self=["x:y", "x:y"], options=[4, 5], date=[date(2026, 1, 2)] * 2
    )
    assert (row.values, row.get, row.copy, other.copy) == ({"a": [None]}, "g", None, 6)


def test_views_without_an_entity_and_aliases_are_read_and_written(
    hostile: tuple[FeatureStore, Any],
) -> None:
    store, code = hostile
    code.OnlineViewWriter(store).write([{"rate": 1.5, "tuple": 2}])
    assert code.GlobalStreamWriter(store).write(rate=2.5, property=3)
    assert code.GlobalStreamWriter(store).write_many([((), {"property": 4})]).written == 1
    assert code.GlobalStreamReader(store).read().property == 4
    assert code.ImportReader(store).read(options={"timeout": 2}).tuple == 2
    now = datetime.now(UTC)
    rows = [{"user_id": f"u{n}", "event_timestamp": now, "x1": n} for n in (1, 2)]
    code.ABViewWriter(store).write(rows)
    row = code.ABReader(store).read(origin="u1", destination="u2")
    assert (row.origin__x1, row.destination__x1, row.rate) == (1, 2, 1.5)
    rows = code.ABReader(store).read_many(origin=["u1", "u2"], destination=["u2", "u0"])
    assert [(r.origin__x1, r.destination__x1, r.rate) for r in rows] == [
        (1, 2, 1.5),
        (2, None, 1.5),
    ]
    mixed = code.StreamReader(store).read(user_id="u2")
    assert (mixed.x1, mixed.x2, mixed.property) == (2, None, 4)


def test_values_of_all_types_come_back(hostile: tuple[FeatureStore, Any]) -> None:
    store, code = hostile
    now = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
    row = {
        "user_id": "u1",
        "str": "s",
        "int": 1,
        "list": ("a", "b"),
        "date": date(2026, 1, 2),
        "datetime": now,
        "Decimal": Decimal("1.50"),
        "bytes": b"\x00",
        "float": 2,
        "bool": True,
        "Any": [1, None],
        "Literal": "\\",
        "Required": -3,
        "NotRequired": [1, 2.5],
        "tuple": (1, 2, 3),
        "Json": {"k": "v"},
        "Array": [now],
        "object": 1.5,
        "número": 7,
        "名前": "名",
        "choice_bytes": b"a",
    }
    code.TypesWriter(store).write(iter([row]))
    read = code.TypesReader(store).read(user_id="u1")
    assert {name: getattr(read, name) for name in row if name != "user_id"} == {
        **{name: value for name, value in row.items() if name != "user_id"},
        "list": ["a", "b"],
        "float": 2.0,
        "tuple": [1.0, 2.0, 3.0],
    }
    assert (
        code.OnlineServiceReader(store)
        .read(user_id="u1", self="s", options=1, date=date(2026, 1, 1))
        .found
        is False
    )


def test_no_module_of_a_package_hides_a_name_that_its_code_uses(tmp_path: Path) -> None:
    views = "".join(
        f"  - {{name: {name}, entity: user, stream: {{refresh: 1m}}, fields: {{{name}_x: int64}}}}\n"
        for name in ("bool", "overload", "type")
    )
    head = "entities: [{name: user, join_keys: {user_id: string}}]\nfeature_views:\n"
    repo = write_repo(
        tmp_path, f"{head}{views}feature_services: [{{name: str, features: [bool]}}]"
    )
    files = python_package(FeatureStore(repo).declared).texts
    modules = {"bool_view.py", "overload_view.py", "type_view.py", "str_service.py"}
    assert {*files} == {"__init__.py", "_fingerprint.py", *modules}


@pytest.mark.slow
def test_a_package_has_a_module_for_each_definition_and_imports_what_serving_imports(
    tmp_path: Path,
) -> None:
    store = FeatureStore(write_repo(tmp_path, HOSTILE))
    files = python_package(store.declared).texts
    assert {"class_.py", "class__view.py", "import_.py"} <= {*files}
    (tmp_path / "shop").mkdir()
    for name, text in files.items():
        (tmp_path / "shop" / name).write_text(text)
    code = "import shop, sys; print(shop.FINGERPRINT, *{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    fingerprint, *imported = done.stdout.split()
    assert fingerprint == store.declared.fingerprint
    libraries = {"pyarrow", "duckdb", "pandas", "polars", "numpy", "starlette", "uvicorn"}
    assert not libraries & {*imported}


def test_request_data_and_events_of_windows_are_typed(payments: tuple[FeatureStore, Any]) -> None:
    store, code = payments
    code.AccountWriter(store).write([{"user_id": "u1", "average": 4.0, "country": "NO"}])
    writer = code.PaymentsWriter(store)
    now = datetime.now(UTC)
    for number in ("1", "2", "2"):
        writer.write(user_id="u1", amount=10.0, id=number, options={"event_timestamp": now})
    reader = code.FraudReader(store)
    row = reader.read(user_id="u1", request={"amount": 6.0})
    assert (row.ratio, row.is_large, row.text, row.paid_10m) == (1.5, False, "web/NO", 2)
    each = [{"amount": 2.0}, {"amount": 30.0, "request": "app"}]
    rows = reader.read_many(user_id=["u1", "u2"], request=each)
    assert [(row.ratio, row.text) for row in rows] == [(0.5, "web/NO"), (1.0, None)]
    [row] = asyncio.run(_read_many(store, code.FraudReader))
    assert row.ratio == 1.5


async def _read_many(store: FeatureStore, reader: Any) -> Any:
    try:
        return await reader(store).read_many_async(user_id=["u1"], request={"amount": 6.0})
    finally:
        await store.close_async()


def test_new_request_data_and_inputs_make_code_stale(payments: tuple[FeatureStore, Any]) -> None:
    store, code = payments
    changed(store, "      request: {", "      currency: string\n      request: {")
    code.FraudReader(store)  # no feature needs the new value
    changed(store, "request || '/'", "request || currency")
    with pytest.raises(RegistryError, match="request value currency is new"):
        code.FraudReader(store)
    changed(store, "shop: string}", "shop: {type: string, required: true}}")
    with pytest.raises(RegistryError, match="field shop is required"):
        code.PaymentsWriter(store)
