"""The settings of `featurekit demo`."""

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
"""A declared TTL is shorter than 10 years."""

_ENTITY = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True, slots=True)
class Keys:
    """The parts of the demo's keys: `fs` and `user` for `fs:user:u0001`."""

    prefix: str
    entity: str

    @classmethod
    def parse(cls, text: str) -> Keys:
        """Return the parts of `fs:user:`; `demo:` stands for `demo:user:`.

        Raises:
            RequestError: The prefix is empty, or contains spaces or braces.
        """
        if re.search(r"[\s{}\x00-\x1f\x7f]", text) or not text.strip(":"):
            raise RequestError(
                f"a key prefix must not be empty or contain spaces or braces: {text!r}",
                hint=f"write it as {PREFIX}",
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
    """The settings of a demo.

    Attributes:
        url: The store; its relative paths start at `folder`.
        keys: The key prefix and the entity.
        batch_ttl_s: TTL of a loaded user, unless a load sets another.
        streaming_ttl_s: TTL of a stream field.
        users_per_tick: Users that act in each tick.
        seed_users: Users loaded at the start.
        reset: Whether to delete the users under the prefix at the start.
        host: Address to listen on.
        port: Port to listen on; 0 for any free port.
        allowed_hosts: Without tokens, further host names by which the page may be opened.
        folder: The folder of the demo's repository.
        tick_s: Seconds between two ticks.
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
    allowed_hosts: tuple[str, ...] = ()
    folder: Path = FOLDER
    tick_s: float = 1.0
