"""Windows are read with the mark of their view: silence is not zero."""

from __future__ import annotations

import pickle
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from featurekit import FeatureStore
from featurekit.errors import BreakingChangeError, RequestError
from featurekit.ports import Progress
from featurekit.runtime.marks import start_reset, write_mark
from tests.servers import Server

REPO = """
project: w
definitions: [f.yaml]
online_store: {url: 'URL'}
"""
VIEWS = """
entities:
  - {name: user, join_keys: {user_id: string}}
  - {name: shop, join_keys: {shop_id: string}}
feature_views:
  - name: profile
    entity: user
    batch: {refresh: 24h}
    fields: {age: int64}
  - name: tx
    entity: user
    stream: {refresh: 1m, source: {type: kafka, topic: tx, bootstrap_servers: 'localhost:1'}}
    inputs: {amount: float64}
    fields:
      n: {type: int64, aggregate: count, window: 1h}
      least: {type: float64, aggregate: min, of: amount, window: 1h, default: -1}
  - name: pushed
    entity: user
    stream: {refresh: 1m, once: none}
    inputs: {points: int64}
    fields:
      pushes: {type: int64, aggregate: count, window: 1h}
      total: {type: int64, aggregate: sum, of: points, window: 1h}
  - name: shops
    entity: shop
    batch: {refresh: 24h}
    fields: {size: int64}
feature_services:
  - {name: all_v1, features: [profile, tx, pushed]}
  - {name: tx_v1, features: [tx]}
"""
MARK, USER = "fs:@mark:tx", "fs:user:u1"
TILE_MS = 300_000


def now_ms() -> int:
    return time.time_ns() // 1_000_000


class Shop:
    """A store with a view that a worker would write, and its bytes written by hand."""

    def __init__(self, store: FeatureStore, server: Server) -> None:
        self.store, self.server = store, server

    def call(self, *arguments: object) -> None:
        with self.server.client() as client:
            client.execute_command(*arguments)

    def mark(self, **ages_s: float) -> None:
        """Write a mark with parts of these ages."""
        for part, age_s in ages_s.items():
            self.call("HSET", MARK, part, int((time.time() - age_s) * 1000))

    def tiles(self, field: str, states: str) -> None:
        """Write the states of a field, the newest of them now."""
        view = self.store.compiled.view("tx")
        aggregate = view.field(field).aggregate
        assert aggregate is not None
        newest = int(time.time() * 1000) // TILE_MS
        self.call("HSET", USER, field, f"{aggregate.head}{newest}:{states}")

    def read(self, features: Any = "tx_v1", **options: Any) -> tuple[Any, Any]:
        """The values and statuses of a user, which all ways of reading agree on."""
        response = self.store.get_online_features(features, [{"user_id": "u1"}], **options)
        values = {name: column[0] for name, column in response.to_dict().items()}
        del values["user_id"]
        statuses = {name: column[0] for name, column in response.statuses.items()}
        reader = self.store.online_reader(features, **options)
        for row in (reader.read("u1"), reader.read_many(["u1"])[0]):
            assert (row.to_dict(), row.statuses) == (values, statuses)
            again = pickle.loads(pickle.dumps(row))
            assert (again.to_dict(), again.statuses) == (values, statuses)
            assert {name: row[name] for name in row} == values
        return values, statuses


@pytest.fixture
def shop(valkey: Server, tmp_path: Path) -> Iterator[Shop]:
    (tmp_path / "featurerepo.yaml").write_text(REPO.replace("URL", valkey.url))
    (tmp_path / "f.yaml").write_text(VIEWS)
    with FeatureStore(tmp_path) as store:
        store.apply()
        yield Shop(store, valkey)


def test_a_count_of_nothing_is_0_under_a_live_mark(shop: Shop) -> None:
    shop.mark(p0=1, p1=200)
    assert shop.read() == ({"n": 0, "least": -1.0}, {"n": "present", "least": "default"})
    [row] = shop.store.online_reader("tx_v1").read_many(["u1"])
    assert not row.found


@pytest.mark.parametrize("entity", [None, "user"])
def test_a_count_of_nothing_is_stale_after_a_reset(shop: Shop, entity: str | None) -> None:
    shop.mark(p0=1)
    shop.tiles("n", "2,,3")
    assert shop.read()[1]["n"] == "present"
    assert shop.store.reset(entity) == 1
    assert shop.read() == ({"n": None, "least": -1.0}, {"n": "stale", "least": "stale"})


