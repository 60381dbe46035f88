"""Verify the online store: read a sample of keys, and compute what they should have had."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from featurekit.compiler import compile_read
from featurekit.plan import FieldPlan, ReadPlan, RepoPlan, ViewPlan
from featurekit.ports import AsOf, OnlineStore
from featurekit.repo.deletion import server_times_ms
from featurekit.repo.expected_values import (
    OnlineRows,
    instant_moments,
    loads_moments,
    possible_values,
)
from featurekit.repo.history import LoadRecord
from featurekit.repo.key_samples import SampledKey
from featurekit.repo.time_arguments import format_time_ms
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
from featurekit.types import codec_of

READ_ROWS = 250
"""Entities in one read, between two looks at the server's clock."""

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
            statuses and full names.
        as_of: When rows count; `None` for what the recorded loads took.
    """

    repo: RepoPlan
    store: OnlineStore
    loads: Callable[[str], Sequence[LoadRecord]]
    recompute: Callable[[Any, Sequence[str]], Any]
    as_of: AsOf | None = None

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
        loads = self.loads(view.name) if self.as_of is None else ()
        moments = [
            (rows, instant_moments(rows) if self.as_of else loads_moments(loads, rows))
            for rows in parts
        ]
        features = [f"{view.name}:{field.name}" for field in view.fields]
        possible = possible_values(view, moments, lambda labels: self.recompute(labels, features))
        explain = _Explainer(view, loads, is_loading=is_loading)
        results = []
        for field in view.fields:
            kinds: list[Kind] = []
            examples: list[Difference] = []
            expected = iter(possible[field.name])
            for rows in parts:
                for key, online in zip(rows.keys, rows.values[view.name, field.name], strict=True):
                    values = next(expected) or [ABSENT]
                    kind = compare_value(online, values)
                    if kind != "equal" and is_loading:
                        kind = "undecided"
                    kinds.append(kind)
                    if kind != "equal" and len(examples) < MAX_EXAMPLES:
                        examples.append(explain.example(field, rows, key, online, values[0], kind))
            results.append((count_kinds(f"{view.name}:{field.name}", kinds), examples))
        last_ms = next((load.started_ms for load in loads if not load.error), None)
        return ViewCheck(view.name, self.as_of or "loads", last_ms), results


@dataclass(frozen=True, slots=True)
class _Explainer:
    """Describes values that differ.

    Attributes:
        view: The view.
        loads: Its recorded loads, if values were compared with them.
        is_loading: Whether a load of the view is running.
    """

    view: ViewPlan
    loads: Sequence[LoadRecord]
    is_loading: bool

    def example(
        self,
        field: FieldPlan,
        rows: OnlineRows,
        key: SampledKey,
        online: Served,
        expected: Served,
        kind: Kind,
    ) -> Difference:
        """Describe one value that differs."""
        return Difference(
            feature=f"{self.view.name}:{field.name}",
            kind=kind,
            key=key.key.decode(errors="replace"),
            origin=key.origin,
            online=_text(field, online),
            recomputed=_text(field, expected),
            read_ms=rows.before_ms,
            reason=self._reason(field, rows, key, online, kind),
        )

    def _reason(
        self, field: FieldPlan, rows: OnlineRows, key: SampledKey, online: Served, kind: Kind
    ) -> str:
        if kind == "undecided":
            return "a load of the view was running"
        if online.status == "invalid":
            return f"the stored bytes are not a {field.dtype}: another program wrote them"
        if kind == "missing":
            return self._missing_reason(rows, key)
        if kind == "extra":
            return self._extra_reason(rows, key)
        late = ""
        if self.view.source is not None and not self.view.source.created_timestamp_field:
            late = ", or has rows that arrived late"
        return f"another program wrote it, or the source was changed after {self._last}{late}"

    def _missing_reason(self, rows: OnlineRows, key: SampledKey) -> str:
        index = rows.keys.index(key)
        if all(values[index].status == "absent" for values in rows.values.values()):
            return "the entity has no value at all: it was deleted or evicted, or its key expired early"
        return f"the field was deleted, or its row was added to the source after {self._last}"

    def _extra_reason(self, rows: OnlineRows, key: SampledKey) -> str:
        if key.origin == "unknown":
            return "the key was invented for this check, so another program wrote it"
        if self.loads and all(_is_over(self.view, load, rows) for load in self.loads):
            return f"it should have expired: its TTL is over since {self._last}"
        if not self.loads:
            return "another program wrote it: no load of the view is recorded"
        return (
            f"another program wrote it, or its row was deleted from the source after {self._last}"
        )

    @property
    def _last(self) -> str:
        if not self.loads:
            return "it was loaded"
        return f"the load of {format_time_ms(self.loads[0].started_ms)}"


def _is_over(view: ViewPlan, load: LoadRecord, rows: OnlineRows) -> bool:
    return rows.before_ms > load.ended_ms + view.longest_ttl_ms


def _text(field: FieldPlan, served: Served) -> str | None:
    """Return a value for people; `None` if there is none."""
    if served.status != "present":
        return None if served.status == "absent" else "invalid"
    return codec_of(field.dtype).display_text(served.value)


def plans_by_entity(repo: RepoPlan, plan: ReadPlan) -> list[ReadPlan]:
    """Return a plan for each entity, with its features once, without aliases, under full names."""
    features: dict[str, dict[str, None]] = {}
    for column in plan.columns:
        entity = repo.view(column.view).key.entity
        features.setdefault(entity, {})[f"{column.view}:{column.field.name}"] = None
    return [
        replace(compile_read(repo, list(names), full_feature_names=True), name=plan.name)
        for names in features.values()
    ]
