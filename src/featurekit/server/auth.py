"""Auth: bearer tokens, each for reading or for writing.

A token is never shown: not in a message, not in a `repr`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from hmac import compare_digest
from typing import Literal, Self

from featurekit.errors import RequestError

VARIABLE = "FEATUREKIT_SERVER_TOKENS"
"""The environment variable that tokens come from: `read:TOKEN,write:TOKEN`."""

Scope = Literal["read", "write"]
"""What a token is for; who may write may read, too."""

_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")
_BEARER = re.compile(r"[Bb][Ee][Aa][Rr][Ee][Rr] +(\S+)")


@dataclass(frozen=True, slots=True)
class Tokens:
    """The tokens of one server, and their scopes; without any, everybody may do everything."""

    _scopes: Mapping[bytes, Scope] = field(default_factory=dict, repr=False)

    @classmethod
    def parse(cls, text: str) -> Self:
        """The tokens of `read:TOKEN,write:TOKEN`, any number of each; none for empty text.

        Raises:
            RequestError: It is not of that form.
        """
        scopes: dict[bytes, Scope] = {}
        for number, part in enumerate(filter(None, map(str.strip, text.split(","))), 1):
            scope, _, token = part.partition(":")
            if scope not in ("read", "write") or not _TOKEN.fullmatch(token):
                raise RequestError(
                    f"token {number} is not read:TOKEN or write:TOKEN",
                    where=VARIABLE,
                    hint="a token is letters, digits and any of -._~+/, at least one of them",
                )
            if scope == "write" or token.encode() not in scopes:
                scopes[token.encode()] = scope  # type: ignore[assignment]
        return cls(scopes)

    def __bool__(self) -> bool:
        return bool(self._scopes)

    def scope_of(self, authorization: str) -> Scope | None:
        """What the sender of this `Authorization` header may do; `None` for nothing.

        Takes the same time whichever token is the nearest.
        """
        match = _BEARER.fullmatch(authorization)
        given = match[1].encode(errors="replace") if match else b""
        found: Scope | None = None
        for token, scope in self._scopes.items():
            if compare_digest(token, given):
                found = scope
        return found
