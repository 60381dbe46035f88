from __future__ import annotations

import asyncio
import multiprocessing
import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from featurekit import FeatureStore
from featurekit.errors import FeatureKitError, RequestError, UnknownNameError, ValueRefusedError
from featurekit.runtime.read_calls import SLICE_ENTITIES
from featurekit.runtime.reply_decoder import ReplyDecoder
from tests.cli.running import run, run_json
from tests.promise.repos import ALL_TYPES, applied, commands, names
from tests.servers import Server

FEATURES = ["profile:tx_count_7d", "profile:country", "profile:tags", "activity:device"]


def users(*ids: str) -> list[dict[str, str]]:
    return [{"user_id": user} for user in ids]


def test_each_value_has_a_status_and_each_row_knows_whether_it_was_found(
    shop: FeatureStore,
) -> None:
    answer = shop.get_online_features(FEATURES, users("u1", "thin", "unknown"))
    assert answer.to_dict() == {
        "user_id": ["u1", "thin", "unknown"],
        "tx_count_7d": [1, 0, 0],
        "country": ["NO", "SE", None],
        "tags": [["a"], [], []],
        "device": [None, None, None],
    }
    assert answer.statuses == {
        "tx_count_7d": ["present", "default", "default"],
        "country": ["present", "present", "missing"],
        "tags": ["present", "default", "default"],
        "device": ["missing", "missing", "missing"],
    }
    assert answer.found == [True, True, False]


def test_the_order_and_duplicates_of_the_request_are_kept(shop: FeatureStore) -> None:
    asked = ["u3", "u1", "unknown", "u3", "u2"]
    answer = shop.get_online_features(FEATURES, {"user_id": asked})
    assert answer.to_dict()["user_id"] == asked
    assert answer.to_dict()["tx_count_7d"] == [3, 1, 0, 3, 2]
    assert list(answer.to_rows()[0]) == ["user_id", "tx_count_7d", "country", "tags", "device"]
    assert [row["tx_count_7d"] for row in answer.to_rows()] == [3, 1, 0, 3, 2]


def test_rows_do_not_share_a_mutable_default(shop: FeatureStore) -> None:
    first, second = shop.get_online_features(FEATURES, users("x", "y")).to_dict()["tags"]
    first.append("mine")
    assert second == []
    reader = shop.online_reader(FEATURES)
    reader.read("x").tags.append("mine")
    assert reader.read("x").tags == []


def test_undecodable_bytes_make_only_their_value_invalid(
    shop: FeatureStore, valkey: Server
) -> None:
    with valkey.client() as client:
        client.hset("fs:user:u1", mapping={"tx_count_7d": "many", "tags": "[1]"})
    reader = shop.online_reader(FEATURES)
    good, bad = reader.read_many(["u2", "u1"])
    assert (bad.tx_count_7d, bad.country, bad.tags) == (0, "NO", [])
    assert bad.statuses["tx_count_7d"] == bad.statuses["tags"] == "invalid"
    assert bad.statuses["country"] == "present"
    assert (good.tx_count_7d, good.statuses["tx_count_7d"]) == (2, "present")
    assert reader.invalid_values == 2
    answer = reader.get(users("u1", "u2"))
    assert answer.statuses["tx_count_7d"] == ["invalid", "present"]
    assert answer.errors == {}
    assert reader.invalid_values == 4


@pytest.mark.parametrize("freshness", [False, True])
def test_a_key_of_another_type_makes_only_its_row_invalid(
    shop: FeatureStore, valkey: Server, *, freshness: bool
) -> None:
    with valkey.client() as client:
        client.set("fs:user:bad", "text")
    ids = ["u1", "bad", "u2"]
    answer = shop.get_online_features(FEATURES, users(*ids), freshness=freshness)
    assert answer.to_dict()["tx_count_7d"] == [1, 0, 2]
    assert answer.statuses["country"] == ["present", "invalid", "present"]
    assert answer.found == [True, False, True]
    assert list(answer.errors) == [1]
    assert answer.errors[1].startswith("WRONGTYPE")
    rows = shop.online_reader(FEATURES, freshness=freshness).read_many(ids)
    assert [row.found for row in rows] == [True, False, True]
    assert rows[1].error.startswith("WRONGTYPE")
    assert pickle.loads(pickle.dumps(rows)) == rows


