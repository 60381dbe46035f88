"""Keys and values of rows in Spark's tasks, encoded and decoded as loads and readers do."""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from featurekit.engines.spark_rows import SENT_FIELDS, SparkRows, quoted
from featurekit.errors import BadRowError, FeatureKitError, RequestError, join_where
from featurekit.history_ports import event_age_column, remaining_column
from featurekit.lower.columns import EncodedBatch, encode_batch, encode_ids
from featurekit.plan import ReadColumn, ReadPlan, SourceColumns, ViewPlan
from featurekit.sources.history_index import NO_PREFIX
from featurekit.sources.load_times import FOREVER
from featurekit.training.columns import FeatureColumns
from featurekit.training.derived import DerivedColumns
from featurekit.training.features import encoded_view, floor_ms
from featurekit.types import codec_of

STATE = "@s"
"""With a number: the column that says what an event has of a field."""

ABSENT, VALUE, NULL = range(3)

DERIVED = "d"
"""Instead of the number of a part: the derived features."""

ERROR = "@error"
"""The column of results with a pickled error."""

Task = Callable[[Iterable[Any]], Iterator[Any]]


def native_key(rows: SparkRows, view: ViewPlan) -> Any:
    """Return the key of rows as Spark computes it; `None` if only the codecs can."""
    kinds = {f.name: f.dataType.typeName() for f in rows.frame.schema.fields}
    columns = {k.name: f"@k{i}" for i, k in enumerate(view.key.join_keys)}
    return key_column(view, kinds, columns)


def key_column(view: ViewPlan, kinds: dict[str, str], columns: dict[str, str]) -> Any:
    """Return the id of a key as text, null if a part is missing; `None` if only the codecs make it.

    Args:
        view: The view with the key.
        kinds: The types of columns.
        columns: The column of each join key.
    """
    from pyspark.sql import functions as F  # noqa: N812

    key = view.key
    pieces: list[Any] = []
    for index, join_key in enumerate(key.join_keys):
        name, codec = columns[join_key.name], codec_of(join_key.dtype)
        column = F.col(quoted(name))
        if codec.python_type == "str" and kinds[name] == "string":
            text = F.when(column != "", column)
        elif codec.is_integer and kinds[name] in ("byte", "short", "integer", "long"):
            text = column.cast("string")
        else:
            return None
        for character, escaped in key.escapes.items():
            text = F.replace(text, F.lit(character), F.lit(escaped))
        if index == key.hash_tag_index:
            text = F.concat(F.lit("{"), text, F.lit("}"))
        pieces += [F.lit(":"), text] if index else [text]
    if not pieces:
        return F.lit("")
    return pieces[0] if len(pieces) == 1 else F.concat(*pieces)


def encoding_task(
    view: ViewPlan, rows: SparkRows, source: SourceColumns, passed: Sequence[str]
) -> Task:
    """Return the function for `mapInArrow` that encodes rows.

    It gives the columns `passed`, then `@k`; `@bad`, why the row does not fit the view; and for each field
    `@v0` with its bytes and `@s0` with what an event has of it.
    """
    form, names = rows.form, rows.names
    ids = ["json"] if form == "json" else [k.name for k in view.key.join_keys]
    kept = [name for name in names if name != "event_timestamp"]
    encoded = encoded_view(view)
    output = [*passed, "@k", "@bad"]
    output += [f"{column}{i}" for i, _ in enumerate(view.fields) for column in ("@v", STATE)]

    def run(batches: Iterable[Any]) -> Iterator[Any]:
        import pyarrow as pa

        for batch in batches:
            keys = encode_ids(view, form, batch.select(ids))
            found = encode_batch(encoded, form, batch.select(kept))
            columns = [batch.column(name) for name in passed]
            columns.append(_spread(without_prefix(keys.keys), keys.rejected, batch.num_rows))
            columns.append(_reasons(found, batch.num_rows))
            for data, state in zip(found.values, _states(view, source, form, batch), strict=True):
                columns += [_spread(data, found.rejected, batch.num_rows), state]
            yield pa.record_batch(columns, names=output)

    return run


