"""Build a training set: read the labels, then one view at a time, each into temporary files."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from featurekit.disk_space import check_free_space
from featurekit.errors import RequestError, SourceError
from featurekit.expressions import Expression
from featurekit.history_ports import LabelQuery, StoredValues
from featurekit.plan import (
    Column,
    DerivedColumn,
    FieldPlan,
    ReadColumn,
    ReadGroup,
    ReadPlan,
    ViewPlan,
)
from featurekit.runtime.functions import Functions
from featurekit.training.columns import (
    STATUS_TYPE,
    FeatureColumns,
    possible_statuses,
    status_name,
    statuses_of,
)
from featurekit.training.derived import DerivedColumns, check_request_data
from featurekit.training.labels import read_labels
from featurekit.training.progress import OnTrainingProgress, Run
from featurekit.training.spool import Spool, rebatch
from featurekit.types.arrow import arrow_type

ReadValues = Callable[[ViewPlan, Any, Run], StoredValues]
"""Returns what the store would have held of a view, for a table of moments."""

Interruptibly = Callable[[Callable[[], Any], Callable[[], None], Callable[[], None] | None], Any]
"""Returns the result of a function; calls the second one if a signal interrupts that, and the third
one meanwhile, again and again."""

_TEXT_BYTES = 24

_SPILL_BYTES = 100
"""Temporary files for each label and view, beside the values themselves."""


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

    def of(self, fields: tuple[FieldPlan, ...]) -> ViewPlan:
        """Return the view with some of its fields."""
        return replace(self.view, fields=fields)

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
        labels: What `label_files.open_labels` takes, or a query.
        timestamp_field: The column of the labels with their times.
        read_values: Reads the history of a view.
        statuses: Whether to add a column `{feature}__status` for each feature.
        run: Runs a function so that Ctrl-C interrupts it.
        now_ms: Returns the current time, for the manifest.
        on_progress: Called a few times a second while the job runs.
        on_persist: Called with the folder of a training set that was written.
        to_sql: Returns the SQL of a request. See `RetrievalJob.to_sql`.
        build: Builds the training set elsewhere than in this process.
        functions: The functions of the repository that compute features.
    """

    plan: ReadPlan
    views: tuple[ViewPlan, ...]
    labels: object
    timestamp_field: str
    read_values: ReadValues
    statuses: bool
    run: Interruptibly
    now_ms: Callable[[], int]
    on_progress: OnTrainingProgress | None = None
    on_persist: Callable[[Path], object] = lambda _: None
    to_sql: Callable[[TrainingRequest], str] | None = None
    build: Callable[[TrainingRequest, Run], BuiltTrainingSet] | None = None
    functions: Functions = field(default_factory=dict)

    @property
    def stored(self) -> tuple[ReadColumn, ...]:
        """The columns of `plan.stored`; inputs of derived features have names that no feature has."""
        shown = self.plan.stored[: len(self.plan.stored) - len(self.plan.inputs)]
        inputs = (replace(c, name=f"@{i}") for i, c in enumerate(self.plan.inputs))
        return (*shown, *inputs)

    @property
    def parts(self) -> list[ViewPart]:
        """The views and their aliases, each with its columns."""
        columns: dict[tuple[str, int], list[ReadColumn]] = {}
        for column in self.stored:
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


class BuiltTrainingSet(Protocol):
    """A training set that was built."""

    metadata: dict[str, Any]

    @property
    def schema(self) -> Any:
        """The columns of the labels, then the features, then their statuses."""

    def batches(self) -> Iterator[Any]:
        """Yield the rows, in batches of the same size each time."""

    def close(self) -> object:
        """Free what it occupies."""


