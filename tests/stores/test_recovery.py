"""Calls, loads and stream workers continue soon after the server is back."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from featurekit.errors import StoreUnavailableError
from featurekit.wire import command
from tests.fault_proxy import FaultProxy
from tests.sentinels import until
from tests.servers import Server, running, valkey_binary
from tests.stores.conftest import opened, opened_async
from tests.stores.test_faults import chunk
from tests.streams.repositories import repository, stored

KEYS = [b"no"]
GETS = [command(b"GET", b"no")]
OUTAGE_S = 1.0
SOON_S = 30.0  # within a second, but for other work on the machine


def test_the_first_call_after_a_restart_succeeds() -> None:
    with running(valkey_binary()) as server:
        store = opened(server.url)
        store.run(KEYS, GETS)
        server.stop()
        with pytest.raises(StoreUnavailableError):
            store.run(KEYS, GETS)
        server.start()
        assert store.run(KEYS, GETS) == [None]
        server.stop()
        server.start()
        assert store.call("DBSIZE") == 0
        store.close()


async def test_the_first_asyncio_call_after_a_restart_succeeds() -> None:
    with running(valkey_binary()) as server:
        store = opened_async(server.url)
        await store.run(KEYS, GETS)
        server.stop()
        with pytest.raises(StoreUnavailableError):
            await store.run(KEYS, GETS)
        server.start()
        assert await store.run(KEYS, GETS) == [None]
        await store.close()


@pytest.mark.parametrize("fault", ["refused", "dropped"])
def test_the_first_call_after_a_network_fault_succeeds(valkey: Server, fault: str) -> None:
    with FaultProxy(valkey.socket) as proxy:
        store = opened(f"{proxy.url}?timeout=300ms&connect_timeout=300ms")
        store.run(KEYS, GETS)
        break_proxy(proxy, fault)
        for _ in range(3):
            with pytest.raises(StoreUnavailableError):
                store.run(KEYS, GETS)
        proxy.heal()
        assert store.run(KEYS, GETS) == [None]
        store.close()


def test_a_server_that_loads_its_data_is_unavailable() -> None:
    slowly = ("--appendonly", "yes", "--key-load-delay", "100")  # microseconds
    with running(valkey_binary(), *slowly) as server:
        store = opened(server.url)
        list(store.load(chunk(number) for number in range(12)))
        server.stop()
        threading.Thread(target=server.start).start()
        messages: list[str] = []

        def is_back() -> bool:
            try:
                return store.run([b"11:499"], [command(b"GET", b"11:499")]) == [b"499"]
            except StoreUnavailableError as error:
                messages.append(error.message)
                return False

        until(is_back, 60)
        assert "answers LOADING" in " ".join(messages)
        store.close()


def break_proxy(proxy: FaultProxy, fault: str) -> None:
    if fault == "refused":
        proxy.refuse()
    else:
        proxy.to_server.drop = True


def test_a_load_continues_soon(valkey: Server) -> None:
    with FaultProxy(valkey.socket) as proxy:
        store = opened(proxy.url)
        results = store.load(chunk(number) for number in range(30))
        next(results)
        proxy.refuse()
        threading.Timer(OUTAGE_S, proxy.heal).start()
        began = time.monotonic()
        assert len(list(results)) == 29
        assert OUTAGE_S <= time.monotonic() - began < OUTAGE_S + SOON_S
        store.close()


def test_a_worker_continues_soon(valkey: Server, tmp_path: Path) -> None:
    with FaultProxy(valkey.socket) as proxy, repository(tmp_path, proxy.url) as store:
        stop = threading.Event()
        worker = threading.Thread(target=store.streams.run, kwargs={"stop": stop})
        worker.start()
        with valkey.client() as client:
            client.xadd("activity-events", {"user_id": "u1", "count": 1})
            until(lambda: stored(valkey, "fs:user:u1"))
            proxy.refuse()
            time.sleep(1.7 * OUTAGE_S)
            proxy.heal()
            client.xadd("activity-events", {"user_id": "u1", "count": 2})
            until(lambda: stored(valkey, "fs:user:u1")[b"count"] == b"2", SOON_S)
        stop.set()
        worker.join()
