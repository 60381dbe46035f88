"""Check that a load meets the limits of its view."""

from __future__ import annotations

from featurekit.errors import BadRowError, SourceError
from featurekit.plan import ViewPlan
from featurekit.runtime.load import MaterializeReport

_UNITS_MS = (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000))


def check_source(view: ViewPlan, report: MaterializeReport) -> None:
    """Check a source after it was counted and before anything is written.

    Raises:
        SourceError: It has fewer rows than `min_rows`, or its newest row is older than
            `max_source_age`.
    """
    limits, newest_ms = view.limits, report.newest_event_ms
    rows = report.rows_read - report.rows_future
    if limits.min_rows is not None and rows < limits.min_rows:
        raise SourceError(
            f"the source has {rows} rows, fewer than min_rows {limits.min_rows}",
            where=view.name,
            hint="nothing was written; see what writes the source",
        )
    if limits.max_source_age_ms is None:
        return
    limit = age_text(limits.max_source_age_ms)
    if newest_ms is None:
        raise SourceError(
            f"the source has no row with a time, which max_source_age {limit} needs",
            where=view.name,
            hint="nothing was written; see what writes the source",
        )
    age_ms = report.started_ms - newest_ms
    if age_ms > limits.max_source_age_ms:
        age = age_text(age_ms)
        raise SourceError(
            f"the newest row of the source is {age} old, more than max_source_age {limit}",
            where=view.name,
            hint="nothing was written; see what writes the source",
        )


def check_rejected(view: ViewPlan, report: MaterializeReport, rows_total: int) -> None:
    """Check the share of rejected rows.

    Args:
        view: The compiled view.
        report: The load so far.
        rows_total: The rows that the load reads in all.

    Raises:
        BadRowError: It is above `max_rejected`. Rows that were written stay.
    """
    limit = view.limits.max_rejected
    if limit is not None and report.rows_rejected > limit * rows_total:
        raise BadRowError(
            f"{report.rows_rejected} of {rows_total} rows rejected, more than max_rejected {limit:g}",
            where=view.name,
            hint=f"{report.rows_written} rows are written and stay; see the file of rejected rows",
        )


def age_text(age_ms: int) -> str:
    """Return an age in the largest unit that it fills, and the next one, such as `1d12h`."""
    text = ""
    for unit, size_ms in _UNITS_MS:
        count, age_ms = divmod(age_ms, size_ms)
        if text:
            return text + (f"{count}{unit}" if count else "")
        text = f"{count}{unit}" if count else ""
    return text or f"{age_ms}ms"
