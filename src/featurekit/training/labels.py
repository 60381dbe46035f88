"""The labels of a training set, with their checks.

They are read once, in batches: each batch is checked, its keys are encoded, and it is copied to a
temporary file unless the caller holds all labels in memory. So memory does not grow with them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from featurekit.errors import RequestError, ValueRefusedError, name_hint
from featurekit.keys import KeyPlan
from featurekit.lower.columns import encode_ids
from featurekit.plan import ViewPlan
from featurekit.training.label_files import open_labels, without_views
from featurekit.training.spool import BATCH_ROWS, Spool, divided, rebatch
from featurekit.types import DType

BLOCK_ROWS = 64 * BATCH_ROWS
"""Labels whose values are found at once. The memory for that is the same for any number of labels."""

FIRST_US, LAST_US = -62_135_596_800_000_000, 253_402_300_799_999_999
"""The times that a `datetime` can hold."""

_POSITIONS = pa.array(range(BATCH_ROWS), pa.int64())

_MOMENT = pa.schema([("k", pa.binary()), ("at", pa.int64())])


@dataclass(frozen=True, slots=True)
class Labels:
    """Labels that were checked: join keys, a time, and columns of the caller.

    Attributes:
        schema: Their columns, as the caller gave them.
        rows: Their number.
        sha256: The digest of the columns and rows, independent of how they were divided.
        batches: Returns them in batches of `BATCH_ROWS`.
    """

    schema: Any
    rows: int
    sha256: str
    batches: Callable[[], Iterator[Any]]
    _moments: dict[KeyPlan, Spool]

    def moments(self, view: ViewPlan) -> Iterator[Any]:
        """Yield the tables of moments that `HistoryQuery` takes, `BLOCK_ROWS` labels at a time."""
        blocks = divided(self._moments[view.key].batches(), BLOCK_ROWS) if self.rows else [[]]
        yield from map(_numbered, blocks)

    def with_moments(self) -> Iterator[tuple[Any, dict[KeyPlan, Any]]]:
        """Yield each batch of labels with its moments for each key, which have no numbers."""
        spools = [rebatch(spool.batches()) for spool in self._moments.values()]
        for batch, *moments in zip(self.batches(), *spools, strict=True):
            yield batch, dict(zip(self._moments, moments, strict=True))


def read_labels(
    data: object,
    views: Sequence[ViewPlan],
    timestamp_field: str,
    folder: Path,
    check: Callable[[Any], None],
    *,
    other_dtypes: Mapping[str, DType],
) -> Labels:
    """Read and check labels.

    Args:
        data: What `label_files.open_labels` takes.
        views: The views of the features; the labels must have the join keys of their entities.
        timestamp_field: The column with the time of a label.
        folder: For temporary files, which the labels need as long as they are used.
        check: Called with the columns, and before each batch.
        other_dtypes: The types of other columns that the features need.

    Raises:
        RequestError: A column is missing; or a key is null, empty or of the wrong type; or a time is
            null or has no time zone.
        SourceError: The labels cannot be read.
    """
    keyed = {view.key: replace(view, ordering="arrival") for view in views}
    dtypes = {k.name: k.dtype for key in keyed for k in key.join_keys}
    with open_labels(data, {**other_dtypes, **dtypes}, timestamp_field) as stream:
        check_columns(stream.schema.names, list(dtypes), timestamp_field)
        check(stream.schema)
        own = None
        if stream.again is None:
            own = Spool(folder / "labels.arrow", stream.schema)
        moments = {
            key: Spool(folder / f"moments{i}.arrow", _MOMENT) for i, key in enumerate(keyed)
        }
        digest = hashlib.sha256(stream.schema.remove_metadata().serialize())
        rows = 0
        for batch in rebatch(stream.batches):
            check(stream.schema)
            at = _microseconds(batch.column(timestamp_field), timestamp_field, rows)
            plain = without_views(batch)
            for key, view in keyed.items():
                moments[key].write(pa.record_batch([_keys(view, plain, rows), at], _MOMENT))
            digest.update(_plain(plain).serialize())
            if own is not None:
                own.write(batch)
            rows += batch.num_rows
        for spool in (*moments.values(), *([own] if own is not None else [])):
            spool.close()
    again = stream.again or own.batches  # type: ignore[union-attr]
    return Labels(stream.schema, rows, digest.hexdigest(), lambda: rebatch(again()), moments)


def first_labels(data: object, keys: Sequence[KeyPlan], timestamp_field: str, count: int) -> Any:
    """Return a table of the first labels, which may lack keys or times.

    Raises:
        RequestError: A column is missing.
        SourceError: The labels cannot be read.
    """
    dtypes = {k.name: k.dtype for key in keys for k in key.join_keys}
    with open_labels(data, dtypes, timestamp_field) as stream:
        check_columns(stream.schema.names, list(dtypes), timestamp_field)
        first = next(rebatch(stream.batches, count), None)
        return pa.Table.from_batches([] if first is None else [first], stream.schema)


def _numbered(batches: Iterable[Any]) -> Any:
    """Return a table of moments with their numbers."""
    moments = pa.Table.from_batches(batches, _MOMENT)
    ones = pa.repeat(pa.scalar(1, pa.int64()), moments.num_rows)
    rids = pc.subtract(pc.cumulative_sum(ones), 1)
    keys = moments["k"].dictionary_encode()
    return pa.table([rids, keys, moments["at"]], names=["rid", *_MOMENT.names])


def check_columns(names: list[str], join_keys: list[str], timestamp_field: str) -> None:
    """Raise `RequestError` if the labels lack a column or have one twice."""
    if repeated := [name for name in names if names.count(name) > 1]:
        raise RequestError(f"the labels have several columns named '{repeated[0]}'")
    for use, name in [("timestamp_field", timestamp_field), *(("join key", k) for k in join_keys)]:
        if name not in names:
            hint = name_hint(name, names)
            if use == "timestamp_field":
                hint += "; name another column with timestamp_field= or --timestamp-field"
            raise RequestError(f"the labels have no column '{name}' ({use})", hint=hint)


def _keys(view: ViewPlan, batch: Any, before: int) -> Any:
    """Return the keys of labels; `before` is the number of labels before the batch."""
    encoded = encode_ids(view, "native", batch)
    if encoded.rejected:
        index = encoded.rejected[0]
        error = encoded.errors(index)[0]
        raise RequestError(
            error.reason, where=f"labels, row {before + index + 1}, {error.field}", hint=error.hint
        )
    return encoded.keys


def _plain(batch: Any) -> Any:
    """Return a copy of a batch whose serialized form depends on its values only.

    That form leaves out dictionaries, and contains the memory around slices of views.
    """
    fields = [field.with_type(_plain_type(field.type)) for field in batch.schema]
    return batch.cast(pa.schema(fields)).take(_POSITIONS.slice(0, batch.num_rows))


def _plain_type(kind: Any) -> Any:
    if pa.types.is_dictionary(kind):
        return _plain_type(kind.value_type)
    if pa.types.is_string_view(kind):
        return pa.string()
    return pa.binary() if pa.types.is_binary_view(kind) else kind


def _microseconds(times: Any, name: str, before: int) -> Any:
    """Return times in microseconds since the epoch, rounded down."""
    if times.null_count:
        row = before + pc.index(times.is_null(), value=True).as_py() + 1
        raise RequestError("the label has no time", where=f"labels, row {row}, {name}")
    kind = times.type
    if not pa.types.is_timestamp(kind) or kind.tz is None:
        what = "has no time zone" if pa.types.is_timestamp(kind) else "is not a time"
        raise RequestError(
            f"{times[0].as_py()!s} {what}: the column is {kind}",
            where=f"labels, row {before + 1}, {name}",
            hint="make it a timestamp with a time zone, such as UTC",
        )
    if kind.unit == "ns":
        times = pc.floor_temporal(times.cast(pa.timestamp("ns", "UTC")), unit="microsecond")
    try:
        at = times.cast(pa.timestamp("us", "UTC")).cast(pa.int64())
    except pa.ArrowInvalid as error:
        raise ValueRefusedError(str(error), where=f"labels, {name}") from error
    outside = pc.or_(pc.less(at, FIRST_US), pc.greater(at, LAST_US))
    if (index := pc.index(outside, value=True).as_py()) >= 0:
        raise RequestError(
            "the time is not in the years 1 to 9999",
            where=f"labels, row {before + index + 1}, {name}",
            hint="check the unit of the column",
        )
    return at
