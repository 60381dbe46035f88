"""Read features column by column from Parquet files, as far as a comparison needs them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset

from featurekit.damaged_files import damaged_file_error
from featurekit.errors import RequestError, name_hint
from featurekit.plan import Column
from featurekit.training.columns import status_name
from featurekit.training.drift import ColumnSample
from featurekit.training.output import MANIFEST_FILE

MAX_ROWS = 1_000_000
"""Rows that are compared; of more, a sample."""

_SEED = 7


@dataclass(frozen=True)
class ColumnFiles:
    """A training set, or any other Parquet files or table with features.

    Attributes:
        name: Where it is, for people.
        data: A `pyarrow.dataset.Dataset`.
        manifest: The manifest of the training set; empty if there is none.
    """

    name: str
    data: Any
    manifest: dict[str, Any]

    @classmethod
    def open(cls, data: object) -> ColumnFiles:
        """Open a Parquet file, a folder of such files, or a table.

        Raises:
            RequestError: There are no such files, or they cannot be read.
        """
        if isinstance(data, pa.Table):
            return cls("a table", pyarrow.dataset.dataset(data), {})
        if not isinstance(data, str | Path):
            raise RequestError(
                f"a {type(data).__name__} is not a training set",
                hint="pass the folder of a training set, a Parquet file, or a pyarrow table",
            )
        path = Path(data)
        files = sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
        files = [file for file in files if file.is_file() and not file.name.startswith(".")]
        if not files:
            raise RequestError("there is no Parquet file", where=str(path))
        try:
            dataset = pyarrow.dataset.dataset(list(map(str, files)), format="parquet")
            manifest = path / MANIFEST_FILE
            text = manifest.read_text(encoding="utf-8") if manifest.is_file() else "{}"
            return cls(str(path), dataset, json.loads(text))
        except (pa.ArrowException, OSError, ValueError) as error:
            raise damaged_file_error(files, error) or RequestError(
                f"cannot be read: {error}", where=str(path)
            ) from error

    @property
    def names(self) -> list[str]:
        """The names of the columns."""
        names: list[str] = self.data.schema.names
        return names

    @cached_property
    def rows(self) -> int:
        """The number of rows."""
        return int(self.data.count_rows())

    @cached_property
    def _chosen(self) -> Any:
        """The mask of the rows to read; `None` for all."""
        if self.rows <= MAX_ROWS:
            return None
        return pc.less(pc.random(self.rows, initializer=_SEED), MAX_ROWS / self.rows)

    def column(self, name: str) -> Any:
        """Return a column as one array, of at most about `MAX_ROWS` rows."""
        try:
            column = self.data.to_table(columns=[name])[name]
        except (pa.ArrowException, OSError) as error:
            damaged = damaged_file_error(getattr(self.data, "files", ()), error)
            raise damaged or RequestError(f"cannot be read: {error}", where=self.name) from error
        column = column if self._chosen is None else column.filter(self._chosen)
        return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)

    def feature_name(self, column: Column) -> str | None:
        """Return the name of the column with a feature; `None` if there is none."""
        names = [column.name]
        if column.alias is None:
            names.append(f"{column.view}__{column.field.name}")
        return next((name for name in names if name in self.names), None)

    def sample(self, name: str, timestamp_field: str) -> ColumnSample:
        """Return the values of a feature, its statuses if they are known, and the times of its rows."""
        values = self.column(name)
        if pa.types.is_dictionary(values.type):
            values = values.dictionary_decode()
        times = None
        if timestamp_field in self.names and pa.types.is_temporal(values.type):
            times = self.column(timestamp_field)
            zone = getattr(times.type, "tz", None)
            times = times.cast(pa.timestamp("us", zone), safe=False).cast(pa.int64())
        return ColumnSample(values, self._statuses(name), times)

    def _statuses(self, name: str) -> dict[str, int] | None:
        if status_name(name) in self.names:
            counts = self.column(status_name(name)).cast(pa.string()).value_counts().to_pylist()
            return {item["values"]: item["counts"] for item in counts}
        for feature in self.manifest.get("features", ()):
            if feature.get("name") == name and isinstance(feature.get("statuses"), dict):
                return dict(feature["statuses"])
        return None

    def keys(self, names: Sequence[str], count: int, others: Sequence[str] = ()) -> Any:
        """Return the join keys of up to `count` rows, spread over all, with those of `others` that exist.

        Raises:
            RequestError: A join key is missing.
        """
        for name in names:
            if name not in self.names:
                raise RequestError(
                    f"the training set has no join key '{name}'",
                    where=self.name,
                    hint=f"{name_hint(name, self.names)}; or compare with keys of the store "
                    "(--keys store)",
                )
        read = [*names, *(name for name in others if name in self.names)]
        table = pa.table({name: self.column(name) for name in read})
        for name in names:
            table = table.filter(table[name].is_valid())
        if table.num_rows > count:
            order = pc.sort_indices(pc.random(table.num_rows, initializer=_SEED))
            table = table.take(order.slice(0, count))
        return table
