"""The embedded server: started when needed, shared, persistent, and never on TCP."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from featurekit.errors import StoreError
from featurekit.stores import open_async_store
from featurekit.stores.embedded_server import EmbeddedServer
from featurekit.stores.redis import RedisStore
from featurekit.wire import command
from tests.stores.conftest import opened

GET = command(b"GET", b"k")


def kill(folder: Path) -> None:
    os.kill(EmbeddedServer(folder).status().pid, signal.SIGKILL)


def servers_in(folder: Path) -> int:
    """Return the number of servers ever started in a folder, from its log."""
    return EmbeddedServer(folder).log.read_text().count("Ready to accept connections")


def test_opening_a_store_does_not_start_the_server(folder: Path) -> None:
    opened(f"embedded://{folder}/online")
    status = EmbeddedServer(folder / "online").status()
    assert (status.running, status.pid, status.size_bytes) == (False, 0, 0)


def test_the_first_call_starts_the_server(folder: Path) -> None:
    store = opened(f"embedded://{folder}")
    assert store.call("PING") == b"PONG"
    store.close()
    status = EmbeddedServer(folder).status()
    assert (status.running, status.socket) == (True, folder / "valkey.sock")
    assert status.size_bytes > 0
    os.kill(status.pid, 0)


def test_the_server_does_not_listen_on_a_port(folder: Path) -> None:
    store = opened(f"embedded://{folder}")
    assert store.call("CONFIG", "GET", "port") == [b"port", b"0"]
    store.close()
    assert (folder / "valkey.sock").stat().st_mode & 0o777 == 0o700


def test_data_and_expiry_outlive_a_stop(folder: Path) -> None:
    store = opened(f"embedded://{folder}")
    store.call("HSETEX", "k", "PX", 60_000, "FIELDS", 1, "f", "v")
    store.close()
    assert EmbeddedServer(folder).stop()
    assert store.call("HGET", "k", "f") == b"v"
    ttls_ms = store.call("HPTTL", "k", "FIELDS", 1, "f")
    assert isinstance(ttls_ms, list)
    assert isinstance(ttls_ms[0], int)
    assert 0 < ttls_ms[0] <= 60_000
    store.close()


def test_a_lost_server_is_started_again_by_the_next_read(folder: Path) -> None:
    store = opened(f"embedded://{folder}")
    store.call("CONFIG", "SET", "appendfsync", "always")
    store.call("SET", "k", "1")
    kill(folder)
    assert store.run([b"k"], [GET]) == [b"1"]
    store.close()


async def test_a_lost_server_is_started_again_under_asyncio(folder: Path) -> None:
    store = open_async_store(f"embedded://{folder}", Path())
    await store.run([b"k"], [command(b"SET", b"k", b"1")])
    EmbeddedServer(folder).stop()
    assert await store.run([b"k"], [GET]) == [b"1"]
    await store.close()


def test_the_server_outlives_the_process_that_started_it(folder: Path) -> None:
    code = (
        "from pathlib import Path; from featurekit.stores import open_store;"
        f"open_store('embedded://{folder}', Path()).call('SET', 'k', '1')"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert EmbeddedServer(folder).status().running
    store = opened(f"embedded://{folder}")
    assert store.call("GET", "k") == b"1"
    store.close()


def test_processes_that_start_at_once_share_one_server(folder: Path) -> None:
    code = f"from featurekit.stores.embedded_server import *; EmbeddedServer(Path('{folder}')).ensure_running()"
    processes = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert servers_in(folder) == 1


def test_threads_that_start_at_once_share_one_server(folder: Path) -> None:
    threads = [threading.Thread(target=EmbeddedServer(folder).ensure_running) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert servers_in(folder) == 1


def test_files_of_a_dead_server_do_not_matter(folder: Path) -> None:
    server = EmbeddedServer(folder)
    server.ensure_running()
    kill(folder)
    (folder / "valkey.pid").write_text(str(os.getpid()))
    assert server.ensure_running().exists()
    assert server.status().pid != os.getpid()


def test_a_long_path_has_its_socket_elsewhere(folder: Path) -> None:
    deep = folder / ("deep" * 20) / "online"
    store = opened(f"embedded://{deep}")
    store.call("SET", "k", "1")
    server = EmbeddedServer(deep)
    assert server.socket.parent.parent == Path(tempfile.gettempdir())
    assert server.socket.parent.stat().st_mode & 0o777 == 0o700
    assert server.stop()
    assert store.run([b"k"], [GET]) == [b"1"]
    store.close()
    server.stop()


def test_a_relative_folder_is_relative_to_the_root(folder: Path) -> None:
    store = opened("embedded://.", folder)
    assert store.call("PING") == b"PONG"
    assert (folder / "valkey.sock").exists()
    store.close()


def test_a_server_that_does_not_start_says_why(folder: Path) -> None:
    (folder / "appendonlydir").mkdir()
    (folder / "appendonlydir" / "appendonly.aof.manifest").write_text("rubbish\n")
    with pytest.raises(StoreError, match=r"does not start: .*manifest"):
        EmbeddedServer(folder).ensure_running()


def test_stopping_a_stopped_server_is_not_an_error(folder: Path) -> None:
    assert not EmbeddedServer(folder).stop()
    assert not EmbeddedServer(folder / "nowhere").stop()


def test_a_store_describes_its_folder(folder: Path) -> None:
    store = opened(f"embedded://{folder}")
    assert isinstance(store, RedisStore)
    assert store.describe() == f"embedded://{folder}"
