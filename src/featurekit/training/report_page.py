"""The page around a report: one HTML file with its styles inside, and no script."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.resources import files

from featurekit.training.drift_plots import html_text

_STYLES = (
    "server/console/static/css/base.css",
    "server/console/static/css/parts.css",
    "training/drift_report.css",
)
_ICON = "server/console/static/favicon.svg"
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def report_page(title: str, lead: str, body: str) -> str:
    """Return a page that refers to nothing outside of itself.

    Args:
        title: Its heading, as text.
        lead: The line below, as text.
        body: Its contents, as HTML.
    """
    package = files("featurekit")
    style = "\n".join(package.joinpath(name).read_text(encoding="utf-8") for name in _STYLES)
    icon = package.joinpath(_ICON).read_text(encoding="utf-8").strip()
    icon = icon.replace("<svg", '<svg width="36" height="36" aria-hidden="true"', 1)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<title>{html_text(title)}</title>
<style>
{style}
</style>
</head>
<body>
<header class="top">{icon}<div>
<h1>{html_text(title)}</h1>
<p class="lead">{html_text(lead)}</p>
</div></header>
<main>
{body}
</main>
</body>
</html>
"""


def figures(parts: Sequence[tuple[str, str, int]]) -> str:
    """Return large numbers in a row, each a kind (`good`, `warn`, `bad` or nothing), a name and a number."""
    items = "".join(
        f'<div class="figure figure-{kind}"><dt>{name}</dt>'
        f'<dd><span class="figure-value">{value:,}</span></dd></div>'
        for kind, name, value in parts
    )
    return f'<dl class="figures">{items}</dl>'


def note_lines(notes: Sequence[str]) -> str:
    """Return notes, each a paragraph of its own."""
    return "\n".join(f'<p class="note-line">{html_text(note)}</p>' for note in notes)


def time_text(time_ms: int) -> str:
    """Return a time for people, such as `28 Nov 2026, 10:00 UTC`."""
    time = datetime.fromtimestamp(time_ms / 1000, UTC)
    return f"{time.day} {time:%b %Y, %H:%M} UTC"
