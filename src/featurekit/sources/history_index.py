"""The index of a history, and the rows that it points to.

The index has a key, the times and a number for each row of the entities that are asked for. Keys are
encoded as loads do, so that `007` and `7` are one integer, and none is rounded. Whole rows are read
by number when it is known which ones are needed.
"""

# ruff: noqa: S608 - all names and values in this SQL are quoted

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from featurekit.errors import SourceError
from featurekit.history_ports import AsOf
from featurekit.lower.columns import encode_ids
from featurekit.plan import SourceColumns, ViewPlan
from featurekit.ports import ALL_TIMES, SOURCE_ROW, TimeRange
from featurekit.sources.load_times import floor_to
from featurekit.sources.selection import Selection, check_members, json_pointer, select
from featurekit.sources.session import Rows, Session, quote_text
from featurekit.sources.times import check_created_texts
from featurekit.types import DType, codec_of

MAX_ROWS = 2**40
"""More than the rows of a source. A time and a number make one sort key with it."""

_BATCH_ROWS = 16_384

NO_PREFIX = b"::"
"""What keys begin with if they have neither a prefix nor the name of an entity."""

INTEGERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER")
"""The DuckDB types of integers that fit a BIGINT."""

_SPILL_FACTOR = 2
"""The size of an index and of its sorted copy, in that of the index."""

_INDEX_ROWS = 262_144
"""Rows of an index batch. Each batch is joined to the entities."""