class TrainingSet:
    """A training set in temporary files, which are deleted with it.

    Attributes:
        schema: The columns of the labels, then the features, then their statuses.
        rows: The number of labels.
        metadata: How it was built.
    """

    def __init__(self, request: TrainingRequest, run: Run) -> None:
        folder = tempfile.mkdtemp(prefix="featurekit-")
        self.close = weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        self._request = request
        self._parts: list[Spool] = []
        try:
            self._build(run, Path(folder))
        except BaseException:
            self.close()
            raise

    def _build(self, run: Run, folder: Path) -> None:
        request, parts = self._request, self._request.parts
        self._read_labels(run, folder)
        check_free_space(folder, self.rows * _row_bytes(request, len(parts)))
        run.labels_total = self.rows
        views: list[dict[str, Any]] = []
        counts: dict[str, Any] = {}
        for number, part in enumerate(parts):
            run.view, run.views_done, run.labels_done = part.view.name, number, 0
            columns = FeatureColumns(part.columns)
            spool = Spool(folder / f"view{number}.arrow", columns.schema)
            views.append({**part.names, **self._read_view(part, columns, spool, run)})
            spool.close()
            self._parts.append(spool)
            counts |= columns.counts
        if request.plan.derived:
            counts |= self._compute(run, folder)
        labels = {"rows": self._labels.rows, "sha256": self._labels.sha256}
        self.metadata = training_metadata(request.plan, labels, views, counts)

    def _read_labels(self, run: Run, folder: Path) -> None:
        request = self._request
        keyed = [part.keyed for part in request.parts]

        def check(schema: Any) -> None:
            run.check()
            check_names(schema, request.features_schema)
            check_request_data(schema.names, request.plan)

        labels = request.labels
        if isinstance(labels, LabelQuery):
            run.use(labels)
            labels = labels.reader()
        texts = {column.name: column.field.dtype for column in request.plan.requests}
        self._labels = read_labels(
            labels, keyed, request.timestamp_field, folder, check, other_dtypes=texts
        )
        run.use(None)
        self.rows = self._labels.rows
        own = self._labels.schema
        self.schema = pa.schema([*own, *request.features_schema], own.metadata)

    def _read_view(
        self, part: ViewPart, columns: FeatureColumns, spool: Spool, run: Run
    ) -> dict[str, Any]:
        """Write the columns of a view, and return how it was read."""
        metadata: dict[str, Any] = {}
        for moments in self._labels.moments(part.keyed):
            pa.default_memory_pool().release_unused()  # what follows has a limit of its own
            stored = self._request.read_values(part.view, moments, run)
            del moments  # which are not needed while the values are read
            with closing(stored):
                for batch in stored.batches:
                    run.check()
                    spool.write(columns.batch(batch))
                    run.labels_done += batch.num_rows
            if metadata and metadata.get("identity") != stored.metadata.get("identity"):
                raise SourceError(
                    "the source changed while it was read",
                    where=f"feature view {part.view.name}",
                    hint="run the job again when no other process writes to it",
                )
            metadata = _merged(metadata, stored.metadata)
            for name, count in stored.counts.items():
                metadata[name] = metadata.get(name, 0) + count
        run.use(None)
        return metadata

    def _compute(self, run: Run, folder: Path) -> dict[str, Any]:
        """Write the derived features, and return the counts of their statuses."""
        request = self._request
        columns = DerivedColumns(request.plan, request.timestamp_field, request.functions)
        spool = Spool(folder / "derived.arrow", columns.schema)
        run.view, run.labels_done = "derived features", 0
        for labels, found in self._columns():
            run.check()
            stored = [found[column.name] for column in request.stored]
            spool.write(columns.batch(labels, stored))
            run.labels_done += labels.num_rows
        spool.close()
        self._parts.append(spool)
        return columns.counts

    def _columns(self) -> Iterator[tuple[Any, dict[str, tuple[Any, Any]]]]:
        """Yield each batch of labels, and the values and the codes of its features by name."""
        parts = [rebatch(part.batches()) for part in self._parts]
        for labels, *batches in zip(self._labels.batches(), *parts, strict=True):
            found: dict[str, tuple[Any, Any]] = {}
            for batch in batches:
                half = batch.num_columns // 2
                pairs = zip(batch.columns[:half], batch.columns[half:], strict=True)
                found |= dict(zip(batch.schema.names[:half], pairs, strict=True))
            yield labels, found

    def batches(self) -> Iterator[Any]:
        """Yield the rows, in batches of the same size each time."""
        for labels, found in self._columns():
            pairs = [found[column.name] for column in self._request.plan.columns]
            columns = [values for values, _ in pairs]
            if self._request.statuses:
                columns += [statuses_of(codes) for _, codes in pairs]
            yield pa.RecordBatch.from_arrays([*labels.columns, *columns], schema=self.schema)


def _merged(metadata: dict[str, Any], block: dict[str, Any]) -> dict[str, Any]:
    """Return how a view was read for all blocks of labels so far: the most rows that one of them read."""
    counts = ("rows_read", "rows_incomplete")
    most = {name: max(block[name], metadata.get(name, 0)) for name in counts if name in block}
    return {**block, **metadata, **most}


def check_names(labels: Any, features: Any) -> None:
    """Raise `RequestError` if a column of the labels is named like a feature."""
    for name in features.names:
        if name in labels.names:
            raise RequestError(
                f"the labels have a column '{name}', which is also the name of a feature",
                hint="pass full_feature_names=True or --full-feature-names, or rename the column of the labels",
            )


def _row_bytes(request: TrainingRequest, views: int) -> int:
    """Return about how many bytes of temporary files a label needs."""
    widths = (
        column.type.bit_width // 8 if _has_width(column.type) else _TEXT_BYTES
        for column in request.features_schema
    )
    return sum(widths) + views * _SPILL_BYTES


def _has_width(kind: Any) -> bool:
    return bool(pa.types.is_primitive(kind) or pa.types.is_decimal(kind))


def _derivation(column: Column) -> dict[str, str]:
    """Return what a derived feature is computed by."""
    if not isinstance(column, DerivedColumn):
        return {}
    is_expression = isinstance(column.feature.compute, Expression)
    return {"expr" if is_expression else "callable": column.feature.text}


def training_metadata(
    plan: ReadPlan, labels: dict[str, Any], views: list[dict[str, Any]], counts: dict[str, Any]
) -> dict[str, Any]:
    """Return the metadata of a training set: its features, its labels, and how its views were read."""

    def feature(column: Column) -> dict[str, Any]:
        found = counts.get(column.name, {})
        return {
            "name": column.name,
            "view": column.view,
            **({} if column.alias is None else {"alias": column.alias}),
            "field": column.field.name,
            "type": str(column.field.dtype),
            **_derivation(column),
            "statuses": {
                status: found.get(status, 0) for status in possible_statuses(column, plan.stored)
            },
        }

    requests = {column.name: str(column.field.dtype) for column in plan.requests}
    return {
        "features": [feature(column) for column in plan.columns],
        "request": plan.name,
        **({"request_data": requests} if requests else {}),
        "registry": plan.fingerprint,
        "views": views,
        "labels": labels,
    }