def test_windows_that_begin_before_a_reset_are_stale_although_a_worker_runs_on(shop: Shop) -> None:
    shop.mark(p0=1)
    shop.tiles("n", "2,,3")
    shop.store.reset()
    write_mark(
        shop.store.handle.store, MARK.encode(), Progress({"p0": now_ms()}, frozenset({"p0"}))
    )
    shop.tiles("n", "1")
    assert shop.read() == ({"n": None, "least": -1.0}, {"n": "stale", "least": "stale"})
    [status] = [each for each in shop.store.status() if each.view == "tx"]
    assert status.state == "late"
    assert "emptied its windows" in status.reason
    assert status.stream is not None
    assert status.stream.warming_until_ms is not None
    causes = {each.field: each.text for each in shop.store.why("user", "u1")}
    assert "A reset at" in causes["n"]
    assert "A reset at" in causes["least"]
    # Windows that begin after it are not.
    shop.call("HSET", MARK, "@reset", f"after:{now_ms() - 2 * 3_600_000}")
    assert shop.read()[0]["n"] == 1


def test_a_reset_that_did_not_end_leaves_windows_stale(shop: Shop) -> None:
    shop.mark(p0=1)
    view = shop.store.compiled.view("tx")
    assert start_reset(shop.store.handle.store, view)
    shop.mark(p0=1)
    assert shop.read()[1]["n"] == "stale"
    assert shop.store.reset() == 0
    with shop.server.client() as client:
        assert client.hpttl(MARK, "@reset")[0] > 3_600_000
    shop.call("DEL", MARK)
    assert not start_reset(shop.store.handle.store, view)


def test_the_status_says_that_a_clock_of_a_worker_is_ahead(shop: Shop) -> None:
    def status() -> Any:
        return next(each for each in shop.store.status() if each.view == "tx")

    shop.tiles("n", "1")
    shop.mark(p0=1, p1=-30)
    assert (status().state, status().stream.mark_ahead_ms) == ("on time", None)
    shop.mark(p1=-200)
    assert status().state == "late"
    assert "a part of its mark is 3m" in status().reason
    shop.mark(p0=-200)
    assert status().state == "silent"
    assert status().stream.mark_age_ms < 0
    assert "its windows are stale" in status().reason
    assert "ahead" in next(e.text for e in shop.store.why("user", "u1") if e.field == "n")


def test_a_reset_of_one_entity_keeps_the_marks_of_others(shop: Shop) -> None:
    shop.mark(p0=1)
    shop.tiles("n", "2")
    assert shop.store.reset("shop") == 0
    assert shop.read()[0]["n"] == 2


def test_windows_have_the_events_of_their_tiles(shop: Shop) -> None:
    shop.mark(p0=1)
    shop.tiles("n", "2,,3")
    shop.tiles("least", "7.5,,2")
    assert shop.read() == ({"n": 5, "least": 2.0}, {"n": "present", "least": "present"})
    assert shop.store.online_reader("tx_v1").read("u1").found


@pytest.mark.parametrize(
    "ages", [{}, {"p0": 301}, {"p0": 1, "p1": 301}, {"p0": 10**9}, {"p0": -90}]
)
def test_windows_under_a_mark_that_is_old_or_ahead_are_stale(
    shop: Shop, ages: dict[str, float]
) -> None:
    """The declared default, or else null: also a count, which would fall to 0 otherwise."""
    shop.tiles("least", "7.5")
    shop.mark(**ages)
    assert shop.read() == ({"n": None, "least": -1.0}, {"n": "stale", "least": "stale"})
    assert shop.store.online_reader("tx_v1").read("u1").found


def test_an_entity_without_values_is_not_found_under_an_old_mark(shop: Shop) -> None:
    shop.read()
    assert not shop.store.online_reader("tx_v1").read("u1").found
    assert shop.store.metrics().views


@pytest.mark.parametrize(
    ("max_age", "status"), [("100s", "stale"), ("5m", "present"), ("15m", "present")]
)
def test_max_age_says_how_old_the_mark_may_be(shop: Shop, max_age: str, status: str) -> None:
    shop.mark(p0=200)
    shop.tiles("n", "4")
    values, statuses = shop.read(max_age={"tx": max_age})
    assert (values["n"], statuses["n"]) == (4 if status == "present" else None, status)


def test_damaged_marks_and_tiles_spoil_what_depends_on_them(shop: Shop) -> None:
    shop.mark(p0=1)
    shop.tiles("n", "4")
    shop.call("HSET", USER, "least", "7.5")
    assert shop.read()[1] == {"n": "present", "least": "invalid"}
    shop.call("HSET", MARK, "p1", "soon")
    assert shop.read()[1] == {"n": "stale", "least": "stale"}
    shop.call("DEL", MARK)
    shop.call("SET", MARK, "soon")
    assert shop.read()[1] == {"n": "invalid", "least": "invalid"}


