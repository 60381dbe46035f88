"""Settings: what the flags of `featurekit demo` say, checked before anything is written."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from typing_extensions import override

from featurekit.errors import RequestError

FOLDER = Path(".featurekit/demo")
EMBEDDED = "embedded://online"
PREFIX = "fs:user:"
PORT = 8086

LONGEST_TTL_S = 315_359_999
"""A declared TTL is below 10 years."""

_ENTITY = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True, slots=True)
class Keys:
    """What the keys of the demo begin with: `fs` and `user` for `fs:user:u0001`."""

    prefix: str
    entity: str

    @classmethod
    def parse(cls, text: str) -> Keys:
        """The two parts of `fs:user:`; one part alone, as `demo:`, is completed to `demo:user:`.

        Raises:
            RequestError: No key may begin so.
        """
        if re.search(r"[\s{}\x00-\x1f\x7f]", text) or not text.strip(":"):
            raise RequestError(
                f"a key prefix is text without braces and spaces, as {PREFIX}, not {text!r}"
            )
        whole = text.removesuffix(":")
        prefix, _, entity = whole.rpartition(":")
        if prefix and _ENTITY.fullmatch(entity):
            return cls(prefix, entity)
        return cls(whole, "user")

    @override
    def __str__(self) -> str:
        return f"{self.prefix}:{self.entity}:"


@dataclass(frozen=True, slots=True)
class Settings:
    """How a demo runs.

    Attributes:
        url: The store; relative paths in it are relative to `folder`.
        keys: What its keys begin with.
        batch_ttl_s: How long a loaded user lives, unless a load says otherwise.
        streaming_ttl_s: How long a stream field lives.
        users_per_tick: How many users act in each tick.
        seed_users: How many are loaded at the start.
        reset: Whether users under the prefix are dropped at the start.
        host: The address to listen on.
        port: The port; 0 for any that is free.
        folder: Where the demo's repository is kept.
        tick_s: The pause between two ticks.
    """

    url: str = field(default=EMBEDDED, repr=False)
    keys: Keys = Keys("fs", "user")
    batch_ttl_s: int = 86_400
    streaming_ttl_s: int = 300
    users_per_tick: int = 5
    seed_users: int = 200
    reset: bool = True
    host: str = "127.0.0.1"
    port: int = PORT
    folder: Path = FOLDER
    tick_s: float = 1.0
