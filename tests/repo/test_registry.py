from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from featurekit import FeatureStore
from featurekit.errors import (
    BreakingChangeError,
    DefinitionError,
    RegistryConflictError,
    RegistryError,
    UnknownNameError,
)
from featurekit.repo.registry_store import (
    FileRegistryStore,
    OnlineRegistryStore,
    RegistryStore,
)
from featurekit.repo.store_identity import StoreIdentity
from tests.promise.repos import FRAUD, applied, write_repo
from tests.servers import Server, patient

PLACES = ["registry.json", "online"]
IDENTITY = StoreIdentity.new("")


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def registry_store(store: FeatureStore, place: str) -> RegistryStore:
    if place == "online":
        return OnlineRegistryStore(store.handle, store.project)
    return FileRegistryStore(store.path / place, store.handle, store.project)


def test_the_applied_registry_is_read_back_unchanged(
    valkey: Server, tmp_path: Path, place: str
) -> None:
    with applied(tmp_path, valkey.url, registry=place) as store:
        assert store.registry == store.declared
        assert not list(store.plan())
        with FeatureStore(tmp_path) as again:
            assert again.compiled == store.compiled
            assert not list(again.apply())


def test_nothing_works_before_the_first_apply(valkey: Server, tmp_path: Path, place: str) -> None:
    with FeatureStore(write_repo(tmp_path, valkey.url, FRAUD, registry=place)) as store:
        assert store.registry is None
        with pytest.raises(RegistryError, match="nothing is applied yet"):
            store.get_online_features("fraud_v1", [{"user_id": "u1"}])
        with pytest.raises(RegistryError, match="nothing is applied yet"):
            store.write_batch("profile", {"u1": {}})


def test_saving_over_an_unseen_registry_is_a_conflict(
    valkey: Server, tmp_path: Path, place: str
) -> None:
    with applied(tmp_path, valkey.url, registry=place) as store:
        before = store.registry
        assert before is not None
        wider = FRAUD.replace("country: string\n", "country: string\n      city: string\n", 1)
        with applied(tmp_path, valkey.url, wider, registry=place):
            stored = registry_store(store, place)
            with pytest.raises(RegistryConflictError, match="another process has applied"):
                stored.save(store.declared, before, IDENTITY)
            with pytest.raises(RegistryConflictError):
                stored.save(before, None, IDENTITY)


def test_of_concurrent_applies_one_wins_and_the_others_are_conflicts(
    valkey: Server, tmp_path: Path, place: str
) -> None:
    folders = [
        write_repo(tmp_path / name, valkey.url, FRAUD.replace("sales", name),
                   registry="online" if place == "online" else "../registry.json")
        for name in ("one", "two", "three")
    ]  # fmt: skip
    start = threading.Barrier(3)

    def apply(path: Path) -> str:
        with FeatureStore(path) as store:
            declared = store.declared
            stored = registry_store(store, "online" if place == "online" else "../registry.json")
            start.wait(60)
            try:
                stored.save(declared, None, IDENTITY)
            except RegistryConflictError:
                return "conflict"
            return "won"

    with ThreadPoolExecutor(3) as pool:
        assert sorted(pool.map(apply, folders)) == ["conflict", "conflict", "won"]


def test_an_online_registry_serves_without_yaml(valkey: Server, tmp_path: Path) -> None:
    with applied(tmp_path, valkey.url, registry="online") as store:
        store.write_batch("profile", {"u1": {"country": "NO"}})
    with FeatureStore.from_registry(patient(valkey.url), "shop") as served:
        row = served.online_reader("fraud_v1").read("u1")
        assert (row.country, row.tx_count_7d) == ("NO", 0)
        assert served.write_batch("profile", {"u1": {"country": "SE"}}).rows_written == 1
        with pytest.raises(RegistryError, match="no definitions"):
            served.plan()
        with pytest.raises(UnknownNameError):
            served.online_reader("nothing")
    with pytest.raises(RegistryError, match="no registry of project 'other'"):
        FeatureStore.from_registry(patient(valkey.url), "other")


def test_removed_fields_are_retired_until_they_are_declared_again(
    valkey: Server, tmp_path: Path, place: str
) -> None:
    without = FRAUD.replace("      model: string\n", "").replace(
        "  - name: activity\n    entity: user\n    stream: {refresh: 1m, ttl: 5m}\n    fields:\n"
        "      tx_count_5m: {type: int64, default: 0}\n      device: string\n",
        "",
    ).replace("[profile, activity]", "[profile]")  # fmt: skip
    with applied(tmp_path, valkey.url, registry=place):
        pass
    with applied(tmp_path, valkey.url, without, registry=place) as store:
        assert store.compiled.entity("user").retired == ("device", "model", "tx_count_5m")
    thinner = without.replace("      tags: {type: 'array<string>', default: []}\n", "")
    with applied(tmp_path, valkey.url, thinner, registry=place) as store:
        assert store.compiled.view("profile").retired == (
            "device",
            "model",
            "tags",
            "tx_count_5m",
        )
    with applied(tmp_path, valkey.url, registry=place) as store:
        assert store.compiled.entity("user").retired == ()


