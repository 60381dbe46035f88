"""Options of store URLs: their names, what they are read as, and which URLs they hold for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from urllib.parse import parse_qsl

from featurekit.errors import StoreError, name_hint

SSL_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
PRIMARY, REPLICA = "primary", "replica"
WHERE = "online store URL"


def parse_options(scheme: str, query: str, file: Mapping[str, str]) -> dict[str, object]:
    """The attributes of a `StoreUrl` that its query string gives, and those that a file adds.

    Args:
        scheme: The URL's.
        query: Its options, which win.
        file: Options of `online_store:`, by the same names; those are passed over that mean
            nothing for this scheme.

    Raises:
        StoreError: An option of the URL is not known for this scheme, a value does not fit, or the
            file gives TLS options for a connection that would not be encrypted.
    """
    known = options_of(scheme)
    given = dict(parse_qsl(query, keep_blank_values=True))
    for name in given:
        if name not in known:
            raise StoreError(
                f"a {scheme}:// URL has no option '{name}'", hint=name_hint(name, known)
            )
    if scheme.startswith("redis") and not scheme.startswith("rediss"):
        _check_encrypted(scheme, file)
    settings: dict[str, object] = {}
    tls: list[tuple[str, str | bool]] = []
    for name, value in ({n: v for n, v in file.items() if n in known} | given).items():
        if name in TLS_OPTIONS:
            tls.append((name, TLS_OPTIONS[name](name, value)))
        else:
            attribute, read = OPTIONS[name]
            settings[attribute] = read(name, value)
    return settings | ({"tls": tuple(tls)} if tls else {})


def _check_encrypted(scheme: str, file: Mapping[str, str]) -> None:
    if file.keys() & TLS_OPTIONS.keys():
        raise StoreError(
            f"online_store: has tls:, but {scheme}:// is not encrypted",
            hint=f"write {scheme.replace('redis', 'rediss', 1)}://, or leave tls: out",
        )


def options_of(scheme: str) -> set[str]:
    """The names of the options that a URL of this scheme may have."""
    several = {"read_from"} if scheme.endswith(("+cluster", "+sentinel")) else set()
    login = {"sentinel_username", "sentinel_password"} if scheme.endswith("+sentinel") else set()
    tls = set(TLS_OPTIONS) if scheme.startswith("rediss") else set()
    return EVERYWHERE | several | login | tls


def whole(name: str, text: str, most: int = 1_000_000) -> int:
    """A whole number, from 0.

    Raises:
        StoreError: It is none.
    """
    if not (text.isascii() and text.isdigit() and int(text) <= most):
        raise StoreError(
            f"'{text}' is not a {name}", where=WHERE, hint=f"a whole number up to {most}"
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
            where=WHERE,
            hint="250ms, 2s, or 0.25 (seconds), above 0",
        )
    return seconds


def _text(name: str, text: str) -> str:
    if not text:
        raise StoreError(f"{name} is empty", where=WHERE)
    return text


def _yes(name: str, text: str) -> bool:
    if text.lower() not in {"true", "false", "1", "0", "yes", "no"}:
        raise StoreError(f"{name}: '{text}' is neither true nor false", where=WHERE)
    return text.lower() in {"true", "1", "yes"}


def _choice(*choices: str) -> Callable[[str, str], str]:
    def read(name: str, text: str) -> str:
        if text not in choices:
            known = f"{', '.join(choices[:-1])} or {choices[-1]}"
            raise StoreError(f"{name}: '{text}' is not known", where=WHERE, hint=known)
        return text

    return read


OPTIONS: dict[str, tuple[str, Callable[[str, str], object]]] = {
    "timeout": ("timeout_s", _seconds),
    "connect_timeout": ("connect_timeout_s", _seconds),
    "load_timeout": ("load_timeout_s", _seconds),
    "retries": ("retries", whole),
    "max_connections": ("max_connections", whole),
    "health_check": ("health_check_s", _seconds),
    "db": ("db", whole),
    "read_from": ("read_from", _choice(PRIMARY, REPLICA)),
    "sentinel_username": ("sentinel_username", _text),
    "sentinel_password": ("sentinel_password", _text),
}
ELSEWHERE = {"read_from", "sentinel_username", "sentinel_password"}
EVERYWHERE = OPTIONS.keys() - ELSEWHERE

TLS_OPTIONS: dict[str, Callable[[str, str], str | bool]] = {
    "ssl_ca_certs": _text,
    "ssl_certfile": _text,
    "ssl_keyfile": _text,
    "ssl_cert_reqs": _choice("required", "optional", "none"),
    "ssl_check_hostname": _yes,
}