def test_one_read_spans_two_entities(shop: FeatureStore, valkey: Server) -> None:
    rows = [{"user_id": "u1", "merchant_id": 7}, {"merchant_id": 8, "user_id": "u2"}]
    answer = shop.get_online_features("both", rows)
    assert answer.to_dict() == {
        "user_id": ["u1", "u2"],
        "merchant_id": [7, 8],
        "tx_count_7d": [1, 2],
        "sales": [70, None],
        "profile__country": ["NO", "NO"],
        "shop__country": ["DK", None],
    }
    assert [row.sales for row in shop.online_reader("both").read_many(rows)] == [70, None]
    with valkey.client() as client:
        client.set("fs:merchant:9", "text")
    answer = shop.get_online_features("both", [{"user_id": "u1", "merchant_id": 9}])
    assert answer.to_dict()["tx_count_7d"] == [1]
    assert answer.statuses["sales"] == ["invalid"]


async def test_a_row_is_found_only_if_all_its_entities_are(shop: FeatureStore) -> None:
    rows = [
        {"user_id": user, "merchant_id": merchant} for user in ("u1", "new") for merchant in (7, 8)
    ]
    for freshness in (False, True):
        answer = shop.get_online_features("both", rows, freshness=freshness)
        assert answer.found == [True, False, False, False]
        assert answer.found_by == {
            "user": [True, True, False, False],
            "merchant": [True, False, True, False],
        }
        reader = shop.online_reader("both", freshness=freshness)
        for records in (reader.read_many(rows), await reader.read_many_async(rows)):
            assert [row.found for row in records] == answer.found
            assert [row.found_by["user"] for row in records] == answer.found_by["user"]
            assert pickle.loads(pickle.dumps(records[1])).found_by == {
                "user": True,
                "merchant": False,
            }
    row = shop.online_reader(FEATURES).read("new")
    assert (row.found, row.found_by) == (False, {"user": False})
    assert shop.get_online_features("both", []).found_by == {"user": [], "merchant": []}
    await shop.close_async()


def test_the_command_get_says_which_entity_is_not_found(
    shop: FeatureStore, tmp_path: Path
) -> None:
    asked = ("--repo", str(tmp_path / "repo"), "get", "both")
    result = run(*asked, "--entity", "user_id=new,merchant_id=7")
    assert result.stdout.startswith("user_id new, merchant_id 7: nothing is stored for user\n")
    document = run_json(*asked, "--entity", "user_id=new,merchant_id=7")
    assert document["found_by"] == {"user": [False], "merchant": [True]}
    assert document["found"] == [False]


def test_an_entity_whose_key_is_of_another_type_is_not_found(
    shop: FeatureStore, valkey: Server
) -> None:
    with valkey.client() as client:
        client.set("fs:merchant:9", "text")
    rows = [{"user_id": "u1", "merchant_id": 9}]
    answer = shop.get_online_features("both", rows)
    assert (answer.found, answer.found_by) == ([False], {"user": [True], "merchant": [False]})
    [row] = shop.online_reader("both").read_many(rows)
    assert row.found_by == {"user": True, "merchant": False}


def test_a_composite_key_is_a_tuple_or_a_dict(shop: FeatureStore) -> None:
    reader = shop.online_reader(["delays"])
    assert reader.read(("a:b", "%")).minutes == 1.5
    assert reader.read({"dest": "%", "origin": "a:b"}).minutes == 1.5
    asked = {"origin": ["a:b", "a"], "dest": ["%", "b:%"]}
    assert reader.get(asked).to_dict()["minutes"] == [1.5, None]


def test_full_feature_names_contain_the_view(shop: FeatureStore) -> None:
    answer = shop.get_online_features(FEATURES, users("u1"), full_feature_names=True)
    assert list(answer.to_dict())[1:3] == ["profile__tx_count_7d", "profile__country"]


