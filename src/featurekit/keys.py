"""Keys of entity hashes: `{prefix}:{entity}:{id}`; and default names of dead letters.

The encoding is injective: two entities never share a key. It is a promise to every store
already written; docs/wire-format.md, "Keys", specifies it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from featurekit.types import DType


@dataclass(frozen=True, slots=True)
class JoinKey:
    """A join key: its name and its type, one of `types.KEY_TYPES`."""

    name: str
    dtype: DType


@dataclass(frozen=True, slots=True)
class KeyPlan:
    """How to build the keys of one entity.

    Attributes:
        prefix: The store's key prefix, such as `fs`.
        entity: The entity's name.
        join_keys: In declared order; more than one makes a composite key, none makes one key for
            a view without an entity.
        hash_tag: A literal hash tag, such as `vip` in `fs:user:{vip}:u0001`.
        hash_tag_index: The index of the join key that is the hash tag.
    """

    prefix: str
    entity: str
    join_keys: tuple[JoinKey, ...]
    hash_tag: str | None = None
    hash_tag_index: int | None = None

    @property
    def entity_prefix(self) -> str:
        """The part of every key that precedes the id; the whole key if there are no join keys."""
        if not self.join_keys:
            return f"{self.prefix}:{self.entity}"
        tag = f"{{{self.hash_tag}}}:" if self.hash_tag else ""
        return f"{self.prefix}:{self.entity}:{tag}"

    @property
    def escapes(self) -> dict[str, str]:
        """Characters to escape in each part of an id; empty for a single join key."""
        if self.hash_tag_index is not None:
            return {"%": "%25", ":": "%3A", "{": "%7B", "}": "%7D"}
        if len(self.join_keys) > 1:
            return {"%": "%25", ":": "%3A"}
        return {}

    def key(self, parts: Sequence[str]) -> bytes:
        """Return the key for the text of each join key, in declared order; none may be empty."""
        table = str.maketrans(self.escapes)
        texts = [part.translate(table) for part in parts]
        if self.hash_tag_index is not None:
            texts[self.hash_tag_index] = f"{{{texts[self.hash_tag_index]}}}"
        return (self.entity_prefix + ":".join(texts)).encode()

    def scan_pattern(self) -> str:
        """Return a glob that matches the keys of this entity and no others."""
        return escape_glob(self.entity_prefix) + ("*" if self.join_keys else "")


def escape_glob(text: str) -> str:
    r"""Return a glob that matches exactly `text`.

    Examples:
        >>> escape_glob("a*b")
        'a\\*b'
    """
    return re.sub(r"([\\*?\[\]^-])", r"\\\1", text)


def default_dead_letter(kind: str, name: str) -> str:
    """Return the name of the dead letters of a stream (`redis_stream`) or topic (`kafka`)."""
    return f"{name}.dead" if kind == "kafka" else f"{name}:dead"
