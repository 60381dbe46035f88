"""`featurekit doctor --contract` on real servers, on a store in memory, and on servers that differ."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from featurekit.repo.diagnostics.contract import CHECKS, run_contract
from featurekit.repo.memory_stores import delete_memory_server, set_memory_clock
from featurekit.repo.store_handle import LazyStoreHandle
from featurekit.testing import MemoryFeatureStore
from tests.clusters import Cluster
from tests.servers import PATIENT, Server, running, valkey_binary
from tests.testkit.test_fixtures import DEFINITIONS

SUBJECTS = [subject for subject, _, _ in CHECKS]


def sleep_ms(ms: int) -> None:
    time.sleep(ms / 1000)


def contract(url: str, wait_ms: Callable[[int], None] = sleep_ms) -> dict[str, str]:
    """Run the suite on a store; return what failed, by subject."""
    handle = LazyStoreHandle(url, Path(), PATIENT)
    results = run_contract(handle, "fs", wait_ms)
    handle.close()
    assert [result.subject for result in results] == [f"contract: {name}" for name in SUBJECTS]
    return {r.subject.removeprefix("contract: "): r.message for r in results if r.level != "ok"}


def test_valkey_keeps_the_contract(valkey: Server) -> None:
    assert contract(valkey.url) == {}


@pytest.mark.slow
def test_every_server_keeps_the_contract_and_nothing_is_left_there(server: Server) -> None:
    assert contract(server.url) == {}
    with server.client() as client:
        assert client.keys("*") == []


def test_the_store_in_memory_keeps_it_by_its_clock(tmp_path: Path) -> None:
    with MemoryFeatureStore(DEFINITIONS) as store:
        results = [r for r in store.doctor(contract=True) if r.subject.startswith("contract")]
        assert [result.level for result in results] == ["ok"] * len(SUBJECTS)


@pytest.mark.slow
def test_a_cluster_keeps_it() -> None:
    cluster = Cluster(valkey_binary(), 3, 0)
    try:
        assert contract(cluster.url) == {}
    finally:
        cluster.remove()


def test_a_server_whose_values_do_not_expire_breaks_it() -> None:
    now_ms = time.time_ns() // 1_000_000
    set_memory_clock("stopped", lambda: now_ms)
    broken = contract("memory://stopped", lambda _: None)
    delete_memory_server("stopped")
    assert sorted(broken) == ["event times", "events", "rows"]
    assert "a row is still served 50 ms after its TTL" in broken["rows"]


@pytest.mark.slow
def test_a_server_without_scripts_breaks_what_needs_them() -> None:
    arguments = ("--rename-command", "EVALSHA", "", "--rename-command", "EVAL", "")
    with running(valkey_binary(), *arguments) as server:
        broken = contract(server.url)
    assert {"event times", "ordered rows", "locks"} <= set(broken)
    assert "unknown command" in broken["event times"]


def test_a_user_without_a_right_is_named(valkey: Server) -> None:
    with valkey.client() as client:
        client.execute_command("ACL", "SETUSER", "app", "on", ">secret", "~*", "+@all", "-time")
    broken = contract(valkey.url.replace("unix://", "unix://app:secret@"))
    with valkey.client() as client:
        client.execute_command("ACL", "DELUSER", "app")
    assert "the server refused TIME" in broken["clock"]


@pytest.mark.slow
def test_a_clock_that_is_off_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LazyStoreHandle, "now_ms", lambda _: time.time_ns() // 1_000_000)
    set_memory_clock("ahead", lambda: time.time_ns() // 1_000_000 + 3_600_000)
    broken = contract("memory://ahead")
    delete_memory_server("ahead")
    assert re.search(r"they differ by 3[56]\d{5} ms", broken["clock"])
