"""A registry belongs to one store; commands act on the store that the user names."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from featurekit import FeatureStore, StoreState
from featurekit.errors import RegistryConflictError, RegistryError, StoreError
from tests.promise.repos import FRAUD, applied, write_repo
from tests.servers import Server, running, valkey_binary
from tests.streams.worker_processes import until

PLACES = ["registry.json", "online"]
ROWS = {"u1": {"country": "NO"}}
VARIABLE = "FEATUREKIT_ONLINE_URL"


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def other() -> Iterator[Server]:
    """Another server than `valkey`, started once for this module."""
    with running(valkey_binary()) as server:
        yield server


@pytest.fixture(autouse=True)
def _immediate_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("featurekit.repo.store_identity.CHECK_INTERVAL_S", 0.0)
    monkeypatch.delenv(VARIABLE, raising=False)


def flush(server: Server) -> Server:
    with server.client() as client:
        client.flushall()
    return server


def keys(server: Server, pattern: str = "*") -> list[bytes]:
    with server.client() as client:
        return sorted(client.scan_iter(pattern))


# Which store


def test_an_argument_wins_over_the_variable_and_the_variable_over_the_file(
    valkey: Server, other: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_repo(tmp_path, "embedded://nowhere", FRAUD)
    monkeypatch.setenv(VARIABLE, flush(other).url)
    with FeatureStore(tmp_path) as store:
        assert store.url == other.url
        store.apply()
        assert keys(other, "featurekit:*")
    with FeatureStore(tmp_path, url=valkey.url) as store:
        assert store.url == valkey.url
        assert pickle.loads(pickle.dumps(store)).url == valkey.url
    monkeypatch.setenv(VARIABLE, "")
    assert FeatureStore(tmp_path).url == "embedded://nowhere"
    assert not (tmp_path / "nowhere").exists()


def test_the_variable_does_not_replace_a_store_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "redis://user:secret@production:6379/0")
    write_repo(tmp_path, "memory://", FRAUD)
    with pytest.raises(StoreError, match="does not replace") as caught:
        FeatureStore(tmp_path)
    assert "secret" not in str(caught.value)
    assert FeatureStore(tmp_path, url="memory://other").url == "memory://other"
    write_repo(tmp_path, f"${{{VARIABLE}:-memory://}}", FRAUD)
    assert "production" in FeatureStore(tmp_path).url


@pytest.mark.parametrize("text", ["redis//user:secret@h", "http://user:secret@h", "secret"])
def test_a_wrong_variable_is_named_and_its_value_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    write_repo(tmp_path, "embedded://nowhere", FRAUD)
    monkeypatch.setenv(VARIABLE, text)
    with pytest.raises(StoreError, match=VARIABLE) as caught:
        FeatureStore(tmp_path)
    assert "secret" not in str(caught.value)


def test_the_key_prefix_is_the_files_whatever_the_url(valkey: Server, tmp_path: Path) -> None:
    write_repo(tmp_path, "embedded://nowhere", FRAUD)
    with FeatureStore(tmp_path, url=valkey.url) as store:
        store.apply()
        store.write_batch("profile", ROWS)
        assert store.address == f"{valkey.url}, prefix fs"
    assert keys(valkey, "fs:*") == [b"fs:user:u1"]


def test_an_address_names_the_database_and_no_password(tmp_path: Path) -> None:
    write_repo(tmp_path, "redis://u:secret@h", FRAUD)
    assert FeatureStore(tmp_path).address == "redis://u@h:6379/0, prefix fs"
    assert FeatureStore(tmp_path, url="redis://h/3").address == "redis://h:6379/3, prefix fs"


# Whether it is the registry's own


def test_a_flushed_store_refuses_writes_until_apply_and_serves_reads(
    valkey: Server, tmp_path: Path, place: str
) -> None:
    with applied(tmp_path, valkey.url, registry=place) as store:
        store.write_batch("profile", ROWS)
        reader, writer = store.online_reader("fraud_v1"), store.stream_writer("activity")
        writer.write("u1", {"tx_count_5m": 1})
        flush(valkey)
        assert store.store_state() is StoreState.REPLACED
        assert reader.read("u1").country is None
        for write in (
            lambda: store.write_batch("profile", ROWS),
            lambda: store.row_writer("profile").write([{"user_id": "u1"}]),
            lambda: writer.write("u1", {"tx_count_5m": 1}),
            lambda: asyncio.run(store.stream_writer("activity").write_async("u1", {})),
            lambda: store.streams.push("activity", [['{"user_id": "u1", "tx_count_5m": 1}']]),
            store.reset,
        ):
            with pytest.raises(RegistryError, match="flushed or replaced"):
                write()
        assert keys(valkey) == []
        assert all(change.kind == "add" for change in store.plan())
        assert any(change.subject == "feature view profile" for change in store.apply())
        assert store.store_state() is StoreState.SAME
        assert store.load_history() == []
        store.write_batch("profile", ROWS)
        assert writer.write("u1", {"tx_count_5m": 1})


def test_a_running_worker_stops_when_its_store_is_flushed(
    valkey: Server, tmp_path: Path, place: str
) -> None:
    source = "stream: {refresh: 1m, ttl: 5m, source: {type: redis_stream, stream: events}}"
    definitions = FRAUD.replace("stream: {refresh: 1m, ttl: 5m}", source)
    with (
        applied(tmp_path, valkey.url, definitions, registry=place) as store,
        valkey.client() as client,
        ThreadPoolExecutor(1) as pool,
    ):
        worker = pool.submit(store.streams.run)
        client.xadd("events", {"user_id": "u1", "tx_count_5m": 1})
        until(lambda: client.exists("fs:user:u1"))
        client.flushall()

        def emit() -> bool:
            client.xadd("events", {"user_id": "u2", "tx_count_5m": 1})
            return worker.done()

        until(emit)
        assert isinstance(worker.exception(), RegistryError)
        assert keys(valkey, "fs:*") == []


def test_a_registry_in_a_file_is_not_applied_to_another_store(
    valkey: Server, other: Server, tmp_path: Path
) -> None:
    flush(other)
    with applied(tmp_path, valkey.url) as store:
        store.write_batch("profile", ROWS)
    with FeatureStore(tmp_path, url=other.url) as store:
        assert store.store_state() is StoreState.REPLACED
        assert store.load_history() == []
        assert all(change.kind == "add" for change in store.plan())
        with pytest.raises(RegistryError, match=f"{other.socket}.*was not applied to it"):
            store.write_batch("profile", ROWS)
        store.apply()
        store.write_batch("profile", ROWS)
    with FeatureStore(tmp_path, url=valkey.url) as store:
        assert store.store_state() is StoreState.SAME
        assert not store.plan()


def test_a_store_with_a_newer_registry_than_the_file_is_not_its_own(
    valkey: Server, tmp_path: Path
) -> None:
    wider = FRAUD.replace("country: string\n", "country: string\n      city: string\n", 1)
    with applied(tmp_path / "old", valkey.url):
        pass
    with applied(tmp_path / "new", valkey.url, wider):
        pass
    with FeatureStore(tmp_path / "old") as store:
        [change] = store.plan()
        assert (change.subject, change.kind) == ("store", "compatible")
        with pytest.raises(RegistryError, match="another registry was applied"):
            store.write_batch("profile", ROWS)
        store.apply()
        store.write_batch("profile", ROWS)


def test_an_evicted_id_is_reported_as_lost_and_renewed_by_apply(
    valkey: Server, tmp_path: Path, place: str
) -> None:
    with applied(tmp_path, valkey.url, registry=place) as store, valkey.client() as client:
        store.write_batch("profile", ROWS)
        client.delete("featurekit:{shop}:store")
        assert store.store_state() is StoreState.LOST
        with pytest.raises(RegistryError, match="eviction"):
            store.write_batch("profile", ROWS)
        [change] = store.apply()
        assert (change.subject, change.kind) == ("store", "compatible")
        assert store.store_state() is StoreState.SAME
        assert not store.plan()
        assert store.online_reader("fraud_v1").read("u1").country == "NO"


@pytest.mark.parametrize("value", [b"\xff", b"", b"5", b"{}", b'{"id": 1}'])
def test_a_damaged_id_is_no_id(valkey: Server, tmp_path: Path, place: str, value: bytes) -> None:
    with applied(tmp_path, valkey.url, registry=place) as store, valkey.client() as client:
        client.set("featurekit:{shop}:store", value)
        assert store.store_state() is not StoreState.SAME
        store.apply()
        assert store.store_state() is StoreState.SAME


def test_an_apply_elsewhere_does_not_stop_a_running_process(
    valkey: Server, tmp_path: Path, place: str
) -> None:
    wider = FRAUD.replace("country: string\n", "country: string\n      city: string\n", 1)
    with applied(tmp_path, valkey.url, registry=place) as store:
        store.write_batch("profile", ROWS)
        with applied(tmp_path, valkey.url, wider, registry=place):
            assert store.store_state() is StoreState.SAME
            store.write_batch("profile", ROWS)


def test_nothing_is_applied_before_the_first_apply(
    valkey: Server, tmp_path: Path, place: str
) -> None:
    with FeatureStore(write_repo(tmp_path, valkey.url, FRAUD, registry=place)) as store:
        assert store.store_state() is StoreState.NEVER_APPLIED


def test_a_store_that_is_away_is_no_replaced_store(tmp_path: Path, place: str) -> None:
    with (
        running(valkey_binary()) as server,
        applied(tmp_path, f"{server.url}?timeout=300ms", registry=place) as store,
    ):
        writer = store.stream_writer("activity")
        writer.write("u1", {"tx_count_5m": 1})
        server.stop()
        with pytest.raises(StoreError):
            store.store_state()
        with pytest.raises(StoreError):
            writer.write("u1", {"tx_count_5m": 1})


def test_an_embedded_store_that_lost_its_data_is_noticed(tmp_path: Path, place: str) -> None:
    from shutil import rmtree

    from featurekit.repo.store_handle import embedded_server

    with applied(tmp_path, "embedded://online?timeout=10s", registry=place) as store:
        store.write_batch("profile", ROWS)
    embedded_server(tmp_path).stop()
    rmtree(tmp_path / "online")
    try:
        with FeatureStore(tmp_path) as store:
            with pytest.raises(RegistryError, match=r"flushed or replaced|nothing is applied"):
                store.write_batch("profile", ROWS)
            assert all(change.kind == "add" for change in store.plan())
            store.apply()
            store.write_batch("profile", ROWS)
    finally:
        embedded_server(tmp_path).stop()


def test_a_test_in_memory_leaves_the_registry_and_the_history_alone(
    valkey: Server, tmp_path: Path, place: str
) -> None:
    with applied(tmp_path, valkey.url, registry=place) as store:
        store.write_batch("profile", ROWS)
        before = store.registry
    wider = FRAUD.replace("country: string\n", "country: string\n      city: string\n", 1)
    write_repo(tmp_path, valkey.url, wider, registry=place)
    files = sorted(tmp_path.iterdir())
    with FeatureStore(tmp_path, url=f"memory://{tmp_path}") as store:
        assert store.registry is None
        store.apply()
        store.write_batch("profile", {"u1": {"city": "Oslo"}, "u2": {}})
        assert [load.rows_written for load in store.load_history()] == [2]
    assert sorted(tmp_path.iterdir()) == files
    with FeatureStore(tmp_path) as store:
        assert store.registry == before
        assert [load.rows_written for load in store.load_history()] == [1]


def test_the_registry_is_stored_online_by_default(valkey: Server, tmp_path: Path) -> None:
    write_repo(tmp_path, valkey.url, FRAUD)
    file = tmp_path / "featurerepo.yaml"
    file.write_text(file.read_text().replace("registry: registry.json\n", ""))
    with FeatureStore(tmp_path) as store:
        store.apply()
    assert keys(valkey, "featurekit:{shop}:*") == [
        b"featurekit:{shop}:applies",
        b"featurekit:{shop}:registries",
        b"featurekit:{shop}:registry",
        b"featurekit:{shop}:store",
    ]
    assert len(list(tmp_path.iterdir())) == 2


def test_a_registry_file_that_cannot_be_written_can_be_applied_to_another_store(
    valkey: Server, other: Server, tmp_path: Path
) -> None:
    """As in a container, whose image has the registry of the build."""
    with applied(tmp_path, valkey.url):
        pass
    (tmp_path / "registry.lock").unlink()
    with FeatureStore(tmp_path, url=flush(other).url) as store:
        store.apply()
        assert store.store_state() is StoreState.SAME
    assert not (tmp_path / "registry.lock").exists()


def test_the_event_loop_does_not_wait_for_the_registry(valkey: Server, tmp_path: Path) -> None:
    with applied(tmp_path, f"{valkey.url}?timeout=5s", registry="online") as store:
        store.write_batch("profile", ROWS)
    ticks = 0

    async def count_ticks() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.01)
            ticks += 1

    async def read() -> object:
        with FeatureStore(tmp_path) as store:
            counting = asyncio.create_task(count_ticks())
            await asyncio.sleep(0)
            with valkey.client() as client:
                client.client_pause(300)
            response = await store.get_online_features_async("fraud_v1", [{"user_id": "u1"}])
            counting.cancel()
            await store.close_async()
        return response.to_rows()[0]["country"]

    assert asyncio.run(read()) == "NO"
    assert ticks > 5


# Key prefixes


def test_a_prefix_belongs_to_one_project(valkey: Server, tmp_path: Path, place: str) -> None:
    with applied(tmp_path / "shop", valkey.url, registry=place) as shop:
        shop.write_batch("profile", ROWS)
        folder = write_repo(tmp_path / "bank", valkey.url, FRAUD, registry=place)
        file = folder / "featurerepo.yaml"
        file.write_text(file.read_text().replace("project: shop", "project: bank"))
        with FeatureStore(folder) as bank:
            with pytest.raises(RegistryConflictError, match="'fs' belongs to project 'shop'"):
                bank.apply(allow_breaking=True)
            assert bank.registry is None
            assert not (folder / "registry.json").exists()
            bank.apply(take_prefix=True)
            bank.write_batch("profile", ROWS)
        with pytest.raises(RegistryError, match="apply"):
            shop.write_batch("profile", ROWS)
        with pytest.raises(RegistryConflictError, match="'fs' belongs to project 'bank'"):
            shop.apply()
        file.write_text(file.read_text().replace("key_prefix: fs", "key_prefix: bank"))
        with FeatureStore(folder) as bank:
            bank.apply(allow_breaking=True)


RESET = """
entities:
  - {name: user, join_keys: {user_id: string}}
  - {name: merchant, join_keys: {merchant_id: int64}}
  - {name: route, join_keys: {origin: string, dest: string}, hash_tag: {join_key: origin}}
