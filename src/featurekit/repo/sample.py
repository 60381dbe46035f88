"""Samples: some of the entities that are stored, found by a bounded scan."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice

from featurekit.ports import OnlineStore

SAMPLE = 1000
"""Entities looked at, at most."""

PAGES = 100
"""Steps of `SCAN`, at most: a store may hold many keys of others."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Keys of one entity.

    Attributes:
        keys: Each once, in no order that means anything.
        whole: Whether these are all that there were.
        pages: Steps of the scan that it took.
    """

    keys: tuple[bytes, ...]
    whole: bool
    pages: int


def sample(store: OnlineStore, pattern: str, most: int = SAMPLE) -> Sample:
    """Up to `most` keys that match a glob."""
    keys: dict[bytes, None] = {}
    pages = 0
    for page in islice(store.scan(pattern), PAGES):
        pages += 1
        keys |= dict.fromkeys(page)
        if len(keys) > most:
            break
    else:
        return Sample(tuple(keys), whole=pages < PAGES, pages=pages)
    return Sample(tuple(islice(keys, most)), whole=False, pages=pages)
