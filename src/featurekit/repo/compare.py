"""Compare a training set with the values that are online now, or with logged ones."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any, Literal

import pyarrow as pa

from featurekit.errors import RequestError
from featurekit.lower.keys import join_key_values, parse_entity_id
from featurekit.plan import EVENT_TIMESTAMP, Column, ReadPlan
from featurekit.ports import OnlineStore
from featurekit.repo.diagnostics.sampling import ids_from_keys, sample_keys
from featurekit.runtime.reader import OnlineReader
from featurekit.training import column_files
from featurekit.training.column_files import ColumnFiles
from featurekit.training.drift import (
    ColumnSample,
    DriftBounds,
    compare_feature,
    worst_first,
)
from featurekit.training.drift_report import DriftReport

KeysOf = Literal["training", "store"]
"""Where the keys of online values come from."""

READ_ROWS = 500


@dataclass(frozen=True, slots=True)
class OnlineColumns:
    """Values that were read online.

    Attributes:
        name: What they are, for people.
        table: The join keys and the features.
        statuses: For each feature how many values have each status.
        read_ms: When they were read.
    """

    name: str
    table: Any
    statuses: dict[str, Counter[str]]
    read_ms: int

    def sample(self, name: str) -> ColumnSample:
        """Return the values of a feature."""
        values = self.table[name].combine_chunks()
        times = pa.repeat(pa.scalar(self.read_ms * 1000, pa.int64()), len(values))
        return ColumnSample(values, self.statuses[name], times)


def read_online(
    reader: OnlineReader, training: ColumnFiles | None, store: OnlineStore, count: int, now_ms: int
) -> OnlineColumns:
    """Read the features of some rows of a training set, or of some stored entities."""
    plan = reader.plan
    if training is not None:
        requests = [column.name for column in plan.requests]
        table = training.keys(plan.join_keys, count, requests)
        name = f"online values of {table.num_rows:,} of its rows"
        rows = table.to_pylist()
    else:
        rows = stored_rows(plan, store, count)
        name = f"online values of {len(rows):,} stored entities"
    if not rows:
        raise RequestError(
            "there is no entity to read", hint="load the views first, or name more keys"
        )
    tables, statuses = [], {column.name: Counter[str]() for column in plan.columns}
    for start in range(0, len(rows), READ_ROWS):
        response = reader.get(rows[start : start + READ_ROWS])
        tables.append(response.to_arrow())
        for feature, values in response.statuses.items():
            statuses[feature].update(values)
    return OnlineColumns(name, pa.concat_tables(tables), statuses, now_ms)


def stored_rows(plan: ReadPlan, store: OnlineStore, count: int) -> list[dict[str, Any]]:
    """Return join keys of stored entities; those of several entities are combined at random."""
    rows: list[dict[str, Any]] = [{} for _ in range(count)]
    groups = [group for group in plan.groups if not group.is_global]
    most = 0 if groups else 1
    for group in groups:
        keys = sample_keys(store, group.key.scan_pattern(), count).keys
        ids = ids_from_keys(group.key, keys)
        if not ids:
            return []
        most = max(most, len(ids))
        entities = [join_key_values(group.key, parse_entity_id(group.key, each)) for each in ids]
        names = [join_key.name for join_key in group.key.join_keys]
        for row, entity in zip(rows, islice(cycle(entities), count), strict=True):
            row.update(zip(names, entity, strict=True))
    return rows[:most]


def compare_columns(
    plan: ReadPlan,
    training: ColumnFiles,
    online: OnlineColumns | ColumnFiles,
    bounds: DriftBounds,
    now_ms: int,
) -> DriftReport:
    """Compare all features that both sides have.

    Raises:
        RequestError: There are none, or a column does not have the values of its feature.
    """
    features, only_online = [], []
    used = set()
    for column in plan.columns:
        name = training.feature_name(column)
        current = None if name is None else _sample(online, column)
        if name is None or current is None:
            only_online.append(column.name)
            continue
        used.add(name)
        features.append(
            compare_feature(
                (name, column.view, column.field.name),
                column.field.dtype,
                training.sample(name, _time_column(training)),
                current,
                bounds,
            )
        )
    if not features:
        raise RequestError(
            f"no feature of {plan.name} is a column on both sides",
            where=training.name,
            hint=f"its columns: {', '.join(training.names)}",
        )
    named = [feature["name"] for feature in training.manifest.get("features", ())]
    return DriftReport(
        request=plan.name,
        training=training.name,
        online=online.name,
        compared_ms=now_ms,
        bounds=bounds,
        features=worst_first(features),
        only_training=tuple(name for name in named if name not in used),
        only_online=tuple(only_online),
        notes=tuple(_notes(plan, training)),
    )


def _sample(online: OnlineColumns | ColumnFiles, column: Column) -> ColumnSample | None:
    """Return the values of a feature; `None` if there is no such column."""
    if isinstance(online, OnlineColumns):
        return online.sample(column.name)
    name = online.feature_name(column)
    return online.sample(name, _time_column(online)) if name else None


def _time_column(files: ColumnFiles) -> str:
    """Return the column with the times of rows: that of labels, or that of a log of served features."""
    declared = files.manifest.get("labels", {}).get("timestamp_field", EVENT_TIMESTAMP)
    return "served_at" if "served_at" in files.names else str(declared)


def _notes(plan: ReadPlan, training: ColumnFiles) -> list[str]:
    notes = []
    registry = training.manifest.get("registry")
    if registry and registry != plan.fingerprint:
        notes.append("the definitions have changed since the training set was built")
    if training.rows > column_files.MAX_ROWS:
        notes.append(f"a sample of the {training.rows:,} rows of the training set is compared")
    return notes
