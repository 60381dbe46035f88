"""The result of a SQL query as a batch source."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from typing_extensions import override

from featurekit.errors import RequestError, SourceError
from featurekit.history_ports import HistoricalRows, HistoryQuery
from featurekit.plan import SqlSourcePlan, ViewPlan
from featurekit.ports import ALL_TIMES, Scan, TimeRange
from featurekit.sources.batch_history import batch_key_ends
from featurekit.sources.history import rows_at
from featurekit.sources.inspection import inspect_rows
from featurekit.sources.key_sample import sample_keys
from featurekit.sources.newest import newest_rows
from featurekit.sources.query_files import query_files
from featurekit.sources.selection import copy_rows
from featurekit.sources.session import Rows, Session, SessionSource
from featurekit.sources.snapshot import Snapshot

T = TypeVar("T")


class SqlSource(SessionSource):
    """A query that runs once; its file paths are relative to the repository's folder."""

    def __init__(self, plan: SqlSourcePlan, root: Path, batch_rows: int) -> None:
        super().__init__(batch_rows)
        self.plan = plan
        self.root = root.absolute()

    @override
    def scan(self, view: ViewPlan, times: TimeRange = ALL_TIMES) -> Scan:
        return newest_rows(self._open(view), view, self.plan, times, self.batch_rows)

    def inspect(self, view: ViewPlan, times: TimeRange, *, every_row: bool) -> Scan:
        """Return a scan with `facts`. See `ports.InspectedSource`."""
        return inspect_rows(self._open(view), view, self.plan, times, every_row=every_row)

    def rows_at(self, view: ViewPlan, query: HistoryQuery) -> HistoricalRows:
        """Return the row of each moment. See `ports.HistorySource`."""
        return rows_at(self._open(view), view, self.plan, query)

    def with_rows(self, view: ViewPlan, read: Callable[[Rows], T]) -> T:
        """Return what a function returns for the rows, from SQL that can be run elsewhere."""
        where = f"feature view {view.name}"
        if self.plan.parameters:
            raise RequestError(
                "to_sql() does not pass the parameters of a query",
                where=where,
                hint="use to_arrow(), or write them into the query",
            )
        session = self.add_session(Session(self.root))
        try:
            with session.errors(where):
                _check_is_one_select(session, self.plan, where)
                query = f"(\n{self.plan.query.strip().removesuffix(';')}\n)"
                return read(Rows(session, query, "native", where, session.columns(query)))
        finally:
            session.close()

    def key_ends(self, view: ViewPlan, query: HistoryQuery) -> Any:
        """Return when keys expired. See `ports.HistorySource`."""
        return batch_key_ends(self._open(view), view, self.plan, query)

    def sample_keys(self, view: ViewPlan, count: int, seed: int) -> list[bytes]:
        """Return the keys of some entities. See `ports.SampledSource`."""
        return sample_keys(self._open(view), view, self.plan, count, seed)

    def identity(self, view: ViewPlan) -> str:  # noqa: ARG002 - a query says nothing of its result
        """See `ports.SampledSource`."""
        return ""

    def _open(self, view: ViewPlan) -> Rows:
        where = f"feature view {view.name}"
        session = self.add_session(Session(self.root))
        with session.errors(where):
            _check_is_one_select(session, self.plan, where)
            files = query_files(session, self.plan.query, dict(self.plan.parameters), self.root)
            session.parquet_files = [file for file in files if file.endswith(".parquet")]
            identity = self._identity(files, where)
            # The query may end in `;` and a comment, so it cannot be embedded. A view has no parameters.
            kind = "TABLE" if self.plan.parameters else "VIEW"
            sql = f"CREATE TEMP {kind} query_result AS {self.plan.query}"
            session.execute(sql, dict(self.plan.parameters))
            columns = session.columns("query_result")
            rows = Rows(session, "query_result", "native", where, columns)
            return replace(copy_rows(rows, view, self.plan), identity=identity)

    def _identity(self, files: list[str], where: str) -> str:
        """Return what identifies the query, and the files that it is about to read if they are known."""
        digest = hashlib.blake2b(self.plan.query.encode(), digest_size=8).hexdigest()
        if not files:
            return f"query only {digest}"
        return f"query {digest}, {Snapshot.of(files, where).identity(files, self.root)}"


def _check_is_one_select(session: Session, plan: SqlSourcePlan, where: str) -> None:
    statements = session.connection.extract_statements(plan.query)
    if len(statements) != 1:
        raise SourceError(f"the query has {len(statements)} statements, expected one", where=where)
    if statements[0].type != session.duckdb.StatementType.SELECT:
        kind = statements[0].type.name
        raise SourceError(f"the query is a {kind} statement, expected SELECT", where=where)
    wanted, given = set(statements[0].named_parameters), {name for name, _ in plan.parameters}
    if missing := sorted(wanted - given):
        raise SourceError(
            f"the query has parameters without a value: ${', $'.join(missing)}",
            where=where,
            hint=f"add `parameters: {{{missing[0]}: ...}}` to the source",
        )
    if unused := sorted(given - wanted):
        raise SourceError(
            f"the query does not use these parameters: ${', $'.join(unused)}", where=where
        )
