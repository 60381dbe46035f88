"""`featurekit generate docs` writes a site that works from a disk, whatever the registry contains."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect
from typing_extensions import override

from featurekit.codegen.site import site_files
from tests.console.browsers import NARROW, WIDE, browser
from tests.generators.registries import DEFINITIONS, DERIVED, HOSTILE, registry, wide

__all__ = ["browser"]


class _Elements(HTMLParser):
    """The names, addresses and ids of all elements."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.addresses: set[str] = set()
        self.ids: list[str] = []
        self.feed(text)

    @override
    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        for name, value in attrs:
            assert not name.startswith("on")
            assert name != "style"
            if name in ("href", "src"):
                self.addresses.add(value or "")
            elif name == "id":
                self.ids.append(value or "")


@pytest.mark.parametrize("definitions", DEFINITIONS.values(), ids=DEFINITIONS)
def test_all_links_lead_to_a_part_of_the_site(tmp_path: Path, definitions: str) -> None:
    texts = site_files(registry(tmp_path, definitions)).texts
    pages = {path: _Elements(text) for path, text in texts.items() if path.endswith(".html")}
    for path, elements in pages.items():
        assert len(elements.ids) == len(set(elements.ids))
        for address in elements.addresses:
            parts = urlsplit(address)
            if parts.scheme == "mailto":
                continue
            assert not parts.scheme, address
            target = (
                (PurePosixPath(path).parent / parts.path) if parts.path else PurePosixPath(path)
            )
            resolved = _resolved(target)
            assert resolved in texts, f"{path} links to {address}"
            if parts.fragment and resolved in pages:
                assert unquote(parts.fragment) in pages[resolved].ids


def _resolved(path: PurePosixPath) -> str:
    parts: list[str] = []
    for part in path.parts:
        if part == "..":
            parts.pop()
        else:
            parts.append(part)
    return "/".join(parts)


def test_texts_of_a_registry_are_never_markup(tmp_path: Path) -> None:
    texts = site_files(registry(tmp_path, HOSTILE)).texts
    for path, text in texts.items():
        assert "\u202e" not in text
        assert "secret" not in text
        assert "hidden@" not in text
        if path.endswith(".html"):
            elements = _Elements(text)
            assert not elements.names & {"b", "i", "style", "iframe", "object"}
            assert len(re.findall("<script", text)) == 3
    assert (
        "deprecated: use <code>other</code> */ &lt;i&gt;now&lt;/i&gt;"
        in texts["views/interface.html"]
    )


def test_a_derived_view_has_a_page_with_its_expressions(tmp_path: Path) -> None:
    texts = site_files(registry(tmp_path, DERIVED)).texts
    page = re.sub("<wbr>", "", texts["views/risk.html"])
    assert "amount / nullif(mean, 0)" in page
    assert "currency &lt;&gt; '&lt;script&gt;*/'" in page.replace("&#x27;", "'")
    assert "payment:amount" in page
    assert '<a href="../views/profile.html#field-mean">profile:mean</a>' in page
    assert "risk_v2.html" in page
    assert "risk.html" in texts["views.html"]
    assert "risk.html#field-ratio" in texts["features.html"]
    assert "profile" in texts["services/risk_v2.html"]
    assert len(re.findall("<script", page)) == 3


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site of the hostile registry."""
    folder = tmp_path_factory.mktemp("site")
    for name, text in site_files(registry(folder / "repo", HOSTILE)).texts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page that fails the test if a script fails or something is loaded from elsewhere."""
    page = browser.new_page()
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda message: problems.append(message.text))
    page.on(
        "request",
        lambda request: None if request.url.startswith("file:") else problems.append(request.url),
    )
    yield page
    page.close()
    assert problems == []


@pytest.mark.slow
def test_every_page_fits_wide_and_narrow_screens(page: Page, site: Path) -> None:
    names = ("index", "features", "owners", "views/interface", "services/delete", "entities/class")
    for width, height in (WIDE, NARROW):
        page.set_viewport_size({"width": width, "height": height})
        for name in names:
            page.goto((site / f"{name}.html").as_uri())
            expect(page.locator("h1")).to_be_visible()
            wider = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
            assert page.evaluate(wider) == 0, name


@pytest.mark.slow
def test_the_search_finds_a_field_and_opens_it_with_the_keyboard(page: Page, site: Path) -> None:
    page.goto((site / "entities/class.html").as_uri())
    page.keyboard.press("/")
    page.keyboard.type("größ")
    first = page.locator(".finder-item").first
    expect(first).to_contain_text("größte of interface")
    expect(first).to_have_attribute("aria-selected", "true")
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_contain_text("interface")
    expect(page.locator("tr:has(:target)")).to_contain_text("größte")
    page.keyboard.press("Control+k")
    page.keyboard.type("<script>no such thing")
    expect(page.locator(".finder-none")).to_contain_text("“<script>no such thing”")
    page.keyboard.press("Escape")
    expect(page.locator(".finder")).to_be_hidden()


@pytest.mark.slow
def test_colours_are_kept_and_tables_are_filtered(page: Page, site: Path) -> None:
    page.emulate_media(color_scheme="light")
    page.goto((site / "features.html").as_uri())
    page.get_by_role("button", name="Use dark colours").click()
    page.reload()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    rows = page.locator("tbody tr:visible")
    expect(rows).to_have_count(10)
    page.get_by_label("Show only some features").fill("wind airport")
    expect(rows).to_have_count(1)
    page.get_by_label("Show only some features").fill("nothing like this")
    expect(page.get_by_text("Nothing here contains that.")).to_be_visible()


@pytest.mark.slow
def test_a_registry_of_500_views_has_a_page_for_each(tmp_path: Path) -> None:
    texts = site_files(registry(tmp_path, wide(500))).texts
    assert len([path for path in texts if path.startswith("views/")]) == 500
    assert sum(map(len, texts.values())) < 10_000_000
