"""The labels of a training set as a Spark DataFrame, with their checks.

Labels that are in this process are checked here, as without Spark, and sent to Spark with their keys. A
DataFrame of Spark, and Parquet files, are checked in Spark, and never come into this process.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from featurekit.engines.spark_rows import quoted
from featurekit.engines.spark_values import key_column, keys_task, without_prefix
from featurekit.errors import RequestError
from featurekit.keys import KeyPlan
from featurekit.lower.columns import encode_ids, encode_values
from featurekit.plan import RequestColumn, ViewPlan
from featurekit.training.label_files import label_path
from featurekit.training.labels import FIRST_US, LAST_US, Labels, check_columns, read_labels

AT = "@at"


@dataclass(frozen=True, slots=True)
class SparkLabels:
    """Labels that were checked.

    Attributes:
        frame: A frame with their columns as `c0`, ..., what orders them as `o0`, ..., their time `@at` in
            microseconds, and their keys as `k0`, ...
        names: The names of their columns.
        schema: Their columns as an Arrow schema, if the caller gave them in this process.
        order: The columns that order them.
        keys: The number of the key of each key plan.
        rows: Their number.
        times: The first and the last time.
        digest: The SHA-256 of `training.labels.Labels`, if they are in this process.
    """

    frame: Any
    names: tuple[str, ...]
    schema: Any
    order: tuple[str, ...]
    keys: dict[KeyPlan, int]
    rows: int
    times: tuple[int | None, int | None]
    digest: str | None = None


def is_on_spark(data: object) -> bool:
    """Return whether labels are read by Spark: a DataFrame of it, or Parquet files."""
    if isinstance(data, str | Path):
        return "://" in str(data) or label_path(data).is_dir() or _is_parquet(Path(data))
    return type(data).__module__.startswith("pyspark.sql.")


def _is_parquet(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"PAR1"


def labels_from_here(
    session: Any,
    data: object,
    views: Sequence[ViewPlan],
    timestamp_field: str,
    check: Callable[[Any], None],
    requests: Sequence[RequestColumn],
) -> SparkLabels:
    """Return labels that are in this process.

    The arguments are those of `read_labels`, and the values of the request that the features need.
    """
    dtypes = {column.name: column.field.dtype for column in requests}
    with TemporaryDirectory(prefix="featurekit-", ignore_cleanup_errors=True) as folder:
        labels = read_labels(
            data, views, timestamp_field, Path(folder), check, other_dtypes=dtypes
        )
        return _sent(session, labels, views, requests)


def _sent(
    session: Any, labels: Labels, views: Sequence[ViewPlan], requests: Sequence[RequestColumn]
) -> SparkLabels:
    """Return labels as a frame, after a check of the values of the request."""
    keys = {key: i for i, key in enumerate(dict.fromkeys(view.key for view in views))}
    schema = pa.schema(
        [
            *(pa.field(f"c{i}", spark_type(f.type, f.name)) for i, f in enumerate(labels.schema)),
            pa.field("o0", pa.int64()),
            pa.field(AT, pa.int64()),
            *(pa.field(f"k{i}", pa.string()) for i in keys.values()),
        ]
    )
    batches, rows = [], 0
    first = last = None
    for batch, moments in labels.with_moments():
        for request in requests:
            if request.name in batch.schema.names:  # an error names the row here
                encode_values(request.field, batch.column(request.name), "labels", rows)
        number = pa.array(range(rows, rows + batch.num_rows), pa.int64())
        at = next(iter(moments.values())).column("at")
        columns = [
            as_spark(column, field.type, name)
            for column, field, name in zip(
                batch.columns, schema, labels.schema.names, strict=False
            )
        ]
        ids = [without_prefix(moments[key].column("k")) for key in keys]
        columns += [number, at, *ids]
        batches.append(pa.record_batch(columns, schema))
        rows += batch.num_rows
        bounds = pc.min_max(at).as_py()
        first = bounds["min"] if first is None else min(first, bounds["min"])
        last = bounds["max"] if last is None else max(last, bounds["max"])
    frame = session.createDataFrame(pa.Table.from_batches(batches, schema))
    names = tuple(labels.schema.names)
    return SparkLabels(
        frame, names, labels.schema, ("o0",), keys, rows, (first, last), labels.sha256
    )


def labels_on_spark(
    session: Any,
    data: Any,
    views: Sequence[ViewPlan],
    timestamp_field: str,
    check: Callable[[Any], None],
) -> SparkLabels:
    """Return labels that Spark reads.

    Raises:
        RequestError: As `read_labels`.
    """
    from pyspark.sql import functions as F  # noqa: N812

    frame, order = _opened(session, data)
    names = tuple(f.name for f in frame.schema.fields if f.name not in _PLACE)
    keys = {key: i for i, key in enumerate(dict.fromkeys(view.key for view in views))}
    join_keys = dict.fromkeys(k.name for key in keys for k in key.join_keys)
    check_columns(list(names), list(join_keys), timestamp_field)
    check(pa.schema([(name, pa.null()) for name in names]))
    kinds = {f.name: f.dataType.typeName() for f in frame.schema.fields}
    _check_time(frame, timestamp_field, kinds[timestamp_field])
    columns = {name: f"c{i}" for i, name in enumerate(names)}
    frame = frame.select(
        *(F.col(quoted(name)).alias(column) for name, column in columns.items()),
        *(part.alias(f"o{i}") for i, part in enumerate(order)),
        F.unix_micros(F.col(quoted(timestamp_field))).alias(AT),
    )
    of_columns = {columns[name]: kind for name, kind in kinds.items() if name in columns}
    for key, i in keys.items():
        view = replace(next(v for v in views if v.key == key), ordering="arrival")
        own = {k.name: columns[k.name] for k in key.join_keys}
        native = key_column(view, of_columns, own)
        if native is not None:
            frame = frame.withColumn(f"k{i}", native)
        else:
            fields = [f"{quoted(f.name)} {f.dataType.simpleString()}" for f in frame.schema.fields]
            schema = ", ".join([*fields, f"k{i} string"])
            frame = frame.mapInArrow(keys_task(view, own, f"k{i}"), schema)
    counted = frame.agg(
        F.count(F.lit(1)).alias("rows"),
        F.count(AT).alias("times"),
        F.min(AT).alias("first"),
        F.max(AT).alias("last"),
        *(F.count(f"k{i}").alias(f"k{i}") for i in keys.values()),
    ).collect()[0]
    _check_counts(frame, counted, timestamp_field, columns, keys, views)
    places = tuple(f"o{i}" for i, _ in enumerate(order))
    times = (counted["first"], counted["last"])
    return SparkLabels(frame, names, None, places, keys, counted["rows"], times)


_PLACE = ("@file", "@row")


def _opened(session: Any, data: Any) -> tuple[Any, list[Any]]:
    """Return labels as a frame, and what orders them."""
    from pyspark.sql import functions as F  # noqa: N812

    if not isinstance(data, str | Path):
        return data, [F.monotonically_increasing_id()]
    path = str(data) if "://" in str(data) else str(Path(data).absolute())
    frame = session.read.parquet(path)
    place = {"@row": F.col("_metadata.row_index")}
    if len(frame.inputFiles()) != 1:
        place = {"@file": F.col("_metadata.file_path"), **place}
    placed = frame.select("*", *(column.alias(name) for name, column in place.items()))
    return placed, [F.col(name) for name in place]


def _check_time(frame: Any, name: str, kind: str) -> None:
    if kind == "timestamp":
        return
    first = frame.select(quoted(name)).first()
    shown = f"{first[0]} " if first is not None else "the time "
    what = "has no time zone" if kind == "timestamp_ntz" else "is not a time"
    raise RequestError(
        f"{shown}{what}: the column is {kind}",
        where=f"labels, {name}",
        hint="make it a timestamp with a time zone, such as UTC",
    )


def _check_counts(
    frame: Any,
    counted: Any,
    timestamp_field: str,
    columns: dict[str, str],
    keys: dict[KeyPlan, int],
    views: Sequence[ViewPlan],
) -> None:
    """Raise `RequestError` for the first label without a time or a key."""
    if counted["times"] < counted["rows"]:
        raise RequestError("a label has no time", where=f"labels, {timestamp_field}")
    if counted["rows"] and (counted["first"] < FIRST_US or counted["last"] > LAST_US):
        raise RequestError(
            "the time of a label is not in the years 1 to 9999",
            where=f"labels, {timestamp_field}",
            hint="check the unit of the column",
        )
    for key, i in keys.items():
        if counted[f"k{i}"] == counted["rows"]:
            continue
        names = [k.name for k in key.join_keys]
        rows = frame.where(f"k{i} IS NULL").limit(1).select(*(columns[name] for name in names))
        batch = rows.toArrow().rename_columns(names).combine_chunks().to_batches()[0]
        view = replace(next(v for v in views if v.key == key), ordering="arrival")
        error = encode_ids(view, "native", batch).errors(0)[0]
        raise RequestError(error.reason, where=f"labels, {error.field}", hint=error.hint)


def spark_type(kind: Any, name: str) -> Any:
    """Return the Arrow type of a column of labels in Spark.

    Raises:
        RequestError: Spark has no such type.
    """
    types = pa.types
    if types.is_dictionary(kind):
        return spark_type(kind.value_type, name)
    for is_kind, wider in _WIDER:
        if is_kind(kind):
            return wider
    if types.is_timestamp(kind):
        return pa.timestamp("us", "UTC" if kind.tz else None)
    if types.is_time(kind) or types.is_interval(kind) or types.is_decimal256(kind):
        raise RequestError(
            f"Spark has no type for {kind}",
            where=f"labels, {name}",
            hint="cast the column, or leave it out of the labels",
        )
    return kind


_WIDER: tuple[tuple[Callable[[Any], bool], Any], ...] = (
    (pa.types.is_null, pa.string()),
    (pa.types.is_large_string, pa.string()),
    (pa.types.is_string_view, pa.string()),
    (pa.types.is_large_binary, pa.binary()),
    (pa.types.is_binary_view, pa.binary()),
    (pa.types.is_fixed_size_binary, pa.binary()),
    (pa.types.is_uint8, pa.int16()),
    (pa.types.is_uint16, pa.int32()),
    (pa.types.is_uint32, pa.int64()),
    (pa.types.is_uint64, pa.decimal128(20, 0)),
    (pa.types.is_float16, pa.float32()),
    (pa.types.is_date64, pa.date32()),
    (pa.types.is_duration, pa.duration("us")),
)


def as_spark(column: Any, kind: Any, name: str) -> Any:
    """Return a column of labels in its type in Spark.

    Raises:
        RequestError: A value is lost, such as nanoseconds.
    """
    try:
        return column.cast(kind)
    except pa.ArrowInvalid as error:
        raise RequestError(
            f"Spark holds times to the microsecond, and {error}",
            where=f"labels, {name}",
            hint="round the column to microseconds",
        ) from error


def from_spark(column: Any, kind: Any) -> Any:
    """Return a column of labels in the type that the caller gave it."""
    if pa.types.is_dictionary(kind):
        return column.cast(kind.value_type).dictionary_encode().cast(kind)
    if pa.types.is_null(kind):
        return pa.chunked_array([pa.nulls(len(column))])
    return column.cast(kind)
