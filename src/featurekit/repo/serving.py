"""Serving: what a feature store reads online."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from featurekit.compiler import compile_read
from featurekit.errors import RequestError
from featurekit.plan import ReadPlan
from featurekit.repo.registry_state import RegistryState
from featurekit.repo.store_handle import LazyStoreHandle
from featurekit.repo.times import Span, to_span_ms
from featurekit.runtime.counters import Counters
from featurekit.runtime.read_arguments import EntityRows, Timeout
from featurekit.runtime.reader import OnlineReader
from featurekit.runtime.response import OnlineResponse
from featurekit.wire import text_command

Features = str | Sequence[str]
"""A feature service by name, or a list of `view:field` and `view`."""

MaxAge = Mapping[str, Span] | None
"""How old the values of some views may be, by view."""

_READERS = 256


class Serving:
    """The reading half of a feature store. Thread-safe.

    Args:
        door: The way to the online store.
        applied: What is applied there.
    """

    def __init__(self, door: LazyStoreHandle, applied: RegistryState) -> None:
        self._door = door
        self._applied = applied
        self._tally = Counters()
        self._readers: dict[object, OnlineReader] = {}

    def refresh(self) -> None:
        """Forget the registry as read, so that the next call sees what was applied since."""
        self._applied.refresh()
        self._readers = {}

    @property
    def knows_registry(self) -> bool:
        """Whether the registry was read, so that asking what is applied does no I/O."""
        return self._applied.is_known

    def learn_registry(self) -> None:
        """Read the registry, if there is one and it was not read yet.

        Raises:
            RegistryError: It cannot be read.
            StoreError: The online store, which keeps it, failed.
        """
        _ = self._applied.registry

    def reload(self) -> bool:
        """Take over what was applied since the registry was read; whether there was anything.

        Reads that are under way end as they began.

        Raises:
            RegistryError: It cannot be read, or is gone; what was read before stays.
            StoreError: The online store, which keeps it, failed; likewise.
        """
        if not self._applied.reload():
            return False
        self._readers = {}
        return True

    def get_online_features(  # noqa: PLR0913 - each is a choice of its own, with a default
        self,
        features: Features,
        entity_rows: EntityRows,
        *,
        full_feature_names: bool = False,
        freshness: bool = False,
        timeout: Timeout = None,
        partial: bool = False,
        max_age: MaxAge = None,
    ) -> OnlineResponse:
        """The features of some entities, in one round trip per server.

        Args:
            features: A feature service, or a list of `view:field` and `view`.
            entity_rows: `[{"user_id": "u0001"}, ...]` or `{"user_id": ["u0001", ...]}`.
                Order and repeats are kept.
            full_feature_names: Whether answers are named `view__field`.
            freshness: Whether to ask how long each value has to live, too.
            timeout: The bound of the whole call, with waits and retries: seconds, or a timedelta.
                Without it, each try has the store's own timeout.
            partial: Whether rows whose server is away are given with the status `unavailable`, in
                the place of the call failing.
            max_age: How old the values of some views may be, as `{"user_activity": "2m"}`: a
                duration, a timedelta, or milliseconds. What is older has the status `stale`, and
                gives way to the default. The age of a value is the declared TTL less what is left
                of it.

        Raises:
            UnknownNameError: There is no such service, view or field.
            RequestError: A join key is lacking or unknown, nothing is asked for, or an age is
                bound of a view that is not read.
            ValueRefusedError: A join key has another type.
            StoreUnavailableError: No reply in time. Safe to call again.
        """
        reader = self._reader(
            features, full=full_feature_names, freshness=freshness, max_age=max_age
        )
        return reader.get(entity_rows, timeout=timeout, partial=partial)

    async def get_online_features_async(  # noqa: PLR0913 - as above
        self,
        features: Features,
        entity_rows: EntityRows,
        *,
        full_feature_names: bool = False,
        freshness: bool = False,
        timeout: Timeout = None,
        partial: bool = False,
        max_age: MaxAge = None,
    ) -> OnlineResponse:
        """As `get_online_features`, without blocking the event loop."""
        reader = self._reader(
            features, full=full_feature_names, freshness=freshness, max_age=max_age
        )
        return await reader.get_async(entity_rows, timeout=timeout, partial=partial)

    async def ping_async(self) -> None:
        """Ask the online store for a sign of life.

        Raises:
            StoreUnavailableError: It gave none in time.
        """
        await self._door.running().read([b""], [text_command("PING")])

    def online_reader(
        self,
        features: Features,
        *,
        full_feature_names: bool = False,
        freshness: bool = False,
        max_age: MaxAge = None,
    ) -> OnlineReader:
        """A reader of these features, compiled once and used for ever. Raises as above."""
        return self._reader(
            features, full=full_feature_names, freshness=freshness, max_age=max_age
        )

    def reader_of(self, plan: ReadPlan, *, freshness: bool = False) -> OnlineReader:
        """A reader of what the caller compiled, as with columns of its own; kept nowhere."""
        return OnlineReader(plan, self._door, self._tally, freshness=freshness)

    def _reader(
        self, features: Features, *, full: bool, freshness: bool, max_age: MaxAge
    ) -> OnlineReader:
        wanted = features if isinstance(features, str) else tuple(features)
        ages = ages_ms_of(max_age) if max_age else ()
        readers = self._readers  # before the plan: what comes of an old plan is kept nowhere
        made = readers.get((wanted, full, freshness, ages))
        if made is None:
            plan = compile_read(
                self._applied.plan, wanted, full_feature_names=full, max_age_ms=dict(ages)
            )
            if len(readers) >= _READERS:
                readers.clear()
            made = self.reader_of(plan, freshness=freshness)
            readers[wanted, full, freshness, ages] = made
        return made


def ages_ms_of(max_age: Any) -> tuple[tuple[str, int], ...]:
    """Views with how old their values may be, in milliseconds, sorted.

    Raises:
        RequestError: It is no mapping of views to spans of time.
    """
    if not isinstance(max_age, Mapping):
        raise RequestError(
            f"max_age bounds the ages of views, as {{'user_activity': '2m'}}, and is {max_age!r}"
        )
    return tuple(
        (view, to_span_ms(span, where=f"max_age of {view}"))
        for view, span in sorted(max_age.items())
    )
