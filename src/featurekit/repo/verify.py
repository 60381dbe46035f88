"""Verify the online store: read a sample of keys, and compute what they should have had."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from featurekit.compiler import compile_read
from featurekit.history_ports import AsOf
from featurekit.plan import FieldPlan, ReadPlan, RepoPlan, ViewPlan
from featurekit.ports import OnlineStore
from featurekit.repo.deletion import server_times_ms
from featurekit.repo.expected_values import (
    KeyLife,
    OnlineRows,
    instant_moments,
    key_lives,
    labels_at,
    loads_moments,
    possible_values,
)
from featurekit.repo.history import LoadRecord
from featurekit.repo.key_samples import SampledKey
from featurekit.repo.verify_reasons import Explainer
from featurekit.runtime.lock import is_locked
from featurekit.runtime.reader import OnlineReader
from featurekit.training.verify import (
    ABSENT,
    Difference,
    FeatureCheck,
    Kind,
    Served,
    VerifyReport,
    ViewCheck,
    compare_value,
    count_kinds,
)

READ_ROWS = 250
"""Entities in one read, between two looks at the server's clock."""

WINDOW_TOLERANCE = 1e-9
"""How far float sums, means and deviations of windows may differ, relatively."""

MAX_EXAMPLES = 3
"""Examples for each feature."""


