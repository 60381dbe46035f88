"""Store URLs: where an online store is and how it is talked to, read from one line of text.

    redis://[user[:password]@]host[:port][/db]      rediss:// for TLS
    redis+cluster://[user[:password]@]host[:port][,...]      rediss+cluster:// for TLS
    redis+sentinel://[user[:password]@]host[:port][,...]/service[/db]      rediss+sentinel:// for TLS
    unix://[user[:password]@]/path/to/socket
    embedded://FOLDER        memory://NAME

A password is held but never shown: `str` and `repr` of a `StoreUrl` leave it out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from urllib.parse import unquote

from typing_extensions import override

from featurekit.errors import StoreError, name_hint
from featurekit.stores.options import PRIMARY, SSL_FILES, WHERE, parse_options, whole

CLUSTER_SCHEMES = ("redis+cluster", "rediss+cluster")
SENTINEL_SCHEMES = ("redis+sentinel", "rediss+sentinel")
SERVER_SCHEMES = ("redis", "rediss", "unix", *CLUSTER_SCHEMES, *SENTINEL_SCHEMES)
SCHEMES = (*SERVER_SCHEMES, "embedded", "memory")
PORT, SENTINEL_PORT = 6379, 26379
USERNAME_VARIABLE = "FEATUREKIT_ONLINE_USERNAME"
PASSWORD_VARIABLE = "FEATUREKIT_ONLINE_PASSWORD"  # noqa: S105  (a name, not a password)
SENTINEL_USERNAME_VARIABLE = "FEATUREKIT_SENTINEL_USERNAME"
SENTINEL_PASSWORD_VARIABLE = "FEATUREKIT_SENTINEL_PASSWORD"  # noqa: S105  (a name)
Address = tuple[str, int]
NO_OPTIONS: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class StoreUrl:
    """One store URL, checked.

    Attributes:
        scheme: One of `SCHEMES`.
        host: Of `redis` and `rediss`.
        port: Of `redis` and `rediss`.
        hosts: Of clusters and Sentinel: the nodes or sentinels to ask first.
        service: Of Sentinel: the name that the sentinels know the primary by.
        path: The socket of `unix`, the folder of `embedded`, the name of `memory`.
        db: The database's number.
        username: Empty for the default user.
        password: Empty for none.
        sentinel_username: The same for the sentinels, which have users of their own.
        sentinel_password: Empty for none.
        read_from: Of clusters and Sentinel: `primary`, or `replica`.
        timeout_s: How long one try of a read or write waits for its replies.
        connect_timeout_s: How long connecting may take, TLS and AUTH each.
        load_timeout_s: How long a load, or a command of upkeep, waits for the next reply.
        retries: How often a whole call is sent again when no answer came.
        max_connections: Most connections at once; 0 for no bound (64 under asyncio).
        health_check_s: A connection idle for longer is proven by a PING before it is used.
        tls: The `ssl_*` options, for redis-py.
    """

    scheme: str
    host: str = ""
    port: int = 0
    hosts: tuple[Address, ...] = ()
    service: str = ""
    path: str = ""
    db: int = 0
    username: str = ""
    password: str = field(default="", repr=False)
    sentinel_username: str = ""
    sentinel_password: str = field(default="", repr=False)
    read_from: str = PRIMARY
    timeout_s: float = 0.25
    connect_timeout_s: float = 0.5
    load_timeout_s: float = 10.0
    retries: int = 1
    max_connections: int = 0
    health_check_s: float = 30.0
    tls: tuple[tuple[str, str | bool], ...] = ()

    @classmethod
    def parse(cls, text: str, options: Mapping[str, str] = NO_OPTIONS) -> StoreUrl:
        """Read a URL.

        Args:
            text: The URL.
            options: More options, by the same names; the URL's own win.

        Raises:
            StoreError: It is not one; says what is wrong and what is known, never the password.
        """
        scheme, found, rest = text.partition("://")
        _check_scheme(scheme if found else "")
        rest, _, query = rest.partition("?")
        settings = parse_options(scheme, query, options)
        if scheme == "embedded" and not rest:
            raise StoreError(
                "an embedded:// URL needs a folder", hint="embedded://.featurekit/online"
            )
        if scheme not in SERVER_SCHEMES:
            return replace(cls(scheme, path=unquote(rest)), **settings)  # type: ignore[arg-type]
        user, _, place = rest.rpartition("@")
        username, _, password = user.partition(":")
        login = {"username": unquote(username), "password": unquote(password)}
        url = replace(cls(scheme), **_place(scheme, place) | login | settings)  # type: ignore[arg-type]
        if scheme in CLUSTER_SCHEMES and url.db:
            raise StoreError(
                f"a cluster has no database {url.db}", where=WHERE, hint="a cluster has only db 0"
            )
        return url

    @override
    def __str__(self) -> str:
        if self.scheme not in SERVER_SCHEMES:
            return f"{self.scheme}://{self.path}"
        user = f"{self.username}@" if self.username else ""
        service = f"/{self.service}" if self.service else ""
        db = f"/{self.db}" if self.db else ""
        return f"{self.scheme}://{user}{self.address}{service}{db}"

    @property
    def address(self) -> str:
        """`host:port`, several of them, or the path of a socket, a folder or a name."""
        hosts = self.hosts or (((self.host, self.port),) if self.host else ())
        return ",".join(format_address(*host) for host in hosts) or self.path

    @property
    def options_text(self) -> str:
        """The options in force, for people."""
        waits = {
            "timeout": self.timeout_s,
            "connect_timeout": self.connect_timeout_s,
            "load_timeout": self.load_timeout_s,
            "health_check": self.health_check_s,
        }
        most = self.max_connections or "not bounded"
        parts = [f"{name} {seconds:g}s" for name, seconds in waits.items()]
        parts += [f"retries {self.retries}", f"max_connections {most}"]
        if self.hosts:
            parts.append(f"read_from {self.read_from}")
        tls = [f"{name} {value}" for name, value in self.tls]
        if self.scheme.startswith("rediss"):
            parts.append(" ".join(["TLS", *tls]))
        elif self.scheme.startswith("redis"):
            parts.append("not encrypted")
        return ", ".join(parts)

    def for_server(self, host: str, port: int) -> StoreUrl:
        """One server of a cluster, or one that Sentinel named, with the same login and options."""
        scheme = self.scheme.partition("+")[0]
        return replace(self, scheme=scheme, host=host, port=port, hosts=(), service="")

    def with_absolute_paths(self, root: Path) -> StoreUrl:
        """The same with paths made absolute, relative ones being relative to `root`."""
        files = tuple(
            (name, str(root / str(value)) if name in SSL_FILES else value)
            for name, value in self.tls
        )
        on_disk = self.scheme in {"unix", "embedded"}
        return replace(self, path=str(root / self.path) if on_disk else self.path, tls=files)

    def with_secrets(self, env: Mapping[str, str]) -> StoreUrl:
        """The same with the users and passwords that the environment names, where it has none."""
        url = self
        if url.scheme in SERVER_SCHEMES and not url.password and PASSWORD_VARIABLE in env:
            username = url.username or env.get(USERNAME_VARIABLE, "")
            url = replace(url, username=username, password=env[PASSWORD_VARIABLE])
        if (
            url.scheme in SENTINEL_SCHEMES
            and not url.sentinel_password
            and SENTINEL_PASSWORD_VARIABLE in env
        ):
            username = url.sentinel_username or env.get(SENTINEL_USERNAME_VARIABLE, "")
            password = env[SENTINEL_PASSWORD_VARIABLE]
            url = replace(url, sentinel_username=username, sentinel_password=password)
        return url


def format_address(host: str, port: int) -> str:
    """An address, for people: `db.example:6379`, `[::1]:6379`."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _check_scheme(scheme: str) -> None:
    if scheme not in SCHEMES:
        raise StoreError(
            f"'{scheme}://' is not a kind of online store"
            if scheme
            else "the online store's URL has no scheme",
            hint=name_hint(scheme, SCHEMES),
        )