WRONG: list[tuple[Any, Any, type[FeatureKitError], str]] = [
    ("fraud_v2", users("u1"), UnknownNameError, "did you mean 'fraud_v1'"),
    (["profil:country"], users("u1"), UnknownNameError, "did you mean 'profile'"),
    (["profile:contry"], users("u1"), UnknownNameError, "did you mean 'country'"),
    ([], users("u1"), RequestError, "the list of features is empty"),
    ("profile", users("u1"), RequestError, "feature view"),
    (FEATURES, [{"user": "u1"}], RequestError, "entity row 0: unknown join key 'user'"),
    (FEATURES, [*users("u1"), {}], RequestError, "entity row 1: missing join key 'user_id'"),
    (FEATURES, [{"user_id": "u1", "x": 1}], RequestError, "entity row 0: unknown join key 'x'"),
    (FEATURES, {"user_id": "u1"}, RequestError, "expected a list of values"),
    (FEATURES, {"user": ["u1"]}, RequestError, "unknown join key 'user'"),
    (FEATURES, {}, RequestError, "missing join key 'user_id'"),
    (FEATURES, "u1", RequestError, "a list of dicts or a dict of lists"),
    (FEATURES, "", RequestError, "a list of dicts or a dict of lists"),
    (["delays"], iter([{"origin": "a", "dest": "b"}]), RequestError, "a list of dicts"),
    (FEATURES, None, RequestError, "a list of dicts or a dict of lists"),
    (FEATURES, ["u1"], RequestError, "entity row 0: expected a dict of join keys"),
    (["delays"], {"origin": ["a"], "dest": []}, RequestError, "differ in length"),
    (FEATURES, users("u1", ""), ValueRefusedError, "must not be empty"),
    (FEATURES, [{"user_id": 7}], ValueRefusedError, "join key user_id: 7 is not a string"),
    (FEATURES, [{"user_id": None}], ValueRefusedError, "user_id: None is not a string"),
    (["shop"], [{"merchant_id": "7"}], ValueRefusedError, "merchant_id: '7' is not an int64"),
    (["shop"], [{"merchant_id": True}], ValueRefusedError, "merchant_id: True is not an int64"),
    ("both", [{"user_id": "u1"}], RequestError, "missing join key 'merchant_id'"),
]


def test_a_wrong_request_is_one_clear_error_before_anything_is_sent(
    shop: FeatureStore, valkey: Server
) -> None:
    with commands(valkey) as seen:
        for features, rows, error, words in WRONG:
            with pytest.raises(error, match=words):
                shop.get_online_features(features, rows)
        for one in ("u1", b"u1", {"user_id": ["u1"]}):
            with pytest.raises(RequestError, match="expected a list of entities"):
                shop.online_reader(FEATURES).read_many(one)  # type: ignore[arg-type]
        assert len(shop.get_online_features(FEATURES, [])) == 0
        assert shop.get_online_features(FEATURES, {"user_id": []}).to_dict()["country"] == []
        assert shop.online_reader("both").read_many([]) == []
    assert names(seen) == {}


def test_entity_rows_may_be_any_sequence(shop: FeatureStore) -> None:
    frame = pd.DataFrame({"user_id": ["u1", "u2"]})
    for asked in (
        tuple(users("u1", "u2")),
        {"user_id": frame["user_id"]},
        {"user_id": ("u1", "u2")},
    ):
        assert shop.get_online_features(FEATURES, asked).to_dict()["tx_count_7d"] == [1, 2]
    merchants = {"merchant_id": pd.Series([7]).to_numpy()}
    assert shop.get_online_features(["shop"], merchants).to_dict()["sales"] == [70]


