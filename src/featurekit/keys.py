"""Keys: how join keys become the one key of an entity's hash.

`{prefix}:{entity}:{id}`. The encoding is injective: no two entities share a key. It is a
promise to every store already written; docs/wire-format.md, "Keys", is its text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from featurekit.dtypes import DType


@dataclass(frozen=True, slots=True)
class JoinKey:
    """One join key: its name and its type (one of `dtypes.KEY_TYPES`)."""

    name: str
    dtype: DType


@dataclass(frozen=True, slots=True)
class KeyPlan:
    """How the keys of one entity are made.

    Attributes:
        prefix: The store's key prefix, as `fs`.
        entity: The entity's name.
        join_keys: In declared order; more than one makes a composite key.
        tag: A literal hash tag, as `vip` in `fs:user:{vip}:u0001`; may be empty.
        tagged: The index of the join key whose part is the hash tag; -1 for none.
    """

    prefix: str
    entity: str
    join_keys: tuple[JoinKey, ...]
    tag: str = ""
    tagged: int = -1

    @property
    def head(self) -> str:
        """All of the key that comes before the id."""
        tag = f"{{{self.tag}}}:" if self.tag else ""
        return f"{self.prefix}:{self.entity}:{tag}"

    @property
    def escapes(self) -> dict[str, str]:
        """What is escaped in each part of the id; nothing in the id of a single join key."""
        if self.tagged >= 0:
            return {"%": "%25", ":": "%3A", "{": "%7B", "}": "%7D"}
        if len(self.join_keys) > 1:
            return {"%": "%25", ":": "%3A"}
        return {}

    def key(self, parts: Sequence[str]) -> bytes:
        """The key for the texts of the join keys, in declared order; none may be empty."""
        table = str.maketrans(self.escapes)
        texts = [part.translate(table) for part in parts]
        if self.tagged >= 0:
            texts[self.tagged] = f"{{{texts[self.tagged]}}}"
        return (self.head + ":".join(texts)).encode()

    def pattern(self) -> str:
        """A glob that matches the keys of this entity and no others."""
        return glob_escape(self.head) + "*"


def glob_escape(text: str) -> str:
    r"""Text as a glob that matches just itself.

    Examples:
        >>> glob_escape("a*b")
        'a\\*b'
    """
    return re.sub(r"([\\*?\[\]^-])", r"\\\1", text)
