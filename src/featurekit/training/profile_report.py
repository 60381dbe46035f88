"""What the values of a view look like, as plain data, and as a page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from featurekit.training.distributions import Histogram
from featurekit.training.drift import Measure
from featurekit.training.drift_plots import (
    MAX_SHOWN,
    MEASURE_NOTES,
    bin_names,
    html_text,
    mini_plot,
    number_text,
    percent,
    plot,
    status_bar,
)
from featurekit.training.report_page import figures, note_lines, report_page, time_text


@dataclass(frozen=True, slots=True)
class NumberProfile:
    """The finite numbers of a field.

    Attributes:
        min: The least one.
        low: The 5th percentile.
        lower: The 25th percentile.
        median: The median.
        upper: The 75th percentile.
        high: The 95th percentile.
        max: The greatest one.
        mean: Their mean.
        std: Their standard deviation.
        is_exact: Whether the percentiles are exact; of more than a million numbers they are not.
    """

    min: float
    low: float
    lower: float
    median: float
    upper: float
    high: float
    max: float
    mean: float
    std: float
    is_exact: bool = True


@dataclass(frozen=True, slots=True)
class FieldProfile:
    """The values of one field.

    Attributes:
        name: The field.
        dtype: Its type.
        measure: What is described: the value itself, the norm of a vector, the number of elements of an
            array or of bytes of a text, or a category.
        rows: The rows, with nulls.
        nulls: Rows without a value.
        nans: Values that are `nan`, which nothing below counts.
        distinct: How many different values there are.
        top: The most frequent values as texts, with their numbers.
        numbers: Of numbers; `None` of categories, and without a finite value.
        histogram: The distribution; `None` without values.
        statuses: How many values have each status; empty for a source.
    """

    name: str
    dtype: str
    measure: Measure
    rows: int
    nulls: int
    nans: int = 0
    distinct: int = 0
    top: tuple[tuple[str, int], ...] = ()
    numbers: NumberProfile | None = None
    histogram: Histogram | None = None
    statuses: Mapping[str, int] = field(default_factory=dict)

    @property
    def null_share(self) -> float:
        """The share of rows without a value."""
        return self.nulls / self.rows if self.rows else 0.0

    @property
    def values(self) -> int:
        """How many values are described."""
        return self.rows - self.nulls - self.nans


@dataclass(frozen=True, slots=True)
class ProfileReport:
    """The result of `FeatureStore.data.profile`.

    Attributes:
        view: The view.
        origin: What the values are of, such as `newest rows of users.parquet`.
        profiled_ms: When they were read, in milliseconds since the epoch.
        rows: How many rows were described.
        fields: The fields, in declared order.
        notes: What else is worth knowing, such as rejected rows.
    """

    view: str
    origin: str
    profiled_ms: int
    rows: int
    fields: tuple[FieldProfile, ...]
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain data, for JSON."""
        return asdict(self)

    def to_html(self) -> str:
        """Return a page with the distributions, which refers to nothing outside of itself."""
        cards = "\n".join(_card(each) for each in self.fields)
        counts = [
            ("", "rows", self.rows),
            ("", "fields", len(self.fields)),
            ("", "fields with nulls", sum(each.nulls > 0 for each in self.fields)),
        ]
        body = (
            f"{figures(counts)}\n{note_lines(self.notes)}\n{_overview(self)}\n"
            f'<div class="cards">\n{cards}\n</div>'
        )
        lead = f"{self.rows:,} {self.origin}, {time_text(self.profiled_ms)}"
        return report_page(f"Profile of {self.view}", lead, body)


def _overview(report: ProfileReport) -> str:
    rows = "\n".join(_overview_row(each) for each in report.fields)
    return f"""<section class="card overview" aria-labelledby="all">
<div class="card-head"><h2 id="all">Fields</h2></div>
<div class="card-body"><div class="table-wrap" tabindex="0" role="region" aria-label="Fields">
<table class="table"><thead><tr><th scope="col">field</th><th scope="col">distribution</th>
<th scope="col" class="right">null</th><th scope="col" class="right">distinct</th>
<th scope="col" class="right">5%</th><th scope="col" class="right">median</th>
<th scope="col" class="right">95%</th><th scope="col">most frequent</th></tr></thead><tbody>
{rows}
</tbody></table></div></div></section>"""