def keys_task(view: ViewPlan, columns: Mapping[str, str], name: str) -> Task:
    """Return the function for `mapInArrow` that adds the ids of keys to labels, null if one is refused.

    Args:
        view: The view with the key.
        columns: The column of each join key.
        name: The name of the column to add.
    """

    def run(batches: Iterable[Any]) -> Iterator[Any]:
        import pyarrow as pa

        for batch in batches:
            parts = pa.record_batch({key: batch.column(of) for key, of in columns.items()})
            keys = encode_ids(view, "native", parts)
            ids = without_prefix(keys.keys)
            yield batch.append_column(name, _spread(ids, keys.rejected, batch.num_rows))

    return run


def without_prefix(keys: Any) -> Any:
    """Return the ids of keys of `encode_ids` as texts."""
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.utf8_slice_codeunits(keys.cast(pa.string()), start=len(NO_PREFIX))


def _spread(values: Any, rejected: Sequence[int], rows: int) -> Any:
    """Return an array with nulls at the positions of rejected rows."""
    import numpy as np
    import pyarrow as pa

    if not rejected:
        return values
    accepted = np.ones(rows, bool)
    accepted[list(rejected)] = False
    return values.take(pa.array(np.cumsum(accepted) - 1, mask=~accepted))


def _reasons(found: EncodedBatch, rows: int) -> Any:
    """Return for each row why it is rejected, as JSON; null if it is not."""
    import pyarrow as pa

    reasons: list[str | None] = [None] * rows
    for index in found.rejected:
        error = found.errors(index)[0]
        reasons[index] = json.dumps([error.field, error.reason, error.hint])
    return pa.array(reasons, pa.string())


