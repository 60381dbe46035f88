"""Routes: what is known of a cluster's servers at a moment, and who is asked for what."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import count
from time import monotonic

from featurekit.errors import StoreUnavailableError
from featurekit.stores.cluster.routed_requests import Route
from featurekit.stores.cluster.topology import NOBODY, Topology, find_topology
from featurekit.stores.deadline import Deadline
from featurekit.stores.url import Address, StoreUrl

FRESH_S = 0.1
"""A topology younger than this is not asked for again."""

AWAY_S = 1.0
"""How long a replica that gave no answer is left alone."""


class Routes:
    """The topology of one cluster, and which of its replicas are away.

    Attributes:
        known: The topology as last found; `None` before it was first asked for.
    """

    def __init__(self, url: StoreUrl) -> None:
        self._url = url
        self._away: dict[Address, float] = {}
        self._turns = count()
        self.known: Topology | None = None

    def newer_than(self, seen: Topology | None) -> Topology | None:
        """The known topology, if it is another than the one seen or too fresh to be asked for."""
        known = self.known
        if known is None or (known is seen and monotonic() - known.found_at >= FRESH_S):
            return None
        return known

    def known_or_fail(self) -> Topology:
        """The known topology, for a call that has no time to wait until it is found.

        Raises:
            StoreUnavailableError: None is known.
        """
        if self.known is None:
            raise StoreUnavailableError(f"no server of {self._url} has answered yet")
        return self.known

    def find(self, deadline: Deadline, away: Iterable[Address] = ()) -> Topology:
        """Ask for the topology; if nobody tells, the known one stays.

        Args:
            deadline: That of the call that needs it.
            away: Servers that gave no answer just now, who are asked last.

        Raises:
            StoreError: Nobody tells, and none is known.
        """
        known = self.known
        candidates = [*(known.addresses if known else ()), *self._url.hosts]
        try:
            found = find_topology(self._url, candidates, deadline, away)
        except StoreUnavailableError:
            if known is None:
                raise
            return known
        self.known = found
        return found

    def route(self, topology: Topology, *, replicas: bool) -> Route:
        """From a shard to the server of it to be asked: replicas take turns, if they are to be."""
        if not replicas:
            return topology.primary_of
        turn, now, away = next(self._turns), monotonic(), self._away

        def route(owner: int) -> Address:
            shard = topology.shards[owner]
            fit = [each for each in shard.replicas if away.get(each, 0.0) <= now]
            return fit[turn % len(fit)] if fit else shard.primary

        return route

    def leave_alone(self, silent: Iterable[Address], topology: Topology) -> None:
        """Ask no replica that gave no answer, for a moment."""
        until, primaries = monotonic() + AWAY_S, set(topology.primaries)
        self._away |= {each: until for each in silent if each not in primaries}

    @staticmethod
    def servers_of(topology: Topology, keys: Sequence[bytes]) -> list[Address | None]:
        """The primary of each key; `None` where nobody serves its slot."""
        places = [shard.primary for shard in topology.shards]
        owners = topology.owners_of(keys)
        return [places[owner] if owner != NOBODY else None for owner in owners]
