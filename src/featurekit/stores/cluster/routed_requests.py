"""Errands: requests on their way through a cluster, until each of them is answered.

What is to be sent where, and what the answers mean, is decided here, for threads and for asyncio
alike; how it is sent is the business of others. Requests go again for as long as servers point
elsewhere (`MOVED`, `ASK`), are busy with their slots or their data, or do not know a script.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from featurekit.errors import StoreUnavailableError
from featurekit.lower.scripts import SCRIPTS
from featurekit.stores.cluster.topology import NOBODY, Topology, slot_of
from featurekit.stores.connection import OnReply, unavailable_replies
from featurekit.stores.url import Address
from featurekit.wire import ErrorReply, command, first_error, split_commands

PASSING = {"CLUSTERDOWN", "LOADING", "MASTERDOWN", "READONLY", "TRYAGAIN"}
"""Codes of servers that do not answer now and may a moment later, they or others."""

REDIRECTS = {"MOVED", "ASK", "NOSCRIPT"} | PASSING
ASKING = command(b"ASKING")
TEACH = b"".join(script.load for script in SCRIPTS)


class Redirect(ErrorReply):
    """A reply that answers nothing: the request is to be sent again."""

    @property
    def slot(self) -> int:
        """The slot that `MOVED` and `ASK` are about."""
        return int(str(self).split()[1])

    def address(self, told_by: Address) -> Address:
        """The server that `MOVED` and `ASK` point to; a host that is left out is the teller's."""
        host, _, port = str(self).split()[2].rpartition(":")
        return host.strip("[]") or told_by[0], int(port)


def refusal(text: str) -> ErrorReply:
    """An error as it came: a `Redirect` if it is one. What parsers of a cluster's replies use."""
    return Redirect(text) if text.partition(" ")[0] in REDIRECTS else ErrorReply(text)


@dataclass(slots=True)
class NodeBatch:
    """What goes to one server at once.

    Attributes:
        address: The server.
        places: Which requests, by their index.
        data: Their bytes.
        count: How many replies they get.
        each: How many replies each of them gets, if that is one number; else 0.
        before: How many further replies come before all of them.
        asking: Whether `ASKING` goes before each of their commands.
    """

    address: Address
    places: list[int]
    data: bytes
    count: int
    each: int
    before: int = 0
    asking: bool = False

    @property
    def plain(self) -> bool:
        """Whether its replies are just those of its requests."""
        return not (self.before or self.asking)


Told = tuple[Address, int, Redirect]
"""Who said what to which request in the place of an answer."""

Route = Callable[[int], Address]
"""From a shard, by its index, to the server of it that is to be asked."""


