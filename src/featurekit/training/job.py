"""A job that builds a training set when its result is first asked for."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from featurekit.errors import MissingExtraError, RequestError
from featurekit.plan import ReadPlan, ViewPlan
from featurekit.ports import HistoricalRows
from featurekit.training.features import STATUSES, ViewFeatures
from featurekit.training.labels import Labels

DATA_FILE = "data.parquet"
MANIFEST_FILE = "manifest.json"

ReadRows = Callable[[ViewPlan, Any], HistoricalRows]
"""Returns the rows of a view for a table of moments."""


@dataclass(frozen=True, slots=True)
class TrainingRequest:
    """What a training set consists of.

    Attributes:
        plan: The features, in order.
        views: Their views.
        labels: Returns the labels; called once, when the job runs.
        read_rows: Reads the history of a view.
        statuses: Whether to add a column `{feature}__status` for each feature.
        now_ms: Returns the current time, for the manifest.
    """

    plan: ReadPlan
    views: tuple[ViewPlan, ...]
    labels: Callable[[], Labels]
    read_rows: ReadRows
    statuses: bool
    now_ms: Callable[[], int]


class RetrievalJob:
    """A training set that is built at the first call of a method; later calls return the same one."""

    def __init__(self, request: TrainingRequest) -> None:
        self._request = request
        self._table: Any = None
        self._metadata: dict[str, Any] = {}

    def to_arrow(self) -> Any:
        """Return a `pyarrow.Table`: the columns of the labels as they are, then the features.

        Its rows are those of the labels, in their order. The features have the types that
        `OnlineResponse.to_arrow` gives them. If statuses were requested, they come last.

        Raises:
            RequestError: The labels lack a column, a row of them has no key or no time with a time
                zone, or one of their columns is named like a feature.
            SourceError: A source cannot be read, or has no times of creation.
            BadRowError: A row that a label needs does not fit its view.
        """
        if self._table is None:
            self._table = self._build()
        return self._table

    def to_df(self) -> Any:
        """Return a `pandas.DataFrame`. Features have nullable dtypes, so that ints stay exact."""
        try:
            import pandas
        except ImportError as error:
            raise MissingExtraError.of("pandas", "to_df()") from error

        def dtype_of(kind: Any) -> Any:
            plain = kind.num_fields or pa.types.is_dictionary(kind)
            return None if plain else pandas.ArrowDtype(kind)

        table = self.to_arrow()
        own = len(table.schema.names) - self._feature_count
        labels = table.select(range(own))
        from_pandas = labels.schema.pandas_metadata is not None
        return pandas.concat(
            [
                labels.to_pandas(types_mapper=None if from_pandas else dtype_of),
                table.select(range(own, table.num_columns))
                .replace_schema_metadata()
                .to_pandas(types_mapper=dtype_of),
            ],
            axis=1,
        )

    def to_polars(self) -> Any:
        """Return a `polars.DataFrame`."""
        try:
            import polars
        except ImportError as error:
            raise RequestError("to_polars() needs polars", hint="pip install polars") from error
        return polars.from_arrow(self.to_arrow())

    @property
    def metadata(self) -> dict[str, Any]:
        """The features, how each view was read, and counts of labels and statuses. Runs the job."""
        self.to_arrow()
        copy: dict[str, Any] = json.loads(json.dumps(self._metadata))
        return copy

    def persist(self, path: str | Path, *, allow_overwrite: bool = False) -> Path:
        """Write `data.parquet` and `manifest.json` to a folder; return the folder.

        Each file is written under a temporary name and renamed, the manifest last. The same labels,
        sources and versions of libraries give the same bytes, except for `created_at` in the manifest.

        Raises:
            RequestError: The folder has a training set already, or cannot be written.
        """
        folder = Path(path)
        data, manifest = folder / DATA_FILE, folder / MANIFEST_FILE
        if not allow_overwrite and (data.exists() or manifest.exists()):
            raise RequestError(
                "the folder has a training set already",
                where=str(folder),
                hint="choose another folder, or pass allow_overwrite=True",
            )
        document = {"created_at": _to_text(self._request.now_ms()), **self.metadata}
        text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            manifest.unlink(missing_ok=True)
            _replace(data, lambda new: pyarrow.parquet.write_table(self.to_arrow(), new))
            _replace(manifest, lambda new: new.write_text(text, encoding="utf-8"))
        except OSError as error:
            raise RequestError(
                f"the training set cannot be written: {error}", where=str(folder)
            ) from error
        return folder

    @property
    def _feature_count(self) -> int:
        return len(self._request.plan.columns) * (2 if self._request.statuses else 1)

    def _build(self) -> Any:
        request = self._request
        labels = request.labels()
        _check_names(labels, request)
        values: dict[str, Any] = {}
        statuses: dict[str, Any] = {}
        views = []
        for view in request.views:
            rows = request.read_rows(view, labels.moments(view))
            views.append(_view_metadata(view, rows))
            features = ViewFeatures.of(view, rows)
            for column in request.plan.columns:
                if column.view == view.name:
                    values[column.name], statuses[column.name] = features.column(column)
        self._metadata = self._describe(labels, views, statuses)
        table = labels.table
        for column in request.plan.columns:
            table = table.append_column(column.name, values[column.name])
        if request.statuses:
            for column in request.plan.columns:
                table = table.append_column(status_name(column.name), statuses[column.name])
        return table

    def _describe(
        self, labels: Labels, views: list[dict[str, Any]], statuses: dict[str, Any]
    ) -> dict[str, Any]:
        plan = self._request.plan
        return {
            "features": [
                {
                    "name": column.name,
                    "view": column.view,
                    "field": column.field.name,
                    "type": str(column.field.dtype),
                    "statuses": _counts(statuses[column.name]),
                }
                for column in plan.columns
            ],
            "request": plan.name,
            "registry": plan.fingerprint,
            "views": views,
            "labels": {"rows": labels.table.num_rows, "sha256": labels.digest()},
        }


def _to_text(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms // 1000, UTC).isoformat()


def status_name(feature: str) -> str:
    """Return the name of the column with the statuses of a feature."""
    return f"{feature}__status"


def _check_names(labels: Labels, request: TrainingRequest) -> None:
    names = [column.name for column in request.plan.columns]
    if request.statuses:
        names += [status_name(name) for name in names]
    for name in names:
        if name in labels.names:
            raise RequestError(
                f"the labels have a column '{name}', which is also the name of a feature",
                hint="pass full_feature_names=True, or rename the column of the labels",
            )


def _view_metadata(view: ViewPlan, rows: HistoricalRows) -> dict[str, Any]:
    source = asdict(view.source) if view.source else {}
    return {
        "name": view.name,
        "as_of": rows.as_of,
        "source": {name: value for name, value in source.items() if value not in (None, (), "")},
        "rows_read": rows.rows_read,
        "rows_incomplete": rows.rows_incomplete,
    }


def _counts(statuses: Any) -> dict[str, int]:
    found = {
        STATUSES[item["values"]]: item["counts"]
        for item in statuses.indices.value_counts().to_pylist()
    }
    return {status: found.get(status, 0) for status in STATUSES}


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    """Write a new file and rename it to `path`; leave no partial file."""
    new = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        write(new)
        new.replace(path)
    finally:
        with suppress(OSError):
            new.unlink(missing_ok=True)