def _place(scheme: str, place: str) -> dict[str, object]:
    """What the part between `@` and `?` tells."""
    if scheme == "unix":
        if not place:
            raise StoreError(
                "a unix:// URL needs the path of a socket", hint="unix:///run/redis.sock"
            )
        return {"path": unquote(place)}
    locations, _, rest = place.partition("/")
    if scheme in SENTINEL_SCHEMES:
        service, _, db = rest.partition("/")
        if not service:
            raise StoreError(
                f"a {scheme}:// URL needs the name of the service that the sentinels watch",
                hint=f"{scheme}://host1:26379,host2:26379/mymaster",
            )
        hosts = _hosts(locations, SENTINEL_PORT)
        return {"hosts": hosts, "service": unquote(service), "db": whole("db", db or "0", 2**31)}
    if scheme in CLUSTER_SCHEMES:
        return {"hosts": _hosts(locations, PORT), "db": whole("db", rest or "0", 2**31)}
    host, port = _host_port(locations, PORT)
    return {"host": host, "port": port, "db": whole("db", rest or "0", 2**31)}


def _hosts(locations: str, default: int) -> tuple[Address, ...]:
    return tuple(_host_port(location, default) for location in locations.split(","))


def _host_port(location: str, default: int) -> Address:
    """The server of `host[:port]`; a host may be a bracketed IPv6 address."""
    host, colon, port = location.rpartition(":")
    if not colon or port.endswith("]"):
        host, port = location, str(default)
    return unquote(host).strip("[]") or "localhost", whole("port", port, 65535)