@dataclass(frozen=True, slots=True)
class Verifier:
    """Compares what is served with what the history of batch views says.

    Attributes:
        repo: The applied registry, compiled.
        store: The online store.
        loads: Returns the recorded loads of a view, newest first.
        recompute: Returns the training set of some labels, for some features of one view, with
            statuses and full names; and when rows counted.
        identity: Returns what identifies the source of a view as it is now; empty if not known.
        as_of: When rows count; `None` for what the recorded loads took.
        wait_s: How long to wait after the reads before the values are computed.
        has_older: Whether loads of a view took older rows than those before them.
    """

    repo: RepoPlan
    store: OnlineStore
    loads: Callable[[str], Sequence[LoadRecord]]
    recompute: Callable[[Any, Sequence[str], AsOf | None], tuple[Any, str]]
    identity: Callable[[ViewPlan], str]
    as_of: AsOf | None = None
    wait_s: float = 0.0
    has_older: Callable[[str], bool] = lambda _: False

    def run(
        self, readers: Sequence[OnlineReader], keys: Sequence[Sequence[SampledKey]]
    ) -> VerifyReport:
        """Read, compute and compare.

        Args:
            readers: The reader of each entity, whose features have full names.
            keys: The keys to read of each entity.
        """
        started_ms = self._server_ms()[0]
        rows = [list(self._read(*each)) for each in zip(readers, keys, strict=True)]
        ended_ms = self._server_ms()[1]
        time.sleep(self.wait_s)
        views, features, examples = [], [], []
        for reader, parts in zip(readers, rows, strict=True):
            for name in dict.fromkeys(column.view for column in reader.plan.columns):
                view = self._view(name, reader.plan)
                check, results = self._verify(view, parts)
                views.append(check)
                for feature, differences in results:
                    features.append(feature)
                    examples += differences
        return VerifyReport(
            request=readers[0].plan.name,
            registry=self.repo.fingerprint,
            started_ms=started_ms,
            ended_ms=ended_ms,
            keys={
                reader.plan.groups[0].key.entity: dict(Counter(key.origin for key in each))
                for reader, each in zip(readers, keys, strict=True)
            },
            views=tuple(views),
            features=tuple(features),
            examples=tuple(examples),
        )

    def _server_ms(self) -> tuple[int, int]:
        """Return the earliest and the latest time of the servers."""
        times = server_times_ms(self.store)
        return min(times), max(times)

    def _view(self, name: str, plan: ReadPlan) -> ViewPlan:
        """Return a view with the fields that are read."""
        read = {column.field.name for column in plan.columns if column.view == name}
        view = self.repo.view(name)
        return replace(view, fields=tuple(f for f in view.fields if f.name in read))

    def _read(self, reader: OnlineReader, keys: Sequence[SampledKey]) -> Iterator[OnlineRows]:
        """Yield the values of some keys of one entity, a part at a time."""
        names = reader.plan.join_keys
        for start in range(0, len(keys), READ_ROWS):
            part = keys[start : start + READ_ROWS]
            entity_rows = [dict(zip(names, key.entity, strict=True)) for key in part]
            before_ms = self._server_ms()[0]
            response = reader.get(entity_rows)
            after_ms = self._server_ms()[1]
            table, statuses = response.to_arrow(), response.statuses
            values = {
                (column.view, column.field.name): list(
                    map(Served.of, table[column.name].to_pylist(), statuses[column.name])
                )
                for column in reader.plan.columns
            }
            yield OnlineRows(part, values, before_ms, after_ms)

    def _verify(
        self, view: ViewPlan, parts: Sequence[OnlineRows]
    ) -> tuple[ViewCheck, list[tuple[FeatureCheck, list[Difference]]]]:
        is_loading = is_locked(self.store, self.repo.prefix, view.name)
        is_loaded = self.as_of is None and view.kind == "batch" and view.source is not None
        loads = self.loads(view.name) if is_loaded else ()
        # A load wrote the rows that were the newest at its start, unless they were too old for it.
        has_log = any(load.source_identity and not load.error for load in loads)
        at_loads = is_loaded and (
            view.lookback_ms is None or not has_log or self._is_log_unsure(view)
        )
        moments = [
            (rows, loads_moments(loads, rows) if at_loads else instant_moments(rows, loads))
            for rows in parts
        ]
        features = [f"{view.name}:{field.name}" for field in view.fields]
        as_of = self.as_of or (_as_of_at_loads(view) if at_loads else "loads")
        labels = labels_at(view, moments)
        table, used = self.recompute(labels, features, as_of)
        possible = possible_values(view, moments, table, self._key_lives(view))
        explain = Explainer(
            view, loads, is_loading=is_loading, is_unchanged=self._is_unchanged(view, loads)
        )
        results = []
        for field in view.fields:
            kinds: list[tuple[Kind, bool]] = []
            examples: list[Difference] = []
            expected = iter(possible[field.name])
            for rows in parts:
                for key, online in zip(rows.keys, rows.values[view.name, field.name], strict=True):
                    values = next(expected) or [ABSENT]
                    kind = compare_value(online, values, tolerance=_tolerance(field))
                    if kind == "equal":
                        kinds.append((kind, key.is_invented))
                        continue
                    example = explain.example(field, rows, key, (online, values[0]), kind)
                    kinds.append((example.kind, key.is_invented))
                    if len(examples) < MAX_EXAMPLES:
                        examples.append(example)
            results.append((count_kinds(f"{view.name}:{field.name}", kinds), examples))
        last_ms = next((load.started_ms for load in loads if not load.error), None)
        return ViewCheck(view.name, "loads" if is_loaded else used, last_ms), results

    def _is_log_unsure(self, view: ViewPlan) -> bool:
        """Return whether the log does not say which rows a view's loads, or its keys' owner's, left out."""
        return any(
            each.event_time_field and self.has_older(each.name)
            for each in self.repo.views
            if each.kind == "batch" and each.key == view.key
        )

    def _key_lives(self, view: ViewPlan) -> Sequence[KeyLife]:
        """Return the lives of keys, if another view owns their TTL."""
        if view.kind == "batch" and view.expires == "key":
            return ()
        for owner in self.repo.views:
            if owner.key == view.key and owner.kind == "batch" and owner.expires == "key":
                return key_lives(owner, self.loads(owner.name))
        return ()

    def _is_unchanged(self, view: ViewPlan, loads: Sequence[LoadRecord]) -> bool:
        """Return whether the source of a view is known to be as the last load read it."""
        identity = next((load.source_identity for load in loads if load.source_identity), "")
        return bool(identity) and identity == self.identity(view)


def _tolerance(field: FieldPlan) -> float:
    """Return how far floats may differ, whose events were added in another order."""
    function = field.aggregate.function if field.aggregate else None
    return WINDOW_TOLERANCE if function in ("sum", "mean", "stddev") else 0.0


def _as_of_at_loads(view: ViewPlan) -> AsOf | None:
    """Return when rows count at the moment of a load, which is one already for a view with a schedule."""
    if view.schedule is None or view.source is None or view.source.static:
        return None
    return "created" if view.source.created_timestamp_field else "event_time"


def plans_by_entity(repo: RepoPlan, plan: ReadPlan) -> list[ReadPlan]:
    """Return a plan for each entity, with its features once, without aliases, under full names."""
    features: dict[str, dict[str, None]] = {}
    for column in plan.stored:
        entity = repo.view(column.view).key.entity
        features.setdefault(entity, {})[f"{column.view}:{column.field.name}"] = None
    return [
        replace(compile_read(repo, list(names), full_feature_names=True), name=plan.name)
        for names in features.values()
    ]
