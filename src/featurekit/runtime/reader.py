"""Readers: features for many entities, in one round trip per server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, Protocol

from typing_extensions import override

from featurekit.codec import DECODE_ERRORS
from featurekit.errors import RequestError
from featurekit.lower.read import (
    INVALID,
    Cell,
    decode_carefully,
    decode_function,
    group_readers,
)
from featurekit.lower.records import Record, record_class
from featurekit.plan import ReadPlan
from featurekit.ports import AsyncOnlineStore, OnlineStore
from featurekit.runtime.freshness import Freshness, measure
from featurekit.runtime.requests import EntityRows, check_names, columns_of, entities_of
from featurekit.runtime.response import OnlineResponse
from featurekit.wire import ErrorReply, Reply


class Door(Protocol):
    """The way to one online store, for threads and for event loops. Pickles without connections."""

    @property
    def store(self) -> OnlineStore:
        """The store for threads."""

    def running(self) -> AsyncOnlineStore:
        """The store of the running event loop."""

    def now_ms(self) -> int:
        """The time, in milliseconds since the epoch."""


class OnlineReader:
    """Reads one list of features. Made once, used for ever, by any number of threads.

    Attributes:
        plan: What is read.
        invalid_values: How many stored values did not decode, since this reader was made.
    """

    def __init__(self, plan: ReadPlan, door: Door, *, freshness: bool = False) -> None:
        self.plan = plan
        self.invalid_values = 0
        self._door = door
        self._freshness = freshness
        self._groups = group_readers(plan, freshness=freshness)
        self._decode = decode_function(plan)
        self._record: Any = record_class(plan)

    @override
    def __reduce__(self) -> tuple[object, ...]:
        return _reader, (self.plan, self._door, self._freshness)

    def read(self, entity: object) -> Any:
        """The features of one entity, as a row: `reader.read("u0001").tx_count_7d`.

        Args:
            entity: The value of the join key; a tuple or dict if there are several.

        Raises:
            RequestError: The entity lacks a join key, or names one that is not there.
            ValueRefusedError: A join key has another type, or is empty.
            StoreUnavailableError: No reply within the store's timeout. Safe to call again.
        """
        return self.read_many((entity,))[0]

    def read_many(self, entities: Sequence[object]) -> list[Any]:
        """The features of `n` entities, as `n` rows in their order. Raises as `read`."""
        return self._records(self._ask(self._keys_of(entities)))

    async def read_async(self, entity: object) -> Any:
        """As `read`, without blocking the event loop."""
        return (await self.read_many_async((entity,)))[0]

    async def read_many_async(self, entities: Sequence[object]) -> list[Any]:
        """As `read_many`, without blocking the event loop."""
        return self._records(await self._ask_async(self._keys_of(entities)))

    def get(self, entity_rows: EntityRows) -> OnlineResponse:
        """The features of `n` entity rows. Raises as `read`."""
        columns = columns_of(self.plan, entity_rows)
        return self._response(columns, self._ask(self._keys(columns)))

    async def get_async(self, entity_rows: EntityRows) -> OnlineResponse:
        """As `get`, without blocking the event loop."""
        columns = columns_of(self.plan, entity_rows)
        return self._response(columns, await self._ask_async(self._keys(columns)))

    def _keys_of(self, entities: Sequence[object]) -> list[list[bytes]]:
        if len(self._groups) == 1:
            return [list(map(self._groups[0].key, entities))]
        for entity in entities:
            if not isinstance(entity, Mapping):
                raise RequestError(
                    f"{self.plan.name} spans several entities: give a dict of "
                    f"{', '.join(self.plan.join_keys)}, not {entity!r}"
                )
            check_names(self.plan, entity)
        return self._keys({n: [e[n] for e in entities] for n in self.plan.join_keys})  # type: ignore[index]

    def _keys(self, columns: Mapping[str, list[object]]) -> list[list[bytes]]:
        return [
            list(map(reader.key, entities_of(group.key, columns)))
            for reader, group in zip(self._groups, self.plan.groups, strict=True)
        ]

    def _ask(self, keys: list[list[bytes]]) -> list[list[Reply]]:
        """The replies of each group, all asked for at once; nothing is sent for no keys."""
        if not keys[0]:
            return [[] for _ in keys]
        width = self._groups[0].width
        return _apart(self._door.store.run(*self._together(keys), width), len(keys))

    async def _ask_async(self, keys: list[list[bytes]]) -> list[list[Reply]]:
        if not keys[0]:
            return [[] for _ in keys]
        width = self._groups[0].width
        replies = await self._door.running().run(*self._together(keys), width)
        return _apart(replies, len(keys))

    def _together(self, keys: list[list[bytes]]) -> tuple[list[bytes], list[bytes]]:
        if len(keys) == 1:
            return keys[0], self._groups[0].requests(keys[0])
        requests = [
            r for group, k in zip(self._groups, keys, strict=True) for r in group.requests(k)
        ]
        return [k for group in keys for k in group], requests

    def _records(self, replies: list[list[Reply]]) -> list[Record]:
        raws, fresh = self._raws(replies)
        values = self._values(raws)
        if fresh is None:
            return list(map(self._record, values, raws))
        return list(map(self._record, values, raws, fresh.lives))

    def _response(
        self, columns: Mapping[str, list[object]], replies: list[list[Reply]]
    ) -> OnlineResponse:
        raws, fresh = self._raws(replies)
        values = self._values(raws)
        if fresh is None:
            return OnlineResponse(self.plan, columns, values, raws)
        return OnlineResponse(self.plan, columns, values, raws, fresh.lives, fresh.ages)

    def _raws(self, replies: list[list[Reply]]) -> tuple[list[Any], Freshness | None]:
        """The cells of each row, and the freshness of all if it was asked for."""
        fresh = None
        if self._freshness:
            fresh = measure(self.plan, self._groups, replies, self._door.now_ms())
            replies = [group[:: r.width] for group, r in zip(replies, self._groups, strict=True)]
        if len(replies) == 1 and fresh is None:
            return replies[0], None
        parts = [
            [_cells(reply, reader.fields) for reply in group]
            for group, reader in zip(replies, self._groups, strict=True)
        ]
        return [list(chain(*row)) for row in zip(*parts, strict=True)], fresh

    def _values(self, raws: list[Any]) -> list[tuple[object, ...]]:
        """The decoded rows. Cells that do not decode are found out row by row."""
        if len(self._groups) == 1 or not any(
            isinstance(c, ErrorReply) for raw in raws for c in raw
        ):
            try:
                return list(map(self._decode, raws))
            except DECODE_ERRORS:
                pass
        return [self._carefully(raws, index) for index in range(len(raws))]

    def _carefully(self, raws: list[Any], index: int) -> tuple[object, ...]:
        if not isinstance(raws[index], list):
            raws[index] = _cells(raws[index], self._groups[0].fields)
        values, statuses = decode_carefully(self.plan, raws[index])
        self.invalid_values += statuses.count(INVALID)
        return values


def _apart(replies: list[Reply], groups: int) -> list[list[Reply]]:
    """The replies of each group: all groups have as many."""
    size = len(replies) // groups
    return [replies[i * size : (i + 1) * size] for i in range(groups)] if groups > 1 else [replies]


def _cells(reply: Any, fields: int) -> list[Cell]:
    """One group's cells of a row: what `HMGET` gave, or its error in the place of each."""
    if isinstance(reply, list):
        return reply[:fields]
    return [
        reply if isinstance(reply, ErrorReply) else ErrorReply(f"ERR not a hash: {reply!r}")
    ] * fields


def _reader(plan: ReadPlan, door: Door, freshness: object) -> OnlineReader:
    return OnlineReader(plan, door, freshness=bool(freshness))
