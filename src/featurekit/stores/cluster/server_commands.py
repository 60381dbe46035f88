"""What a store on a cluster offers threads beyond `run` and `read`: loads and administration."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from time import monotonic, sleep
from typing import Any

from typing_extensions import override

from featurekit.errors import StoreUnavailableError
from featurekit.ports import BeforeSend, Capabilities, Chunk, KeyedCommand, OnlineStore
from featurekit.stores.cluster.client import ClusterClient
from featurekit.stores.cluster.node_pool import NodePool
from featurekit.stores.cluster.pipelined_load import ClusterPipelinedLoad
from featurekit.stores.cluster.retry import DEFAULT_CALL_OPTIONS, CallOptions
from featurekit.stores.cluster.routed_requests import RoutedRequests
from featurekit.stores.cluster.topology import MIN_REFRESH_S, Topology, key_on_server
from featurekit.stores.deadline import Deadline
from featurekit.stores.error_mapping import unavailable_error
from featurekit.stores.probe import fetch_capabilities, verify_row_writes
from featurekit.stores.server_commands import scan_pages
from featurekit.stores.url import Address, StoreUrl
from featurekit.wire import Reply, parse_info, text_command


class ClusterCommands(ClusterClient[NodePool], OnlineStore):
    """Base of `ClusterStore`: all calls that wait `load_timeout_s`, not `timeout_s`, for replies."""

    _capabilities: Capabilities | None = None
    _checked_prefixes: frozenset[str] = frozenset()

    def __init__(self, url: StoreUrl, make_pool: Callable[..., NodePool]) -> None:
        super().__init__(url, make_pool)
        self._maintenance = Deadline(url.load_timeout_s, url.retries)

    @abstractmethod
    def execute(
        self,
        requests: RoutedRequests,
        deadline: Deadline,
        options: CallOptions = DEFAULT_CALL_OPTIONS,
    ) -> list[Any]:
        """Send requests, as often as necessary, and return their replies."""

    @abstractmethod
    def refresh(
        self, seen: Topology | None, deadline: Deadline, unresponsive: Sequence[Address] = ()
    ) -> Topology:
        """Request the topology, unless another call did since `seen`, or a moment ago."""

    @property
    @override
    def capabilities(self) -> Capabilities:
        if self._capabilities is None:
            each = [
                fetch_capabilities(
                    partial(self._exchange, address), str(self.url.for_server(*address))
                )
                for address in self._primaries()
            ]
            versions = " and ".join(sorted({one.server for one in each}))
            self._capabilities = Capabilities(
                hsetex=all(one.hsetex for one in each),
                transactions=False,
                server=f"{versions}, a cluster of {len(each)} primaries",
            )
        return self._capabilities

    @override
    def call(self, *args: str | int | bytes, key: str | bytes = b"") -> Reply:
        for pool in list(self.pools.values()):
            pool.close_idle(stale_only=True)
        routed = RoutedRequests(
            [key.encode() if isinstance(key, str) else key], [text_command(*args)]
        )
        deadline = Deadline(self.url.load_timeout_s)
        reply: Reply = self.execute(routed, deadline, CallOptions(once=True))[0]
        return reply

    @override
    def call_many(self, commands: Sequence[KeyedCommand]) -> list[Any]:
        return [
            self.call(*args, key=key) if key else self._ask_all_or_none(text_command(*args))
            for key, args in commands
        ]

    @override
    def run_admin(self, keys: Sequence[bytes], requests: Sequence[bytes]) -> list[Reply]:
        return self.execute(RoutedRequests(keys, requests, ordered=True), self._maintenance)

    @override
    def check_writable(self, prefix: str) -> None:
        if prefix in self._checked_prefixes:
            return
        capabilities, end = self.capabilities, monotonic() + self.url.load_timeout_s
        while True:
            topology = self.refresh(self.topologies.known, self._maintenance)
            try:
                for address in topology.primaries:
                    key = key_on_server(topology, address, f"{prefix}:@probe:")
                    exchange = partial(self._exchange, address)
                    verify_row_writes(exchange, self.url.for_server(*address), capabilities, key)
            except StoreUnavailableError:
                if monotonic() > end:
                    raise
                sleep(MIN_REFRESH_S)
            else:
                break
        self._checked_prefixes |= {prefix}

    @override
    def load(
        self, chunks: Iterable[Chunk], before_send: BeforeSend | None = None
    ) -> Iterator[tuple[Chunk, list[Reply] | None]]:
        load = ClusterPipelinedLoad(
            self.url, self._locate, self.pool, self._execute_patiently, self._has_lost_slots
        )
        load.before_send = before_send
        try:
            yield from load.run(iter(chunks))
        finally:
            load.close()

    @override
    def info(self, section: str) -> list[dict[str, str]]:
        return [parse_info(reply) for reply in self._ask_all(text_command("INFO", section))]

    @override
    def scan(self, pattern: str) -> Iterator[list[bytes]]:
        scans = [
            scan_pages(
                partial(self._exchange, address), pattern, str(self.url.for_server(*address))
            )
            for address in self._primaries()
        ]
        while scans:
            # In turns, so that a caller that takes a few pages sees keys of every server.
            for scan in list(scans):
                if (page := next(scan, None)) is None:
                    scans.remove(scan)
                else:
                    yield page

    def _ask_all(self, request: bytes) -> list[Reply]:
        return [self._exchange(each, request, 1)[0] for each in self._primaries()]

    def _ask_all_or_none(self, request: bytes) -> list[Reply]:
        try:
            return self._ask_all(request)
        except StoreUnavailableError:  # a load goes on if a server fails over at its start
            return []

    def _primaries(self) -> list[Address]:
        """Return the primaries as of now; without a key, no server would answer `MOVED`."""
        return self.refresh(self.topologies.known, self._maintenance).primaries

    def _locate(self, keys: Sequence[bytes]) -> list[Address | None]:
        topology = self.topologies.known or self.refresh(None, self._maintenance)
        return topology.primaries_of(keys)

    def _execute_patiently(self, requests: RoutedRequests) -> list[Any]:
        """Execute what a load sends again, for as long as a load may wait."""
        deadline = Deadline.for_call(self.url.load_timeout_s, self.url.retries)
        return self.execute(requests, deadline)

    def _has_lost_slots(self, address: Address) -> bool:
        """Return whether a silent server is not a primary any more."""
        topology = self.refresh(self.topologies.known, self._maintenance, [address])
        return address not in topology.primaries

    def _exchange(self, address: Address, data: bytes, replies: int) -> list[Reply]:
        """Send a request to one server, regardless of its keys; retry if the connection breaks."""
        pool, retries = self.pool(address), self.url.retries
        while True:
            connection = pool.acquire(self._maintenance)
            try:
                values = connection.exchange(data, replies, self.url.load_timeout_s)
            except OSError as error:
                pool.release_failed(connection, error)
                retries -= 1
                if retries < 0 or isinstance(error, TimeoutError):
                    raise unavailable_error(
                        pool.url, "waiting for replies", self._maintenance, error
                    ) from error
            except BaseException:
                pool.abandon(connection)
                raise
            else:
                pool.release(connection)
                return values
