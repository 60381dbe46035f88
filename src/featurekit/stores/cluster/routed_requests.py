"""Route requests to the servers of a cluster, and interpret their replies; without I/O.

States of a request, driven by `ClusterStore.execute`:

    to do --batches()--> sent to the primary or replica of its slot
      ^                     |
      |                     +-- a value or an ordinary error: answered, final
      |                     +-- MOVED, ASK: send it to the server named, with ASKING after ASK
      |                     +-- NOSCRIPT: send it again after SCRIPT LOAD
      |                     +-- TRYAGAIN, LOADING, CLUSTERDOWN, ...: send it again after a pause
      +---- plan_retry() ---+-- no reply: refresh the topology, send it again, or give_up()

Invariants: every request ends with exactly `replies_per_request` values, in the order of the
requests. With `ordered=True`, requests of one key take effect in their order: if one must be sent
again, so must all later ones of its key.

Rejected: redis-py's cluster client, which parses and retries command by command and costs four
times as much; and one `Future` per request, since batches need one per server.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from featurekit.errors import StoreUnavailableError
from featurekit.lower.scripts import loaded_scripts
from featurekit.stores.cluster.topology import UNSERVED, Route, Topology, slot_of
from featurekit.stores.connection import OnReply, unavailable_replies
from featurekit.stores.error_mapping import NOT_READY_HINTS
from featurekit.stores.url import Address
from featurekit.wire import ErrorReply, command, first_error, split_commands

TRANSIENT = {"CLUSTERDOWN", "READONLY", "TRYAGAIN", *NOT_READY_HINTS}
"""Error codes of a server that may execute the request a moment later, or another server may."""

REDIRECTS = {"MOVED", "ASK", "NOSCRIPT"} | TRANSIENT
ASKING = command(b"ASKING")


class Redirect(ErrorReply):
    """An error reply after which the request is sent again."""

    @property
    def slot(self) -> int:
        """The slot that `MOVED` and `ASK` name."""
        return int(str(self).split()[1])

    def target(self, sender: Address) -> Address:
        """Return the server that `MOVED` and `ASK` name; an empty host means the sender's."""
        host, _, port = str(self).split()[2].rpartition(":")
        return host.strip("[]") or sender[0], int(port)


def to_error_reply(text: str) -> ErrorReply:
    """Return an error as a `Redirect` if it is one; the error type of a cluster's reply parsers."""
    return Redirect(text) if text.partition(" ")[0] in REDIRECTS else ErrorReply(text)


@dataclass(slots=True)
class NodeBatch:
    """Requests that are sent to one server together.

    Attributes:
        address: The server.
        indices: The requests, by their index.
        data: Their bytes.
        reply_count: The number of replies to `data`.
        replies_per_request: The number of replies to each request; 0 if they differ.
        preamble_replies: The number of replies that precede those of the requests.
        asking: Whether `ASKING` precedes each command.
    """

    address: Address
    indices: list[int]
    data: bytes
    reply_count: int
    replies_per_request: int
    preamble_replies: int = 0
    asking: bool = False

    @property
    def is_plain(self) -> bool:
        """Whether its replies are exactly those of its requests."""
        return not (self.preamble_replies or self.asking)


RedirectedRequest = tuple[Address, int, Redirect]
"""The server that answered, the index of the request, and the answer."""


