"""Check batch sources before any load, with the code that loads them; no store is needed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from featurekit.errors import FeatureKitError
from featurekit.lower.columns import RowError, encode_batch
from featurekit.plan import (
    PythonSourcePlan,
    SourceFiles,
    SourcePlan,
    SqlSourcePlan,
    TableSourcePlan,
    ViewPlan,
)
from featurekit.ports import LINE, PROBLEM, SOURCE_ROW, InspectedSource, RowFacts, Scan, TimeRange
from featurekit.repo.data_report import Finding, Level, Offender, SourceCheck
from featurekit.repo.load_sources import apply_lookback
from featurekit.repo.source_access import SourceAccess
from featurekit.runtime.load import MaterializeReport, OnProgress, progress_callback
from featurekit.runtime.load_limits import age_text, check_source
from featurekit.runtime.load_tables import identifying_values, split_problems
from featurekit.runtime.rejects import reason_kind, reason_text
from featurekit.sources import open_source

MAX_EXPLAINED = 20_000
"""Rejected rows of a source whose reasons are counted; the others are only counted."""

MAX_FIRST = 3
"""Rows that a finding names."""

MAX_LOCATED = 5
"""Findings whose first row is searched for in the files, which reads their keys once more."""


@dataclass(slots=True)
class _Reason:
    """Rows that are rejected alike."""

    name: str
    message: str
    rows: int = 0
    first: list[tuple[dict[str, object], str]] = field(default_factory=list)


@dataclass(slots=True)
class _Values:
    """Checks the values of record batches.

    Attributes:
        view: The compiled view.
        rows: Rows checked.
        rejected: Rows that a load would reject.
        explained: Those whose reasons are counted.
        nulls: How many accepted rows have null, for each field.
        reasons: The reasons, by their text without values.
    """

    view: ViewPlan
    rows: int = 0
    rejected: int = 0
    explained: int = 0
    nulls: dict[str, int] = field(default_factory=dict)
    reasons: dict[str, _Reason] = field(default_factory=dict)

    def add(self, form: str, rows: Any) -> None:
        """Check a record batch of a scan."""
        self.rows += rows.num_rows
        for row in islice(self._unread(rows), MAX_EXPLAINED - self.explained):
            for reason, text in self._reasons_of([RowError("", str(row[PROBLEM]))]):
                reason.first.append((row, text))
        batch, unread = split_problems(rows, form, None)
        encoded = encode_batch(self.view, form, batch)
        self.rejected += unread + len(encoded.rejected)
        names = (field.name for field in self.view.fields)
        offset = len(encoded.values) - len(self.view.fields)  # the event-time field comes first
        for name, values in zip(names, encoded.values[offset:], strict=True):
            self.nulls[name] = self.nulls.get(name, 0) + values.null_count
        for index in encoded.rejected[: MAX_EXPLAINED - self.explained]:
            for reason, text in self._reasons_of(encoded.errors(index)):
                reason.first.append((identifying_values(self.view, batch, index), text))

    def _unread(self, rows: Any) -> Iterator[dict[str, object]]:
        if PROBLEM in rows.schema.names:
            columns = rows.select([PROBLEM, LINE, SOURCE_ROW]).to_pylist()
            yield from (row for row in columns if row[PROBLEM] is not None)

    def _reasons_of(self, errors: list[RowError]) -> list[tuple[_Reason, str]]:
        """Count the errors of a row; return the reasons that have room for it among their first rows."""
        self.explained += 1
        lacking = []
        for error in errors:
            text, name = reason_text(error), error.field.removeprefix("join key ")
            reason = self.reasons.setdefault(reason_kind(text), _Reason(name, text))
            reason.rows += 1
            if len(reason.first) < MAX_FIRST:
                lacking.append((reason, text))
        return lacking


@dataclass(frozen=True, slots=True)
class SourceChecker:
    """Checks the sources of batch views.

    Attributes:
        sources: The sources that may be opened.
        root: The repository's folder.
        now_ms: The time that a load would start at.
        every_row: Check also the values of rows that a newer row of their entity replaces.
        on_progress: Called after each record batch.
    """

    sources: SourceAccess
    root: Path
    now_ms: int
    every_row: bool = False
    on_progress: OnProgress | None = None

    def check(self, view: ViewPlan) -> SourceCheck:
        """Check the source of a view. What a load would fail for is a finding, not an error."""
        source = view.source
        if source is None:
            raise AssertionError(f"view {view.name} has no source")
        check = SourceCheck(view.name, describe_source(source))
        if _is_of_spark(source):
            return replace(check, is_checked=False)
        started = time.monotonic()
        try:
            located = self.sources.locate(view, source)
            with located.hidden_values():
                opened = open_source(located.plan, self.root, skip_unreadable=True)
                check = self._check(view, opened, check)
        except FeatureKitError as error:
            text = f"{error.message}; {error.hint}" if error.hint else error.message
            found = Finding("fail", "source", text)
            check = replace(check, findings=(found,))
        return replace(check, seconds=round(time.monotonic() - started, 3))

    def _check(self, view: ViewPlan, source: InspectedSource, check: SourceCheck) -> SourceCheck:
        report = MaterializeReport(view.name, started_ms=self.now_ms)
        apply_lookback(view, report)
        latest_ms = self.now_ms if view.future_rows == "skip" else None
        times = TimeRange(report.window_start_ms, None, latest_ms)
        scan = source.inspect(view, times, every_row=self.every_row)
        values = _Values(view)
        on_batch = progress_callback(view.name, scan.rows_read, self.on_progress, lambda: None)
        for batch in scan.batches:
            values.add(scan.form, batch)
            on_batch(values.rows)
        facts = scan.facts or RowFacts(0)
        report.rows_read, report.rows_future = scan.rows_read, scan.rows_future
        report.newest_event_ms = scan.newest_event_ms
        checked = replace(
            check,
            rows_read=scan.rows_read,
            rows_checked=values.rows,
            rows_rejected=values.rejected,
            rows_superseded=_superseded(scan, facts, values, every_row=self.every_row),
            rows_future=scan.rows_future,
            rows_outside=facts.outside,
            rows_tied=facts.tied,
            rows_late=facts.late,
            entities=facts.entities,
            oldest_event_ms=facts.oldest_event_ms,
            newest_event_ms=scan.newest_event_ms,
            nulls=values.nulls,
        )
        findings = [
            *_value_findings(values, lambda row: source.position(view, row)),
            *_limit_findings(view, report),
            *self._time_findings(view, checked, facts),
            *_null_findings(values),
        ]
        levels: tuple[Level, ...] = ("fail", "warn")
        findings.sort(key=lambda finding: levels.index(finding.level))
        return replace(checked, findings=tuple(findings))

    def _time_findings(
        self, view: ViewPlan, check: SourceCheck, facts: RowFacts
    ) -> Iterator[Finding]:
        if check.rows_tied:
            message = "rows have the key and time of another row, so that their order decides"
            first = _entities(view, facts.tied_keys)
            yield Finding("warn", "duplicates", message, check.rows_tied, first=first)
        has_times = view.source is not None and view.source.timestamp_field is not None
        if check.rows_superseded and not has_times:
            message = "rows have no time, and their entity has a later row, which is loaded"
            yield Finding("warn", "duplicates", message, check.rows_superseded)
        if check.rows_future:
            message = "rows are of the future, and a load leaves them out"
            first = _entities(view, facts.future_keys)
            yield Finding("warn", "future", message, check.rows_future, first=first)
        if check.rows_late:
            delay, refresh = age_text(facts.max_delay_ms or 0), age_text(view.refresh_ms)
            message = (
                f"rows were created later than refresh {refresh} after their time, up to {delay}"
            )
            yield Finding("warn", "late", message, check.rows_late)
        if check.newest_event_ms is not None:
            age_ms = self.now_ms - check.newest_event_ms
            if age_ms > view.refresh_ms:
                refresh = age_text(view.refresh_ms)
                message = f"the newest row is {age_text(age_ms)} old, refresh is {refresh}"
                yield Finding("warn", "freshness", message)


def _superseded(scan: Scan, facts: RowFacts, values: _Values, *, every_row: bool) -> int:
    """Return the rows that a newer row replaces."""
    if not every_row:
        return scan.rows_read - scan.rows_future - values.rows
    return scan.rows_read - scan.rows_future - facts.entities


def _value_findings(
    values: _Values, locate: Callable[[dict[str, object]], str | None]
) -> Iterator[Finding]:
    reasons = sorted(values.reasons.values(), key=lambda reason: -reason.rows)
    for number, reason in enumerate(reasons):
        first = [
            Offender(
                (locate(row) if number < MAX_LOCATED and not at else None)
                or f"row {row.get(SOURCE_ROW)}",
                _key_text(values.view, row),
                text,
            )
            for at, (row, text) in enumerate(reason.first)
        ]
        yield Finding("fail", "values", reason.message, reason.rows, reason.name, first)
    if values.rejected > values.explained:
        message = f"reasons are counted for the first {values.explained:,} rejected rows"
        yield Finding("fail", "values", message, values.rejected)


def _limit_findings(view: ViewPlan, report: MaterializeReport) -> Iterator[Finding]:
    try:
        check_source(view, report)
    except FeatureKitError as error:
        yield Finding("fail", "limits", error.message)
    if not report.rows_read and view.limits.min_rows is None:
        yield Finding("warn", "source", "the source has no row that a load would take")


def _null_findings(values: _Values) -> Iterator[Finding]:
    accepted = values.rows - values.rejected
    for name, nulls in values.nulls.items():
        if accepted and nulls == accepted:
            yield Finding("warn", "nulls", f"{name}: null in all rows", 0, name)


def _key_text(view: ViewPlan, row: dict[str, object]) -> str:
    return ", ".join(f"{k.name}={row[k.name]!r}" for k in view.key.join_keys if k.name in row)


def _entities(view: ViewPlan, keys: Sequence[str]) -> list[Offender]:
    """Return entities by their join keys; none of a view without an entity."""
    names = ", ".join(join_key.name for join_key in view.key.join_keys)
    return [Offender("", f"{names} {key}") for key in keys] if names else []


def _is_of_spark(source: SourcePlan) -> bool:
    """Return whether only Spark can read a source."""
    if isinstance(source, SqlSourcePlan):
        return source.dialect == "spark"
    return isinstance(source, TableSourcePlan)


def describe_source(source: SourcePlan) -> str:
    """Return what a source reads, as it is declared."""
    match source:
        case SourceFiles():
            return ", ".join(source.paths)
        case SqlSourcePlan():
            return "sql"
        case TableSourcePlan():
            return source.table
        case PythonSourcePlan():
            return source.callable