def _states(view: ViewPlan, source: SourceColumns, form: str, batch: Any) -> Iterator[Any]:
    """Yield for each field what the rows of a batch have of it, see `sources.event_history`."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if form == "json":
        yield from _json_states(view, source, batch.column("json").to_pylist())
        return
    sent = None
    if SENT_FIELDS in batch.schema.names:
        sent = [set(names or ()) for names in batch.column(SENT_FIELDS).to_pylist()]
    for item in view.fields:
        is_null = batch.column(item.name).is_null()
        if sent is not None:
            is_sent = pa.array([item.name in names for names in sent], pa.bool_())
        elif source.nulls == "delete":
            is_sent = pa.repeat(pa.scalar(value=True), batch.num_rows)
        else:
            is_sent = pc.invert(is_null)
        state = pc.if_else(is_null, NULL, VALUE)
        yield pc.if_else(is_sent, state, ABSENT).cast(pa.int8())


def _json_states(view: ViewPlan, source: SourceColumns, lines: Sequence[str]) -> Iterator[Any]:
    import pyarrow as pa

    rows = [_parsed(line) for line in lines]
    sent = source.sent_fields_column

    def state(row: dict[str, Any], name: str) -> int:
        column = source.column(name)
        if not (name in (row.get(sent) or ()) if sent else column in row):
            return ABSENT
        return NULL if row.get(column) is None else VALUE

    for item in view.fields:
        yield pa.array([state(row, item.name) for row in rows], pa.int8())


def _parsed(line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError:
        return {}
    return row if isinstance(row, dict) else {}


@dataclass(frozen=True, slots=True)
class PartTask:
    """The features of a view, made of the rows that were found for labels.

    Attributes:
        number: The number of the view; its columns are `r3`, or `r3_0`, ... of events, `w3` and `e3`.
        view: The view.
        columns: Its features.
        payload: The columns of the rows.
        is_encoded: Whether these are bytes of values.
        files: The files of the rows.
        max_rows: See `spark_history.MAX_ROWS`.
        skip_bad_rows: Whether rows that do not fit give nothing; otherwise they are an error.
    """

    number: int
    view: ViewPlan
    columns: Sequence[ReadColumn]
    payload: Sequence[str]
    is_encoded: bool
    files: tuple[str, ...]
    max_rows: int
    skip_bad_rows: bool

    def features(self, batch: Any) -> tuple[Any, Any]:
        """Return the columns of `FeatureColumns`, and for each label the numbers of rejected rows.

        Raises:
            BadRowError: A row does not fit the view.
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        at_ms = floor_ms(batch.column("@at"))
        found = self._events(batch) if self.view.kind == "stream" else self._rows(batch, at_ms)
        rejected: list[set[int]] | None = None
        stored: dict[str, Any] = {}
        for item, row in zip(self.view.fields, found, strict=True):
            is_live = pc.fill_null(pc.less_equal(at_ms, row.deadline), fill_value=False)
            is_bad = pc.and_(is_live, row.bad.is_valid())
            if is_bad.true_count:
                rejected = rejected or [set() for _ in range(batch.num_rows)]
                self._reject(row, is_bad, rejected)
            is_good = pc.and_(is_live, row.bad.is_null())
            stored[item.name] = pc.if_else(is_good, row.data, pa.scalar(None, pa.binary()))
            stored[remaining_column(item.name)] = pc.subtract(row.deadline, at_ms)
            has_time = pc.greater(row.event_us, -FOREVER)
            event_us = pc.if_else(has_time, row.event_us, pa.scalar(None, pa.int64()))
            stored[event_age_column(item.name)] = pc.subtract(at_ms, floor_ms(event_us))
        numbers = [None] * batch.num_rows if rejected is None else list(map(sorted, rejected))
        values = FeatureColumns(self.columns).batch(pa.record_batch(stored))
        return values, pa.array(numbers, pa.list_(pa.int64()))

    def _reject(self, row: _Found, is_bad: Any, rejected: list[set[int]]) -> None:
        import pyarrow.compute as pc

        for index in pc.indices_nonzero(is_bad).to_pylist():
            number = row.number[index].as_py()
            rejected[index].add(number)
            if not self.skip_bad_rows:
                name, reason, hint = json.loads(row.bad[index].as_py())
                raise BadRowError(
                    reason,
                    where=join_where(f"feature view {self.view.name}", self._place(number), name),
                    hint=hint or "no load would have written this row; fix it in the source",
                )

    def _place(self, number: int) -> str:
        if not self.files:
            return "a row of its source"
        file = self.files[number // self.max_rows].replace("\x01", "/").rpartition("/")[2]
        return f"{file}, row {number % self.max_rows + 1}"

    def _events(self, batch: Any) -> Iterator[_Found]:
        for i, _ in enumerate(self.view.fields):
            deadline, event_us, number, bad, data = _children(batch.column(f"r{self.number}_{i}"))
            yield _Found(data, deadline, event_us, bad, number)

    def _rows(self, batch: Any, at_ms: Any) -> Iterator[_Found]:
        import pyarrow.compute as pc

        view, row = self.view, batch.column(f"r{self.number}")
        wrote, end = (batch.column(f"{name}{self.number}") for name in ("w", "e"))
        event_us, number, *payload = _children(row)
        ttls = [item.ttl_ms or view.ttl_ms for item in view.fields]
        deadlines = {
            ttl: pc.if_else(row.is_valid(), pc.min_element_wise(pc.add(wrote, ttl), end), None)
            for ttl in set(ttls)
        }
        if self.is_encoded:
            bad, values = payload[0], payload[1:]
        else:
            latest = deadlines[max(deadlines)]
            is_live = pc.fill_null(pc.less_equal(at_ms, latest), fill_value=False)
            bad, values = self._encoded(payload, is_live)
        for data, ttl in zip(values, ttls, strict=True):
            yield _Found(data, deadlines[ttl], event_us, bad, number)

    def _encoded(self, payload: Sequence[Any], is_live: Any) -> tuple[Any, list[Any]]:
        """Return why rows are rejected, and the bytes of their values; nulls for those that expired."""
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc

        live = pc.indices_nonzero(is_live)
        columns = zip(self.payload, payload, strict=True)
        rows = pa.record_batch({name: column.take(live) for name, column in columns})
        found = encode_batch(_without_key(encoded_view(self.view)), "native", rows)
        places = np.full(len(is_live), -1)
        places[live.to_numpy()] = np.arange(len(live))
        index = pa.array(places, mask=places < 0)
        values = [_spread(data, found.rejected, len(live)).take(index) for data in found.values]
        return _reasons(found, len(live)).take(index), values


def _without_key(view: ViewPlan) -> ViewPlan:
    """Return a view whose rows have no key, because they are those of a known key."""
    return replace(view, key=replace(view.key, join_keys=(), hash_tag=None, hash_tag_index=None))


@dataclass(frozen=True, slots=True)
class _Found:
    """For each label a value.

    Attributes:
        data: Its bytes.
        deadline: The last millisecond at which it is served.
        event_us: The time of its row or event.
        bad: Why the row is rejected.
        number: The number of the row.
    """

    data: Any
    deadline: Any
    event_us: Any
    bad: Any
    number: Any


def _children(structs: Any) -> list[Any]:
    """Return the children of an array of structs, null where the struct is."""
    return list(structs.flatten())


@dataclass(frozen=True, slots=True)
class DerivedTask:
    """The derived features of labels, computed from their stored ones.

    Attributes:
        plan: The features.
        labels: The names of the columns `c0`, ... of the labels.
        timestamp_field: The one with their times.
        stored: For each of `TrainingRequest.stored`, the position of its part and its own there.
    """

    plan: ReadPlan
    labels: tuple[str, ...]
    timestamp_field: str
    stored: tuple[tuple[int, int], ...]

    def open(self) -> DerivedColumns:
        """Return what computes them."""
        return DerivedColumns(self.plan, self.timestamp_field, {})

    def features(self, columns: DerivedColumns, batch: Any, parts: Sequence[Any]) -> Any:
        """Return the columns of `DerivedColumns`.

        Args:
            columns: Of `open`.
            batch: Labels.
            parts: The columns of `PartTask.features` of each part.

        Raises:
            RequestError: A value of the request does not fit.
        """
        import pyarrow as pa

        own = [batch.column(f"c{i}") for i, _ in enumerate(self.labels)]
        labels = pa.RecordBatch.from_arrays(own, names=list(self.labels))
        stored = []
        for part, index in self.stored:
            found = parts[part]
            stored.append((found.column(index), found.column(index + found.num_columns // 2)))
        try:
            return columns.batch(labels, stored)
        except RequestError as error:  # the number of a row in a partition says nothing
            where = re.sub(r", row \d+", "", error.where)
            raise RequestError(error.message, where=where, hint=error.hint) from error


def result_schema(parts: Sequence[PartTask], derived: DerivedTask | None) -> Any:
    """Return the columns that `result_task` adds to labels: of part 3 `f3_0`, ..., `s3_0`, ... and `x3`.

    Those of derived features are `fd_0`, ... and `sd_0`, ...
    """
    import pyarrow as pa

    fields = []
    for part in parts:
        fields += _named(FeatureColumns(part.columns).schema, str(part.number))
        fields.append(pa.field(f"x{part.number}", pa.list_(pa.int64())))
    if derived is not None:
        fields += _named(derived.open().schema, DERIVED)
    return pa.schema([*fields, pa.field(ERROR, pa.binary())])


def _named(schema: Any, part: str) -> list[Any]:
    """Return features, and the codes of their statuses, as columns of a part."""
    import pyarrow as pa

    names = [f"{kind}{part}_{i}" for kind in "fs" for i in range(len(schema) // 2)]
    return [pa.field(n, _plain_type(f.type)) for n, f in zip(names, schema, strict=True)]


def result_task(
    parts: Sequence[PartTask], derived: DerivedTask | None, kept: Sequence[str]
) -> Task:
    """Return the function for `mapInArrow` that gives the columns `kept` of labels and their features.

    After these follow for each view its features, the codes of their statuses, and the numbers of rejected
    rows; then those of derived features; then `@error`. An error is the only row of its batch, and ends
    the partition.
    """

    def run(batches: Iterable[Any]) -> Iterator[Any]:
        import pyarrow as pa

        added = result_schema(parts, derived)
        computed = derived.open() if derived else None
        for batch in batches:
            schema = pa.schema([*(batch.schema.field(name) for name in kept), *added])
            columns = [batch.column(name) for name in kept]
            try:
                found = []
                for part in parts:
                    values, rejected = part.features(batch)
                    columns += [*values.columns, rejected]
                    found.append(values)
                if derived and computed:
                    columns += derived.features(computed, batch, found).columns
            except FeatureKitError as error:
                columns = [pa.nulls(1, f.type) for f in schema][:-1]
                columns.append(pa.array([pickle.dumps(error)], pa.binary()))
                yield pa.record_batch(columns, schema)
                return
            columns.append(pa.nulls(batch.num_rows, pa.binary()))
            yield pa.record_batch(
                [c.cast(f.type) for c, f in zip(columns, schema, strict=True)], schema
            )

    return run


def _plain_type(kind: Any) -> Any:
    """Return the type that Spark has for a type: lists of any size instead of lists of one size."""
    import pyarrow as pa

    return pa.list_(kind.value_type) if pa.types.is_fixed_size_list(kind) else kind
