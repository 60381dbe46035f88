"""Verify derived features: compute them again from the inputs that were served with them.

The inputs themselves are compared with their histories. Features that need values of a request are
left out, because no request is at hand, and so are those without stored inputs, and functions that
cannot be called here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import cycle, islice
from typing import Any

import pyarrow as pa

from featurekit.compiler import compile_read
from featurekit.expressions import NOW
from featurekit.plan import DerivedColumn, FunctionPlan, ReadGroup, ReadPlan, RepoPlan
from featurekit.repo.key_samples import SampledKey
from featurekit.runtime.functions import Functions
from featurekit.runtime.reader import OnlineReader
from featurekit.training.columns import STATUSES, status_name
from featurekit.training.derived import DerivedColumns
from featurekit.training.verify import (
    Difference,
    FeatureCheck,
    Kind,
    Served,
    VerifyReport,
    ViewCheck,
    compare_value,
    count_kinds,
    text_of,
)

READ_ROWS = 250
"""Rows in one read."""

MAX_TIMES = 200
"""The most milliseconds of a read for which features that use `now` are computed; else they are undecided."""

_TIME = "@time"


def derived_plan(repo: RepoPlan, plan: ReadPlan, functions: Functions) -> ReadPlan | None:
    """Return the plan of the derived features that can be verified, and their inputs; `None` for none."""
    names: dict[str, None] = {}
    for column in plan.derived:
        feature = column.feature
        needs_request = any(i.is_request and i.field.default is None for i in feature.inputs)
        is_unknown = isinstance(feature.compute, FunctionPlan) and not functions.get(
            feature.compute
        )
        stored = [i for i in feature.inputs if not i.is_request]
        if stored and not (needs_request or is_unknown):
            names[f"{column.view}:{column.field.name}"] = None
            names |= dict.fromkeys(f"{each.source}:{each.field.name}" for each in stored)
    if not names:
        return None
    return replace(compile_read(repo, list(names), full_feature_names=True), name=plan.name)


@dataclass(frozen=True, slots=True)
class DerivedRows:
    """Rows that were read in one call.

    Attributes:
        keys: For each row the keys of its entities.
        response: What was read.
        before_ms: The time before the read, by the clock that is `now` in it.
        after_ms: The time after the read.
    """

    keys: Sequence[Sequence[SampledKey]]
    response: Any
    before_ms: int
    after_ms: int

    @property
    def is_long(self) -> bool:
        """Whether too much time passed for all values of `now` to be tried."""
        return self.after_ms - self.before_ms >= MAX_TIMES


def read_rows(
    reader: OnlineReader, keys: Mapping[str, Sequence[SampledKey]], now_ms: Callable[[], int]
) -> Iterator[DerivedRows]:
    """Yield what reads of sampled keys return, a part at a time.

    Args:
        reader: The reader.
        keys: The keys of each entity, which are combined in turn.
        now_ms: The clock of the reader.
    """
    groups = reader.plan.groups
    sampled = [keys[group.key.entity] for group in groups]
    most = max(map(len, sampled), default=0) if all(sampled) else 0
    rows = list(zip(*(islice(cycle(each), most) for each in sampled), strict=True))
    for start in range(0, len(rows), READ_ROWS):
        part = rows[start : start + READ_ROWS]
        entities = [_join_keys(groups, row) for row in part]
        before_ms = now_ms()
        response = reader.get(entities)
        yield DerivedRows(part, response, before_ms, now_ms())


def _join_keys(groups: Sequence[ReadGroup], row: Sequence[SampledKey]) -> dict[str, Any]:
    return {
        part.name: value
        for group, key in zip(groups, row, strict=True)
        for part, value in zip(group.key.join_keys, key.entity, strict=True)
    }


def verify_derived(
    reader: OnlineReader, parts: Sequence[DerivedRows], functions: Functions, examples: int
) -> Iterator[tuple[FeatureCheck, list[Difference]]]:
    """Yield how the values of each derived feature compare, and examples of differences.

    Args:
        reader: The reader of the rows.
        parts: The rows.
        functions: The functions that can be called here.
        examples: How many examples to return for each feature.
    """
    plan = reader.plan
    columns = DerivedColumns(plan, _TIME, functions)
    computed = [
        [_computed(columns, part, at_ms) for at_ms in _times(plan, part)] for part in parts
    ]
    for column in plan.derived:
        kinds: list[tuple[Kind, bool]] = []
        differences: list[Difference] = []
        for part, tables in zip(parts, computed, strict=True):
            values = part.response.to_arrow()[column.name].to_pylist()
            online = map(Served.of, values, part.response.statuses[column.name])
            possible = zip(*(_served(table, column.name) for table in tables), strict=True)
            for keys, one, others in zip(part.keys, online, possible, strict=True):
                both_fail = one.status == others[0].status == "invalid"
                kind: Kind = "equal" if both_fail else compare_value(one, others)
                if kind != "equal" and NOW in column.feature.compute.names and part.is_long:
                    kind = "undecided"
                example = (
                    None if kind == "equal" else _difference(column, part, keys, one, others[0])
                )
                if example is not None and len(differences) < examples:
                    differences.append(replace(example, kind=kind))
                kinds.append((kind, any(key.is_invented for key in keys)))
        yield count_kinds(f"{column.view}:{column.field.name}", kinds), differences


def with_derived(
    report: VerifyReport,
    plan: ReadPlan,
    results: Iterable[tuple[FeatureCheck, list[Difference]]],
) -> VerifyReport:
    """Return a report with the results of derived features, and which ones of a read have none."""
    found = list(results)
    computed = {check.name for check, _ in found}
    names = dict.fromkeys(f"{column.view}:{column.field.name}" for column in plan.derived)
    views = dict.fromkeys(check.name.partition(":")[0] for check, _ in found)
    return replace(
        report,
        views=(*report.views, *(ViewCheck(name, "inputs") for name in views)),
        features=(*report.features, *(check for check, _ in found)),
        examples=(*report.examples, *(each for _, examples in found for each in examples)),
        left_out=tuple(name for name in names if name not in computed),
    )


def _times(plan: ReadPlan, part: DerivedRows) -> Sequence[int]:
    """Return the times that can have been `now` in a read, as far as they matter."""
    uses_now = any(NOW in column.feature.compute.names for column in plan.derived)
    if not uses_now:
        return (part.before_ms,)
    times = range(part.before_ms, part.after_ms + 1)
    return times if len(times) <= MAX_TIMES else (part.before_ms, part.after_ms)


def _computed(columns: DerivedColumns, part: DerivedRows, at_ms: int) -> Any:
    """Return the derived features of the inputs that were served, at a time."""
    table, statuses = part.response.to_arrow(), part.response.statuses
    time = pa.repeat(pa.scalar(at_ms * 1000, pa.int64()), len(part.keys))
    labels = pa.record_batch({_TIME: time.cast(pa.timestamp("us", "UTC"))})
    codes = {status: code for code, status in enumerate(STATUSES)}
    stored = [
        (
            table[column.name].combine_chunks(),
            pa.array([codes[each] for each in statuses[column.name]], pa.int8()),
        )
        for column in columns.plan.stored
    ]
    return columns.batch(labels, stored)


def _served(table: Any, name: str) -> list[Served]:
    statuses = (STATUSES[code] for code in table[status_name(name)].to_pylist())
    return list(map(Served.of, table[name].to_pylist(), statuses))


def _difference(
    column: DerivedColumn,
    part: DerivedRows,
    keys: Sequence[SampledKey],
    online: Served,
    recomputed: Served,
) -> Difference:
    compute = column.feature.compute
    what = "function" if isinstance(compute, FunctionPlan) else "expression"
    return Difference(
        feature=f"{column.view}:{column.field.name}",
        kind="mismatch",
        key=" ".join(key.key.decode(errors="replace") for key in keys),
        origin=keys[0].origin,
        online=text_of(column.field, online),
        recomputed=text_of(column.field, recomputed),
        read_ms=part.before_ms,
        reason=f"its {what} gives another value for the inputs that were served",
    )
