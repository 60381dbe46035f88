"""Store URLs: where an online store is and how it is talked to, read from one line of text.

    redis://[user[:password]@]host[:port][/db]      rediss:// for TLS
    unix://[user[:password]@]/path/to/socket
    embedded://FOLDER        memory://NAME

A password is held but never shown: `str` and `repr` of a `StoreUrl` leave it out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import parse_qsl, unquote

from typing_extensions import override

from featurekit.errors import StoreError, nearest

SCHEMES = ("redis", "rediss", "unix", "embedded", "memory")
SERVERS = ("redis", "rediss", "unix")
PLANNED = {"redis+cluster": "a cluster", "redis+sentinel": "Sentinel"}
USERNAME_VARIABLE = "FEATUREKIT_ONLINE_USERNAME"
PASSWORD_VARIABLE = "FEATUREKIT_ONLINE_PASSWORD"  # noqa: S105  (a name, not a password)
SSL_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")


@dataclass(frozen=True, slots=True)
class StoreUrl:
    """One store URL, checked.

    Attributes:
        scheme: One of `SCHEMES`.
        host: Of `redis` and `rediss`.
        port: Of `redis` and `rediss`.
        path: The socket of `unix`, the folder of `embedded`, the name of `memory`.
        db: The database's number.
        username: Empty for the default user.
        password: Empty for none.
        timeout_s: How long one try of a read or write waits for its replies.
        connect_timeout_s: How long connecting may take, TLS and AUTH each.
        load_timeout_s: How long a load, or a command of upkeep, waits for the next reply.
        retries: How often a whole call is sent again when no answer came.
        max_connections: Most connections at once; 0 for no bound (64 under asyncio).
        tls: The `ssl_*` options, for redis-py.
    """

    scheme: str
    host: str = ""
    port: int = 0
    path: str = ""
    db: int = 0
    username: str = ""
    password: str = field(default="", repr=False)
    timeout_s: float = 0.25
    connect_timeout_s: float = 0.5
    load_timeout_s: float = 10.0
    retries: int = 1
    max_connections: int = 0
    tls: tuple[tuple[str, str | bool], ...] = ()

    @classmethod
    def parse(cls, text: str) -> StoreUrl:
        """Read a URL.

        Raises:
            StoreError: It is not one; says what is wrong and what is known, never the password.
        """
        scheme, found, rest = text.partition("://")
        _check_scheme(scheme if found else "")
        rest, _, query = rest.partition("?")
        settings = _options(scheme, query)
        if scheme == "embedded" and not rest:
            raise StoreError(
                "an embedded:// URL needs a folder", hint="embedded://.featurekit/online"
            )
        if scheme not in SERVERS:
            return replace(cls(scheme, path=unquote(rest)), **settings)  # type: ignore[arg-type]
        user, _, place = rest.rpartition("@")
        username, _, password = user.partition(":")
        where = {"path": unquote(place)} if scheme == "unix" else _host_port_db(place)
        if scheme == "unix" and not place:
            raise StoreError(
                "a unix:// URL needs the path of a socket", hint="unix:///run/redis.sock"
            )
        known = where | {"username": unquote(username), "password": unquote(password)} | settings
        return replace(cls(scheme), **known)  # type: ignore[arg-type]

    @override
    def __str__(self) -> str:
        if self.scheme not in SERVERS:
            return f"{self.scheme}://{self.path}"
        user = f"{self.username}@" if self.username else ""
        place = self.path if self.scheme == "unix" else self.address
        return (
            f"{self.scheme}://{user}{place}/{self.db}"
            if self.db
            else f"{self.scheme}://{user}{place}"
        )

    @property
    def address(self) -> str:
        """`host:port`, or the path of a socket, a folder or a name."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}" if self.host else self.path

    def within(self, root: Path) -> StoreUrl:
        """The same with paths made absolute, relative ones being relative to `root`."""
        files = tuple(
            (name, str(root / str(value)) if name in SSL_FILES else value)
            for name, value in self.tls
        )
        on_disk = self.scheme in {"unix", "embedded"}
        return replace(self, path=str(root / self.path) if on_disk else self.path, tls=files)

    def with_secrets(self, env: Mapping[str, str]) -> StoreUrl:
        """The same with the user and password that the environment names, where the URL has none."""
        if self.scheme not in SERVERS or self.password or PASSWORD_VARIABLE not in env:
            return self
        username = self.username or env.get(USERNAME_VARIABLE, "")
        return replace(self, username=username, password=env[PASSWORD_VARIABLE])