def _overview_row(profile: FieldProfile) -> str:
    numbers = profile.numbers
    name = html_text(profile.name)
    texts = {
        "null": percent(profile.null_share),
        "distinct": f"{profile.distinct:,}",
        "5%": _number(numbers.low, profile) if numbers else "",
        "median": _number(numbers.median, profile) if numbers else "",
        "95%": _number(numbers.high, profile) if numbers else "",
    }
    cells = "".join(
        f'<td class="right" data-label="{label}">{text}</td>' for label, text in texts.items()
    )
    return (
        f'<tr><th scope="row"><span class="typed"><a class="name-link" href="#f-{name}">{name}</a>'
        f'<span class="type">{html_text(profile.dtype)}</span></span></th>'
        f'<td data-label="distribution">{mini_plot(profile.histogram)}</td>{cells}'
        f'<td data-label="most frequent">{_top_cell(profile)}</td></tr>'
    )


def _top_cell(profile: FieldProfile) -> str:
    if not is_top_shown(profile):
        return ""
    text, count = profile.top[0]
    return f"{html_text(text)} ({percent(count / profile.values)})"


def is_top_shown(profile: FieldProfile) -> bool:
    """Return whether the most frequent value says something: it occurs more than once."""
    return bool(profile.top) and profile.top[0][1] > 1


def _number(value: float, profile: FieldProfile) -> str:
    return html_text(number_text(value, profile.measure))


def _card(profile: FieldProfile) -> str:
    name = html_text(profile.name)
    body = "\n".join(part for part in _card_parts(profile) if part)
    return f"""<section class="card" id="f-{name}" aria-labelledby="f-{name}-h">
<div class="card-head"><h2 id="f-{name}-h">{name}</h2>
<span class="card-note">{html_text(profile.dtype)}</span></div>
<div class="card-body">
{body}
</div></section>"""


def _card_parts(profile: FieldProfile) -> Iterator[str]:
    counts = [f"{profile.values:,} values", f"{profile.distinct:,} distinct"]
    counts.append(f"{percent(profile.null_share)} null")
    if profile.nans:
        counts.append(f"{profile.nans:,} nan")
    if note := MEASURE_NOTES.get(profile.measure):
        counts.append(note)
    if profile.numbers and not profile.numbers.is_exact:
        counts.append("percentiles are approximate")
    yield f'<p class="why">{" · ".join(counts)}</p>'
    if profile.histogram is None:
        yield '<p class="why">There is no value.</p>'
        return
    yield plot(profile.histogram, profile.measure)
    yield _statuses(profile)
    if profile.numbers is not None:
        yield _numbers(profile, profile.numbers)
    if is_top_shown(profile) and profile.histogram.scale != "categories":
        rows = "".join(_table_row(text, count, profile.values) for text, count in profile.top)
        yield _details("Most frequent values", "value", rows)
    names = bin_names(profile.histogram, profile.measure)
    if profile.histogram.scale == "categories" and len(names) <= MAX_SHOWN:
        return
    rows = "".join(
        f'<tr><th scope="row">{html_text(name)}</th><td>{percent(share)}</td></tr>'
        for name, share in zip(names, profile.histogram.first, strict=True)
    )
    yield _details(f"Shares of all {len(names)} bins", "bin", rows)


def _table_row(text: str, count: int, total: int) -> str:
    share = f"{count:,} ({percent(count / total)})"
    return f'<tr><th scope="row">{html_text(text)}</th><td>{share}</td></tr>'


def _details(title: str, column: str, rows: str) -> str:
    return (
        f'<details><summary>{title}</summary><table class="numbers"><thead><tr>'
        f'<th scope="col">{column}</th><th scope="col">rows</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></details>"
    )


def _statuses(profile: FieldProfile) -> str:
    total = sum(profile.statuses.values())
    if not total or set(profile.statuses) <= {"present"}:
        return ""
    shares = {status: count / total for status, count in profile.statuses.items()}
    parts = ", ".join(f"{percent(share)} {status}" for status, share in shares.items())
    return (
        f'<div class="statuses"><span>status</span>{status_bar(shares, "status")}'
        f"<span>{parts}</span></div>"
    )


def _numbers(profile: FieldProfile, numbers: NumberProfile) -> str:
    columns = {
        "min": numbers.min,
        "5%": numbers.low,
        "median": numbers.median,
        "mean": numbers.mean,
        "95%": numbers.high,
        "max": numbers.max,
    }
    heads = "".join(f'<th scope="col">{name}</th>' for name in columns)
    cells = "".join(f"<td>{_number(value, profile)}</td>" for value in columns.values())
    return (
        '<table class="numbers"><thead><tr><th scope="col"><span class="hidden-text">what</span></th>'
        f'{heads}</tr></thead><tbody><tr><th scope="row"><span class="hidden-text">numbers</span></th>'
        f"{cells}</tr></tbody></table>"
    )
