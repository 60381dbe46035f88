"""Store URLs: the address and the options of an online store.

    redis://[user[:password]@]host[:port][/db]
    redis+cluster://[user[:password]@]host[:port][,...]
    redis+sentinel://[user[:password]@]host[:port][,...]/service[/db]
    unix://[user[:password]@]/path/to/socket
    embedded://FOLDER
    memory://NAME

`rediss`, `rediss+cluster` and `rediss+sentinel` are the same over TLS. The `str` and `repr` of a
`StoreUrl` never contain a password, nor do the errors of a URL that is not valid.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from urllib.parse import unquote

from typing_extensions import override

from featurekit.errors import StoreError, name_hint
from featurekit.store_options import (
    CLUSTER_SCHEMES,
    PRIMARY,
    SCHEMES,
    SENTINEL_SCHEMES,
    SERVER_SCHEMES,
    STORE_OPTIONS,
    TLS_FILES,
)
from featurekit.stores.options import ENCODING_HINT, WHERE, parse_number, parse_options

PORT, SENTINEL_PORT = 6379, 26379
MAX_PORT, MAX_DB = 65535, 2**31
USERNAME_VARIABLE = "FEATUREKIT_ONLINE_USERNAME"
PASSWORD_VARIABLE = "FEATUREKIT_ONLINE_PASSWORD"  # noqa: S105  (a name, not a password)
SENTINEL_USERNAME_VARIABLE = "FEATUREKIT_SENTINEL_USERNAME"
SENTINEL_PASSWORD_VARIABLE = "FEATUREKIT_SENTINEL_PASSWORD"  # noqa: S105  (a name)
Address = tuple[str, int]
_SCHEME = re.compile(r"[a-z]+(\+[a-z]+)?")
_LOGIN = re.compile(r"[^/]*:[^/]*@")
NO_OPTIONS: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class StoreUrl:
    """A parsed store URL. `featurekit.store_options` describes the options.

    Attributes:
        scheme: One of `SCHEMES`.
        host: The host of `redis` and `rediss`.
        port: The port of `redis` and `rediss`.
        hosts: The nodes of a cluster, or the sentinels, that are asked first.
        service: The name by which the sentinels know the primary.
        path: The socket of `unix`, the folder of `embedded`, the name of `memory`.
        username: Empty for the default user.
        password: Empty without a password.
        max_connections: 0 without a limit (64 on an event loop).
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
    timeout_s: float = STORE_OPTIONS["timeout"].default_seconds
    connect_timeout_s: float = STORE_OPTIONS["connect_timeout"].default_seconds
    load_timeout_s: float = STORE_OPTIONS["load_timeout"].default_seconds
    retries: int = int(STORE_OPTIONS["retries"].default or 0)
    max_connections: int = 0
    coalesce: bool = True
    health_check_s: float = STORE_OPTIONS["health_check"].default_seconds
    tls: tuple[tuple[str, str | bool], ...] = ()

    @classmethod
    def parse(cls, text: str, options: Mapping[str, str] = NO_OPTIONS) -> StoreUrl:
        """Parse a URL.

        Args:
            text: The URL.
            options: Further options by their names in URLs; the URL's own win.

        Raises:
            StoreError: The URL is invalid. The message never contains the password.
        """
        scheme, separator, rest = text.partition("://")
        _check_scheme(scheme if separator else "")
        rest, _, query = rest.partition("?")
        try:
            return cls._parse_parts(scheme, rest, query, options)
        except StoreError:
            if "@" not in query or "@" in rest:
                raise
            # A password with a question mark: any part of it may be in the message.
            raise StoreError(
                "the user name or password is not encoded", where=WHERE, hint=ENCODING_HINT
            ) from None

    @classmethod
    def _parse_parts(
        cls, scheme: str, rest: str, query: str, options: Mapping[str, str]
    ) -> StoreUrl:
        settings = parse_options(scheme, query, options)
        if scheme == "embedded" and not rest:
            raise StoreError(
                "an embedded:// URL needs a folder", hint="embedded://.featurekit/online"
            )
        if scheme not in SERVER_SCHEMES:
            if _LOGIN.match(rest):
                raise StoreError(f"a {scheme}:// URL has no user name or password", where=WHERE)
            return replace(cls(scheme, path=unquote(rest)), **settings)  # type: ignore[arg-type]
        user, _, location = rest.rpartition("@")
        username, _, password = user.partition(":")
        login = {"username": unquote(username), "password": unquote(password)}
        url = replace(cls(scheme), **_parse_location(scheme, location) | login | settings)  # type: ignore[arg-type]
        if scheme in CLUSTER_SCHEMES and url.db:
            raise StoreError(
                f"a cluster has no database {url.db}",
                where=WHERE,
                hint="remove the database: a cluster has only 0",
            )
        return url

    @override
    def __str__(self) -> str:
        if self.scheme not in SERVER_SCHEMES:
            return f"{self.scheme}://{self.path}"
        user = f"{self.shown_username}@" if self.username else ""
        service = f"/{self.service}" if self.service else ""
        db = f"/{self.db}" if self.db else ""
        return f"{self.scheme}://{user}{self.address}{service}{db}"

    @property
    def shown_username(self) -> str:
        """The user name for messages; hidden without a password, because it may be one."""
        return self.username if self.password else "***"

    @property
    def address(self) -> str:
        """One or more `host:port`, or the path of a socket, a folder or a name."""
        hosts = self.hosts or (((self.host, self.port),) if self.host else ())
        return ",".join(format_address(*host) for host in hosts) or self.path

    @property
    def options_text(self) -> str:
        """The options in force, for messages."""
        names = ("timeout", "connect_timeout", "load_timeout", "health_check")
        parts = [f"{name} {getattr(self, f'{name}_s'):g}s" for name in names]
        parts.append(f"retries {self.retries}")
        parts.append(f"max_connections {self.max_connections or 'unlimited'}")
        if self.hosts:
            parts.append(f"read_from {self.read_from}")
        if self.scheme.startswith("rediss"):
            parts.append(" ".join(["TLS", *(f"{name} {value}" for name, value in self.tls)]))
        elif self.scheme.startswith("redis"):
            parts.append("not encrypted")
        return ", ".join(parts)

    def for_server(self, host: str, port: int) -> StoreUrl:
        """Return the URL of one server of a cluster or of Sentinel, with the same options."""
        scheme = self.scheme.partition("+")[0]
        return replace(self, scheme=scheme, host=host, port=port, hosts=(), service="")

    def with_absolute_paths(self, root: Path) -> StoreUrl:
        """Return the URL with its relative paths resolved against `root`."""
        tls = tuple(
            (name, str(root / str(value)) if name in TLS_FILES else value)
            for name, value in self.tls
        )
        on_disk = self.scheme in {"unix", "embedded"}
        return replace(self, path=str(root / self.path) if on_disk else self.path, tls=tls)

    @property
    def has_secrets(self) -> bool:
        """Whether the URL contains a user name or a password."""
        return bool(
            self.username or self.password or self.sentinel_username or self.sentinel_password
        )

    def with_secrets(self, env: Mapping[str, str]) -> StoreUrl:
        """Return the URL with passwords from the environment where it has none."""
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
    """Return an address for messages: `db.example:6379`, `[::1]:6379`."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _check_scheme(scheme: str) -> None:
    if not scheme:
        raise StoreError("the online store's URL has no scheme", hint=name_hint("", SCHEMES))
    if scheme not in SCHEMES:
        shown = f"'{scheme}://'" if _SCHEME.fullmatch(scheme) else "what stands before '://'"
        raise StoreError(
            f"{shown} is not an online store's scheme", hint=name_hint(scheme, SCHEMES)
        )


def _parse_location(scheme: str, location: str) -> dict[str, object]:
    """Parse the part of a URL between `@` and `?`."""
    if scheme == "unix":
        if not location:
            raise StoreError(
                "a unix:// URL needs the path of a socket", hint="unix:///run/redis.sock"
            )
        return {"path": unquote(location)}
    hosts, _, path = location.partition("/")
    if scheme in SENTINEL_SCHEMES:
        service, _, db = path.partition("/")
        if not service:
            raise StoreError(
                f"a {scheme}:// URL needs the name of the service that the sentinels watch",
                hint=f"{scheme}://host1:26379,host2:26379/mymaster",
            )
        addresses = _parse_addresses(hosts, SENTINEL_PORT)
        return {"hosts": addresses, "service": unquote(service), "db": _parse_db(db)}
    if scheme in CLUSTER_SCHEMES:
        return {"hosts": _parse_addresses(hosts, PORT), "db": _parse_db(path)}
    host, port = _parse_address(hosts, PORT)
    return {"host": host, "port": port, "db": _parse_db(path)}


def _parse_db(text: str) -> int:
    return parse_number("db", text or "0", MAX_DB)


def _parse_addresses(text: str, default_port: int) -> tuple[Address, ...]:
    return tuple(_parse_address(part, default_port) for part in text.split(","))


def _parse_address(text: str, default_port: int) -> Address:
    """Parse `host[:port]`; a host may be a bracketed IPv6 address."""
    host, colon, port = text.rpartition(":")
    if not colon or port.endswith("]"):
        host, port = text, str(default_port)
    return unquote(host).strip("[]") or "localhost", parse_number("port", port, MAX_PORT)
