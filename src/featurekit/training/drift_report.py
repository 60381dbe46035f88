"""The result of a comparison, and its page: one HTML file with styles and plots, and no script."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from featurekit.training.drift import (
    LEVELS,
    DriftBounds,
    FeatureDrift,
    SideSummary,
)
from featurekit.training.drift_plots import (
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

_CAUSES = {"psi": "PSI", "ks": "KS", "missing": "the share of missing values"}
_KINDS = {"drifted": "bad", "shifted": "warn", "too few": "", "stable": "good"}
_LEGEND = (
    '<span class="legend"><span class="key key-training">training</span>'
    '<span class="key key-online">served</span></span>'
)


@dataclass(frozen=True, slots=True)
class DriftReport:
    """The result of `FeatureStore.compare`.

    Attributes:
        request: The service's name, or `features` for a list.
        training: The training set.
        online: Where the served values come from.
        compared_ms: When the values were compared, in milliseconds since the epoch.
        bounds: From which differences on a feature has drifted.
        features: The features, those that differ most first.
        only_training: Features of the training set's manifest that are not served.
        only_online: Served features that the training set does not have.
        notes: What else is worth knowing, such as another registry.
    """

    request: str
    training: str
    online: str
    compared_ms: int
    bounds: DriftBounds
    features: tuple[FeatureDrift, ...]
    only_training: tuple[str, ...] = ()
    only_online: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def drifted(self) -> tuple[str, ...]:
        """The names of the features that have drifted."""
        return tuple(each.name for each in self.features if each.level == "drifted")

    @property
    def compared(self) -> tuple[str, ...]:
        """The names of the features that have enough values to compare."""
        return tuple(each.name for each in self.features if each.level != "too few")

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain data, for JSON."""
        return {**asdict(self), "drifted": self.drifted, "compared": self.compared}

    def to_html(self) -> str:
        """Return a page with the distributions, which refers to nothing outside of itself."""
        return _page(self)


def _page(report: DriftReport) -> str:
    """Return the page."""
    cards = "\n".join(_card(feature) for feature in report.features)
    lead = f"{report.training}, compared with {report.online}, {time_text(report.compared_ms)}"
    body = f"""{_figures(report)}
{note_lines(_notes(report))}
{_overview(report)}
<div class="cards">
{cards}
</div>
{_foot(report.bounds)}"""
    return report_page(f"{report.request}: training and serving", lead, body)


def _figures(report: DriftReport) -> str:
    counts = {level: sum(f.level == level for f in report.features) for level in LEVELS}
    first = report.features[0]
    parts = [
        *((_KINDS[level] if counts[level] else "", level, counts[level]) for level in LEVELS),
        ("", "rows of the training set", first.training.rows),
        ("", "rows served", first.online.rows),
    ]
    return figures(parts)


def _notes(report: DriftReport) -> list[str]:
    notes = list(report.notes)
    if report.only_training:
        notes.append(f"only in the training set: {', '.join(report.only_training)}")
    if report.only_online:
        notes.append(f"only served: {', '.join(report.only_online)}")
    return notes


def _overview(report: DriftReport) -> str:
    rows = "\n".join(_overview_row(feature) for feature in report.features)
    return f"""<section class="card overview" aria-labelledby="all">
<div class="card-head"><h2 id="all">Features, largest difference first</h2>
<span class="card-tools">{_LEGEND}</span></div>
<div class="card-body"><div class="table-wrap" tabindex="0" role="region" aria-label="Features">
<table class="table"><thead><tr><th scope="col">feature</th><th scope="col">verdict</th>
<th scope="col">distribution</th><th scope="col" class="right">PSI</th>
<th scope="col" class="right">KS</th><th scope="col" class="right">missing</th>
<th scope="col" class="right">median</th></tr></thead><tbody>
{rows}
</tbody></table></div></div></section>"""


def _overview_row(feature: FeatureDrift) -> str:
    first, second = feature.training, feature.online
    median = ""
    if feature.measure != "category":
        median = _change(*(number_text(side.median, feature.measure) for side in (first, second)))
    cells = {
        "PSI": _statistic(feature, "psi", _decimals(feature.psi)),
        "KS": _statistic(feature, "ks", _decimals(feature.ks)),
        "missing": _statistic(
            feature, "missing", _change(percent(first.missing), percent(second.missing))
        ),
        "median": median,
    }
    return (
        f'<tr><th scope="row"><span class="typed"><a class="name-link" href="#{_anchor(feature)}">'
        f'{html_text(feature.name)}</a><span class="type">{html_text(feature.dtype)}</span></span></th>'
        f'<td data-label="verdict">{_level(feature)}</td>'
        f'<td data-label="distribution">{mini_plot(feature.histogram)}</td>'
        + "".join(
            f'<td class="right" data-label="{name}">{cell}</td>' for name, cell in cells.items()
        )
        + "</tr>"
    )


def _statistic(feature: FeatureDrift, cause: str, text: str) -> str:
    """Return a statistic, in colour if it is why the feature has drifted or shifted."""
    if cause not in feature.causes:
        return text
    return f'<span class="{"over" if feature.level == "drifted" else "near"}">{text}</span>'