class RoutedRequests:
    """Requests, and the replies they have so far.

    Args:
        keys: The key of each.
        requests: One or more commands each.
        width: Replies to each; a sequence where they differ.
        take: What makes values of replies.
        ordered: Whether requests of one key must take effect in their order: those after one
            that is sent again are sent again too.

    Attributes:
        replies: The values of the replies, in order.
        todo: Which requests are to be sent, by their index.
        passing: From the requests that are to wait a moment to who said so, and what.
        strange: Whether a slot is said to be with a server that was not known as a primary.
    """

    __slots__ = (
        "_keys",
        "_on_reply",
        "_ordered",
        "_pointed",
        "_replies_per_request",
        "_requests",
        "_starts",
        "_taught",
        "passing",
        "replies",
        "strange",
        "todo",
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
        self._replies_per_request = replies_per_request
        self._starts = (
            [] if isinstance(replies_per_request, int) else [0, *accumulate(replies_per_request)]
        )
        count = (
            len(requests) * replies_per_request
            if isinstance(replies_per_request, int)
            else self._starts[-1]
        )
        self.replies: list[Any] = [None] * count
        self.todo: Sequence[int] = range(len(requests))
        self.passing: dict[int, tuple[Address, Redirect]] = {}
        self.strange = False
        self._pointed: dict[bytes, tuple[Address, bool]] = {}
        self._taught: set[Address] = set()

    def take_of(self, parcel: NodeBatch) -> OnReply:
        """What each reply of a parcel is given to as it comes."""
        on_reply = self._on_reply
        if on_reply is None or not parcel.plain:
            return None
        return lambda reply: reply if reply.__class__ is Redirect else on_reply(reply)

    def parcels(self, topology: Topology, route: Route) -> tuple[list[NodeBatch], list[int]]:
        """What is to be sent now, and the requests whose slot nobody serves."""
        todo, keys = self.todo, self._keys
        parcels = []
        if self._pointed:
            parcels = self._pointed_parcels()
            todo = [place for place in todo if keys[place] not in self._pointed]
            self._pointed = {}
        if len(todo) != len(keys):
            keys = [keys[place] for place in todo]
        groups: dict[int, list[int]] = {}
        for place, owner in zip(todo, topology.owners_of(keys), strict=True):
            try:
                groups[owner].append(place)
            except KeyError:
                groups[owner] = [place]
        lost = groups.pop(NOBODY, [])
        parcels += [self._parcel(route(owner), group) for owner, group in groups.items()]
        return parcels, lost

    def _pointed_parcels(self) -> list[NodeBatch]:
        """What goes where a server pointed, whatever the topology has."""
        groups: dict[tuple[Address, bool], list[int]] = {}
        for place in self.todo:
            if (pointed := self._pointed.get(self._keys[place])) is not None:
                groups.setdefault(pointed, []).append(place)
        return [
            self._parcel(address, group, asking=asking)
            for (address, asking), group in groups.items()
        ]

    def settle(self, parcel: NodeBatch, values: list[Any]) -> list[tuple[int, Redirect]]:
        """Put the values of a parcel's replies into their places.

        Args:
            parcel: What was sent.
            values: All of its replies, each taken already if the parcel is plain and the reply
                is no `Redirect`.

        Returns:
            The requests that are to be sent again, with what was said to them.
        """
        if not parcel.plain:
            values = self._plain(parcel, values)
        if parcel.each == 1:
            again = []
            replies = self.replies
            for place, value in zip(parcel.places, values, strict=True):
                replies[place] = value
                if value.__class__ is Redirect:
                    again.append((place, value))
            return again
        return self._settle_wide(parcel, values)

    def resend(self, again: Sequence[Told], lost: Iterable[int], topology: Topology) -> None:
        """Make `again` and `lost` what is to be sent now, having learnt from it.

        Args:
            again: Who said what to which request.
            lost: Further requests to be sent again.
            topology: Takes in where slots have moved to.
        """
        self.passing = {}
        self.strange = False
        for address, place, redirect in again:
            if redirect.code in {"MOVED", "ASK"}:
                target, asking = redirect.address(address), redirect.code == "ASK"
                self._pointed[self._keys[place]] = target, asking
                if not asking and not topology.learn(redirect.slot, target):
                    self.strange = True
            elif redirect.code == "NOSCRIPT":
                self._taught.add(address)
            else:
                self.passing[place] = address, redirect
        places = {place for _, place, _ in again}.union(lost)
        if self._ordered and places:
            places = self._with_later_ones(places)
        self.todo = sorted(places)

    def give_up(self, errors: Mapping[int, StoreUnavailableError]) -> None:
        """Answer requests with the code and text of their errors; they are not sent any more."""
        for place, error in errors.items():
            start, end = self._span(place)
            self.replies[start:end] = unavailable_replies(error, end - start, self._on_reply)
        self.todo = [place for place in self.todo if place not in errors]

    def slot(self, place: int) -> int:
        """The slot of a request's key."""
        return slot_of(self._keys[place])

    def _with_later_ones(self, places: set[int]) -> set[int]:
        """Those requests, and for each all later ones of its key."""
        keys: set[bytes] = set()
        found = set()
        for place in range(min(places), len(self._keys)):
            key = self._keys[place]
            if place in places or key in keys:
                keys.add(key)
                found.add(place)
        return found

    def _span(self, place: int) -> tuple[int, int]:
        if self._starts:
            return self._starts[place], self._starts[place + 1]
        replies_per_request = self._replies_per_request
        assert isinstance(replies_per_request, int)  # noqa: S101  (it has starts otherwise)
        return place * replies_per_request, (place + 1) * replies_per_request

    def _parcel(self, address: Address, places: list[int], *, asking: bool = False) -> NodeBatch:
        requests, replies_per_request = self._requests, self._replies_per_request
        parts = [requests[place] for place in places]
        each = replies_per_request if isinstance(replies_per_request, int) else 0
        count = len(places) * each if each else sum(b - a for a, b in map(self._span, places))
        before = 0
        if asking:
            parts = [ASKING + each for part in parts for each in split_commands(part)]
            count *= 2
        if address in self._taught:
            parts.insert(0, TEACH)
            before = len(SCRIPTS)
        return NodeBatch(address, places, b"".join(parts), count + before, each, before, asking)

    def _plain(self, parcel: NodeBatch, values: list[Any]) -> list[Any]:
        """The replies of the requests alone, taken."""
        own = values[parcel.before :]
        if parcel.asking:
            own = own[1::2]
        if (error := first_error(values[: parcel.before])) is not None:
            # It could not be taught the scripts, and that is what there is to say.
            own = [error if _lacks_script(value) else value for value in own]
        on_reply = self._on_reply
        if on_reply is None:
            return own
        return [value if value.__class__ is Redirect else on_reply(value) for value in own]

    def _settle_wide(self, parcel: NodeBatch, values: list[Any]) -> list[tuple[int, Redirect]]:
        again = []
        at = 0
        for place in parcel.places:
            start, end = self._span(place)
            own = values[at : at + end - start]
            at += end - start
            self.replies[start:end] = own
            redirect = next((v for v in own if v.__class__ is Redirect), None)
            if redirect is not None:
                again.append((place, redirect))
        return again


def _lacks_script(value: Any) -> bool:
    return isinstance(value, Redirect) and value.code == "NOSCRIPT"