def test_a_data_frame_of_join_keys_may_be_read(shop: FeatureStore) -> None:
    users = pd.DataFrame({"user_id": ["u1", "new", "u2"]})
    merchants = pd.DataFrame({"merchant_id": [7, 8], "user_id": ["u1", "u2"]})
    routes = pd.DataFrame({"dest": ["%", "b"], "origin": ["a:b", "a"]})
    reader, both = shop.online_reader(FEATURES), shop.online_reader("both")
    delays = shop.online_reader(["delays"])
    for form in (lambda frame: frame, pl.from_pandas, pa.Table.from_pandas, duckdb.from_df):
        answer = shop.get_online_features(FEATURES, form(users))
        assert answer.to_dict()["user_id"] == ["u1", "new", "u2"]
        assert answer.to_dict()["tx_count_7d"] == [1, 0, 2]
        assert [row.tx_count_7d for row in reader.read_many(form(users))] == [1, 0, 2]
        assert [row.sales for row in both.read_many(form(merchants))] == [70, None]
        assert both.get(form(merchants)).to_dict()["sales"] == [70, None]
        assert [row.minutes for row in delays.read_many(form(routes))] == [1.5, None]
        with pytest.raises(RequestError, match="unknown join key 'dest'"):
            reader.read_many(form(routes))
        with pytest.raises(RequestError, match="missing join key 'merchant_id'"):
            both.get(form(users))
    column = pa.table({"user_id": ["u1"]})["user_id"]
    for ids in (column, pl.Series(["u1"]), users["user_id"][:1], users["user_id"][:1].to_numpy()):
        assert [row.tx_count_7d for row in reader.read_many(ids)] == [1]
        assert reader.get({"user_id": ids}).to_dict()["tx_count_7d"] == [1]
    twice = pd.DataFrame([["u1", "u2"]], columns=["user_id", "user_id"])
    with pytest.raises(RequestError, match="two columns are named 'user_id'"):
        reader.read_many(twice)


def test_a_list_of_dicts_may_be_written(shop: FeatureStore) -> None:
    shop.write_batch("profile", [{"user_id": "d1", "tx_count_7d": 5}, {"user_id": "d2"}])
    shop.write_batch("delays", [{"origin": "x", "dest": "y", "minutes": 2.5}])
    assert [row.found for row in shop.online_reader(FEATURES).read_many(["d1", "d2"])] == [
        True,
        False,
    ]
    assert shop.online_reader(["delays"]).read(("x", "y")).minutes == 2.5
    for rows, words in (
        ([{"user_id": "d1", "tx": 5}], "row 0, tx: no such field"),
        ([{"user_id": "d1"}, {"tx_count_7d": 5}], "row 1, join key user_id: null"),
        ([{"user_id": "d1"}, "d2"], "row 1: expected a dict"),
    ):
        with pytest.raises(FeatureKitError, match=words):
            shop.write_batch("profile", rows)


def test_the_dtypes_of_pandas_do_not_depend_on_the_values(valkey: Server, tmp_path: Path) -> None:
    exact = 2**53 + 1
    with applied(tmp_path / "all", valkey.url, ALL_TYPES.replace(", source: SOURCE", "")) as store:
        store.write_batch(
            "everything", {"a": {"a_int64": exact, "a_bool": True, "c_vector": [1, 2, 3]}}
        )
        frames = [
            store.get_online_features("all", {"user_id": ids}).to_pandas()
            for ids in (["a"], ["a", "unknown"], ["unknown"], [])
        ]
    for frame in frames:
        assert list(frame.dtypes) == list(frames[0].dtypes)
    frame = frames[1]
    assert [str(frame.dtypes[name]) for name in ("a_int64", "a_bool", "c_vector")] == [
        "int64[pyarrow]",
        "bool[pyarrow]",
        "object",
    ]
    assert frame["a_int64"][0] == exact
    assert frame["a_int64"].isna().tolist() == frame["a_bool"].isna().tolist() == [False, True]
    assert frame["c_vector"][0].tolist() == [1, 2, 3]


def test_a_response_converts_to_arrow_and_pandas(shop: FeatureStore) -> None:
    answer = shop.get_online_features(FEATURES, users("u1", "unknown"))
    table = answer.to_arrow()
    assert table.schema.names == ["user_id", "tx_count_7d", "country", "tags", "device"]
    assert table.schema.types[1:4] == [pa.int64(), pa.string(), pa.list_(pa.string())]
    assert table.to_pylist() == answer.to_rows()
    assert list(answer.to_pandas()["tx_count_7d"]) == [1, 0]
    none = shop.get_online_features(FEATURES, [])
    assert none.to_arrow().num_rows == len(none.to_pandas()) == 0