def _change(first: str, second: str) -> str:
    text = first if first == second else f"{first} → {second}"
    return f'<span class="change">{html_text(text)}</span>'


def _decimals(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _level(feature: FeatureDrift) -> str:
    return f'<span class="level level-{feature.level.replace(" ", "-")}">{feature.level}</span>'


def _anchor(feature: FeatureDrift) -> str:
    return f"f-{html_text(feature.view)}-{html_text(feature.name)}"


def _card(feature: FeatureDrift) -> str:
    anchor = _anchor(feature)
    body = "\n".join(part for part in _card_parts(feature) if part)
    return f"""<section class="card" id="{anchor}" aria-labelledby="{anchor}-h">
<div class="card-head"><h2 id="{anchor}-h">{html_text(feature.name)}</h2>
<span class="card-note">{html_text(feature.view)} · {html_text(feature.dtype)}</span>{_level(feature)}</div>
<div class="card-body">
{body}
</div></section>"""


def _card_parts(feature: FeatureDrift) -> Iterator[str]:
    yield f'<p class="why">{_verdict(feature)}</p>'
    histogram = feature.histogram
    if histogram is None:
        yield '<p class="why">Neither side has a value.</p>'
    else:
        yield plot(histogram, feature.measure)
    yield _statuses(feature)
    if feature.measure != "category":
        yield _numbers(feature)
    if histogram is not None:
        rows = "".join(
            f'<tr><th scope="row">{html_text(name)}</th><td>{percent(a)}</td><td>{percent(b)}</td></tr>'
            for name, a, b in zip(
                bin_names(histogram, feature.measure),
                histogram.first,
                histogram.second,
                strict=True,
            )
        )
        yield (
            f"<details><summary>Shares of all {len(histogram.first)} bins</summary>"
            f'<table class="numbers"><thead><tr><th scope="col">bin</th><th scope="col">training</th>'
            f'<th scope="col">served</th></tr></thead><tbody>{rows}</tbody></table></details>'
        )


def _verdict(feature: FeatureDrift) -> str:
    """Return the statistics, and which of them are why the feature has drifted or shifted."""
    parts = [f"PSI {_decimals(feature.psi)}"]
    if feature.measure != "category":
        parts.append(f"KS {_decimals(feature.ks)}")
    if note := MEASURE_NOTES.get(feature.measure):
        parts.append(note)
    text = " · ".join(parts)
    if feature.level == "too few":
        return f"<strong>Too few values.</strong> {text}"
    if not feature.causes:
        return text
    causes = " and ".join(_CAUSES[cause] for cause in feature.causes)
    return f"<strong>{feature.level.capitalize()} by {causes}.</strong> {text}"


def _statuses(feature: FeatureDrift) -> str:
    sides = (("training", feature.training), ("served", feature.online))
    if all(set(_shares(side)) <= {"present"} for _, side in sides):
        return ""
    rows = "".join(
        f"<span>{name}</span>{status_bar(_shares(side), name)}<span>{_status_text(side)}</span>"
        for name, side in sides
    )
    return f'<div class="statuses">{rows}</div>'


def _shares(side: SideSummary) -> dict[str, float]:
    """Return the share of each status; without statuses, of values and nulls."""
    if side.statuses:
        return dict(side.statuses)
    shares = {"present": 1 - side.missing, "missing": side.missing}
    return {status: share for status, share in shares.items() if share}


def _status_text(side: SideSummary) -> str:
    parts = [f"{percent(share)} {status}" for status, share in _shares(side).items()]
    return ", ".join(part for part in parts if not part.endswith("present")) or "100% present"


def _numbers(feature: FeatureDrift) -> str:
    sides = (("training", feature.training), ("served", feature.online))
    rows = "".join(
        f'<tr><th scope="row">{name}</th>'
        + "".join(
            f"<td>{html_text(number_text(value, feature.measure))}</td>"
            for value in (side.low, side.median, side.mean, side.high)
        )
        + "</tr>"
        for name, side in sides
    )
    return (
        '<table class="numbers"><thead><tr><th scope="col"><span class="hidden-text">side</span></th>'
        '<th scope="col">5%</th><th scope="col">median</th><th scope="col">mean</th>'
        f'<th scope="col">95%</th></tr></thead><tbody>{rows}</tbody></table>'
    )


def _foot(bounds: DriftBounds) -> str:
    return (
        '<p class="foot">PSI is the population stability index over ten bins with equal shares of the training '
        "set, or over categories; KS the greatest difference of the two distribution functions. A feature has "
        f"drifted from a PSI of {bounds.psi:g}, a KS of {bounds.ks:g}, or a change of missing values by "
        f"{percent(bounds.missing)} of all on, and shifted from {bounds.psi * 0.4:g}, {bounds.ks / 2:g} or "
        f"{percent(bounds.missing / 2)} on. Differences that two samples of one distribution can have "
        "(99 of 100 have less) do not count; with too few values, all differences could be such.</p>"
    )
