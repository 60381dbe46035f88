"""Add the marks of views with windows to the plan of a read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from featurekit.errors import RequestError
from featurekit.plan import Column, MarkPlan, ReadColumn, ReadPlan, RepoPlan, WindowsPlan


def with_marks(repo: RepoPlan, plan: ReadPlan, max_age_ms: Mapping[str, int]) -> ReadPlan:
    """Return the plan with a mark for each view with windows that a worker writes.

    A window has no age of its own: `max_age` says how old the mark of its view may be.

    Raises:
        RequestError: `max_age` names a view whose events programs push: it has no mark.
    """
    names = dict.fromkeys(c.view for c in plan.stored if c.field.aggregate is not None)
    if not names:
        return plan
    views = {name: repo.view(name) for name in names}
    for column in plan.stored:
        if column.view in views and views[column.view].mark_key is None:
            _refuse_max_age(column, max_age_ms)

    def marked(column: ReadColumn) -> ReadColumn:
        windows = views[column.view].windows if column.view in views else None
        if windows is None or views[column.view].mark_key is None:
            return column
        most_ms = _most_ms(column, windows, max_age_ms)
        return replace(column, min_remaining_ttl_ms=None, max_mark_age_ms=most_ms)

    columns: list[Column] = [
        marked(column) if isinstance(column, ReadColumn) else column for column in plan.columns
    ]
    marks = [MarkPlan(name, key) for name, view in views.items() if (key := view.mark_key)]
    inputs = tuple(map(marked, plan.inputs))
    return replace(plan, columns=tuple(columns), inputs=inputs, marks=tuple(marks))


def _refuse_max_age(column: ReadColumn, max_age_ms: Mapping[str, int]) -> None:
    for name in (column.alias, column.view):
        if name in max_age_ms:
            raise RequestError(
                f"programs push the events of feature view '{column.view}', so nothing says how old its "
                "windows are",
                where="max_age",
                hint="leave it out, or let a worker write the view from a stream",
            )


def _most_ms(column: ReadColumn, windows: WindowsPlan, max_age_ms: Mapping[str, int]) -> int:
    """Return how old the mark of a column's view may be."""
    declared = max_age_ms.get(column.view, windows.max_mark_age_ms)
    return max_age_ms.get(column.alias or "", declared)
