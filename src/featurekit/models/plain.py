"""Plain scalars of YAML: text until somebody means something else by them.

`country: NO` and `ttl: 1e3` are text where text is meant, and `min: 1e3` is a number where a
number is meant. So a plain scalar travels as its source text, and the model that takes it
decides. Meaning follows the core schema of YAML 1.2 (section 10.3.2).
"""

from __future__ import annotations

import re
from collections.abc import Callable

_SHOWN = 60
_PASSWORD = re.compile(r"://[^/@\s]*@")
_MAX_DIGITS = 4000  # Python refuses to convert more, at 4300


class Plain(str):
    """The source text of an unquoted scalar."""

    __slots__ = ()

    @property
    def value(self) -> object:
        """What the core schema makes of it: null, bool, int, float, or the text itself."""
        if len(self) > _MAX_DIGITS:
            return str(self)
        for form, make in _CORE:
            if form.fullmatch(self):
                return make(str(self))
        return str(self)


def _integer(text: str) -> int:
    return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))


def _special(text: str) -> float:
    return float(text.lower().replace(".", ""))


_CORE: tuple[tuple[re.Pattern[str], Callable[[str], object]], ...] = tuple(
    (re.compile(form), make)
    for form, make in (
        (r"null|Null|NULL|~|", lambda _: None),
        (r"true|True|TRUE", lambda _: True),
        (r"false|False|FALSE", lambda _: False),
        (r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", _integer),
        (r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", float),
        (r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", _special),
    )
)


def resolve(raw: object) -> object:
    """A tree of scalars, lists and mappings with all plain scalars resolved."""
    if isinstance(raw, Plain):
        return raw.value
    if isinstance(raw, list):
        return [resolve(item) for item in raw]
    if isinstance(raw, dict):
        return {str(key): resolve(item) for key, item in raw.items()}
    return raw


def found(raw: object) -> str:
    """A value of a definition for a message, as it stands in the file, cut at 60 characters."""
    match raw:
        case Plain():
            text = found(str(raw)) if isinstance(raw.value, str) else str(raw) or "nothing"
        case dict():
            text = "a mapping"
        case list() | tuple():
            text = "a list"
        case bool():
            text = str(raw).lower()
        case None | "":
            text = "nothing"
        case str():
            text = _PASSWORD.sub("://***@", repr(raw))
        case _:
            text = repr(raw)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
