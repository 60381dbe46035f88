"""The embedded server: started when needed, shared, persistent, and never on TCP."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from featurekit.errors import StoreError, StoreUnavailableError
from featurekit.stores.embedded_folder import ServerFolder
from featurekit.stores.embedded_server import EmbeddedServer
from featurekit.stores.redis import RedisStore
from featurekit.wire import command
from tests.stores.conftest import opened, opened_async

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
    store = opened_async(f"embedded://{folder}")
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


async def test_a_path_that_is_too_long_for_a_socket_works(folder: Path) -> None:
    deep = folder / ("deep" * 20) / "online"
    store = opened(f"embedded://{deep}")
    store.call("SET", "k", "1")
    server = EmbeddedServer(deep)
    assert server.socket.is_socket()
    assert server.stop()
    assert store.run([b"k"], [GET]) == [b"1"]
    store.close()
    another = opened_async(f"embedded://{deep}")
    assert await another.run([b"k"], [GET]) == [b"1"]
    await another.close()
    server.stop()


def call_and_close(folder: Path, *command: str) -> object:
    store = opened(f"embedded://{folder}")
    reply = store.call(*command)
    store.close()
    return reply


@pytest.mark.parametrize("hard_links", [False, True], ids=["copied", "hard-linked socket"])
def test_a_copied_folder_has_a_server_of_its_own(folder: Path, *, hard_links: bool) -> None:
    original, copy = folder / "prod", folder / "staging"
    call_and_close(original, "SET", "k", "original")
    subprocess.run(["cp", "-r", original, copy], check=False, stderr=subprocess.DEVNULL)
    (copy / "valkey.sock").unlink(missing_ok=True)
    if hard_links:
        os.link(original / "valkey.sock", copy / "valkey.sock")
    call_and_close(copy, "SET", "k", "copy")
    assert call_and_close(original, "GET", "k") == b"original"
    assert call_and_close(copy, "GET", "k") == b"copy"
    assert EmbeddedServer(copy).stop()
    assert EmbeddedServer(original).stop()


async def test_asyncio_never_uses_the_server_of_another_folder(folder: Path) -> None:
    original, copy = folder / "prod", folder / "staging"
    call_and_close(original, "SET", "k", "original")
    copy.mkdir()
    os.link(original / "valkey.sock", copy / "valkey.sock")
    store = opened_async(f"embedded://{copy}")
    assert await store.run([b"k"], [GET]) == [None]
    await store.close()
    EmbeddedServer(copy).stop()
    EmbeddedServer(original).stop()


def test_a_moved_folder_keeps_its_server(folder: Path) -> None:
    before, after = folder / "a", folder / "b"
    call_and_close(before, "SET", "k", "1")
    pid = EmbeddedServer(before).status().pid
    before.rename(after)
    assert call_and_close(after, "GET", "k") == b"1"
    status = EmbeddedServer(after).status()
    assert (status.running, status.pid) == (True, pid)
    assert EmbeddedServer(after).stop()
    assert call_and_close(after, "GET", "k") == b"1"
    EmbeddedServer(after).stop()


@pytest.mark.slow
def test_a_server_whose_socket_was_removed_is_replaced(folder: Path) -> None:
    call_and_close(folder, "SET", "k", "1")
    server = EmbeddedServer(folder)
    lost = server.status().pid
    server.socket.unlink()
    status = server.status()
    assert (status.running, status.pid) == (True, lost)
    began = time.monotonic()
    assert call_and_close(folder, "GET", "k") == b"1"
    assert time.monotonic() - began < 60
    assert lost not in server.place.lock_holders()


@pytest.mark.slow
def test_a_server_whose_files_were_removed_is_never_joined_by_another(folder: Path) -> None:
    call_and_close(folder, "SET", "k", "1")
    server = EmbeddedServer(folder)
    lost = server.status().pid
    for name in ("valkey.sock", "valkey.pid", "lock"):
        (folder / name).unlink()
    assert call_and_close(folder, "GET", "k") == b"1"
    assert lost not in server.place.lock_holders()


def test_a_server_whose_socket_was_removed_can_be_stopped(folder: Path) -> None:
    call_and_close(folder, "SET", "k", "1")
    server = EmbeddedServer(folder)
    server.socket.unlink()
    assert server.stop()
    assert not server.status().running
    assert call_and_close(folder, "GET", "k") == b"1"


def test_a_child_forked_during_a_start_does_not_keep_the_lock(folder: Path) -> None:
    server = EmbeddedServer(folder)
    with server.place.try_lock() as lock:
        assert lock
        pid = os.fork()
        if not pid:
            signal.pause()
    try:
        assert call_and_close(folder, "SET", "k", "1") == b"OK"
        kill(folder)
        assert isinstance(call_and_close(folder, "DBSIZE"), int)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_only_this_user_can_read_the_data(folder: Path) -> None:
    online = folder / "online"
    (online / "appendonlydir").mkdir(parents=True)
    online.chmod(0o755)
    call_and_close(online, "SET", "k", "1")
    EmbeddedServer(online).stop()
    files = [path for path in online.rglob("*") if path.name != "online"]
    assert any(path.name.endswith(".aof") for path in files)
    assert {path: oct(path.stat().st_mode & 0o077) for path in files} == dict.fromkeys(
        files, "0o0"
    )
    assert online.stat().st_mode & 0o777 == 0o755


def test_a_server_of_another_user_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened(f"embedded://{folder}")
    store.call("PING")
    store.close()
    monkeypatch.setattr(ServerFolder, "_peer_uid", lambda *_: 12345)
    with pytest.raises(StoreError, match=r"runs as another user \(12345\)"):
        store.call("PING")
    with pytest.raises(StoreError, match="another user"):
        EmbeddedServer(folder).stop()
    monkeypatch.undo()


def test_an_unreachable_server_is_named_by_its_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened(f"embedded://{folder}?timeout=50ms&connect_timeout=50ms&retries=0")
    store.call("PING")
    pid = EmbeddedServer(folder).status().pid
    monkeypatch.setattr("featurekit.stores.embedded_server.START_TIMEOUT_S", 0.1)
    os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(StoreUnavailableError, match=re.escape(f"embedded://{folder}")):
            store.run([b"k"], [GET])
        with pytest.raises(StoreUnavailableError, match=re.escape(str(folder))):
            store.run([b"k"], [GET])
    finally:
        os.kill(pid, signal.SIGCONT)
    store.close()


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
