"""A primary and its replicas that sentinels watch, from threads."""

from __future__ import annotations

import random
from collections.abc import Sequence
from time import monotonic
from typing import Any

from typing_extensions import override

from featurekit.errors import StoreUnavailableError
from featurekit.ports import DEFAULT_READ_OPTIONS, ConnectionStats, ReadOptions
from featurekit.stores.connection import (
    ROLE,
    Connection,
    OnReply,
    connect,
    connect_deadline,
    raise_if_not_ready,
)
from featurekit.stores.deadline import Deadline
from featurekit.stores.error_mapping import check_primary, connect_error
from featurekit.stores.options import REPLICA
from featurekit.stores.pool import Pool
from featurekit.stores.redis import RedisStore
from featurekit.stores.sentinels import PrimaryTracker, Sentinels
from featurekit.stores.url import StoreUrl


class SentinelPool(Pool):
    """Links to the server that is the primary now."""

    def __init__(self, url: StoreUrl, sentinels: Sentinels) -> None:
        super().__init__(url)
        self.tracker = PrimaryTracker(url, sentinels.primary)

    @override
    def get(self, deadline: Deadline, now: float) -> Connection:
        self._look_if_due(deadline, now)
        return super().get(deadline, now)

    @override
    def connect(self, deadline: Deadline) -> Connection:
        self._look_if_due(deadline, monotonic())
        generation = self.generation
        try:
            link = self._open(deadline)
        except StoreUnavailableError as error:
            self.tracker.handle_connect_failure(error)
            raise
        link.generation = generation
        return link

    @override
    def put(self, link: Connection) -> None:
        if link.generation == self.generation:
            super().put(link)
        else:
            self.discard(link)

    @override
    def handle_loss(self, link: Connection, error: OSError) -> None:
        self.tracker.invalidate()
        super().handle_loss(link, error)

    @override
    def is_outdated(self, link: Connection) -> bool:
        try:
            self._look_if_due(Deadline(self.url.connect_timeout_s), monotonic())
        except StoreUnavailableError:
            return False
        return super().is_outdated(link)

    def _look_if_due(self, deadline: Deadline, now: float) -> None:
        if self.tracker.claim(now):
            self.tracker.look(deadline)
        if self.generation != self.tracker.generation:
            self.generation = self.tracker.generation
            self.close_idle()

    def _open(self, deadline: Deadline) -> Connection:
        [address] = self.tracker.addresses
        url = self.url.for_server(*address)
        link = connect(url, deadline)
        step = connect_deadline(url, deadline)
        try:
            [role] = link.exchange(ROLE, 1, step.remaining_s())
            check_primary(url, role)
        except OSError as error:
            link.close()
            raise connect_error(url, error, step) from error
        except BaseException:
            link.close()
            raise
        return link


class ReplicaPool(SentinelPool):
    """Links to replicas, each to one of them by chance; to the primary if none is up."""

    def __init__(self, url: StoreUrl, sentinels: Sentinels, primary: Pool) -> None:
        super().__init__(url, sentinels)
        self.tracker = PrimaryTracker(url, sentinels.replicas)
        self._primary = primary

    @override
    def _open(self, deadline: Deadline) -> Connection:
        addresses = self.tracker.addresses
        for address in random.sample(addresses, len(addresses)):
            try:
                return connect(self.url.for_server(*address), deadline)
            except StoreUnavailableError:
                # When it is told of again, that is news, and the primary is left in peace.
                self.tracker.addresses = []
        return self._primary.connect(deadline)


class SentinelStore(RedisStore):
    """An online store on the primary that sentinels name; reads are a replica's if the URL says so."""

    def __init__(self, url: StoreUrl) -> None:
        sentinels = Sentinels(url)
        primary = SentinelPool(url, sentinels)
        super().__init__(url, primary)
        self._tracker = primary.tracker
        self._replicas = (
            RedisStore(url, ReplicaPool(url, sentinels, primary))
            if url.read_from == REPLICA
            else None
        )

    @property
    @override
    def connection_stats(self) -> ConnectionStats:
        own = super().connection_stats
        return own + self._replicas.connection_stats if self._replicas is not None else own

    @property
    def server(self) -> StoreUrl:
        """Where the primary is, as last told; the store's own URL before the first call."""
        addresses = self._tracker.addresses
        return self.url.for_server(*addresses[0]) if addresses else self.url

    @override
    def describe(self) -> str:
        known = self.server is not self.url
        return f"{self.url}, whose primary is {self.server.address}" if known else str(self.url)

    @override
    def read(
        self,
        keys: Sequence[bytes],
        requests: Sequence[bytes],
        on_reply: OnReply = None,
        *,
        replies_per_request: int = 1,
        options: ReadOptions = DEFAULT_READ_OPTIONS,
    ) -> list[Any]:
        if self._replicas is None:
            return super().read(
                keys, requests, on_reply, replies_per_request=replies_per_request, options=options
            )
        return self._replicas.read(
            keys,
            requests,
            raise_if_not_ready(on_reply),
            replies_per_request=replies_per_request,
            options=options,
        )

    @override
    def close(self) -> None:
        super().close()
        if self._replicas is not None:
            self._replicas.close()