def _check_scheme(scheme: str) -> None:
    if scheme in PLANNED:
        raise StoreError(
            f"{scheme}:// is not supported yet: featurekit cannot talk to {PLANNED[scheme]}",
            hint="give the address of one server: redis://host:port",
        )
    if scheme not in SCHEMES:
        raise StoreError(
            f"'{scheme}://' is not a kind of online store"
            if scheme
            else "the online store's URL has no scheme",
            hint=nearest(scheme, SCHEMES),
        )


def _host_port_db(place: str) -> dict[str, object]:
    """The server and database of `host[:port][/db]`; a host may be a bracketed IPv6 address."""
    location, _, db = place.partition("/")
    host, colon, port = location.rpartition(":")
    if not colon or port.endswith("]"):
        host, port = location, "6379"
    return {
        "host": unquote(host).strip("[]") or "localhost",
        "port": _whole("port", port, 65535),
        "db": _whole("db", db or "0", 2**31),
    }


def _options(scheme: str, query: str) -> dict[str, object]:
    settings: dict[str, object] = {}
    tls: list[tuple[str, str | bool]] = []
    known = (OPTIONS | TLS_OPTIONS) if scheme == "rediss" else OPTIONS
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in known:
            raise StoreError(
                f"a {scheme}:// URL has no option '{name}'", hint=nearest(name, known)
            )
        if name in OPTIONS:
            attribute, read = OPTIONS[name]
            settings[attribute] = read(name, value)
        else:
            tls.append((name, TLS_OPTIONS[name](name, value)))
    return settings | ({"tls": tuple(tls)} if tls else {})


def _whole(name: str, text: str, most: int = 1_000_000) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= most):
        raise StoreError(
            f"'{text}' is not a {name}",
            where="online store URL",
            hint=f"a whole number up to {most}",
        )
    return int(text)


def _seconds(name: str, text: str) -> float:
    unit = next((unit for unit in ("ms", "s") if text.endswith(unit)), "")
    try:
        seconds = float(text.removesuffix(unit)) / (1000 if unit == "ms" else 1)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds <= 3600:  # noqa: PLR2004
        raise StoreError(
            f"{name}: '{text}' is not a time",
            where="online store URL",
            hint="250ms, 2s, or 0.25 (seconds), above 0",
        )
    return seconds


def _text(name: str, text: str) -> str:
    if not text:
        raise StoreError(f"{name} is empty", where="online store URL")
    return text


def _yes(name: str, text: str) -> bool:
    if text.lower() not in {"true", "false", "1", "0", "yes", "no"}:
        raise StoreError(f"{name}: '{text}' is neither true nor false", where="online store URL")
    return text.lower() in {"true", "1", "yes"}


def _cert_reqs(name: str, text: str) -> str:
    if text not in {"none", "optional", "required"}:
        raise StoreError(
            f"{name}: '{text}' is not known",
            where="online store URL",
            hint="required, optional or none",
        )
    return text


OPTIONS: dict[str, tuple[str, Callable[[str, str], object]]] = {
    "timeout": ("timeout_s", _seconds),
    "connect_timeout": ("connect_timeout_s", _seconds),
    "load_timeout": ("load_timeout_s", _seconds),
    "retries": ("retries", _whole),
    "max_connections": ("max_connections", _whole),
    "db": ("db", _whole),
}

TLS_OPTIONS: dict[str, Callable[[str, str], str | bool]] = {
    "ssl_ca_certs": _text,
    "ssl_certfile": _text,
    "ssl_keyfile": _text,
    "ssl_cert_reqs": _cert_reqs,
    "ssl_check_hostname": _yes,
}
