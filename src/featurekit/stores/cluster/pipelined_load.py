"""Send the chunks of a load to the servers of a cluster, each row to the server of its slot.

A row that its server did not execute, because the slot has moved or the server is gone, is sent
again as a routed request once everything under way is answered: together with the later rows of the
same key, so that the last one wins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from typing_extensions import override

from featurekit.errors import StoreUnavailableError
from featurekit.ports import Chunk
from featurekit.stores.cluster.node_pool import NodePool
from featurekit.stores.cluster.routed_requests import Redirect, RoutedRequests, to_error_reply
from featurekit.stores.permits import NO_PERMIT, HeldPermit
from featurekit.stores.pipelined_load import (
    NodeStream,
    PendingChunk,
    PipelinedLoad,
    parse_replies,
)
from featurekit.stores.url import Address, StoreUrl


@dataclass(slots=True)
class RoutedChunk(PendingChunk):
    """A pending chunk whose rows go to different servers; each row gets one reply of one line.

    Attributes:
        keys: The key of each row.
        spans: Where the bytes of each row begin and end.
    """

    keys: Sequence[bytes] = ()
    spans: Sequence[tuple[int, int]] = ()

    @override
    def data(self, indices: Sequence[int]) -> bytes | memoryview:
        data = self.chunk.data
        if len(indices) == len(self.spans):
            return data
        view, spans = memoryview(data), self.spans
        return b"".join([view[slice(*spans[index])] for index in indices])

    @override
    def parse(self, data: bytes, count: int) -> list[Any]:
        return parse_replies(data, count, to_error_reply)

    @override
    def add_part(self, indices: Sequence[int], data: bytes) -> None:
        PendingChunk.add_part(self, indices, data)
        replies = self._answers[-1][1]
        if isinstance(replies, list):
            self.resend.update(
                index
                for index, reply in zip(indices, replies, strict=True)
                if isinstance(reply, Redirect)
            )


class ClusterPipelinedLoad(PipelinedLoad):
    """A load into a cluster.

    Args:
        url: The cluster's URL, with `load_timeout_s` and `retries`.
        locate: Returns the primary of each key; `None` for a slot without a server.
        node_pool: Returns the connection pool of a server.
        execute: Executes routed requests, retrying for as long as a load may wait.
        has_lost_slots: Returns whether a server is not a primary any more.
    """

    def __init__(
        self,
        url: StoreUrl,
        locate: Callable[[Sequence[bytes]], list[Address | None]],
        node_pool: Callable[[Address], NodePool],
        execute: Callable[[RoutedRequests], list[Any]],
        has_lost_slots: Callable[[Address], bool],
    ) -> None:
        super().__init__(url)
        self._locate, self._node_pool = locate, node_pool
        self._execute, self._has_lost_slots = execute, has_lost_slots
        self._permits: dict[Address, HeldPermit] = {}

    @override
    def prepare(self, chunk: Chunk) -> RoutedChunk:
        assert chunk.row_spans  # noqa: S101 - chunks for a cluster are built with it
        keys, ends = chunk.row_spans()
        return RoutedChunk(chunk, keys=keys, spans=list(pairwise([0, *ends])))

    @override
    def route(self, pending: PendingChunk) -> Iterable[tuple[Address, Sequence[int]]]:
        assert isinstance(pending, RoutedChunk)  # noqa: S101 - made by `prepare`
        groups: dict[Address | None, list[int]] = {}
        for index, address in enumerate(self._locate(pending.keys)):
            groups.setdefault(address, []).append(index)
        pending.resend.update(groups.pop(None, ()))
        return [(address, indices) for address, indices in groups.items() if address is not None]

    @override
    def send(self, address: Address, pending: PendingChunk, indices: Sequence[int]) -> None:
        try:
            super().send(address, pending, indices)
        except StoreUnavailableError:
            pending.resend.update(indices)

    @override
    def pool_of(self, address: Address) -> NodePool:
        return self._node_pool(address)

    @override
    def open(self, address: Address) -> NodeStream:
        permit = self.pool_of(address).acquire_permit(self.deadline)
        try:
            stream = super().open(address)
        except BaseException:
            permit.release()
            raise
        self._permits[address] = permit
        return stream

    @override
    def detach(self, address: Address, error: OSError | None = None) -> NodeStream:
        stream = super().detach(address, error)
        self._permits.pop(address, NO_PERMIT).release()
        return stream

    @override
    def is_replaced(self, address: Address, stream: NodeStream) -> bool:
        return self._has_lost_slots(address)

    @override
    def is_fatal(self, error: OSError) -> bool:
        return not self.url.retries

    @override
    def send_again(self) -> None:
        if self.before_send is not None:
            self.before_send()
        rows: list[tuple[RoutedChunk, int]] = []
        keys: set[bytes] = set()
        for pending in self.pending:
            assert isinstance(pending, RoutedChunk)  # noqa: S101 - made by `prepare`
            for index, key in enumerate(pending.keys):
                if index in pending.resend or key in keys:
                    keys.add(key)
                    rows.append((pending, index))
        requests = RoutedRequests(
            [pending.keys[index] for pending, index in rows],
            [bytes(pending.data([index])) for pending, index in rows],
            ordered=True,
        )
        for (pending, index), reply in zip(rows, self._execute(requests), strict=True):
            pending.add_reply(index, reply)
