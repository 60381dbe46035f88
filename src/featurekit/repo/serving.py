"""Compiled readers of a feature store, cached by the features that they read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from featurekit.compiler import compile_read
from featurekit.errors import RequestError
from featurekit.feature_lists import parse_feature_list
from featurekit.lower.records import Record, check_row_class
from featurekit.plan import ReadPlan
from featurekit.repo.definition_lists import FeatureService
from featurekit.repo.functions import FeatureFunctions
from featurekit.repo.logs import Logs
from featurekit.repo.registry_store import RegistryState
from featurekit.repo.store_handle import LazyStoreHandle
from featurekit.repo.time_arguments import Span, to_span_ms
from featurekit.runtime.counters import Counters
from featurekit.runtime.reader import OnlineReader

Features = str | Sequence[str | Mapping[str, object]] | FeatureService
"""A feature service or its name, or a list of `view:field`, `view`, and mappings for views with an alias:
`{"view": "airport_weather", "as": "origin", "join_keys": {"airport": "origin"}}`."""

MaxAge = Mapping[str, Span] | None
"""Maps a view, or its alias, to the maximum age of its values."""

MAX_READERS = 256
"""Cached readers. The oldest one is dropped when one more is needed."""


class ReaderService:
    """Compiles readers and caches them. Thread-safe.

    Args:
        handle: The online store.
        registry: The applied registry.
        counters: Counts the reads.
        logs: The logs of what services serve.
        row_classes: The base class of the rows of some services.
        functions: The functions that compute features.
    """

    def __init__(
        self,
        handle: LazyStoreHandle,
        registry: RegistryState,
        counters: Counters,
        logs: Logs,
        row_classes: Mapping[str, type[Record]],
        functions: FeatureFunctions,
    ) -> None:
        self.functions = functions
        self._row_classes = row_classes
        self._handle = handle
        self._registry = registry
        self._counters = counters
        self._logs = logs
        self._readers: dict[object, OnlineReader] = {}

    def clear(self) -> None:
        """Drop all cached readers. Reads in progress finish with the readers that they have."""
        self._readers = {}  # not clear(): `reader` may be adding to the old dict

    def function_problems(self) -> list[str]:
        """Return which features are invalid here because their Python function is not called.

        Raises:
            RegistryError: Nothing is applied yet.
        """
        return self.functions.problems(self._registry.plan)

    def reader(
        self,
        features: Features,
        *,
        full_feature_names: bool = False,
        freshness: bool = False,
        max_age: MaxAge = None,
        counted: bool = True,
        row: type[Record] | None = None,
    ) -> OnlineReader:
        """Return a cached or newly compiled reader. See `FeatureStore.online_reader`.

        `row` is the base class of its rows, by default that of the service. The reads of a reader that is not `counted` are in no metric and no log: pages that refresh themselves are
        not the users of the features.
        """
        wanted: str | tuple[object, ...] = (
            features if isinstance(features, str) else feature_list(features)
        )
        ages = max_age_ms(max_age) if max_age else ()
        key: tuple[object, ...] = (wanted, full_feature_names, freshness, ages, counted, row)
        # Read before the plan: if the registry is reloaded in between, the reader of the old plan
        # is added to the dict that `clear` has dropped.
        readers = self._readers
        try:
            reader = readers.get(key)
        except TypeError:  # the list contains mappings
            wanted = parse_feature_list(wanted)
            key = (wanted, *key[1:])
            reader = readers.get(key)
        if reader is None:
            repo = self._registry.plan
            plan = compile_read(
                repo,
                wanted,
                full_feature_names=full_feature_names,
                max_age_ms=dict(ages),
            )
            if row is None:
                is_typed = isinstance(wanted, str) and not full_feature_names
                row = self._row_classes.get(str(wanted), Record) if is_typed else Record
            check_row_class(row, plan)
            if len(readers) >= MAX_READERS:
                with suppress(KeyError):  # another thread dropped it
                    del readers[next(iter(readers))]
            service = wanted if counted and isinstance(wanted, str) else None
            reader = self.reader_for_plan(
                plan, freshness=freshness, counted=counted, service=service, row=row
            )
            readers[key] = reader
        return reader

    def reader_for_plan(
        self,
        plan: ReadPlan,
        *,
        freshness: bool = False,
        counted: bool = True,
        service: str | None = None,
        row: type[Record] = Record,
    ) -> OnlineReader:
        """Return a new reader for a plan that the caller compiled; it is not cached.

        Args:
            plan: The read.
            freshness: Whether to read the remaining TTLs.
            counted: Whether reads are in the metrics.
            service: The feature service in whose log the rows belong; `None` for no log.
            row: The base class of its rows.
        """
        counters = self._counters if counted else None
        log = self._logs.of_service(self._registry.plan, service) if service else None
        return OnlineReader(
            plan,
            self._handle,
            counters,
            log,
            freshness=freshness,
            row=row,
            functions=self.functions,
        )


def feature_list(features: Features) -> str | tuple[str | Mapping[str, object], ...]:
    """Return the name of a service, or a list of features."""
    if isinstance(features, str):
        return features
    if isinstance(features, FeatureService):
        return features.name
    try:
        return tuple(features)
    except TypeError:
        raise RequestError(
            f"features must be the name of a feature service or a list of features, not {features!r}"
        ) from None


def max_age_ms(max_age: Any) -> tuple[tuple[str, int], ...]:
    """Return `(view, maximum age in milliseconds)` pairs, sorted by view.

    Raises:
        RequestError: `max_age` is not a mapping of views to durations.
    """
    if not isinstance(max_age, Mapping):
        raise RequestError(
            f"max_age must map views to durations, as in {{'user_activity': '2m'}}, not {max_age!r}"
        )
    return tuple(
        (view, to_span_ms(span, where=f"max_age of {view}"))
        for view, span in sorted(max_age.items())
    )
