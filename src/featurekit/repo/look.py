"""Looks: what people see of a store that is running. None writes; all but `all_ids` are bounded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from featurekit.plan import RepoPlan
from featurekit.ports import OnlineStore, ReadOptions
from featurekit.repo.explaining import explain
from featurekit.repo.feeds import Feed, feeds
from featurekit.repo.inspection import Inspection
from featurekit.repo.overview import (
    Overview,
    ServerFacts,
    ids_of,
    overview,
    samples_of,
    server_facts,
)
from featurekit.repo.sample import SAMPLE, Sample, sample
from featurekit.wire import command

__all__ = ["Look"]


@dataclass(frozen=True, slots=True)
class Look:
    """What is stored of one applied repository, and how it does."""

    plan: RepoPlan
    store: OnlineStore

    def ping(self, timeout_s: float = 1.0) -> None:
        """Ask the store whether it answers.

        Raises:
            StoreUnavailableError: It did not within that time.
        """
        key = self.plan.prefix.encode()
        self.store.read([key], [command(b"PING")], options=ReadOptions(timeout_s=timeout_s))

    def samples(self, most: int = SAMPLE) -> dict[str, Sample]:
        """Some keys of each entity, at most so many, found by a bounded scan."""
        return samples_of(self.plan, self.store, most)

    def overview(self, samples: dict[str, Sample] | None = None) -> Overview:
        """How many entities, views and fields are stored among those sampled.

        Args:
            samples: What `samples` gave, to look at the same entities again.
        """
        return overview(self.plan, self.store, samples or self.samples())

    def server(self) -> ServerFacts:
        """What the server tells of itself: its version, memory, clients, commands a second."""
        return server_facts(self.store)

    def ids(self, entity: str, most: int = SAMPLE) -> list[str]:
        """Ids of some entities that are stored, as text, parts of composite ids joined by `:`."""
        plan = self.plan.entity(entity)
        return sorted(ids_of(plan.key, sample(self.store, plan.key.scan_pattern(), most).keys))

    def all_ids(self, entity: str) -> Iterator[list[str]]:
        """The ids of all entities that are stored, as `ids` has them, page by page of the scan.

        One may come twice, and one whose last field has just expired may still be among them.
        """
        plan = self.plan.entity(entity)
        for keys in self.store.scan(plan.key.scan_pattern()):
            yield ids_of(plan.key, keys)

    def feeds(self) -> list[Feed]:
        """The streams behind stream views: how long they are, and how far their readers."""
        return feeds(self.plan, self.store)

    def explain(self, inspection: Inspection) -> dict[str, str]:
        """For each field of an inspection that is not simply present, why, in words."""
        return explain(self.plan, inspection)
