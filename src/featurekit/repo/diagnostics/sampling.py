"""Samples of stored keys, found by a bounded `SCAN`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from featurekit.keys import KeyPlan
from featurekit.plan import RepoPlan
from featurekit.ports import OnlineStore

MAX_KEYS = 1000
"""Default number of keys in a sample."""

MAX_PAGES = 100
"""Maximum number of `SCAN` steps: the store may hold many keys of other applications."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Keys of one entity.

    Attributes:
        keys: Distinct keys, in scan order.
        whole: Whether these are all keys of the entity.
        pages: Number of `SCAN` steps.
    """

    keys: tuple[bytes, ...]
    whole: bool
    pages: int


def sample_keys(store: OnlineStore, pattern: str, max_keys: int) -> Sample:
    """Return up to `max_keys` keys that match a glob."""
    keys: dict[bytes, None] = {}
    pages = 0
    for page in islice(store.scan(pattern), MAX_PAGES):
        pages += 1
        keys |= dict.fromkeys(page)
        if len(keys) > max_keys:
            return Sample(tuple(islice(keys, max_keys)), whole=False, pages=pages)
    return Sample(tuple(keys), whole=pages < MAX_PAGES, pages=pages)


def sample_entities(repo: RepoPlan, store: OnlineStore, max_keys: int) -> dict[str, Sample]:
    """Return a sample of each entity."""
    return {e.name: sample_keys(store, e.key.scan_pattern(), max_keys) for e in repo.entities}


def ids_from_keys(plan: KeyPlan, keys: Sequence[bytes]) -> list[str]:
    """Return the ids in keys, in the form that `inspect` accepts. Skips keys that are not UTF-8."""
    head = plan.entity_prefix.encode()
    ids = []
    for key in keys:
        try:
            ids.append(key.removeprefix(head).decode())
        except UnicodeDecodeError:
            continue
    return ids
