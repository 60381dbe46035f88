"""A primary and its replicas that sentinels watch, from threads."""

from __future__ import annotations

import random
from collections.abc import Sequence
from time import monotonic
from typing import Any

from typing_extensions import override

from featurekit.errors import StoreUnavailableError
from featurekit.ports import DEFAULT_READ_OPTIONS, ReadOptions, Traffic
from featurekit.stores.connection import ROLE, Connection, Take, connect, connecting, unless_away
from featurekit.stores.deadline import Deadline
from featurekit.stores.error_mapping import check_primary, unconnected
from featurekit.stores.options import REPLICA
from featurekit.stores.pool import Pool
from featurekit.stores.redis import RedisStore
from featurekit.stores.sentinels import PrimaryTracker, Sentinels
from featurekit.stores.url import StoreUrl


class SentinelPool(Pool):
    """Links to the server that is the primary now."""

    def __init__(self, url: StoreUrl, sentinels: Sentinels) -> None:
        super().__init__(url)
        self.whereabouts = PrimaryTracker(url, sentinels.primary)

    @override
    def take(self, patience: Deadline, now: float) -> Connection:
        self._look_if_due(patience, now)
        return super().take(patience, now)

    @override
    def connect(self, patience: Deadline) -> Connection:
        self._look_if_due(patience, monotonic())
        era = self.era
        try:
            link = self._open(patience)
        except StoreUnavailableError as error:
            self.whereabouts.missed(error)
            raise
        link.era = era
        return link

    @override
    def give(self, link: Connection) -> None:
        if link.era == self.era:
            super().give(link)
        else:
            self.discard(link)

    @override
    def lost(self, link: Connection, error: OSError) -> None:
        self.whereabouts.doubt()
        super().lost(link, error)

    @override
    def moved(self, link: Connection) -> bool:
        try:
            self._look_if_due(Deadline(self.url.connect_timeout_s), monotonic())
        except StoreUnavailableError:
            return False
        return super().moved(link)

    def _look_if_due(self, patience: Deadline, now: float) -> None:
        if self.whereabouts.claim(now):
            self.whereabouts.look(patience)
        if self.era != self.whereabouts.era:
            self.era = self.whereabouts.era
            self.drop()

    def _open(self, patience: Deadline) -> Connection:
        [address] = self.whereabouts.addresses
        url = self.url.at(*address)
        link = connect(url, patience)
        step = connecting(url, patience)
        try:
            [role] = link.exchange(ROLE, 1, step.left_s())
            check_primary(url, role)
        except OSError as error:
            link.close()
            raise unconnected(url, error, step) from error
        except BaseException:
            link.close()
            raise
        return link


class ReplicaPool(SentinelPool):
    """Links to replicas, each to one of them by chance; to the primary if none is up."""

    def __init__(self, url: StoreUrl, sentinels: Sentinels, primary: Pool) -> None:
        super().__init__(url, sentinels)
        self.whereabouts = PrimaryTracker(url, sentinels.replicas)
        self._primary = primary

    @override
    def _open(self, patience: Deadline) -> Connection:
        addresses = self.whereabouts.addresses
        for address in random.sample(addresses, len(addresses)):
            try:
                return connect(self.url.at(*address), patience)
            except StoreUnavailableError:
                # When it is told of again, that is news, and the primary is left in peace.
                self.whereabouts.addresses = []
        return self._primary.connect(patience)


class SentinelStore(RedisStore):
    """An online store on the primary that sentinels name; reads are a replica's if the URL says so."""

    def __init__(self, url: StoreUrl) -> None:
        sentinels = Sentinels(url)
        primary = SentinelPool(url, sentinels)
        super().__init__(url, primary)
        self._whereabouts = primary.whereabouts
        self._replicas = (
            RedisStore(url, ReplicaPool(url, sentinels, primary))
            if url.read_from == REPLICA
            else None
        )

    @property
    @override
    def traffic(self) -> Traffic:
        own = super().traffic
        return own + self._replicas.traffic if self._replicas is not None else own

    @property
    def server(self) -> StoreUrl:
        """Where the primary is, as last told; the store's own URL before the first call."""
        addresses = self._whereabouts.addresses
        return self.url.at(*addresses[0]) if addresses else self.url

    @override
    def describe(self) -> str:
        known = self.server is not self.url
        return f"{self.url}, whose primary is {self.server.address}" if known else str(self.url)

    @override
    def read(
        self,
        keys: Sequence[bytes],
        requests: Sequence[bytes],
        take: Take = None,
        *,
        width: int = 1,
        terms: ReadOptions = DEFAULT_READ_OPTIONS,
    ) -> list[Any]:
        if self._replicas is None:
            return super().read(keys, requests, take, width=width, terms=terms)
        return self._replicas.read(keys, requests, unless_away(take), width=width, terms=terms)

    @override
    def close(self) -> None:
        super().close()
        if self._replicas is not None:
            self._replicas.close()
