"""Labels of training sets that are queries: SQL, and all entities of some sources."""

# ruff: noqa: S608 - all names in this SQL are quoted

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from typing_extensions import override

from featurekit.errors import SourceError
from featurekit.history_ports import LabelQuery
from featurekit.keys import KeyPlan
from featurekit.lower.columns import encode_ids
from featurekit.plan import ViewPlan
from featurekit.ports import BatchSource, TimeRange
from featurekit.sources.history_index import NO_PREFIX
from featurekit.sources.session import BATCH_ROWS, Session, quote_identifier
from featurekit.types.arrow import arrow_type, decode_array


class _SessionQuery(LabelQuery):
    """Labels that a session reads."""

    def __init__(self, root: Path | None) -> None:
        self._root = root
        self._session: Session | None = None

    def _open(self) -> Session:
        self._session = Session(self._root)
        return self._session

    @override
    def interrupt(self) -> None:
        if (session := self._session) is not None:
            session.interrupt()

    @override
    def progress(self) -> float | None:
        session = self._session
        return None if session is None else session.progress()


class SqlLabels(_SessionQuery):
    """The result of a SQL query, whose file paths are relative to a folder."""

    def __init__(self, query: str, root: Path) -> None:
        super().__init__(root.absolute())
        self._query = query

    @override
    def reader(self) -> Any:
        session = self._open()
        with session.errors("labels"):
            relation = session.connection.sql(self.statement(session).query)
            return _reader(session, relation)

    def statement(self, session: Session) -> Any:
        """Return the query, parsed.

        Raises:
            SourceError: It is not one SELECT statement.
        """
        statements = session.connection.extract_statements(self._query)
        kind = session.duckdb.StatementType.SELECT
        if len(statements) != 1 or statements[0].type != kind:
            raise SourceError("the labels are not one SELECT statement", where="labels")
        return statements[0]


class EntityLabels(_SessionQuery):
    """All entities of some sources at one moment, each once, in the order of their keys.

    Args:
        key: The join keys.
        sources: Opens the source of each view.
        times: The times of rows of these entities.
        timestamp_field: The name of the column with the moment.
    """

    def __init__(
        self,
        key: KeyPlan,
        sources: Sequence[tuple[ViewPlan, Callable[[], BatchSource]]],
        times: TimeRange,
        timestamp_field: str,
    ) -> None:
        super().__init__(None)
        self._key = key
        self._sources = sources
        self._times = times
        self._timestamp_field = timestamp_field
        self._scanned: BatchSource | None = None

    @override
    def interrupt(self) -> None:
        super().interrupt()
        if (source := self._scanned) is not None:
            source.interrupt()

    @override
    def reader(self) -> Any:
        session = self._open()
        join_keys = self._key.join_keys
        schema = pa.schema([(k.name, arrow_type(k.dtype)) for k in join_keys])
        names = ", ".join(quote_identifier(k.name) for k in join_keys)
        with session.errors("labels"):
            session.connection.register("empty_part", schema.empty_table())
            session.execute("CREATE TABLE entities AS FROM empty_part")
            for batch in self._batches(schema):
                session.connection.register("part", batch)
                session.execute("INSERT INTO entities FROM part")
            assert self._times.end_ms is not None  # noqa: S101 - see `__init__`
            moment = f"make_timestamptz({(self._times.end_ms - 1) * 1000})"
            relation = session.connection.sql(
                f"SELECT {names}, {moment} AS {quote_identifier(self._timestamp_field)} "
                f"FROM (SELECT DISTINCT {names} FROM entities) ORDER BY {names}"
            )
            return _reader(session, relation)

    def _batches(self, schema: Any) -> Iterator[Any]:
        for of, open_view in self._sources:
            view = replace(of, fields=(), ordering="arrival")
            self._scanned = open_view()
            scan = self._scanned.scan(view, self._times)
            for batch in scan.batches:
                yield _entities(view, scan.form, batch, schema)
        self._scanned = None


def _entities(view: ViewPlan, form: str, batch: Any, schema: Any) -> Any:
    """Return the join keys of the rows that have all of them, with their own types."""
    encoded = encode_ids(view, form, batch)
    if encoded.rejected:
        is_rejected = set(encoded.rejected)
        batch = batch.filter(pa.array([i not in is_rejected for i in range(batch.num_rows)]))
    columns = []
    for join_key in view.key.join_keys:
        alone = replace(view.key, join_keys=(join_key,), hash_tag_index=None)
        encoded = encode_ids(replace(view, key=alone), form, batch)
        texts = pc.utf8_slice_codeunits(encoded.keys.cast(pa.string()), start=len(NO_PREFIX))
        columns.append(decode_array(join_key.dtype, texts.cast(pa.binary())))
    return pa.table(columns, schema=schema)


def _reader(session: Session, relation: Any) -> Any:
    """Return a reader that holds the session, and closes it at the end."""
    inner = relation.to_arrow_reader(BATCH_ROWS)

    def batches() -> Iterator[Any]:
        try:
            with session.errors("labels"):
                yield from inner
        finally:
            session.close()

    return pa.RecordBatchReader.from_batches(inner.schema, batches())