def test_a_breaking_change_is_refused_and_changes_nothing(
    valkey: Server, tmp_path: Path, place: str
) -> None:
    with applied(tmp_path, valkey.url, registry=place) as store:
        before = store.registry
    write_repo(
        tmp_path, valkey.url, FRAUD.replace("country: string", "country: int64"), registry=place
    )
    with FeatureStore(tmp_path) as store:
        assert store.plan().breaking
        with pytest.raises(BreakingChangeError, match="profile:country"):
            store.apply()
        store.refresh()
        assert store.registry == before
        store.apply(allow_breaking=True)
        assert store.registry == store.declared


DAMAGED = ["", "{", "[]", "null", "5", '{"format": 1}', '{"format": 99}', "\ud800", "[" * 100_000]


@pytest.mark.parametrize("text", DAMAGED, ids=range(len(DAMAGED)))
def test_a_damaged_registry_is_an_error(
    valkey: Server, tmp_path: Path, place: str, text: str
) -> None:
    with applied(tmp_path, valkey.url, registry=place):
        pass
    data = text.encode("utf-8", "surrogatepass")
    if place == "online":
        with valkey.client() as client:
            client.set("featurekit:{shop}:registry", data)
    else:
        (tmp_path / place).write_bytes(data)
    with FeatureStore(tmp_path) as store, pytest.raises(RegistryError):
        store.plan()


@pytest.mark.parametrize("at", range(10))
def test_a_truncated_or_altered_registry_is_never_read_as_the_original(
    valkey: Server, tmp_path: Path, at: int
) -> None:
    with applied(tmp_path, valkey.url) as store:
        whole = (tmp_path / "registry.json").read_text()
        before = store.registry
    at = at * len(whole) // 10
    for text in (whole[:at], whole[:at] + "~" + whole[at + 1 :]):
        (tmp_path / "registry.json").write_text(text)
        with FeatureStore(tmp_path) as store:
            try:
                registry = store.registry
            except RegistryError:
                continue
            assert registry != before


def test_a_reset_deletes_only_entities_and_leaves_nothing_to_plan(
    valkey: Server, tmp_path: Path, place: str
) -> None:
    with applied(tmp_path, valkey.url, registry=place) as store:
        store.write_batch("profile", {f"u{i}": {"country": "NO"} for i in range(2500)})
        store.write_batch("shop", {7: {"sales": 1}})
        with valkey.client() as client:
            client.set("fs:users:not-ours", "x")
            client.set("fs:user", "x")
            assert store.reset("user") == 2500
            assert store.reset() == 1
            assert client.exists("fs:users:not-ours", "fs:user") == 2
        assert not list(store.plan())


def test_reload_reads_what_another_process_applied(
    valkey: Server, tmp_path: Path, place: str
) -> None:
    wider = FRAUD.replace("country: string\n", "country: string\n      city: string\n", 1)
    with FeatureStore(write_repo(tmp_path, valkey.url, FRAUD, registry=place)) as store:
        assert not store.reload()
        with applied(tmp_path, valkey.url, registry=place):
            assert store.reload()
            assert not store.reload()
        reader = store.online_reader(["profile:country"])
        with applied(tmp_path, valkey.url, wider, registry=place):
            assert store.reload()
        assert store.online_reader(["profile:city", "profile:country"]).plan != reader.plan
        assert store.online_reader(["profile:country"]) is not reader


@pytest.mark.parametrize("damage", ["{}", "", None])
def test_a_failed_reload_keeps_the_registry_in_use(
    valkey: Server, tmp_path: Path, damage: str | None
) -> None:
    with applied(tmp_path, valkey.url) as store:
        reader = store.online_reader("fraud_v1")
        file = tmp_path / "registry.json"
        file.unlink() if damage is None else file.write_text(damage)
        with pytest.raises(RegistryError):
            store.reload()
        assert store.online_reader("fraud_v1") is reader


def test_reload_definitions_loads_edited_definitions(valkey: Server, tmp_path: Path) -> None:
    with applied(tmp_path, valkey.url) as store:
        write_repo(tmp_path, valkey.url, FRAUD.replace("12h, ttl: 24h", "12h, ttl: 48h"))
        assert not list(store.plan())
        store.reload_definitions()
        assert [change.detail for change in store.apply()] == ["ttl 1d -> 2d"]
        assert store.compiled.view("profile").ttl_ms == 48 * 3_600_000
        (tmp_path / "features.yaml").write_text("entities: 5")
        with pytest.raises(DefinitionError):
            store.reload_definitions()
        assert store.declared == store.registry
