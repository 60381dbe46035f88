# Generated from sentinel_async.py by featurekit.codegen.unasync: edit that file.
"""A primary and its replicas that sentinels watch, from threads."""

from __future__ import annotations

import random
from time import monotonic

from typing_extensions import override

from featurekit.errors import StoreUnavailableError
from featurekit.store_options import REPLICA
from featurekit.stores.connect import connect, connect_deadline
from featurekit.stores.connection import ROLE, Connection
from featurekit.stores.deadline import Deadline
from featurekit.stores.error_mapping import check_primary, connect_error
from featurekit.stores.pool import Pool
from featurekit.stores.redis import RedisStore
from featurekit.stores.sentinels import PrimaryTracker, Sentinels
from featurekit.stores.url import StoreUrl


class SentinelPool(Pool):
    """Connections to the current primary."""

    def __init__(self, url: StoreUrl, sentinels: Sentinels) -> None:
        super().__init__(url)
        self.tracker = PrimaryTracker(url, sentinels.primary)

    @override
    def get_idle(self, now: float) -> Connection | None:
        return super().get_idle(now) if self.is_settled(now) else None

    @override
    def is_settled(self, now: float) -> bool:
        return not self.tracker.is_due(now) and self.tracker.generation == self.generation

    @override
    def connect(self, deadline: Deadline) -> Connection:
        self.follow_server(deadline, monotonic())
        generation = self.generation
        try:
            connection = self._open_connection(deadline)
        except StoreUnavailableError as error:
            self.tracker.handle_connect_failure(error)
            raise
        connection.generation = generation
        return connection

    @override
    def put(self, connection: Connection) -> None:
        if connection.generation == self.generation:
            super().put(connection)
        else:
            self.discard(connection)

    @override
    def handle_loss(self, connection: Connection, error: OSError) -> None:
        self.tracker.invalidate()
        super().handle_loss(connection, error)

    @override
    def follow_server(self, deadline: Deadline, now: float) -> None:
        if self.tracker.claim_lookup(now):
            self.tracker.refresh(deadline)
        if self.generation != self.tracker.generation:
            self.generation = self.tracker.generation
            self.close_idle()

    def _open_connection(self, deadline: Deadline) -> Connection:
        [address] = self.tracker.addresses
        url = self.url.for_server(*address)
        connection = connect(url, deadline)
        limits = connect_deadline(url, deadline)
        try:
            [role] = connection.exchange(ROLE, 1, limits.remaining_s())
            check_primary(url, role)
        except OSError as error:
            connection.close()
            raise connect_error(url, error, limits) from error
        except BaseException:
            connection.close()
            raise
        return connection


class ReplicaPool(SentinelPool):
    """Connections to replicas, each chosen at random; to the primary if no replica answers."""

    def __init__(self, url: StoreUrl, sentinels: Sentinels, primary: Pool) -> None:
        super().__init__(url, sentinels)
        self.tracker = PrimaryTracker(url, sentinels.replicas)
        self._primary = primary

    @override
    def _open_connection(self, deadline: Deadline) -> Connection:
        addresses = self.tracker.addresses
        for address in random.sample(addresses, len(addresses)):
            try:
                return connect(self.url.for_server(*address), deadline)
            except StoreUnavailableError:
                # The next list of replicas is then new, so that reads leave the primary again.
                self.tracker.addresses = []
        return self._primary.connect(deadline)


class SentinelStore(RedisStore):
    """An online store on the primary that sentinels report; replicas answer reads if the URL says so."""

    def __init__(self, url: StoreUrl) -> None:
        sentinels = Sentinels(url)
        primary = SentinelPool(url, sentinels)
        from_replicas = url.read_from == REPLICA
        replicas = ReplicaPool(url, sentinels, primary) if from_replicas else None
        super().__init__(url, primary, replicas)
        self._tracker = primary.tracker

    @property
    def server(self) -> StoreUrl:
        """The primary's URL as last reported; the store's own URL before the first call."""
        addresses = self._tracker.addresses
        return self.url.for_server(*addresses[0]) if addresses else self.url

    @override
    def describe(self) -> str:
        server = self.server
        if server is self.url:
            return str(self.url)
        return f"{self.url}, whose primary is {server.address}"