@dataclass(frozen=True)
class History:
    """The rows of a view's history, and the entities that are asked for.

    Attributes:
        rows: The rows.
        view: The view.
        source: The columns to read.
        selection: Their expressions.
        entities: The keys of the entities, each once. In tables, an entity is its position here.
    """

    rows: Rows
    view: ViewPlan
    source: SourceColumns
    selection: Selection
    entities: Any

    @classmethod
    def of(
        cls, rows: Rows, view: ViewPlan, source: SourceColumns, moments: Any, times: TimeRange
    ) -> History:
        """Select the columns, and create the table `moments` with the positions of entities.

        Of texts, all rows are read, because the rows of their files are counted.
        """
        # Rows of a history are selected alike in either ordering.
        times = times if rows.form == "native" else ALL_TIMES
        selection = select(replace(view, ordering="arrival"), source, rows, times)
        if rows.form == "json":
            check_members(view, source, rows)
        keys = moments["k"].dictionary_encode()
        ids = pa.chunked_array([chunk.indices for chunk in keys.chunks], pa.int32())
        entities = keys.chunk(0).dictionary if keys.num_chunks else pa.array([], pa.binary())
        rows.session.connection.register("moments", moments.set_column(1, "k", ids))
        rows.session.reserve_memory(moments.nbytes + ids.nbytes + entities.nbytes)
        return cls(rows, view, source, selection, entities)

    @property
    def event_us(self) -> str:
        """The SQL of a row's time in microseconds; empty if the rows have none."""
        if not self.selection.time:
            return ""
        return _microseconds(self.selection.time, self._kind(self.source.timestamp_field))

    def created_us(self) -> str:
        """Return the SQL of a row's creation in microseconds; empty if that is not a time."""
        column = self.source.created_timestamp_field
        rows, selection = self.rows, self.selection
        if not column:
            return ""
        if selection.created_text:
            texts = f"(SELECT {selection.created_text} AS created_text FROM {rows.source})"
            check_created_texts(rows, column, texts, "created_text")
            ((numbers,),) = rows.session.fetch_all(
                f"SELECT count(*) FILTER (created_text = 'number') FROM {texts}"
            )
            return "" if numbers else _microseconds(selection.order[-1], "")
        kind = rows.columns[column]
        is_time = kind.startswith("TIMESTAMP") or kind == "DATE"
        return _microseconds(selection.order[-1], kind) if is_time else ""

    @property
    def event_ns(self) -> str:
        """The SQL of the nanoseconds of a row's time within its microsecond; null without a time."""
        return _nanoseconds(self.selection.time, self._kind(self.source.timestamp_field))

    @property
    def created_ns(self) -> str:
        """The SQL of the nanoseconds of a row's creation, as `event_ns`."""
        time = self.selection.order[-1] if self.selection.order else ""
        return _nanoseconds(time, self._kind(self.source.created_timestamp_field))

    def _kind(self, column: str | None) -> str:
        return self.rows.columns.get(column or "", "")

    def check_created(self, as_of: AsOf | None, created: str) -> None:
        """Raise `SourceError` if times of creation are asked for and there are none."""
        if as_of != "created" or created:
            return
        column = self.source.created_timestamp_field
        raise SourceError(
            f"created_timestamp_field '{column}' holds no times"
            if column
            else "the source has no created_timestamp_field",
            where=self.rows.where,
            hint="use as_of='event_time'",
        )

    def store_index(self, columns: Mapping[str, str], required: str) -> tuple[int, int]:
        """Store the table `row_index` with `k`, these columns and `rn`.

        Args:
            columns: SQL by name.
            required: The column that may not be null in a complete row.

        Returns:
            The number of rows, and of those of them that lack a key or the required column.
        """
        if self.rows.form == "native":
            self._check_space(columns)
        if key := self._plain_key():
            return self._join_index(key, columns, required)
        return self._encode_index(columns, required)

    def _encode_index(self, columns: Mapping[str, str], required: str) -> tuple[int, int]:
        """Do as `store_index`, with the keys that codecs encode."""
        rows = self.rows
        values = self._keys()
        ids = [f"v{i}" for i in range(len(values))]
        sql = f"FROM {self._numbered({**dict(zip(ids, values.values(), strict=True)), **columns})}"
        # The result is read on one connection and stored on another, so the table is not temporary.
        writer = rows.session.connection.cursor()
        reader = rows.session.connection.sql(sql).to_arrow_reader(_INDEX_ROWS)
        form = "text" if rows.form == "json" else rows.form
        kept = [name for name in reader.schema.names if name not in ids]
        arrow = rows.session.arrow
        schema = arrow.schema([("id", arrow.binary()), *(reader.schema.field(n) for n in kept)])
        ids_of_entities = {
            "id": self.entities,
            "k": arrow.array(range(len(self.entities)), arrow.int32()),
        }
        writer.register("entities", arrow.table(ids_of_entities))
        writer.register("incoming", schema.empty_table())
        # A join is many times faster than `pc.index_in`, which builds its table for each batch.
        found = (
            "SELECT e.k, i.* EXCLUDE (id) FROM incoming i JOIN entities e USING (id) "
            f'WHERE i."{required}" IS NOT NULL'
        )
        writer.execute(f"CREATE TABLE row_index AS {found}")
        read = complete = 0
        for batch in reader:
            read += batch.num_rows
            encoded = encode_ids(self.view, form, batch.select(ids).rename_columns(list(values)))
            keyed = batch.select(kept)
            if encoded.rejected:
                refused = set(encoded.rejected)
                keyed = keyed.filter(
                    arrow.array([i not in refused for i in range(batch.num_rows)])
                )
            complete += keyed.num_rows - keyed[required].null_count
            writer.register("incoming", arrow.table([encoded.keys, *keyed.columns], schema=schema))
            writer.execute(f"INSERT INTO row_index {found}")
        writer.close()
        rows.check_count(read)
        return read, read - complete

    def _plain_key(self) -> str:
        """Return the SQL of the text of the only join key; empty if SQL does not compare keys as codecs do."""
        key = self.view.key
        if self.rows.form != "native" or len(key.join_keys) != 1 or key.hash_tag_index is not None:
            return ""
        [join_key] = key.join_keys
        codec = codec_of(join_key.dtype)
        kind = self.rows.columns[self.source.column(join_key.name)]
        [value] = self._keys().values()
        if codec.python_type == "str" and kind == "VARCHAR":
            return value
        is_integer = codec.is_integer and kind in INTEGERS
        return f"CAST({value} AS VARCHAR)" if is_integer else ""

    def _join_index(self, key: str, columns: Mapping[str, str], required: str) -> tuple[int, int]:
        """Do as `store_index`, within DuckDB."""
        session, arrow = self.rows.session, self.rows.session.arrow
        texts = pc.utf8_slice_codeunits(self.entities.cast(arrow.string()), start=len(NO_PREFIX))
        numbers = arrow.array(range(len(texts)), arrow.int32())
        session.connection.register("entities", arrow.table({"k": numbers, "key": texts}))
        names = ", ".join(f'r."{name}"' for name in columns)
        numbered = self._numbered({"key": key, **columns})
        sql = (
            f"CREATE TABLE row_index AS SELECT e.k, {names}, r.rn FROM {numbered} r "
            f'JOIN entities e USING (key) WHERE r."{required}" IS NOT NULL'
        )
        session.run(lambda: session.execute(sql))
        return self._count_rows({"key": key, required: columns[required]})

    def _check_space(self, columns: Mapping[str, str]) -> None:
        """Raise `RequestError` if the disk has no space for the index and its sorted copy."""
        session = self.rows.session
        ((count,),) = session.fetch_all(f"SELECT count(*) FROM {self._in_range}")
        session.check_space(_SPILL_FACTOR * 8 * (len(columns) + 2) * count)

    @property
    def _in_range(self) -> str:
        return f"(FROM {self.rows.source} WHERE {self.selection.in_time_range})"

    def _count_rows(self, required: Mapping[str, str]) -> tuple[int, int]:
        """Return the number of rows, and of those that lack a required column."""
        source = self._in_range
        lacks = [f"{part} IS NULL" for part in required.values()]
        lacks.append(f"{required['key']} = ''")
        # Statistics of the source may answer each of these, but not all at once.
        counts = [f"(SELECT count(*) FROM {source} WHERE {lack})" for lack in ("true", *lacks)]
        ((read, *lacking),) = self.rows.session.fetch_all(f"SELECT {', '.join(counts)}")
        self.rows.check_count(read)
        if not any(lacking):
            return read, 0
        ((incomplete,),) = self.rows.session.fetch_all(
            f"SELECT count(*) FROM {source} WHERE {' OR '.join(lacks)}"
        )
        return read, incomplete

    def _keys(self) -> dict[str, str]:
        """Return the SQL of the join keys by name; of JSON, the texts of values of the right type."""
        if self.rows.form != "json":
            keys = select(
                replace(self.view, ordering="arrival", fields=()), self.source, self.rows
            )
            values = dict(zip(keys.names, keys.values, strict=True))
            return {k.name: values[k.name] for k in self.view.key.join_keys}
        return {k.name: self._json_key(k.name, k.dtype) for k in self.view.key.join_keys}

    def _json_key(self, name: str, dtype: DType) -> str:
        pointer = quote_text(json_pointer(self.source.column(name)))
        kinds = "'BIGINT', 'UBIGINT'" if codec_of(dtype).is_integer else "'VARCHAR'"
        is_kind = f"json_type(json, {pointer}) IN ({kinds})"
        return f"CASE WHEN {is_kind} THEN json_extract_string(json, {pointer}) END"

    def read_rows(self, numbers: str) -> Iterator[Any]:
        """Return the rows with these numbers (a query with the column `rn`), each once.

        All are read before the first one is returned; each batch is freed after its use.
        """
        rows, session = self.rows, self.rows.session
        columns = {f"v{i}": part for i, part in enumerate(self.selection.values)}
        session.execute(
            f"CREATE TABLE chosen AS SELECT DISTINCT rn FROM ({numbers}) WHERE rn IS NOT NULL"
        )
        ((expected,),) = session.fetch_all("SELECT count(*) FROM chosen")
        session.limit_memory(rows.extra_memory_bytes)
        reader = session.connection.sql(
            f"FROM {self._numbered(columns)} SEMI JOIN chosen USING (rn)"
        ).to_arrow_reader(_BATCH_ROWS)
        batches = []
        for batch in reader:
            rows.check_unchanged()
            batches.append(batch.rename_columns([*self.selection.names, SOURCE_ROW]))
        if sum(batch.num_rows for batch in batches) != expected:
            raise self._changed()
        return _drained(batches, session)

    def ordered_rows(self, matches: str, columns: Sequence[str]) -> Iterator[Any]:
        """Return the rows that a table matches to moments, in their order, one for each moment.

        Args:
            matches: A table with `rid`, `rn`, and other columns.
            columns: Those of the others that the batches have too.
        """
        rows, session = self.rows, self.rows.session
        values = {f"v{i}": part for i, part in enumerate(self.selection.values)}
        others = [f'm."{name}"' for name in columns]
        parts = ", ".join([*(f"r.{name}" for name in values), "r.rn", "m.rn AS wanted", *others])
        sql = (
            f"SELECT {parts} FROM {matches} m LEFT JOIN {self._numbered(values)} r ON m.rn = r.rn "
            "ORDER BY m.rid"
        )
        names = [*self.selection.names, SOURCE_ROW, *columns]
        wanted = found = 0
        try:
            with rows.errors():
                session.connection.unregister("moments")
                session.limit_memory(rows.extra_memory_bytes)
                for batch in session.connection.sql(sql).to_arrow_reader(_BATCH_ROWS):
                    rows.check_unchanged()
                    wanted += batch.num_rows - batch.column("wanted").null_count
                    found += batch.num_rows - batch.column("rn").null_count
                    yield batch.drop_columns(["wanted"]).rename_columns(names)
            if found != wanted:
                raise self._changed()
        finally:
            session.close()

    def rows_with_index(self, index: str) -> Iterator[Any]:
        """Yield the rows whose numbers a table has, with its columns as `@{column}`, in any order."""
        rows, session = self.rows, self.rows.session
        values = {f"v{i}": part for i, part in enumerate(self.selection.values)}
        ((expected,),) = session.fetch_all(f"SELECT count(*) FROM {index}")
        session.limit_memory(rows.extra_memory_bytes)
        reader = session.connection.sql(
            f"SELECT * FROM {self._numbered(values)} JOIN {index} USING (rn)"
        ).to_arrow_reader(_BATCH_ROWS)
        read = 0
        for batch in reader:
            rows.check_unchanged()
            session.check()
            read += batch.num_rows
            names = (f"@{name}" for name in batch.schema.names[len(values) :])
            yield batch.rename_columns([*self.selection.names, *names])
        if read != expected:
            raise self._changed()
        session.limit_memory()

    def _changed(self) -> SourceError:
        return SourceError(
            "the source changed during the read",
            where=self.rows.where,
            hint="read it again when no other process writes to it",
        )

    def _numbered(self, columns: Mapping[str, str]) -> str:
        """Return a FROM clause with the rows of the time range, numbered in the order of arrival."""
        parts = ", ".join(f'{part} AS "{name}"' for name, part in columns.items())
        return (
            f"(SELECT {parts}, row_number() OVER () AS rn FROM {self.rows.source} "
            f"WHERE {self.selection.in_time_range})"
        )

    def key_ends(self, key_ends: Any) -> str:
        """Return the table with `HistoryQuery.key_ends`; empty if no key expired."""
        if key_ends is None or not key_ends.num_rows:
            return ""
        ids = pc.index_in(key_ends["k"], value_set=self.entities)
        self.rows.session.connection.register("key_ends", key_ends.set_column(0, "k", ids))
        return "key_ends"

    def fetch(self, sql: str) -> Any:
        """Return the result of a query as a table."""
        session = self.rows.session
        return session.call(lambda: session.connection.sql(sql).to_arrow_table())


def _drained(batches: list[Any], session: Session) -> Iterator[Any]:
    batches.reverse()
    while batches:
        session.check()
        yield batches.pop()


def _microseconds(time: str, kind: str) -> str:
    """Return a time in microseconds since the epoch, rounded down, which casts do not do."""
    if "_NS" in kind:
        return f"({floor_to(f'epoch_ns({time})', 1000)} // 1000)"
    return f"epoch_us(CAST({time} AS TIMESTAMPTZ))"


def _nanoseconds(time: str, kind: str) -> str:
    """Return the nanoseconds of a time within its microsecond; null if there is no time."""
    if "_NS" in kind:
        return f"(epoch_ns({time}) - {floor_to(f'epoch_ns({time})', 1000)})"
    return f"CASE WHEN {time} IS NOT NULL THEN 0 END" if time else "NULL"