def test_pushed_windows_have_no_mark(shop: Shop) -> None:
    """Nothing shows that the program runs, so a count of nothing is a default."""
    features = ["pushed"]
    assert shop.read(features) == (
        {"pushes": 0, "total": None},
        {"pushes": "default", "total": "missing"},
    )
    writer = shop.store.stream_writer("pushed")
    for event in ({"points": 3}, {"points": 4}, {}):
        writer.write("u1", event)
    time.sleep(0.01)  # an event of this millisecond is in the windows of the next one
    assert shop.read(features) == (
        {"pushes": 3, "total": 7},
        {"pushes": "present", "total": "present"},
    )
    with pytest.raises(RequestError, match="programs push the events of feature view 'pushed'"):
        shop.store.online_reader(features, max_age={"pushed": "1m"})


def test_windows_are_read_beside_other_features(shop: Shop) -> None:
    shop.store.write_batch("profile", {"u1": {"age": 41}})
    shop.mark(p0=1)
    shop.tiles("n", "2")
    values, statuses = shop.read("all_v1")
    assert values == {"age": 41, "n": 2, "least": -1.0, "pushes": 0, "total": None}
    shop.call("DEL", MARK)
    values, statuses = shop.read("all_v1")
    assert (statuses["age"], statuses["n"], statuses["pushes"]) == ("present", "stale", "default")


async def test_asyncio_reads_see_the_mark(shop: Shop) -> None:
    shop.mark(p0=1)
    shop.tiles("n", "2")
    reader = shop.store.online_reader("tx_v1")
    assert (await reader.read_async("u1")).n == 2
    shop.call("DEL", MARK)
    rows = await reader.read_many_async(["u1", "u2"])
    assert [row.statuses["n"] for row in rows] == ["stale", "stale"]


def test_freshness_of_windows(shop: Shop) -> None:
    shop.mark(p0=1)
    shop.tiles("n", "2")
    reader = shop.store.online_reader("tx_v1", freshness=True)
    row = reader.read("u1")
    assert row.n == 2
    assert row.freshness["least"] is None


def test_a_view_is_read_under_an_alias(shop: Shop) -> None:
    shop.mark(p0=1)
    shop.tiles("n", "2")
    features: Any = [{"view": "tx", "as": "payer", "join_keys": {"user_id": "payer_id"}}, "tx:n"]
    response = shop.store.get_online_features(features, [{"payer_id": "u1", "user_id": "u2"}])
    assert response.to_dict()["payer__n"] == [2]
    assert response.to_dict()["n"] == [0]
    response = shop.store.get_online_features(
        features, [{"payer_id": "u1", "user_id": "u2"}], max_age={"payer": "100ms"}
    )
    assert response.statuses["payer__n"] == ["stale"]
    assert response.statuses["n"] == ["present"]


def test_an_inspection_shows_windows_now_and_the_guard(shop: Shop) -> None:
    shop.tiles("n", "2,3")
    shop.tiles("least", "broken")
    shop.call("HSET", USER, "@tx", "any")
    shown = {
        each.name: (each.value, each.status) for each in shop.store.inspect("user", "u1").fields
    }
    assert shown["n"] == (5, "present")
    assert shown["least"] == (-1.0, "invalid")
    assert shown["total"] == (None, "missing")
    assert shown["@tx"] == ("any", "guard")
    causes = {each.field: each.cause for each in shop.store.why("user", "u1")}
    assert causes["@tx"] == "guard"


def test_no_reset_is_advised_for_a_window_that_starts_empty(shop: Shop, tmp_path: Path) -> None:
    (tmp_path / "f.yaml").write_text(VIEWS.replace("window: 1h}", "window: 1h, tile: 10m}", 1))
    with FeatureStore(tmp_path) as store, pytest.raises(BreakingChangeError) as refused:
        store.apply()
    assert "featurekit stream replay" in str(refused.value.hint)
    assert "reset" not in str(refused.value.hint)


def test_rows_of_equal_values_are_equal_whenever_they_were_read(shop: Shop) -> None:
    """The time of the read is part of what is kept of a row, and no feature."""
    shop.mark(p0=1)
    shop.tiles("n", "2")
    reader = shop.store.online_reader("tx_v1")
    row = reader.read("u1")
    time.sleep(0.002)
    assert reader.read("u1") == row
    assert reader.read("u2") != row
    shop.call("HSET", USER, "least", "broken")
    shop.call("HDEL", USER, "n")
    assert reader.read("u1") != reader.read("u2")  # invalid is not missing
