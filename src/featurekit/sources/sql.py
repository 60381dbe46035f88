"""SQL sources: the result of a query, run once by DuckDB."""

from __future__ import annotations

from pathlib import Path

from typing_extensions import override

from featurekit.errors import SourceError
from featurekit.plan import SourcePlan, ViewPlan
from featurekit.ports import BatchSource, Scan
from featurekit.sources.materialized_rows import spool
from featurekit.sources.newest import newest
from featurekit.sources.session import Rows, Session


class SqlSource(BatchSource):
    """A query; the files that it names are relative to the repository's folder."""

    def __init__(self, plan: SourcePlan, root: Path, batch_rows: int) -> None:
        self.plan = plan
        self.root = root.absolute()
        self.batch_rows = batch_rows

    @override
    def scan(self, view: ViewPlan, start_ms: int | None, end_ms: int | None) -> Scan:
        where = f"feature view {view.name}"
        session = Session(self.root)
        with session.errors(where):
            _check(session, self.plan.query, where)
            # As a view, since its text may end in `;` and a comment, which nothing may follow.
            session.connection.execute(f"CREATE TEMP VIEW asked AS {self.plan.query}")
            relation = session.connection.sql("FROM asked")
            rows = spool(Rows(session, "", "native", where), relation, view, self.plan)
        return newest(rows, view, self.plan, (start_ms, end_ms), self.batch_rows)

    @override
    def locate(self, view: ViewPlan, row: dict[str, object]) -> str:
        return ""


def _check(session: Session, query: str, where: str) -> None:
    """Refuse a query that is not one SELECT.

    Raises:
        SourceError: It is something else, or more than one.
    """
    statements = session.connection.extract_statements(query)
    if len(statements) != 1:
        raise SourceError(f"the query has {len(statements)} statements, not one", where=where)
    if statements[0].type != session.duckdb.StatementType.SELECT:
        kind = statements[0].type.name
        raise SourceError(f"the query is a {kind}, not a SELECT", where=where)
