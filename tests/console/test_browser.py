"""The console in a browser: each panel shows what a second client finds in the store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from featurekit import FeatureStore
from tests.console.browsers import NARROW, browser, opened, served
from tests.console.conftest import fill
from tests.servers import Server
from tests.streams.repositories import repository

__all__ = ["browser"]

PANELS = ("Overview", "Registry", "Read", "Batch read", "Inspect", "Stream", "Loads")


@pytest.fixture
def url(store: FeatureStore) -> Iterator[str]:
    """The address of a console with data."""
    fill(store)
    with served(store) as web:
        yield f"{web.url}/console/"


def figure(page: Page, name: str) -> str:
    """Return the value of a figure."""
    found = page.locator(".figure").filter(has=page.get_by_text(name, exact=True)).first
    return found.locator(".figure-value").inner_text()


def shows(page: Page, name: str, value: str) -> None:
    """Wait for a figure to have a value."""
    found = page.locator(".figure").filter(has=page.get_by_text(name, exact=True)).first
    expect(found.locator(".figure-value")).to_have_text(value)


def test_the_overview_follows_the_store(browser: Browser, url: str, valkey: Server) -> None:
    with opened(browser, f"{url}#/overview") as page:
        shows(page, "user", "3")
        profile = page.get_by_role("row").filter(has_text="profile").first
        expect(profile).to_contain_text("100% of 3")
        needs = page.get_by_role("region", name="Needs attention")
        expect(needs.get_by_role("listitem")).to_have_text(
            ["scores is never written: never loaded."]
        )
        with valkey.client() as other:
            other.delete("fs:user:u2")
        shows(page, "user", "2")
        page.get_by_role("button", name="Run the checks").click()
        expect(page.get_by_text("this user may write, and what it writes expires")).to_be_visible()


def test_a_search_of_the_registry_is_in_the_address(browser: Browser, url: str) -> None:
    with opened(browser, f"{url}#/registry") as page:
        expect(page.get_by_role("heading", name="Change history")).to_be_visible()
        page.get_by_role("searchbox").fill("minutes")
        expect(page.get_by_role("heading", level=2)).to_have_text(["delays"])
        with opened(browser, page.url) as shared:
            expect(shared.get_by_role("heading", level=2)).to_have_text(["delays"])


def test_a_displayed_value_that_expires_is_missing_at_once(
    browser: Browser, url: str, valkey: Server
) -> None:
    with opened(browser, f"{url}#/read?service=fraud_v1&id.user=u1") as page:
        expect(page.get_by_role("row").filter(has_text="tx_count_7d")).to_contain_text("7")
        activity = page.get_by_role("row").filter(has_text="tx_count_5m")
        expect(activity).to_contain_text("present")
        expect(activity).to_contain_text("4m 5")
        with valkey.client() as other:
            other.hpexpire("fs:user:u1", 2500, "tx_count_5m")
        expect(activity).to_contain_text("default")
        with valkey.client() as other:
            assert other.hget("fs:user:u1", "tx_count_5m") is None


def test_ids_are_typed_suggested_removed_and_shared_by_link(browser: Browser, url: str) -> None:
    with opened(browser, f"{url}#/read?service=fraud_v1&id.user=u1") as page:
        ids = page.get_by_label("Ids of user", exact=True)
        ids.fill("nobody")
        ids.press("Enter")
        expect(page.get_by_role("heading", name="user_id nobody")).to_be_visible()
        expect(page.get_by_text("Nothing is stored for this user.")).to_be_visible()
        page.get_by_role("button", name="Remove u1").click()
        expect(page.get_by_role("heading", name="user_id u1")).to_have_count(0)
        assert page.url.endswith("#/read?service=fraud_v1&id.user=nobody")
        page.get_by_role("button", name="Copy the shell lines").click()
        copied = page.evaluate("navigator.clipboard.readText()")
        assert copied == "featurekit get fraud_v1 --entity user_id=nobody"


def test_features_of_composite_and_integer_keys_are_selected_and_read(
    browser: Browser, url: str
) -> None:
    address = f"{url}#/read?feature=delays:minutes&id.route=JFK:L%253AA"
    with opened(browser, address, faults=False) as page:
        expect(page.get_by_role("heading", name="origin JFK, dest L:A")).to_be_visible()
        expect(page.get_by_role("row").filter(has_text="minutes")).to_contain_text("2.5")
        page.get_by_label("Service").select_option("both")
        merchants = page.get_by_label("Ids of merchant", exact=True)
        merchants.fill("many")
        merchants.press("Enter")
        expect(page.get_by_text("merchant id 'many'")).to_be_visible()


def test_a_batch_read_measures_and_updates(browser: Browser, url: str, valkey: Server) -> None:
    with opened(browser, f"{url}#/batch?service=fraud_v1&n=10&runs=20") as page:
        page.get_by_role("button", name="Measure").click()
        shows(page, "Reads", "20")
        assert figure(page, "p99").endswith(("ms", "µs"))
        country = page.get_by_role("row").filter(has_text="country")
        expect(country).to_contain_text("100%")
        with valkey.client() as other:
            other.hdel("fs:user:u2", "country")
        expect(country).to_contain_text("67%")


def test_an_inspection_marks_unknown_fields_and_updates(
    browser: Browser, url: str, valkey: Server
) -> None:
    with valkey.client() as other:
        other.hset("fs:user:u1", "nightly", "0.9")
        with opened(browser, f"{url}#/inspect?entity=user&id=u1") as page:
            expect(page.get_by_role("row").filter(has_text="nightly")).to_contain_text("unknown")
            expect(page.get_by_role("row").filter(has_text="country")).to_contain_text("'NO'")
            expect(page.get_by_text("its TTL of 5m ran out").first).to_be_visible()
            other.hdel("fs:user:u1", "nightly")
            expect(page.get_by_text("nightly")).to_have_count(0)


def test_a_finished_load_appears_in_the_list(
    browser: Browser, url: str, store: FeatureStore
) -> None:
    with opened(browser, f"{url}#/loads") as page:
        expect(page.get_by_role("row").filter(has_text="scores")).to_contain_text("never loaded")
        store.write_batch("scores", {"u1": {"risk": 0.5}})
        expect(page.get_by_role("row").filter(has_text="scores").first).to_contain_text("on time")


def test_dead_letters_are_shown_with_their_reason(
    browser: Browser, tmp_path: Path, valkey: Server
) -> None:
    with repository(tmp_path / "streams", valkey.url) as store, valkey.client() as other:
        fields = {"user_id": "u1", "count": "<b>many</b>"}
        other.xadd("activity-events:dead", fields | {"@reason": "count: no int64", "@id": "1-1"})
        with served(store) as web, opened(browser, f"{web.url}/console/#/stream") as page:
            expect(page.get_by_text("count: no int64")).to_be_visible()
            expect(page.get_by_text("count=<b>many</b>")).to_be_visible()
            expect(page.get_by_text("featurekit stream run activity")).to_be_visible()


def test_markup_in_ids_values_and_names_is_shown_as_text(
    browser: Browser, url: str, valkey: Server
) -> None:
    evil = "<img src=x onerror=alert(1)>"
    with valkey.client() as other:
        other.hset(
            f"fs:user:{evil}", mapping={"country": f"{evil}<script>alert(2)</script>", evil: 1}
        )
        with opened(browser, f"{url}#/inspect?entity=user&id={evil}") as page:
            expect(page.get_by_text(f"fs:user:{evil}")).to_be_visible()
            expect(
                page.get_by_text(f"{evil}<script>alert(2)</script>", exact=True)
            ).to_be_visible()
            assert page.locator("#panel img, #panel script").count() == 0
            page.goto(f"{url}#/read?service=fraud_v1&id.user={evil}")
            expect(page.get_by_role("heading", name=f"user_id {evil}")).to_be_visible()


def test_an_unavailable_store_is_reported_and_recovers_without_a_reload(
    browser: Browser, url: str, valkey: Server
) -> None:
    with opened(browser, f"{url}#/overview", faults=False) as page:
        shows(page, "user", "3")
        valkey.stop()
        expect(page.get_by_text("The store does not answer.")).to_be_visible()
        valkey.start()
        expect(page.get_by_text("The store does not answer.")).to_have_count(0)
        expect(page.get_by_text("The store is empty")).to_be_visible()


def test_an_unavailable_server_is_reported_and_recovers_without_a_reload(
    browser: Browser, store: FeatureStore
) -> None:
    fill(store)
    with (
        served(store) as web,
        opened(browser, f"{web.url}/console/#/overview", faults=False) as page,
    ):
        shows(page, "user", "3")
        web.stop()
        expect(page.get_by_text("server does not answer")).to_be_visible()
        web.start()
        expect(page.locator("#link-state")).to_have_text("Live")
        expect(page.get_by_text("server does not answer")).to_have_count(0)


def test_a_token_is_requested_and_kept_only_in_the_tab(
    browser: Browser, store: FeatureStore
) -> None:
    fill(store)
    with (
        served(store, tokens="read:one", writes=True) as web,
        opened(browser, f"{web.url}/console/#/overview", faults=False) as page,
    ):
        page.get_by_label("Token", exact=True).fill("wrong")
        page.get_by_role("button", name="Use this token").click()
        expect(page.get_by_text("does not accept that token")).to_be_visible()
        page.get_by_label("Token", exact=True).fill("one")
        page.get_by_label("Token", exact=True).press("Enter")
        shows(page, "user", "3")
        expect(page.get_by_role("button", name="Delete its hashes")).to_have_count(0)
        assert page.evaluate("localStorage.length") == 0


def test_deleting_needs_confirmation(
    browser: Browser, store: FeatureStore, valkey: Server
) -> None:
    fill(store)
    with (
        served(store, writes=True) as web,
        opened(browser, f"{web.url}/console/#/overview") as page,
        valkey.client() as other,
    ):
        shows(page, "user", "3")
        page.get_by_label("Entity").select_option("user")
        for choice, left in (("Keep everything", 3), ("Delete every user", 0)):
            page.get_by_role("button", name="Delete its hashes").click()
            page.get_by_role("dialog").get_by_role("button", name=choice).click()
            shows(page, "user", str(left))
            assert len(other.keys("fs:user:*")) == left
        assert other.exists("fs:merchant:42")


def test_no_panel_is_wider_than_a_phone(browser: Browser, url: str) -> None:
    with opened(browser, url, NARROW) as page:
        for panel in PANELS:
            page.get_by_role("link", name=panel, exact=True).click()
            expect(page.locator("h1")).to_have_text(panel)
            expect(page.locator("#panel .card").first).to_be_visible()
            assert page.evaluate("document.documentElement.scrollWidth") == NARROW[0], panel


def test_all_controls_work_with_the_keyboard(browser: Browser, url: str) -> None:
    with opened(browser, f"{url}#/overview") as page:
        shows(page, "user", "3")
        page.keyboard.press("Tab")
        expect(page.get_by_role("link", name="Skip to the panel")).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.get_by_role("main")).to_be_focused()
        page.get_by_role("link", name="Registry").focus()
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", level=1)).to_have_text("Registry")


def test_without_a_registry_the_page_names_the_command(
    browser: Browser, store: FeatureStore
) -> None:
    (store.path / "registry.json").unlink()
    store.refresh()
    with served(store) as web, opened(browser, f"{web.url}/console/") as page:
        expect(page.get_by_text("Nothing is applied yet")).to_be_visible()
        store.apply()
        expect(page.get_by_role("heading", level=1)).to_have_text("Overview")