feature_views:
""" + "".join(
    f"  - {{name: {name}_view, entity: {name}, batch: {{refresh: 1h}}, fields: {{{name}_n: int64}}}}\n"
    for name in ("user", "merchant", "route")
)


def test_a_busy_server_may_take_longer_for_a_reset_than_for_a_read(
    valkey: Server, tmp_path: Path
) -> None:
    url = f"{valkey.url}?timeout=100ms&retries=0"
    with applied(tmp_path, url, RESET) as store, valkey.client() as client:
        store.write_batch("user_view", {f"u{number}": {"user_n": 1} for number in range(20)})
        for deleted in (lambda: store.reset("user"), lambda: store.delete("user", "u1")):
            client.client_pause(500, all=False)  # writes wait
            assert deleted()
            store.write_batch("user_view", {"u1": {"user_n": 1}})


def test_a_reset_deletes_hashes_of_entities_only(valkey: Server, tmp_path: Path) -> None:
    kept = [b"fs:merchant:7a", b"fs:merchant:007", b"fs:route:{a}", b"fs:route:a:b",
            b"fs:route:{a}:b:c", b"fs:user:", b"fs:user:\xff", b"fs:users:u1"]  # fmt: skip
    with applied(tmp_path, valkey.url, RESET) as store, valkey.client() as client:
        store.write_batch("user_view", {"u1": {"user_n": 1}, "a:b": {"user_n": 1}})
        store.write_batch("merchant_view", {7: {"merchant_n": 1}, -7: {"merchant_n": 1}})
        store.write_batch("route_view", {("a", "b:c"): {"route_n": 1}, ("{", "%"): {"route_n": 1}})
        for key in kept:
            client.hset(key, "x", "y")
        client.set("fs:user:text", "x")
        client.xadd("fs:user:events", {"x": "y"})
        client.rpush("fs:merchant:8", "x")
        assert store.reset() == 6
        others = [b"fs:user:text", b"fs:user:events", b"fs:merchant:8"]
        assert keys(valkey, "fs:*") == sorted([*kept, *others])
