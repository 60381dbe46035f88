"""Plots of one or two distributions as HTML with inline SVG.

Labels are HTML beside the SVG, so that they keep their size when a plot is stretched to its card.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from itertools import pairwise

from featurekit.printable import printable
from featurekit.training.distributions import Histogram
from featurekit.training.drift import Measure

MAX_SHOWN = 10
"""Categories in a plot; the table below it has all."""

MEASURE_NOTES: dict[Measure, str] = {
    "age": "time from the value to the label or read",
    "norm": "norm of the vector",
    "length": "number of elements, or of bytes",
}
"""What is plotted of a feature, where it is not the value itself."""

_MAX_LABELS = 12
"""Bars of a plot that have a label each."""

_HEIGHT, _WIDTH = 100.0, 300.0
_UNITS_S = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


def html_text(text: object) -> str:
    """Return a text for HTML, without control characters."""
    return escape(printable(str(text), one_line=True))


def percent(share: float) -> str:
    """Return a share in percent, with a digit."""
    if 0 < share < 0.001:  # noqa: PLR2004 - a tenth of a percent
        return "<0.1%"
    return f"{share:.0%}" if share in (0, 1) else f"{share:.1%}"


def number_text(value: float | None, measure: Measure) -> str:
    """Return a number of a measure for people."""
    if value is None:
        return "-"
    if measure == "time":
        return datetime.fromtimestamp(value, UTC).strftime("%Y-%m-%d")
    if measure == "age":
        unit_s, unit = next((u for u in _UNITS_S if abs(value) >= u[0]), _UNITS_S[-1])
        count = value / unit_s
        return f"{count:,.0f} {unit}" if abs(count) >= 1000 else f"{count:.3g} {unit}"  # noqa: PLR2004
    size = abs(value)
    if size >= 1e7 or (size < 1000 and value != int(value)):  # noqa: PLR2004 - what fits an axis
        return f"{value:.3g}"
    return f"{value:,.0f}" if size >= 1e4 else f"{value:.0f}"  # noqa: PLR2004 - years need no comma


def bin_names(histogram: Histogram, measure: Measure) -> list[str]:
    """Return the name of each bin."""
    if histogram.scale == "categories":
        return list(histogram.labels)
    texts = [number_text(edge, measure) for edge in histogram.edges]
    if histogram.scale == "values":
        return texts
    inner = [f"{a} to {b}" for a, b in pairwise(texts[1:-1])]
    return [f"below {texts[1]}", *inner, f"from {texts[-2]}"]


def plot(histogram: Histogram, measure: Measure) -> str:
    """Return a plot of the distributions."""
    if histogram.scale == "categories":
        return _category_plot(histogram)
    top = max([*histogram.first, *histogram.second]) or 1.0
    names = bin_names(histogram, measure)
    is_each = histogram.scale == "values"
    shapes = _bars(histogram, top) if is_each else _steps(histogram, top)
    lines = "".join(
        f'<line class="grid-line" x1="0" x2="{_WIDTH:g}" y1="{y:g}" y2="{y:g}"/>'
        for y in (0, _HEIGHT / 2)
    )
    label = f"Shares of {len(names)} bins, from {names[0]} to {names[-1]}; the highest is {percent(top)}."
    if is_each and len(names) <= _MAX_LABELS:
        axis = _axis(names, "axis-x each")
    else:
        axis = _axis(_axis_texts(histogram, measure), "axis-x")
    return (
        f'<div class="plot"><div class="axis axis-y"><span>{percent(top)}</span><span>{percent(top / 2)}</span>'
        f"<span>0</span></div>{_svg(label, lines + shapes + _hits(histogram, names))}{axis}</div>"
    )


def mini_plot(histogram: Histogram | None) -> str:
    """Return a small plot without labels, for a table."""
    if histogram is None:
        return ""
    top = max([*histogram.first, *histogram.second]) or 1.0
    is_smooth = histogram.scale in ("linear", "log")
    shapes = _steps(histogram, top) if is_smooth else _bars(histogram, top)
    return (
        f'<svg class="mini" viewBox="0 0 {_WIDTH:g} {_HEIGHT:g}" preserveAspectRatio="none" '
        f'aria-hidden="true">{shapes}</svg>'
    )


def status_bar(shares: Mapping[str, float], name: str) -> str:
    """Return a bar of the shares of statuses."""
    parts, start = [], 0.0
    for status, share in shares.items():
        title = f"{status} {percent(share)}"
        parts.append(
            f'<rect class="part-{status}" x="{start * _WIDTH:.2f}" width="{share * _WIDTH:.2f}" '
            f'height="10"><title>{title}</title></rect>'
        )
        start += share
    label = f"{name}: " + ", ".join(
        f"{status} {percent(share)}" for status, share in shares.items()
    )
    return (
        f'<svg viewBox="0 0 {_WIDTH:g} 10" preserveAspectRatio="none" role="img" '
        f'aria-label="{html_text(label)}">{"".join(parts)}</svg>'
    )


def _svg(label: str, content: str) -> str:
    return (
        f'<svg viewBox="0 0 {_WIDTH:g} {_HEIGHT:g}" preserveAspectRatio="none" role="img" '
        f'aria-label="{html_text(label)}">{content}</svg>'
    )


def _axis(texts: Sequence[str], kind: str) -> str:
    return (
        f'<div class="axis {kind}">{"".join(f"<span>{html_text(t)}</span>" for t in texts)}</div>'
    )


def _axis_texts(histogram: Histogram, measure: Measure) -> list[str]:
    """Return the texts at the ends and at some places between."""
    edges = histogram.edges
    places = [round(i * (len(edges) - 1) / 4) for i in range(5)]
    return [number_text(edges[place], measure) for place in places]


def _steps(histogram: Histogram, top: float) -> str:
    """Return bars of the first distribution without gaps, and the second one as a line in steps."""
    width = _WIDTH / len(histogram.first)
    bars = "".join(
        _rect("bar-training", (i * width, width), share / top)
        for i, share in enumerate(histogram.first)
        if share
    )
    if not histogram.second:
        return bars
    points = [f"M0 {_HEIGHT:g}"]
    for i, share in enumerate(histogram.second):
        points.append(f"V{(1 - share / top) * _HEIGHT:.2f}H{(i + 1) * width:.2f}")
    return f'{bars}<path class="line-online" d="{"".join(points)}V{_HEIGHT:g}"/>'


def _bars(histogram: Histogram, top: float) -> str:
    """Return bars, in pairs if there are two distributions."""
    slot = _WIDTH / len(histogram.first)
    shapes = []
    if not histogram.second:
        return "".join(
            _rect("bar-training", ((i + 0.14) * slot, slot * 0.72), share / top)
            for i, share in enumerate(histogram.first)
        )
    for i, (first, second) in enumerate(zip(histogram.first, histogram.second, strict=True)):
        start = i * slot + slot * 0.14
        shapes.append(_rect("bar-training", (start, slot * 0.34), first / top))
        shapes.append(_rect("bar-online", (start + slot * 0.38, slot * 0.34), second / top))
    return "".join(shapes)


def _rect(kind: str, place: tuple[float, float], share: float) -> str:
    start, width = place
    height = share * _HEIGHT
    return (
        f'<rect class="{kind}" x="{start:.2f}" y="{_HEIGHT - height:.2f}" width="{width:.2f}" '
        f'height="{height:.2f}"/>'
    )


def _hits(histogram: Histogram, names: Sequence[str]) -> str:
    """Return invisible areas whose tooltips say what each bin has."""
    width = _WIDTH / len(names)
    return "".join(
        f'<rect class="hit" x="{i * width:.2f}" y="0" width="{width:.2f}" height="{_HEIGHT:g}"><title>'
        f"{html_text(name)}: {text}</title></rect>"
        for i, (name, text) in enumerate(zip(names, _share_texts(histogram), strict=True))
    )


def _share_texts(histogram: Histogram) -> list[str]:
    if not histogram.second:
        return [percent(share) for share in histogram.first]
    return [
        f"training {percent(first)}, served {percent(second)}"
        for first, second in zip(histogram.first, histogram.second, strict=True)
    ]


def _category_plot(histogram: Histogram) -> str:
    """Return a row for each of the most frequent categories."""
    top = max([*histogram.first, *histogram.second]) or 1.0
    rows = []
    second_shares = histogram.second or (None,) * len(histogram.first)
    shown = zip(histogram.labels, histogram.first, second_shares, strict=True)
    for name, first, second in list(shown)[:MAX_SHOWN]:
        bars = f'<rect class="bar-training" x="0" y="{1 if histogram.second else 5}" width="{first / top * _WIDTH:.2f}" height="{8 if histogram.second else 10}"/>'
        shares = percent(first)
        if second is not None:
            bars += f'<rect class="bar-online" x="0" y="11" width="{second / top * _WIDTH:.2f}" height="8"/>'
            shares += f" → {percent(second)}"
        text = html_text(name) or "<em>empty</em>"
        rows.append(
            f'<span class="name" title="{html_text(name)}">{text}</span>'
            f'<svg viewBox="0 0 {_WIDTH:g} 20" preserveAspectRatio="none" aria-hidden="true">{bars}</svg>'
            f'<span class="value">{shares}</span>'
        )
    more = len(histogram.labels) - MAX_SHOWN
    note = f'<p class="why">and {more} more, in the table below</p>' if more > 0 else ""
    return f'<div class="pairs">{"".join(rows)}</div>{note}'
