"""Bearer tokens and their scopes. Tokens never appear in a message or a `repr`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from hmac import compare_digest
from typing import Literal, Self

from featurekit.errors import RequestError

TOKENS_VARIABLE = "FEATUREKIT_SERVER_TOKENS"
"""The environment variable with the tokens: `read:TOKEN,write:TOKEN`."""

Scope = Literal["read", "write"]
"""What a token allows; `write` includes `read`."""

_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")
_BEARER = re.compile(r"[Bb][Ee][Aa][Rr][Ee][Rr] +(\S+)")


@dataclass(frozen=True, slots=True)
class Tokens:
    """The tokens of one server and their scopes. Without tokens, every client may do everything."""

    _scopes: Mapping[bytes, Scope] = field(default_factory=dict, repr=False)

    @classmethod
    def from_environment(cls, env: Mapping[str, str]) -> Self:
        """Return the tokens of the environment; none if the variable is not set.

        Raises:
            RequestError: The variable is set, but has no token or another form.
        """
        text = env.get(TOKENS_VARIABLE)
        if text is None:
            return cls()
        tokens = cls.parse(text)
        if not tokens:
            raise RequestError(
                "the variable is set, but contains no token",
                where=TOKENS_VARIABLE,
                hint="set it to read:TOKEN,write:TOKEN, or unset it to serve without tokens",
            )
        return tokens

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the tokens of `read:TOKEN,write:TOKEN`; any number of each.

        Raises:
            RequestError: The text has another form.
        """
        scopes: dict[bytes, Scope] = {}
        for number, part in enumerate(filter(None, map(str.strip, text.split(","))), 1):
            scope, _, token = part.partition(":")
            if scope not in ("read", "write") or not _TOKEN.fullmatch(token):
                raise RequestError(
                    f"token {number} must be read:TOKEN or write:TOKEN",
                    where=TOKENS_VARIABLE,
                    hint="a token consists of letters, digits and the characters -._~+/",
                )
            if scope == "write" or token.encode() not in scopes:
                scopes[token.encode()] = scope  # type: ignore[assignment]
        return cls(scopes)

    def __bool__(self) -> bool:
        return bool(self._scopes)

    def scope_of(self, authorization: str) -> Scope | None:
        """Return the scope of an `Authorization` header; `None` if its token is unknown.

        The comparison takes constant time.
        """
        match = _BEARER.fullmatch(authorization)
        given = match[1].encode(errors="replace") if match else b""
        granted: Scope | None = None
        for token, scope in self._scopes.items():
            if compare_digest(token, given):
                granted = scope
        return granted
