"""Parse the options of store URLs and of `online_store:`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from urllib.parse import parse_qsl

from featurekit.errors import StoreError, name_hint
from featurekit.store_options import STORE_OPTIONS, TLS_OPTIONS, StoreOption, options_of

WHERE = "online store URL"
ENCODING_HINT = "in a user name or password, write : as %3A, / as %2F, ? as %3F and @ as %40"
MAX_DURATION_S = 3600
_MAX_DIGITS = 20
TRUE, FALSE = {"true", "1", "yes"}, {"false", "0", "no"}


def parse_options(scheme: str, query: str, file: Mapping[str, str]) -> dict[str, object]:
    """Parse the options of a URL and of a file into attributes of `StoreUrl`.

    Args:
        scheme: The URL's scheme.
        query: The URL's query string. Its options win.
        file: Options of `online_store:` by their names in URLs. Those that the scheme does not
            accept are ignored.

    Raises:
        StoreError: The scheme does not accept an option of the URL, a value is invalid, or the
            file has TLS options for an unencrypted connection.
    """
    known = options_of(scheme)
    given = dict(parse_qsl(query, keep_blank_values=True))
    for name in given:
        if name not in known:
            # Another name may be a part of a password.
            text = f"no option '{name}'" if name in STORE_OPTIONS else "an unknown option"
            raise StoreError(f"a {scheme}:// URL has {text}", hint=name_hint(name, known))
    if scheme.startswith("redis") and not scheme.startswith("rediss"):
        _check_unencrypted(scheme, file)
    attributes: dict[str, object] = {}
    tls: list[tuple[str, object]] = []
    for name, text in ({n: v for n, v in file.items() if n in known} | given).items():
        value = _PARSERS[known[name].kind](known[name], text)
        if name in TLS_OPTIONS:
            tls.append((name, value))
        else:
            attributes[known[name].attribute] = value
    return attributes | ({"tls": tuple(tls)} if tls else {})


def parse_number(name: str, text: str, maximum: int = 1_000_000) -> int:
    """Parse an integer from 0 to `maximum`.

    Raises:
        StoreError: The text is anything else. It is not shown: it may be a part of a password.
    """
    digits = text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS
    if not (digits and int(text) <= maximum):
        raise StoreError(
            f"{name} is not a number",
            where=WHERE,
            hint=f"expected an integer from 0 to {maximum}; {ENCODING_HINT}",
        )
    return int(text)


def _check_unencrypted(scheme: str, file: Mapping[str, str]) -> None:
    if file.keys() & set(TLS_OPTIONS):
        raise StoreError(
            f"online_store: has tls:, but {scheme}:// is not encrypted",
            hint=f"write {scheme.replace('redis', 'rediss', 1)}://, or remove tls:",
        )


def _parse_count(option: StoreOption, text: str) -> int:
    return parse_number(option.name, text)


def _parse_seconds(option: StoreOption, text: str) -> float:
    unit = next((unit for unit in ("ms", "s") if text.endswith(unit)), "")
    try:
        seconds = float(text.removesuffix(unit)) / (1000 if unit == "ms" else 1)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds <= MAX_DURATION_S:
        raise StoreError(
            f"{option.name}: '{text}' is not a duration",
            where=WHERE,
            hint="write 250ms, 2s, or 0.25 (seconds); it must be above 0",
        )
    return seconds


def _parse_text(option: StoreOption, text: str) -> str:
    if not text:
        raise StoreError(f"{option.name} must not be empty", where=WHERE)
    return text


def _parse_flag(option: StoreOption, text: str) -> bool:
    if text.lower() not in TRUE | FALSE:
        raise StoreError(f"{option.name}: '{text}' is neither true nor false", where=WHERE)
    return text.lower() in TRUE


def _parse_choice(option: StoreOption, text: str) -> str:
    if text not in option.choices:
        *first, last = option.choices
        raise StoreError(
            f"{option.name}: '{text}' is not a valid value",
            where=WHERE,
            hint=f"expected {', '.join(first)} or {last}",
        )
    return text


_PARSERS: dict[str, Callable[[StoreOption, str], object]] = {
    "duration": _parse_seconds,
    "count": _parse_count,
    "flag": _parse_flag,
    "choice": _parse_choice,
    "text": _parse_text,
    "file": _parse_text,
}
