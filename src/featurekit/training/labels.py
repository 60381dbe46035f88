"""The table of labels of a training set, with its checks."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from featurekit.errors import RequestError, SourceError, ValueRefusedError, name_hint
from featurekit.keys import KeyPlan
from featurekit.lower.columns import encode_ids
from featurekit.plan import ViewPlan
from featurekit.types import DType, codec_of
from featurekit.types.arrow import parse_array

_DIGEST_ROWS = 65_536


@dataclass(frozen=True, slots=True)
class Labels:
    """Labels: join keys, a time, and columns of the caller.

    Attributes:
        table: The table, as the caller gave it.
        at: The times in microseconds since the epoch, rounded down.
    """

    table: Any
    at: Any

    @property
    def names(self) -> list[str]:
        """The names of the columns."""
        names: list[str] = self.table.schema.names
        return names

    def moments(self, view: ViewPlan) -> Any:
        """Return the table of moments that `ports.HistorySource` takes.

        Raises:
            RequestError: A join key is null, empty or of the wrong type.
        """
        encoded = encode_ids(view, "native", self.table)
        if encoded.rejected:
            index = encoded.rejected[0]
            error = encoded.errors(index)[0]
            raise RequestError(
                error.reason, where=f"labels, row {index + 1}, {error.field}", hint=error.hint
            )
        rows = self.table.num_rows
        return pa.table(
            {"rid": pa.array(range(rows), pa.int64()), "k": encoded.keys, "at": self.at}
        )

    def digest(self) -> str:
        """Return the SHA-256 of the columns and rows, independent of how they are chunked."""
        digest = hashlib.sha256(self.table.schema.remove_metadata().serialize())
        for batch in self.table.combine_chunks().to_batches(_DIGEST_ROWS):
            digest.update(batch.serialize())
        return digest.hexdigest()


def read_labels(data: object, keys: Sequence[KeyPlan], timestamp_field: str) -> Labels:
    """Return the labels of a table, a data frame, or a Parquet or CSV file.

    Args:
        data: A pyarrow table, a pandas or polars data frame, or the path of a file.
        keys: The keys of the entities; the labels must have their join keys.
        timestamp_field: The column with the time of a label.

    Raises:
        RequestError: A column is missing, or a time is null or has no time zone.
        SourceError: The file cannot be read.
    """
    dtypes = {k.name: k.dtype for key in keys for k in key.join_keys}
    if isinstance(data, str | Path):
        table = _read_file(Path(data), dtypes, timestamp_field)
    else:
        table = _to_table(data)
    names = table.schema.names
    if repeated := [name for name in names if names.count(name) > 1]:
        raise RequestError(f"the labels have several columns named '{repeated[0]}'")
    for use, name in [("timestamp_field", timestamp_field), *(("join key", k) for k in dtypes)]:
        if name not in names:
            hint = name_hint(name, names)
            if use == "timestamp_field":
                hint += "; name another column with timestamp_field="
            raise RequestError(f"the labels have no column '{name}' ({use})", hint=hint)
    return Labels(table, _microseconds(table[timestamp_field], timestamp_field))


def _to_table(data: object) -> Any:
    if isinstance(data, pa.Table):
        return data
    if isinstance(data, pa.RecordBatch):
        return pa.Table.from_batches([data])
    if type(data).__module__.partition(".")[0] == "pandas":
        return pa.Table.from_pandas(data, preserve_index=False)
    if hasattr(data, "__arrow_c_stream__"):
        return pa.table(data)
    raise RequestError(
        f"the labels are a {type(data).__name__}, expected a table",
        hint="pass a pyarrow table, a pandas or polars data frame, or the path of a Parquet or CSV "
        "file",
    )


def _read_file(path: Path, dtypes: dict[str, DType], timestamp_field: str) -> Any:
    try:
        if path.suffix != ".csv":
            return pyarrow.parquet.read_table(path)
        # Arrow would read the id 007 as a number, and a time without a zone as one of UTC.
        texts = [name for name, dtype in dtypes.items() if codec_of(dtype).python_type == "str"]
        types = dict.fromkeys([*texts, timestamp_field], pa.string())
        convert = pyarrow.csv.ConvertOptions(
            column_types=types, null_values=[""], strings_can_be_null=True
        )
        table = pyarrow.csv.read_csv(path, convert_options=convert)
    except (pa.ArrowException, OSError) as error:
        raise SourceError(str(error), where=f"labels, {path}") from error
    if timestamp_field not in table.schema.names:
        return table
    column = table[timestamp_field]
    times, refused = parse_array(DType("timestamp"), column)
    if refused is not None:
        index = pc.index(refused, value=True).as_py()
        raise RequestError(
            f"{column[index].as_py()!r} is not a time with a time zone",
            where=f"labels, row {index + 1}, {timestamp_field}",
            hint="write it as 2026-11-22T10:00:00Z",
        )
    return table.set_column(table.schema.names.index(timestamp_field), timestamp_field, times)


def _microseconds(times: Any, name: str) -> Any:
    if times.null_count:
        row = pc.index(times.is_null(), value=True).as_py() + 1
        raise RequestError("the label has no time", where=f"labels, row {row}, {name}")
    kind = times.type
    if not pa.types.is_timestamp(kind) or kind.tz is None:
        if not len(times):
            return pa.array([], pa.int64())
        what = "has no time zone" if pa.types.is_timestamp(kind) else "is not a time"
        raise RequestError(
            f"{times[0].as_py()!s} {what}: the column is {kind}",
            where=f"labels, row 1, {name}",
            hint="make it a timestamp with a time zone, such as UTC",
        )
    if kind.unit == "ns":
        times = pc.floor_temporal(times.cast(pa.timestamp("ns", "UTC")), unit="microsecond")
    try:
        times = times.cast(pa.timestamp("us", "UTC"))
    except pa.ArrowInvalid as error:
        raise ValueRefusedError(str(error), where=f"labels, {name}") from error
    return times.combine_chunks().cast(pa.int64())
