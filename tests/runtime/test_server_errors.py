"""Servers that answer reads with errors: no error is ever served as a value."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
import redis

from featurekit import FeatureStore
from featurekit.errors import StoreError, StoreUnavailableError
from tests.promise.repos import applied
from tests.sentinels import on_free_port, until
from tests.servers import Server, running, valkey_binary

FEATURES = ["profile:tx_count_7d", "profile:country"]
BOTH: dict[str, list[object]] = {"user_id": ["u1", "u2"], "merchant_id": [7, 7]}


@pytest.fixture
def server() -> Iterator[Server]:
    arguments = ("--enable-debug-command", "yes", "--busy-reply-threshold", "10")
    with running(valkey_binary(), *arguments) as server:
        yield server


@pytest.fixture
def shop(server: Server, tmp_path: Path) -> Iterator[FeatureStore]:
    with applied(tmp_path / "repo", server.url) as store:
        users = {f"u{i}": {"country": "NO", "tx_count_7d": i} for i in range(3)}
        store.write_batch("profile", users)
        store.write_batch("shop", {7: {"country": "DK", "sales": 70}})
        yield store


@contextmanager
def busy(server: Server) -> Iterator[None]:
    """Keep the server busy with a script."""

    def run() -> None:
        with server.client() as client, pytest.raises(redis.ResponseError):
            client.eval("while true do end", 0)

    thread = threading.Thread(target=run)
    thread.start()
    with server.client() as client:
        until(lambda: _code(client) == "BUSY")
        yield
        client.script_kill()
    thread.join()


@contextmanager
def without_primary(server: Server) -> Iterator[None]:
    """Make the server a replica that serves nothing since it has no primary."""
    with server.client() as client:
        client.config_set("replica-serve-stale-data", "no")
        client.replicaof("127.0.0.1", "1")
        yield
        client.replicaof("no", "one")


@contextmanager
def loading(server: Server) -> Iterator[None]:
    """Let the server load its data again, slowly."""
    with server.client() as client:
        client.mset({f"k{i}": i for i in range(30_000)})
        client.config_set("loading-process-events-interval-bytes", 1024)
        client.config_set("key-load-delay", 300)  # microseconds

    def reload() -> None:
        with server.client() as client:
            client.execute_command("DEBUG", "RELOAD")

    thread = threading.Thread(target=reload)
    thread.start()
    with server.client() as client:
        until(lambda: _code(client) == "LOADING")
        yield
        client.config_set("key-load-delay", 0)
    thread.join()


def _code(client: redis.Redis) -> str:
    client.connection_pool.disconnect()
    try:
        client.hget("fs:user:u1", "country")
    except redis.exceptions.BusyLoadingError:
        return "LOADING"
    except redis.RedisError as error:
        return str(error).partition(" ")[0]
    return ""


CODES: dict[Callable[[Server], AbstractContextManager[None]], str] = {
    busy: "BUSY",
    without_primary: "MASTERDOWN",
    loading: "LOADING",
}


@pytest.mark.parametrize("outage", CODES)
async def test_a_server_that_is_not_ready_is_unavailable(
    shop: FeatureStore, server: Server, outage: Callable[[Server], AbstractContextManager[None]]
) -> None:
    reader, both = shop.online_reader(FEATURES), shop.online_reader("both")
    fresh = shop.online_reader(FEATURES, freshness=True)
    assert (await reader.read_async("u1")).tx_count_7d == reader.read("u1").tx_count_7d == 1
    code = CODES[outage]
    with outage(server):
        for read in (
            lambda: reader.read("u1"),
            lambda: reader.get({"user_id": ["u1"]}),
            lambda: both.get(BOTH),
            lambda: fresh.read("u1"),
            lambda: shop.inspect("user", "u1"),
        ):
            with pytest.raises(StoreUnavailableError, match=f"answers {code}"):
                read()
        with pytest.raises(StoreUnavailableError, match=f"answers {code}"):
            await reader.read_async("u1")
        row = reader.read("u1", partial=True)
        assert set(row.statuses.values()) == {"unavailable"}
        assert (row.found, row.tx_count_7d) == (False, 0)
        assert (await reader.read_async("u1", partial=True)).statuses == row.statuses
        response = both.get(BOTH, partial=True)
        assert response.statuses["sales"] == ["unavailable"] * 2
        assert list(response.errors) == [0, 1]
    until(lambda: _code(server.client()) == "")
    assert (await reader.read_async("u1")).tx_count_7d == reader.read("u1").tx_count_7d == 1
    await shop.close_async()


async def test_a_user_who_may_not_run_the_command_gets_an_error(
    shop: FeatureStore, server: Server
) -> None:
    reader, both = shop.online_reader(FEATURES), shop.online_reader("both")
    fresh = shop.online_reader(FEATURES, freshness=True)
    limited = shop.online_reader(FEATURES, max_age={"profile": "1h"})
    await reader.read_async("u1")
    with server.client() as client:

        async def refused(right: str, *reads: Callable[[], object]) -> None:
            client.execute_command("ACL", "SETUSER", "default", f"-{right}")
            for read in reads:
                with pytest.raises(StoreError, match=f"refused the read: NOPERM.*'{right}'"):
                    read()
            if right == "hmget":
                with pytest.raises(StoreError, match="refused the read: NOPERM"):
                    await reader.read_async("u1", partial=True)
            client.execute_command("ACL", "SETUSER", "default", f"+{right}")

        def read_partial() -> object:
            return reader.read("u1", partial=True)

        await refused("hmget", read_partial, lambda: both.get(BOTH), lambda: fresh.read("u1"))
        await refused("hpttl", lambda: fresh.read("u1"))
        await refused("pttl", lambda: fresh.read("u1"), lambda: limited.read("u1"))
    assert (await reader.read_async("u1")).tx_count_7d == reader.read("u1").tx_count_7d == 1
    await shop.close_async()


async def test_a_key_that_the_user_may_not_read_affects_its_row_only(
    shop: FeatureStore, server: Server
) -> None:
    with server.client() as client:
        keys = ("resetkeys", "~fs:user:u1", "~fs:merchant:*")
        client.execute_command("ACL", "SETUSER", "default", *keys)
        reader = shop.online_reader(FEATURES)
        for rows in (reader.read_many(["u1", "u2"]), await reader.read_many_async(["u1", "u2"])):
            assert [row.tx_count_7d for row in rows] == [1, 0]
            assert rows[1].statuses["tx_count_7d"] == "invalid"
            assert rows[1].error.startswith("NOPERM")
        answer = shop.get_online_features("both", BOTH)
        assert answer.to_dict()["tx_count_7d"] == [1, 0]
        assert answer.to_dict()["sales"] == [70, 70]
        assert answer.statuses["tx_count_7d"] == ["present", "invalid"]
    await shop.close_async()


def test_a_node_of_a_cluster_needs_a_cluster_url(shop: FeatureStore) -> None:
    port, node = on_free_port(
        lambda port: Server(valkey_binary(), "--cluster-enabled", "yes", "--port", str(port))
    )
    try:
        with FeatureStore(shop.path, url=f"redis://127.0.0.1:{port}") as store:
            reader = store.online_reader(FEATURES)
            for action in (lambda: reader.read("u1"), store.apply):
                with pytest.raises(StoreError, match=r"CLUSTERDOWN.*\n.*redis\+cluster://"):
                    action()
    finally:
        node.remove()
