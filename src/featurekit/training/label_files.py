"""The forms in which a caller gives labels: tables, data frames, readers and files."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.dataset
import pyarrow.parquet

from featurekit.damaged_files import damaged_file_error
from featurekit.errors import RequestError, SourceError
from featurekit.training.spool import BATCH_ROWS
from featurekit.types import DType, codec_of
from featurekit.types.arrow import parse_array

_NUMBERS = frozenset({"int32", "int64", "float32", "float64"})
_CSV_BLOCK_BYTES = 8_000_000

_CSV_NAME = re.compile(r"\.csv(\.(gz|bz2|zst|lz4))?$", re.IGNORECASE)
"""The names of CSV files; Arrow decompresses them by their names."""

_PARQUET_START = b"PAR1"


@dataclass(frozen=True, slots=True)
class LabelStream:
    """Labels that are read once.

    Attributes:
        schema: The columns.
        batches: The labels, in order.
        again: Returns the labels once more; `None` if they must be copied for that.
    """

    schema: Any
    batches: Iterable[Any]
    again: Callable[[], Iterable[Any]] | None = None


@contextmanager
def open_labels(
    data: object, dtypes: Mapping[str, DType], timestamp_field: str
) -> Iterator[LabelStream]:
    """Open labels for the duration of the block, and turn errors of reading them into `SourceError`.

    Args:
        data: A pyarrow table, record batch or reader; a pandas or polars data frame; the path of a
            Parquet or CSV file or a folder of Parquet files; or a function that returns a reader.
        dtypes: The types of the join keys.
        timestamp_field: The column with the time of a label.
    """
    where = f"labels, {data}" if isinstance(data, str | Path) else "labels"
    try:
        yield _open(data, dtypes, timestamp_field)
    except (pa.ArrowException, OSError) as error:
        raise _damaged(data, error) or SourceError(str(error), where=where) from error


def _damaged(data: object, error: Exception) -> SourceError | None:
    if not isinstance(data, str | Path):
        return None
    path = Path(data)
    if _CSV_NAME.search(path.name):
        return None
    files = sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
    return damaged_file_error(files, error, "labels")


def _open(data: object, dtypes: Mapping[str, DType], timestamp_field: str) -> LabelStream:
    if isinstance(data, str | Path):
        path = label_path(data)
        if path.is_dir():
            return _open_folder(path)
        if _CSV_NAME.search(path.name):
            return _open_csv(path, dtypes, timestamp_field)
        _check_parquet(path)
        file = pyarrow.parquet.ParquetFile(path)
        return LabelStream(file.schema_arrow, file.iter_batches(BATCH_ROWS))
    if callable(data):
        data = data()
    if isinstance(data, pa.RecordBatchReader):
        return LabelStream(data.schema, data)
    table = _to_table(data, timestamp_field)
    return LabelStream(table.schema, table.to_batches(), table.to_batches)


def _to_table(data: object, timestamp_field: str) -> Any:
    if isinstance(data, pa.Table):
        return data
    if isinstance(data, pa.RecordBatch):
        return pa.Table.from_batches([data])
    if type(data).__module__.partition(".")[0] == "pandas":
        return _from_pandas(data, timestamp_field)
    if hasattr(data, "__arrow_c_stream__"):
        return pa.table(data)
    if type(data).__name__ == "LazyFrame":
        raise RequestError(
            "the labels are a LazyFrame, which has no rows yet", hint="pass labels.collect()"
        )
    raise RequestError(
        f"the labels are a {type(data).__name__}, expected a table",
        hint="pass a pyarrow table or reader, a pandas or polars data frame, the path of a Parquet or "
        "CSV file, or a SQL query",
    )


def without_views(batch: Any) -> Any:
    """Return a batch without dictionaries of views, from which Arrow cannot take values."""
    columns = [
        pa.DictionaryArray.from_arrays(column.indices, column.dictionary.cast(pa.string()))
        if pa.types.is_dictionary(column.type) and pa.types.is_string_view(column.type.value_type)
        else column
        for column in batch.columns
    ]
    return pa.record_batch(columns, names=batch.schema.names)


def _from_pandas(frame: Any, timestamp_field: str) -> Any:
    names = [str(name) for name in frame.columns]
    if repeated := [name for name in names if names.count(name) > 1]:
        raise RequestError(f"the labels have several columns named '{repeated[0]}'")
    if timestamp_field in frame.columns and frame[timestamp_field].dtype == object:
        times = frame[timestamp_field]
        # Arrow would take a time without a zone for one of the zone of the first time.
        for row, (value, is_null) in enumerate(zip(times, times.isna(), strict=True), 1):
            if isinstance(value, datetime) and not is_null and value.tzinfo is None:
                raise RequestError(
                    f"{value} has no time zone",
                    where=f"labels, row {row}, {timestamp_field}",
                    hint="make it a timestamp with a time zone, such as UTC",
                )
    return pa.Table.from_pandas(frame, preserve_index=False)


def label_path(data: str | Path) -> Path:
    """Return the path of labels.

    Raises:
        SourceError: Nothing is there.
    """
    path = Path(data)
    if not str(data).strip() or not path.exists():
        raise SourceError(
            f"there are no labels at '{data}'",
            hint="pass the path of a Parquet or CSV file, a folder of Parquet files, or a SQL query",
        )
    return path


def _open_folder(path: Path) -> LabelStream:
    """Open the Parquet files of a folder."""

    def dataset(**options: Any) -> Any:
        return pyarrow.dataset.dataset(path, format="parquet", partitioning="hive", **options)

    files = dataset(schema=pa.schema([])).files
    if not files:
        raise SourceError(
            "the folder has no files", where=f"labels, {path}", hint="put Parquet files into it"
        )
    for file in files:
        _check_parquet(Path(file))
    folder = dataset()
    batches = folder.to_batches(
        batch_size=BATCH_ROWS, batch_readahead=1, fragment_readahead=1, use_threads=False
    )
    return LabelStream(folder.schema, batches)


def _check_parquet(path: Path) -> None:
    with path.open("rb") as file:
        if file.read(len(_PARQUET_START)) != _PARQUET_START:
            raise SourceError(
                "the file is not Parquet",
                where=f"labels, {path}",
                hint="labels are a Parquet file, a CSV file named .csv or .csv.gz, a folder of Parquet "
                "files, or a SQL query, such as \"FROM 'labels/*.csv'\"",
            )


def _open_csv(path: Path, dtypes: Mapping[str, DType], timestamp_field: str) -> LabelStream:
    schema = _csv_schema(path, _csv_texts(dtypes, timestamp_field))
    reader = _csv_reader(path, {field.name: field.type for field in schema})
    batches = _check_numbers(
        reader,
        {
            name: dtype
            for name, dtype in dtypes.items()
            if str(dtype) in _NUMBERS
            and name in schema.names
            and pa.types.is_string(schema.field(name).type)
        },
    )
    if timestamp_field in schema.names:
        index = schema.names.index(timestamp_field)
        schema = schema.set(index, pa.field(timestamp_field, pa.timestamp("us", "UTC")))
    return LabelStream(schema, _with_times(batches, timestamp_field))


def csv_schema(path: Path, dtypes: Mapping[str, DType], timestamp_field: str) -> Any:
    """Return the columns of labels in a CSV file, with times as texts; `None` if they are in Parquet."""
    if not _CSV_NAME.search(path.name):
        _check_parquet(path)
        return None
    if path.suffix.lower() not in (".csv", ".gz"):
        raise RequestError(
            f"DuckDB does not read {path.suffix} files",
            where=f"labels, {path}",
            hint="write the labels as .csv, .csv.gz or Parquet, or use to_arrow()",
        )
    return _csv_schema(path, _csv_texts(dtypes, timestamp_field))


def _csv_texts(dtypes: Mapping[str, DType], timestamp_field: str) -> dict[str, Any]:
    """Return the types of the columns that are read as texts.

    Arrow would read the id 007 as a number, and a time without a zone as one of UTC.
    """
    texts = [name for name, dtype in dtypes.items() if codec_of(dtype).python_type == "str"]
    return dict.fromkeys([*texts, timestamp_field], pa.string())


def _csv_schema(path: Path, types: Mapping[str, Any]) -> Any:
    """Return the columns of a CSV file, with types that all values fit.

    Arrow takes the types of a stream from its first block. If later values do not fit them, the
    types are taken from the whole file.
    """
    try:
        with _csv_reader(path, types) as reader:
            for _ in reader:
                pass
            return reader.schema
    except pa.ArrowInvalid:
        return pyarrow.csv.read_csv(path, convert_options=_csv_options(types)).schema


def _csv_reader(path: Path, types: Mapping[str, Any]) -> Any:
    return pyarrow.csv.open_csv(
        path,
        read_options=pyarrow.csv.ReadOptions(block_size=_CSV_BLOCK_BYTES),
        convert_options=_csv_options(types),
    )


def _csv_options(types: Mapping[str, Any]) -> Any:
    return pyarrow.csv.ConvertOptions(
        column_types=types, null_values=[""], strings_can_be_null=True
    )


def _check_numbers(batches: Iterable[Any], dtypes: Mapping[str, DType]) -> Iterator[Any]:
    """Yield batches. A column of numbers that has become texts has a value that is not a number.

    Raises (the iterator):
        RequestError: Names the first such value.
    """
    before = 0
    for batch in batches:
        for name, dtype in dtypes.items():
            column = batch.column(batch.schema.names.index(name))
            _, refused = parse_array(dtype, column)
            if refused is not None:
                row = pc.index(refused, value=True).as_py()
                raise RequestError(
                    f"{column[row].as_py()!r} is not {codec_of(dtype).noun}",
                    where=f"labels, row {before + row + 1}, {name}",
                )
        before += batch.num_rows
        yield batch


def _with_times(batches: Iterable[Any], name: str) -> Iterator[Any]:
    """Yield batches with the texts of a column parsed as times."""
    before = 0
    for batch in batches:
        if name in batch.schema.names:
            index = batch.schema.names.index(name)
            column = batch.column(index)
            times, refused = parse_array(DType("timestamp"), column)
            if refused is not None:
                row = pc.index(refused, value=True).as_py()
                raise RequestError(
                    f"{column[row].as_py()!r} is not a time with a time zone",
                    where=f"labels, row {before + row + 1}, {name}",
                    hint="write it as 2026-11-22T10:00:00Z",
                )
            before += batch.num_rows
            yield batch.set_column(index, name, times)
        else:
            yield batch
