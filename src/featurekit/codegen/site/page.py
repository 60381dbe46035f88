"""The frame of every page: head, sidebar, search and footer."""

from __future__ import annotations

from dataclasses import dataclass

from featurekit.codegen.files import MARK
from featurekit.codegen.site.html import Child, Html, breakable, el, link, span

POLICY = (
    "default-src 'none'; script-src 'self' file:; style-src 'self' file:; img-src 'self' file:; "
    "base-uri 'none'; form-action 'none'"
)
"""Pages load nothing from elsewhere and run no script of their own text. `file:` is for sites on a disk."""

SECTIONS = (
    ("index.html", "Overview", "M3 12h4l2-6 4 12 2-6h6"),
    ("features.html", "Features", "M4 6h16M4 12h16M4 18h10"),
    ("views.html", "Views", "M5 4h14v16H5zM9 8h6M9 12h6M9 16h4"),
    ("entities.html", "Entities", "M15 4a5 5 0 1 0 0 10 5 5 0 0 0 0-10zM11.5 12.5 4 20M7 17l2 2"),
    ("services.html", "Services", "M2 9l10-5 10 5-10 5zM4 13l8 4 8-4M4 17l8 4 8-4"),
    ("owners.html", "Owners", "M12 4a4 4 0 1 0 0 8 4 4 0 0 0 0-8zM4 21c0-9 16-9 16 0"),
)
"""The file, title and icon of the pages in the sidebar."""

_SEARCH = "M11 4a7 7 0 1 0 0 14 7 7 0 0 0 0-14zM16.5 16.5 21 21"
_MOON = "M20 14.5A8.5 8.5 0 0 1 9.5 4a8.5 8.5 0 1 0 10.5 10.5z"


@dataclass(frozen=True, slots=True)
class Page:
    """What a page shows.

    Attributes:
        path: The file, relative to the root of the site.
        title: The heading.
        section: The file of the page of the sidebar that it belongs to.
        content: What is below the heading.
        lead: A sentence below the heading.
        badges: What is beside the heading.
    """

    path: str
    title: str
    section: str
    content: tuple[Child, ...]
    lead: Child = None
    badges: Child = None

    @property
    def root(self) -> str:
        """The way from this page to the root of the site."""
        return "../" * self.path.count("/")


def icon(path: str) -> Html:
    """Return a decorative icon."""
    attributes = {"viewBox": "0 0 24 24", "class": "icon", "aria-hidden": "true"}
    return el("svg", attributes, el("path", {"d": path}))


def page_html(page: Page, project: str) -> str:
    """Return the page as an HTML document."""
    root = page.root
    home = page.path == "index.html"
    title = f"{project} features" if home else f"{page.title} - {project} features"
    head = el(
        "head",
        None,
        el("meta", {"charset": "utf-8"}),
        el("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}),
        el("meta", {"name": "generator", "content": f"{MARK} docs`"}),
        el("meta", {"name": "color-scheme", "content": "light dark"}),
        el("meta", {"http-equiv": "Content-Security-Policy", "content": POLICY}),
        el("title", None, title),
        el("link", {"rel": "icon", "type": "image/svg+xml", "href": f"{root}assets/favicon.svg"}),
        el("link", {"rel": "stylesheet", "href": f"{root}assets/site.css"}),
        el("script", {"src": f"{root}assets/theme.js"}),
        el("script", {"src": f"{root}assets/search-index.js", "defer": ""}),
        el("script", {"src": f"{root}assets/site.js", "defer": ""}),
    )
    body = el(
        "body",
        {"data-root": root},
        link("#main", "Skip to the content", kind="skip"),
        _sidebar(page, project),
        el("main", {"class": "main", "id": "main", "tabindex": "-1"}, _main(page)),
    )
    return f'<!doctype html>\n<html lang="en">\n{head}\n{body}\n</html>\n'


def _sidebar(page: Page, project: str) -> Html:
    root = page.root
    brand = el(
        "a",
        {"class": "brand", "href": f"{root}index.html"},
        el("img", {"src": f"{root}assets/favicon.svg", "alt": "", "width": "28", "height": "28"}),
        span(
            "brand-text",
            span("brand-name", breakable(project)),
            span("brand-project", "feature registry"),
        ),
    )
    search = el(
        "button",
        {"type": "button", "class": "search-open", "hidden": "", "data-search": ""},
        icon(_SEARCH),
        el("span", None, "Search"),
        el("kbd", None, "/"),
    )
    tabs = [
        el(
            "li",
            None,
            el(
                "a",
                {"class": "tab", "href": root + file}
                | ({"aria-current": "page"} if page.section == file else {}),
                icon(path),
                el("span", None, title),
            ),
        )
        for file, title, path in SECTIONS
    ]
    theme = el(
        "button",
        {"type": "button", "class": "tool", "hidden": "", "data-theme-switch": ""},
        icon(_MOON),
        el("span", None, "Dark"),
    )
    return el(
        "header",
        {"class": "side"},
        brand,
        search,
        el("nav", {"aria-label": "Pages"}, el("ul", {"class": "tabs"}, tabs)),
        el("div", {"class": "side-foot"}, el("div", {"class": "side-tools"}, theme)),
    )


def _main(page: Page) -> Html:
    is_listed = page.section == page.path
    above = next(title for file, title, _ in SECTIONS if file == page.section)
    crumb = (
        None
        if is_listed
        else el(
            "nav", {"class": "crumb", "aria-label": "Above"}, link(page.root + page.section, above)
        )
    )
    heading = el(
        "div",
        {"class": "heading"},
        el(
            "div",
            {"class": "heading-text"},
            crumb,
            el("h1", None, breakable(page.title), " ", page.badges),
            el("p", {"class": "lead"}, page.lead) if page.lead else None,
        ),
    )
    return el("div", {"id": "panel"}, heading, el("div", {"class": "stack"}, *page.content))