async def test_asyncio_reads_return_the_same(shop: FeatureStore) -> None:
    asked = users("u1", "thin", "unknown", "u1")
    one = shop.get_online_features("fraud_v1", asked, freshness=True)
    other = await shop.get_online_features_async("fraud_v1", asked, freshness=True)
    assert other.to_dict() == one.to_dict()
    assert other.statuses == one.statuses
    assert other.freshness.keys() == one.freshness.keys()
    reader = shop.online_reader("fraud_v1")
    assert await reader.read_async("u1") == reader.read("u1")
    ids = ["u1", "unknown"]
    many = await asyncio.gather(*(reader.read_many_async(ids) for _ in range(20)))
    assert many == [reader.read_many(ids)] * 20
    ids *= 500  # prepared in slices
    assert await reader.read_many_async(ids) == reader.read_many(ids)
    rows = users(*ids)
    large = await shop.get_online_features_async("fraud_v1", rows)
    assert large.to_dict() == shop.get_online_features("fraud_v1", rows).to_dict()
    assert await reader.read_many_async([]) == []
    with pytest.raises(RequestError):
        await shop.get_online_features_async("fraud_v1", [{}])
    await shop.close_async()


async def test_large_reads_of_several_entities_let_other_tasks_run(
    shop: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = shop.online_reader("both", freshness=True)
    asked = [("u1", 7), ("unknown", 7), ("u2", 8)] * 400
    rows = [{"user_id": user, "merchant_id": merchant} for user, merchant in asked]
    turns, seen = 0, []
    split_rows = ReplyDecoder.rows

    def count_rows(decoder: ReplyDecoder, replies: Any, *others: Any) -> Any:
        seen.append((turns, len(replies)))
        return split_rows(decoder, replies, *others)

    async def count_turns() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    monkeypatch.setattr(ReplyDecoder, "rows", count_rows)
    counting = asyncio.create_task(count_turns())
    assert await reader.read_many_async(asked) == reader.read_many(asked)
    large = await reader.get_async(rows)
    counting.cancel()
    small = reader.get(rows)
    assert large.to_dict() == small.to_dict()
    assert large.statuses == small.statuses
    assert list(large.freshness) == list(small.freshness)
    slices = [turn for turn, size in seen if size <= SLICE_ENTITIES]
    assert len(slices) == len(set(slices)) == 2 * 5  # each in a turn of its own
    await shop.close_async()


def test_each_event_loop_has_its_own_connections(shop: FeatureStore) -> None:
    async def read() -> int:
        row = await shop.online_reader("fraud_v1").read_async("u7")
        await shop.close_async()
        return int(row.tx_count_7d)

    assert [asyncio.run(read()) for _ in range(3)] == [7, 7, 7]


def test_stores_readers_and_rows_pickle(shop: FeatureStore) -> None:
    for reader in (shop.online_reader(FEATURES), shop.online_reader("both", freshness=True)):
        copy = pickle.loads(pickle.dumps(reader))
        asked = (
            "u1" if reader.plan.join_keys == ("user_id",) else {"user_id": "u1", "merchant_id": 7}
        )
        row = copy.read(asked)
        assert pickle.loads(pickle.dumps(row)) == row == reader.read(asked)
        copy.close()
    answer = shop.get_online_features(FEATURES, users("u1"))
    assert pickle.loads(pickle.dumps(answer)).to_dict() == answer.to_dict()
    with pickle.loads(pickle.dumps(shop)) as copy:
        assert copy.get_online_features(FEATURES, users("u1")).to_dict() == answer.to_dict()


def test_readers_survive_fork(shop: FeatureStore) -> None:
    reader = shop.online_reader("fraud_v1")
    assert reader.read("u1").tx_count_7d == 1
    pids = []
    for child in range(3):
        pid = os.fork()
        if not pid:
            good = all(reader.read(f"u{child}").tx_count_7d == child for _ in range(50))
            os._exit(0 if good else 1)
        pids.append(pid)
    assert all(reader.read("u1").tx_count_7d == 1 for _ in range(50))
    assert [os.waitpid(pid, 0)[1] for pid in pids] == [0, 0, 0]


def test_readers_are_safe_in_threads(shop: FeatureStore) -> None:
    reader = shop.online_reader("fraud_v1")

    def read(worker: int) -> bool:
        ids = [f"u{(worker + i) % 20}" for i in range(10)]
        expected = [int(user[1:]) for user in ids]
        return all(
            [row.tx_count_7d for row in reader.read_many(ids)] == expected for _ in range(200)
        )

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, range(8)))


def test_a_spawned_process_serves_with_a_pickled_reader(shop: FeatureStore) -> None:
    reader = shop.online_reader("fraud_v1")
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(reader.read, ("u3",)).tx_count_7d == 3
