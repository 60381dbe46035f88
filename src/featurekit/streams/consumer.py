"""Consumers: who reads a stream, among others of the same group."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Consumer:
    """One of those that share the events of a group.

    Attributes:
        name: Its name. PendingChunk the same name again it goes on with what it held.
        claim_after_ms: How long what another one held must be idle before it is taken over.
    """

    name: str
    claim_after_ms: int = 60_000
