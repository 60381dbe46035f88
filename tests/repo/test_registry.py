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
from tests.promise.repos import FRAUD, applied, write_repo
from tests.servers import Server

HOMES = ["registry.json", "online"]


@pytest.fixture(params=HOMES)
def home(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_a_registry_is_read_back_as_it_was_applied(
    valkey: Server, tmp_path: Path, home: str
) -> None:
    with applied(tmp_path, valkey.url, registry=home) as store:
        assert store.registry == store.declared
        assert not list(store.plan())
        with FeatureStore(tmp_path) as again:
            assert again.compiled == store.compiled
            assert not list(again.apply())


def test_nothing_works_before_the_first_apply(valkey: Server, tmp_path: Path, home: str) -> None:
    with FeatureStore(write_repo(tmp_path, valkey.url, FRAUD, registry=home)) as store:
        assert store.registry is None
        with pytest.raises(RegistryError, match="nothing is applied yet"):
            store.get_online_features("fraud_v1", [{"user_id": "u1"}])
        with pytest.raises(RegistryError, match="nothing is applied yet"):
            store.write_batch("profile", {"u1": {}})


def test_what_changed_since_this_store_looked_is_a_conflict(
    valkey: Server, tmp_path: Path, home: str
) -> None:
    with applied(tmp_path, valkey.url, registry=home) as store:
        before = store.registry
        assert before is not None
        wider = FRAUD.replace("country: string\n", "country: string\n      city: string\n", 1)
        with applied(tmp_path, valkey.url, wider, registry=home):
            with pytest.raises(RegistryConflictError, match="another process has applied"):
                store._registry_store.save(store.declared, before)
            with pytest.raises(RegistryConflictError):
                store._registry_store.save(before, None)


def test_of_two_applies_at_once_one_wins_and_the_other_is_told(
    valkey: Server, tmp_path: Path, home: str
) -> None:
    folders = [
        write_repo(tmp_path / name, valkey.url, FRAUD.replace("sales", name),
                   registry="online" if home == "online" else "../registry.json")
        for name in ("one", "two", "three")
    ]  # fmt: skip
    start = threading.Barrier(3)

    def apply(path: Path) -> str:
        with FeatureStore(path) as store:
            declared = store.declared
            start.wait(30)
            try:
                store._registry_store.save(declared, None)
            except RegistryConflictError:
                return "conflict"
            return "won"

    with ThreadPoolExecutor(3) as pool:
        assert sorted(pool.map(apply, folders)) == ["conflict", "conflict", "won"]


def test_an_online_registry_serves_without_yaml(valkey: Server, tmp_path: Path) -> None:
    with applied(tmp_path, valkey.url, registry="online") as store:
        store.write_batch("profile", {"u1": {"country": "NO"}})
    with FeatureStore.from_registry(valkey.url, "shop") as served:
        row = served.online_reader("fraud_v1").read("u1")
        assert (row.country, row.tx_count_7d) == ("NO", 0)
        assert served.write_batch("profile", {"u1": {"country": "SE"}}).rows_written == 1
        with pytest.raises(RegistryError, match="no definitions"):
            served.plan()
        with pytest.raises(UnknownNameError):
            served.online_reader("nothing")
    with pytest.raises(RegistryError, match="no registry of project 'other'"):
        FeatureStore.from_registry(valkey.url, "other")


def test_removed_fields_are_remembered_until_they_are_declared_again(
    valkey: Server, tmp_path: Path, home: str
) -> None:
    without = FRAUD.replace("      model: string\n", "").replace(
        "  - name: activity\n    entity: user\n    stream: {refresh: 1m, ttl: 5m}\n    fields:\n"
        "      tx_count_5m: {type: int64, default: 0}\n      device: string\n",
        "",
    ).replace("[profile, activity]", "[profile]")  # fmt: skip
    with applied(tmp_path, valkey.url, registry=home):
        pass
    with applied(tmp_path, valkey.url, without, registry=home) as store:
        assert store.compiled.entity("user").retired == ("device", "model", "tx_count_5m")
    thinner = without.replace("      tags: {type: 'array<string>', default: []}\n", "")
    with applied(tmp_path, valkey.url, thinner, registry=home) as store:
        assert store.compiled.view("profile").retired == (
            "device",
            "model",
            "tags",
            "tx_count_5m",
        )
    with applied(tmp_path, valkey.url, registry=home) as store:
        assert store.compiled.entity("user").retired == ()


def test_a_breaking_change_is_refused_and_changes_nothing(
    valkey: Server, tmp_path: Path, home: str
) -> None:
    with applied(tmp_path, valkey.url, registry=home) as store:
        before = store.registry
    write_repo(
        tmp_path, valkey.url, FRAUD.replace("country: string", "country: int64"), registry=home
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
def test_a_damaged_registry_is_told(valkey: Server, tmp_path: Path, home: str, text: str) -> None:
    with applied(tmp_path, valkey.url, registry=home):
        pass
    data = text.encode("utf-8", "surrogatepass")
    if home == "online":
        with valkey.client() as client:
            client.set("featurekit:{shop}:registry", data)
    else:
        (tmp_path / home).write_bytes(data)
    with FeatureStore(tmp_path) as store, pytest.raises(RegistryError):
        store.plan()


@pytest.mark.parametrize("at", range(10))
def test_a_registry_that_was_cut_or_altered_is_never_taken_for_another(
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
                found = store.registry
            except RegistryError:
                continue
            assert found != before


def test_a_plan_after_reset_has_nothing_to_do(valkey: Server, tmp_path: Path, home: str) -> None:
    with applied(tmp_path, valkey.url, registry=home) as store:
        store.write_batch("profile", {f"u{i}": {"country": "NO"} for i in range(2500)})
        store.write_batch("shop", {7: {"sales": 1}})
        with valkey.client() as client:
            client.set("fs:users:not-ours", "x")
            client.set("fs:user", "x")
            assert store.reset("user") == 2500
            assert store.reset() == 1
            assert client.exists("fs:users:not-ours", "fs:user") == 2
        assert not list(store.plan())


def test_a_store_takes_over_what_was_applied_elsewhere(
    valkey: Server, tmp_path: Path, home: str
) -> None:
    wider = FRAUD.replace("country: string\n", "country: string\n      city: string\n", 1)
    with FeatureStore(write_repo(tmp_path, valkey.url, FRAUD, registry=home)) as store:
        assert not store.reload()
        with applied(tmp_path, valkey.url, registry=home):
            assert store.reload()
            assert not store.reload()
        reader = store.online_reader(["profile:country"])
        with applied(tmp_path, valkey.url, wider, registry=home):
            assert store.reload()
        assert store.online_reader(["profile:city", "profile:country"]).plan != reader.plan
        assert store.online_reader(["profile:country"]) is not reader


@pytest.mark.parametrize("damage", ["{}", "", None])
def test_what_cannot_be_taken_over_leaves_what_was_read(
    valkey: Server, tmp_path: Path, damage: str | None
) -> None:
    with applied(tmp_path, valkey.url) as store:
        reader = store.online_reader("fraud_v1")
        file = tmp_path / "registry.json"
        file.unlink() if damage is None else file.write_text(damage)
        with pytest.raises(RegistryError):
            store.reload()
        assert store.online_reader("fraud_v1") is reader


def test_edited_definitions_are_read_anew_on_request(valkey: Server, tmp_path: Path) -> None:
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
