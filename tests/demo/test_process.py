"""`featurekit demo` as a process: its flags, its output and its end."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx2
import pytest
import redis

from featurekit.demo.repository import declare
from featurekit.demo.settings import Keys, Settings
from featurekit.errors import RequestError
from tests.cli.running import run, run_json
from tests.demo.demo_app import until
from tests.promise.repos import FRAUD, write_repo
from tests.servers import Server, patient, running, valkey_binary
from tests.streams.worker_processes import command, ended

pytestmark = pytest.mark.slow


def demo(folder: Path, *arguments: str) -> AbstractContextManager[subprocess.Popen[str]]:
    """Run a demo on a free port; kill it at the end if it is still running."""
    return command(folder, "demo", "--port", "0", *arguments)


def lines(process: subprocess.Popen[str], count: int) -> list[str]:
    """Return the first lines that a process prints."""
    assert process.stdout is not None
    return [process.stdout.readline().rstrip("\n") for _ in range(count)]


def test_the_demo_starts_serves_and_ends_on_an_embedded_server(tmp_path: Path) -> None:
    with demo(tmp_path, "--seed-users", "20") as process:
        dropped, listening, using, loaded = lines(process, 4)
        url = listening.removeprefix("Redis feature-store demo server listening on ")
        assert dropped == (
            "Dropping any existing users under 'fs:user:*' for a clean demo run "
            "(pass --no-reset to keep them)."
        )
        assert url.startswith("http://127.0.0.1:")
        assert using == (
            "Using an embedded Valkey in .featurekit/demo/online with key prefix 'fs:user:' "
            "(batch TTL 86400s, streaming TTL 300s)"
        )
        assert loaded == "Materialized 20 user(s); streaming worker running."
        until(lambda: httpx2.get(f"{url}/state").json()["worker"]["tick_count"] > 0)
        assert httpx2.get(f"{url}/health").status_code == 200
        beside = run_json("status", "--repo", str(tmp_path / ".featurekit/demo"))
        workers = {view["view"]: [each["name"] for each in view["workers"]] for view in beside}
        assert workers == {"user_profile": [], "user_activity": ["demo"], "user_tx": ["demo"]}
        assert "<title>featurekit console</title>" in httpx2.get(f"{url}/").text
        with httpx2.stream("GET", f"{url}/api/live") as listening_page:
            assert next(listening_page.iter_text())
            code, out, err = ended(process, signal.SIGINT)
        assert (code, out, err) == (0, "Received SIGINT, shutting down...\n", "")
    assert not list((tmp_path / ".featurekit/demo/online").glob("*.sock"))
    state = run_json("embedded", "status", "--folder", str(tmp_path / ".featurekit/demo/online"))
    assert not state["running"]


def test_no_reset_keeps_data_and_json_describes_the_start(valkey: Server, tmp_path: Path) -> None:
    with valkey.client() as client:
        client.hset("fs:user:mine", "country_iso", "NO")
        client.set("fs:other", "x")
        arguments = ("--url", patient(valkey.url), "--seed-users", "0", "--json")
        with demo(tmp_path, *arguments, "--no-reset") as process:
            started = _document(process)
            assert started["listening"].startswith("http://127.0.0.1:")
            assert started["store"] == valkey.url
            assert (started["loaded"], started["key_prefix"]) == (0, "fs:user:")
            assert ended(process, signal.SIGTERM)[0] == 0
        assert client.exists("fs:user:mine")
        with demo(tmp_path, *arguments) as process:
            _document(process)
            assert ended(process, signal.SIGTERM)[0] == 0
        assert client.keys("fs:*") == [b"fs:other"]


def _document(process: subprocess.Popen[str]) -> Any:
    text = ""
    assert process.stdout is not None
    for line in process.stdout:
        text += line
        if line == "}\n":
            break
    return json.loads(text)


def test_a_redis_is_shown_by_host_and_port_without_its_password(
    tmp_path: Path,
) -> None:
    port = _free_port()
    with running(valkey_binary(), "--port", str(port), "--requirepass", "hush") as server:
        with demo(tmp_path, "--redis-port", str(port)) as process:
            _, err = process.communicate(timeout=60)
            assert process.returncode == 1
            assert len(err.strip().splitlines()) <= 2
            assert err.startswith("error: ")
        url = f"redis://:hush@127.0.0.1:{port}"
        with demo(tmp_path, "--url", url, "--key-prefix", "my:people:") as process:
            result = lines(process, 4)
            assert result[2].startswith(
                f"Using Redis at 127.0.0.1:{port} with key prefix 'my:people:'"
            )
            assert ended(process, signal.SIGTERM)[0] == 0
        os.environ["FEATUREKIT_ONLINE_PASSWORD"] = "hush"
        try:
            with demo(tmp_path, "--redis-host", "127.0.0.1", "--redis-port", str(port)) as process:
                assert lines(process, 4)[2].startswith(f"Using Redis at 127.0.0.1:{port} with key")
                assert ended(process, signal.SIGTERM)[0] == 0
        finally:
            del os.environ["FEATUREKIT_ONLINE_PASSWORD"]
        with redis.Redis(unix_socket_path=str(server.socket), password="hush") as client:
            assert len(client.keys("my:people:*")) == len(client.keys("fs:user:*")) == 200
    written = [path.read_text() for path in tmp_path.rglob("*.yaml")]
    assert len(written) == 2
    assert all("hush" not in text for text in written)


def test_a_port_in_use_is_reported_before_anything_is_written(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        result = run("demo", "--repo", str(tmp_path), "--port", port)
    assert result.exit_code == 2
    assert result.stderr.splitlines()[0] == (
        f"error: invalid value for '--port': cannot listen on {port}: address already in use"
    )
    assert list(tmp_path.iterdir()) == []


BAD: list[tuple[str, ...]] = [
    ("--port", "70000"), ("--port", "abc"), ("--host", "no.such.host.invalid"), ("--host", "192.0.2.1"),
    ("--redis-port", "0"), ("--redis-port", "70000"), ("--redis-port", "x"),
    *[("--key-prefix", text) for text in ("", ":", "a b:", "{a}:", "a\n:")],
    *[(name, n) for name in ("--batch-ttl-seconds", "--streaming-ttl-seconds")
      for n in ("0", "-1", "1.5", "abc", "1e20", "315360000")],
    *[("--users-per-tick", n) for n in ("0", "-1", "abc")],
    *[("--seed-users", n) for n in ("-1", "abc", "100001")],
    ("--url", "http://localhost"), ("--url", "localhost:6379"), ("--url", "redis://h?tiemout=1s"),
]  # fmt: skip


@pytest.mark.parametrize("arguments", BAD)
def test_an_invalid_flag_is_named_before_anything_is_written(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    result = run("demo", "--repo", str(tmp_path), *arguments)
    assert result.exit_code == 2
    assert f"'{arguments[0]}'" in result.stderr.splitlines()[0]
    assert len(result.stderr.splitlines()) == 2
    assert list(tmp_path.iterdir()) == []


def test_no_secret_of_a_url_is_written(tmp_path: Path) -> None:
    for url in (
        "redis+sentinel://h/s?sentinel_password=hush",
        "redis+sentinel://h/s?timeout=1s&sentinel_username=hush",
        "rediss://%68ush@h",
        "redis://hush:%68ush@h",
        "unix://:hush@/run/s",
    ):
        declare(Settings(url=url.replace("redis://hush", "redis://ann"), folder=tmp_path), 60)
        text = (tmp_path / "featurerepo.yaml").read_text()
        assert not any(secret in text for secret in ("hush", "%68ush", "***"))
    declare(Settings(url="redis://h:1?timeout=1s", folder=tmp_path), 60)
    assert "redis://h:1?timeout=1s" in (tmp_path / "featurerepo.yaml").read_text()


@pytest.mark.parametrize("command", ["demo", "serve"])
def test_an_empty_variable_of_tokens_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("FEATUREKIT_SERVER_TOKENS", "")
    if command == "serve":
        write_repo(tmp_path, "memory://", FRAUD)
    before = sorted(tmp_path.iterdir())
    result = run(command, "--repo", str(tmp_path), "--port", "0")
    assert result.exit_code == 1
    assert "FEATUREKIT_SERVER_TOKENS: the variable is set, but contains no token" in result.stderr
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    "arguments", [("--nope",), ("extra",), ("--url", "memory://x", "--redis-port", "1")]
)
def test_wrong_usage_is_reported(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    result = run("demo", "--repo", str(tmp_path), *arguments)
    assert (result.exit_code, len(result.stderr.splitlines())) == (2, 2)


def test_an_unavailable_or_unfit_store_ends_the_demo(tmp_path: Path) -> None:
    result = run("demo", "--repo", str(tmp_path), "--port", "0", "--redis-port", str(_free_port()))
    assert result.exit_code == 1
    assert result.stderr.startswith("error: ")
    old = tuple(part for name in ("HEXPIRE", "HPEXPIRE", "HSETEX") for part in ("--rename-command", name, ""))  # fmt: skip
    with running(valkey_binary(), *old) as server:
        with server.client() as client:
            client.hset("fs:user:mine", "country_iso", "NO")
        result = run("demo", "--repo", str(tmp_path), "--port", "0", "--url", patient(server.url))
        assert (result.exit_code, "lacks HEXPIRE" in result.stderr) == (1, True)
        with server.client() as client:
            assert client.keys("fs:*") == [b"fs:user:mine"]


@pytest.mark.parametrize(
    ("text", "keys"),
    [("fs:user:", "fs:user:"), ("fs:user", "fs:user:"), ("demo:", "demo:user:"),
     ("a:b:c:", "a:b:c:"), ("A:B:", "A:B:user:")],
)  # fmt: skip
def test_a_prefix_has_an_entity(text: str, keys: str) -> None:
    assert str(Keys.parse(text)) == keys


def test_an_invalid_key_prefix_is_refused() -> None:
    with pytest.raises(RequestError):
        Keys.parse("{a}:")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