class RoutedRequests:
    """Requests, and the replies they have so far.

    Args:
        keys: The key of each request.
        requests: Each is one or more commands.
        replies_per_request: The number of replies to each request; a sequence if they differ.
        on_reply: Converts each reply.
        ordered: Whether requests of one key must take effect in their order.

    Attributes:
        replies: The converted replies, in the order of the requests.
        todo: The requests to send, by their index.
        transient: Requests that a server cannot execute now: index to `(server, error)`.
        unknown_primary: Whether a slot has moved to a server that was not known as a primary.
    """

    __slots__ = (
        "_keys", "_lacks_scripts", "_on_reply", "_ordered", "_redirected", "_replies_per_request",
        "_requests", "_starts", "replies", "todo", "transient", "unknown_primary",
    )  # fmt: skip

    def __init__(
        self,
        keys: Sequence[bytes],
        requests: Sequence[bytes],
        replies_per_request: int | Sequence[int] = 1,
        on_reply: OnReply = None,
        *,
        ordered: bool = False,
    ) -> None:
        self._keys, self._requests, self._on_reply = keys, requests, on_reply
        self._ordered = ordered
        self._replies_per_request = 0
        self._starts: list[int] = []
        if isinstance(replies_per_request, int):
            self._replies_per_request = replies_per_request
            count = len(requests) * replies_per_request
        else:
            self._starts = [0, *accumulate(replies_per_request)]
            count = self._starts[-1]
        self.replies: list[Any] = [None] * count
        self.todo: Sequence[int] = range(len(requests))
        self.transient: dict[int, tuple[Address, Redirect]] = {}
        self.unknown_primary = False
        self._redirected: dict[bytes, tuple[Address, bool]] = {}
        self._lacks_scripts: set[Address] = set()

    def on_reply(self, batch: NodeBatch) -> OnReply:
        """Return what converts the replies to a batch as they arrive."""
        on_reply = self._on_reply
        if on_reply is None or not batch.is_plain:
            return None
        return lambda reply: reply if reply.__class__ is Redirect else on_reply(reply)

    def batches(self, topology: Topology, route: Route) -> tuple[list[NodeBatch], list[int]]:
        """Return what to send now, and the requests whose slot no server serves."""
        todo, keys = self.todo, self._keys
        batches = []
        if self._redirected:
            batches = self._redirected_batches()
            todo = [index for index in todo if keys[index] not in self._redirected]
            self._redirected = {}
        if len(todo) != len(keys):
            keys = [keys[index] for index in todo]
        groups: dict[int, list[int]] = {}
        for index, owner in zip(todo, topology.owners_of(keys), strict=True):
            try:
                groups[owner].append(index)
            except KeyError:
                groups[owner] = [index]
        unserved = groups.pop(UNSERVED, [])
        batches += [self._batch(route(owner), group) for owner, group in groups.items()]
        return batches, unserved

    def _redirected_batches(self) -> list[NodeBatch]:
        """Return what goes to the servers that `MOVED` and `ASK` named, despite the topology."""
        groups: dict[tuple[Address, bool], list[int]] = {}
        for index in self.todo:
            if (target := self._redirected.get(self._keys[index])) is not None:
                groups.setdefault(target, []).append(index)
        return [
            self._batch(address, group, asking=asking)
            for (address, asking), group in groups.items()
        ]

    def apply_replies(self, batch: NodeBatch, values: list[Any]) -> list[tuple[int, Redirect]]:
        """Store the replies to a batch.

        Args:
            batch: What was sent.
            values: All of its replies, as `on_reply(batch)` converted them.

        Returns:
            The requests to send again, each with the reply that says so.
        """
        if not batch.is_plain:
            values = self._request_replies(batch, values)
        if batch.replies_per_request != 1:
            return self._apply_many_replies(batch, values)
        redirected = []
        replies = self.replies
        for index, value in zip(batch.indices, values, strict=True):
            replies[index] = value
            if value.__class__ is Redirect:
                redirected.append((index, value))
        return redirected

    def plan_retry(
        self, redirected: Sequence[RedirectedRequest], failed: Iterable[int], topology: Topology
    ) -> None:
        """Make requests the ones to send now.

        Args:
            redirected: Requests that a server did not execute.
            failed: Requests without a reply.
            topology: Is updated with the slots that have moved.
        """
        self.transient = {}
        self.unknown_primary = False
        for address, index, redirect in redirected:
            if redirect.code in {"MOVED", "ASK"}:
                target, asking = redirect.target(address), redirect.code == "ASK"
                self._redirected[self._keys[index]] = target, asking
                if not asking and not topology.record_move(redirect.slot, target):
                    self.unknown_primary = True
            elif redirect.code == "NOSCRIPT":
                self._lacks_scripts.add(address)
            else:
                self.transient[index] = address, redirect
        indices = {index for _, index, _ in redirected}.union(failed)
        if self._ordered and indices:
            indices = self._with_later_requests(indices)
        self.todo = sorted(indices)

    def give_up(self, errors: Mapping[int, StoreUnavailableError]) -> None:
        """Answer requests with an `UNAVAILABLE` error reply, and do not send them again."""
        for index, error in errors.items():
            start, end = self._reply_span(index)
            self.replies[start:end] = unavailable_replies(error, end - start, self._on_reply)
        self.todo = [index for index in self.todo if index not in errors]

    def slot(self, index: int) -> int:
        """Return the slot of a request's key."""
        return slot_of(self._keys[index])

    def _with_later_requests(self, indices: set[int]) -> set[int]:
        """Return the requests, and for each of them all later ones of its key."""
        keys: set[bytes] = set()
        result = set()
        for index in range(min(indices), len(self._keys)):
            key = self._keys[index]
            if index in indices or key in keys:
                keys.add(key)
                result.add(index)
        return result

    def _reply_span(self, index: int) -> tuple[int, int]:
        if self._starts:
            return self._starts[index], self._starts[index + 1]
        return index * self._replies_per_request, (index + 1) * self._replies_per_request

    def _batch(self, address: Address, indices: list[int], *, asking: bool = False) -> NodeBatch:
        requests, each = self._requests, self._replies_per_request
        parts = [requests[index] for index in indices]
        count = len(indices) * each or sum(b - a for a, b in map(self._reply_span, indices))
        preamble_replies = 0
        if asking:
            parts = [ASKING + single for part in parts for single in split_commands(part)]
            count *= 2
        if address in self._lacks_scripts:
            scripts = loaded_scripts()
            parts[:0] = [script.load for script in scripts]
            preamble_replies = len(scripts)
        count += preamble_replies
        return NodeBatch(address, indices, b"".join(parts), count, each, preamble_replies, asking)

    def _request_replies(self, batch: NodeBatch, values: list[Any]) -> list[Any]:
        """Drop the replies to `ASKING` and `SCRIPT LOAD`, and convert the others."""
        own = values[batch.preamble_replies :]
        if batch.asking:
            own = own[1::2]
        if (error := first_error(values[: batch.preamble_replies])) is not None:
            # The scripts cannot be loaded: report that rather than `NOSCRIPT`.
            own = [error if _lacks_script(value) else value for value in own]
        on_reply = self._on_reply
        if on_reply is None:
            return own
        return [value if value.__class__ is Redirect else on_reply(value) for value in own]

    def _apply_many_replies(
        self, batch: NodeBatch, values: list[Any]
    ) -> list[tuple[int, Redirect]]:
        redirected = []
        offset = 0
        for index in batch.indices:
            start, end = self._reply_span(index)
            own = values[offset : offset + end - start]
            offset += end - start
            self.replies[start:end] = own
            redirect = next((value for value in own if value.__class__ is Redirect), None)
            if redirect is not None:
                redirected.append((index, redirect))
        return redirected


def _lacks_script(value: Any) -> bool:
    return isinstance(value, Redirect) and value.code == "NOSCRIPT"
