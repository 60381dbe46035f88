"""Build a training set: read the labels, then one view at a time, each into temporary files."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from featurekit.errors import RequestError
from featurekit.plan import ReadColumn, ReadGroup, ReadPlan, ViewPlan
from featurekit.ports import StoredValues
from featurekit.training.columns import (
    STATUS_TYPE,
    STATUSES,
    FeatureColumns,
    status_name,
    statuses_of,
)
from featurekit.training.labels import Labels, read_labels
from featurekit.training.spool import Spool, rebatch
from featurekit.types.arrow import arrow_type

ReadValues = Callable[[ViewPlan, Any], StoredValues]
"""Returns what the store would have held of a view, for a table of moments."""


@dataclass(frozen=True, slots=True)
class ViewPart:
    """A view of a training set. A view with aliases is a part for each.

    Attributes:
        view: The view.
        group: How the labels name its join keys, and its alias.
        columns: Its features.
    """

    view: ViewPlan
    group: ReadGroup
    columns: list[ReadColumn]

    @property
    def keyed(self) -> ViewPlan:
        """The view with the join keys that the labels have."""
        return replace(self.view, key=self.group.key)

    @property
    def names(self) -> dict[str, str]:
        """The view's name and its alias, for the metadata."""
        alias = {} if self.group.alias is None else {"alias": self.group.alias}
        return {"name": self.view.name, **alias}


@dataclass(frozen=True, slots=True)
class TrainingRequest:
    """What a training set consists of.

    Attributes:
        plan: The features, in order.
        views: Their views.
        labels: What `label_files.open_labels` takes.
        timestamp_field: The column of the labels with their times.
        read_values: Reads the history of a view.
        statuses: Whether to add a column `{feature}__status` for each feature.
        now_ms: Returns the current time, for the manifest.
    """

    plan: ReadPlan
    views: tuple[ViewPlan, ...]
    labels: object
    timestamp_field: str
    read_values: ReadValues
    statuses: bool
    now_ms: Callable[[], int]

    @property
    def parts(self) -> list[ViewPart]:
        """The views and their aliases, each with its columns."""
        columns: dict[tuple[str, int], list[ReadColumn]] = {}
        for column in self.plan.columns:
            columns.setdefault((column.view, column.group), []).append(column)
        views = {view.name: view for view in self.views}
        return [
            ViewPart(views[name], self.plan.groups[group], own)
            for (name, group), own in columns.items()
        ]

    @property
    def features_schema(self) -> Any:
        """The columns that a training set adds to the labels."""
        columns = self.plan.columns
        values = [pa.field(c.name, arrow_type(c.field.dtype)) for c in columns]
        statuses = [pa.field(status_name(c.name), STATUS_TYPE) for c in columns]
        return pa.schema([*values, *(statuses if self.statuses else [])])


class TrainingSet:
    """A training set in temporary files, which are deleted with it.

    Attributes:
        schema: The columns of the labels, then the features, then their statuses.
        rows: The number of labels.
        metadata: How it was built.
    """

    def __init__(self, request: TrainingRequest) -> None:
        folder = tempfile.mkdtemp(prefix="featurekit-")
        self.close = weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        try:
            self._build(request, Path(folder))
        except BaseException:
            self.close()
            raise

    def _build(self, request: TrainingRequest, folder: Path) -> None:
        self._request = request
        parts = request.parts
        keyed = [part.keyed for part in parts]
        self._labels = read_labels(request.labels, keyed, request.timestamp_field, folder)
        self.rows = self._labels.rows
        self.schema = _schema(self._labels, request)
        self._parts: list[Spool] = []
        views = []
        counts: dict[str, Any] = {}
        for number, part in enumerate(parts):
            columns = FeatureColumns(part.columns)
            stored = request.read_values(part.view, self._labels.moments(part.keyed))
            spool = Spool(folder / f"view{number}.arrow", columns.schema)
            for batch in stored.batches:
                spool.write(columns.batch(batch))
            spool.close()
            self._parts.append(spool)
            views.append({**part.names, **stored.metadata})
            counts |= columns.counts
        self.metadata = _metadata(request.plan, self._labels, views, counts)

    def batches(self) -> Iterator[Any]:
        """Yield the rows, in batches of the same size each time."""
        parts = [rebatch(part.batches()) for part in self._parts]
        for labels, *values in zip(self._labels.batches(), *parts, strict=True):
            found = {
                name: column
                for batch in values
                for name, column in zip(batch.schema.names, batch.columns, strict=True)
            }
            columns = [found[c.name] for c in self._request.plan.columns]
            if self._request.statuses:
                names = [status_name(c.name) for c in self._request.plan.columns]
                columns += [statuses_of(found[name]) for name in names]
            yield pa.RecordBatch.from_arrays([*labels.columns, *columns], schema=self.schema)


def _schema(labels: Labels, request: TrainingRequest) -> Any:
    features = request.features_schema
    for name in features.names:
        if name in labels.schema.names:
            raise RequestError(
                f"the labels have a column '{name}', which is also the name of a feature",
                hint="pass full_feature_names=True, or rename the column of the labels",
            )
    return pa.schema([*labels.schema, *features], labels.schema.metadata)


def _metadata(
    plan: ReadPlan, labels: Labels, views: list[dict[str, Any]], counts: dict[str, Any]
) -> dict[str, Any]:
    def feature(column: ReadColumn) -> dict[str, Any]:
        found = counts.get(column.name, {})
        return {
            "name": column.name,
            "view": column.view,
            "field": column.field.name,
            "type": str(column.field.dtype),
            "statuses": {status: found.get(status, 0) for status in STATUSES},
        }

    return {
        "features": [feature(column) for column in plan.columns],
        "request": plan.name,
        "registry": plan.fingerprint,
        "views": views,
        "labels": {"rows": labels.rows, "sha256": labels.sha256},
    }
