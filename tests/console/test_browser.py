"""The console in a browser: each panel shows what a second client finds in the store."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from featurekit import FeatureStore
from featurekit.runtime.worker import StreamReport
from tests.console.browsers import NARROW, browser, opened, served
from tests.console.conftest import fill
from tests.promise.repos import applied
from tests.servers import Server
from tests.streams.repositories import repository

pytestmark = pytest.mark.slow  # about two minutes together

__all__ = ["browser"]

PANELS = ("Overview", "Registry", "Read", "Batch read", "Inspect", "Stream", "Loads", "Training")


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


def test_a_store_that_was_flushed_is_named_on_every_panel(
    browser: Browser, url: str, store: FeatureStore, valkey: Server
) -> None:
    with opened(browser, f"{url}#/loads") as page, valkey.client() as other:
        expect(page.locator("#link-state")).to_have_text("Live")
        expect(page.locator("#banner")).to_be_empty()
        other.flushall()
        expect(page.locator("#banner")).to_contain_text("The store was flushed or replaced")
        expect(page.locator("#banner")).to_contain_text("featurekit apply")
        store.apply()
        expect(page.locator("#banner")).to_be_empty()


def test_a_panel_that_was_left_does_not_change_the_address(browser: Browser, url: str) -> None:
    with opened(browser, f"{url}#/read?service=fraud_v1&id.user=u1") as page:
        expect(page.get_by_role("row").filter(has_text="tx_count_7d")).to_contain_text("7")
        held: list[Route] = []

        def hold(route: Route) -> None:
            held.append(route)

        page.route("**/api/read", hold)
        page.get_by_label("Ids of user", exact=True).fill("u2")
        with page.expect_request("**/api/read"):
            page.get_by_label("Ids of user", exact=True).press("Enter")
        page.get_by_role("link", name="Loads", exact=True).click()
        expect(page.locator("h1")).to_have_text("Loads")
        with page.expect_response("**/api/read"):
            held[0].continue_()
        expect(page.get_by_role("row").filter(has_text="scores")).to_be_visible()
        assert page.url.endswith("#/loads")


def test_a_chart_says_which_time_it_shows_and_leaves_gaps(browser: Browser, url: str) -> None:
    with opened(browser, f"{url}#/loads") as page:
        expect(page.locator("#link-state")).to_have_text("Live")
        values, words = page.evaluate(
            """async () => {
                const { Chart } = await import("/console/static/js/chart.js");
                const chart = new Chart({ series: [{ label: "one", colour: "accent" }] });
                document.getElementById("panel").append(chart.node);
                const end = Date.now() - 60_000;
                chart.show([[end - 20_000, end - 19_000, end], [1, 2, 3]]);
                return [chart.data[1], chart.at.textContent];
            }"""
        )
        assert values == [1, 2, None, 3, None]
        assert re.fullmatch(r"\d\d:\d\d:\d\d to \d\d:\d\d:\d\d, 1m \d\ds", words), words


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
        code = page.get_by_text("from featurekit import FeatureStore")
        expect(code).to_have_count(0)
        page.get_by_role("button", name="Remove many").click()
        merchants.fill("7")
        merchants.press("Enter")
        expect(code).to_be_visible()


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
        row = page.get_by_role("row").filter(has_text="scores").first
        expect(row).to_contain_text("on time")
        expect(row).to_contain_text("1h")
        expect(row).to_contain_text("59m")
        history = page.get_by_role("table", name="History of loads").get_by_role("row")
        expect(history.filter(has_text="scores")).to_contain_text("in 1h 59m")


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


@dataclass
class _Heartbeat:
    """A program that writes a stream view itself."""

    report: StreamReport
    last_error: str = ""

    @property
    def view(self) -> str:
        return self.report.view

    def snapshot(self) -> StreamReport:
        return self.report


def test_lag_and_rejected_events_are_those_that_workers_report(
    browser: Browser, store: FeatureStore
) -> None:
    fill(store)
    report = StreamReport("activity", seconds=1.0, written=5, rejected=3, lag=7)
    with (
        store.streams.send_heartbeats([_Heartbeat(report)], "program"),
        served(store) as web,
        opened(browser, f"{web.url}/console/#/stream") as page,
    ):
        shows(page, "Lag", "7")
        shows(page, "Dead letters", "3")
        expect(page.locator("#feed-activity + .card-note + .card-tools")).to_have_text("on time")


LONG = """
entities: [{name: customer_account_holder, join_keys: {customer_account_identifier: string}}]
feature_views:
  - name: customer_transaction_aggregates_daily
    entity: customer_account_holder
    owner: risk-and-fraud-engineering@payments.example.com
    batch:
      refresh: 12h
      source: {type: parquet, path: warehouse/customer-transaction-aggregates/daily.parquet}
    fields:
      number_of_chargebacks_in_the_last_180_days: int64
      average_transaction_amount_in_euros_30d: {type: float64, description: In euros.}
      preferredmerchantcategorycodeofcustomer: string
  - name: customer_device_activity_realtime
    entity: customer_account_holder
    stream: {refresh: 1m, source: {type: redis_stream, stream: customer-device-activity-events}}
    fields: {failed_login_attempts_last_15_minutes: int64}
feature_services:
  - name: fraud_detection_model_production_v12
    features: [customer_transaction_aggregates_daily, customer_device_activity_realtime]
"""

BROKEN_WORDS = """() => {
    const broken = [];
    const walker = document.createTreeWalker(document.querySelector("#panel"), NodeFilter.SHOW_TEXT);
    for (let node = walker.nextNode(); node; node = walker.nextNode()) {
        if (node.parentElement.closest("pre, .raw, .value, .hidden-text")) continue;
        for (const { 0: word, index } of node.data.matchAll(/[A-Za-z0-9]+/g)) {
            const range = document.createRange();
            range.setStart(node, index);
            range.setEnd(node, index + word.length);
            if (new Set([...range.getClientRects()].map((box) => Math.round(box.top))).size > 1) broken.push(word);
        }
    }
    return broken;
}"""
"""Returns the words of a panel that are broken over two lines; stored values may be."""


def test_no_name_breaks_within_a_word_and_no_panel_scrolls_sideways(
    browser: Browser, tmp_path: Path, valkey: Server
) -> None:
    with applied(tmp_path / "long", valkey.url, LONG) as store:
        store.write_batch(
            "customer_transaction_aggregates_daily",
            {"c0001": {"number_of_chargebacks_in_the_last_180_days": 1}},
        )
        with served(store) as web, opened(browser, f"{web.url}/console/") as page:
            for panel in PANELS:
                page.get_by_role("link", name=panel, exact=True).click()
                expect(page.locator("h1")).to_have_text(panel)
                expect(page.locator("#panel .card").first).to_be_visible()
                if panel in ("Read", "Batch read", "Inspect"):
                    expect(page.get_by_text("chargebacks").first).to_be_visible()
                assert page.evaluate(BROKEN_WORDS) == [], panel
                assert page.evaluate("document.documentElement.scrollWidth") == 1280, panel


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
            tab = page.get_by_role("link", name=panel, exact=True).bounding_box()
            assert tab is not None
            assert 0 <= tab["x"] <= tab["x"] + tab["width"] <= NARROW[0], panel
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


ROLES = """
entities: [{name: airport, join_keys: {airport: string}}]
feature_views:
  - {name: weather, entity: airport, batch: {refresh: 1h}, fields: {wind: float64}}
  - {name: rates, batch: {refresh: 1h}, fields: {usd: float64}}
feature_services:
  - name: flight
    features:
      - {view: weather, as: origin, join_keys: {airport: origin}}
      - {view: weather, as: dest, join_keys: {airport: dest}}
      - rates
  - {name: world, features: [rates]}
"""


def test_ids_of_aliases_are_asked_for_and_views_without_an_entity_need_none(
    browser: Browser, tmp_path: Path, valkey: Server
) -> None:
    with applied(tmp_path / "roles", valkey.url, ROLES) as store:
        store.write_batch("weather", {"JFK": {"wind": 1.5}, "LAX": {"wind": 2.5}})
        store.write_batch("rates", {"usd": 1.25})
        with served(store) as web, opened(browser, f"{web.url}/console/") as page:
            page.goto(f"{web.url}/console/#/read?service=flight&id.origin=JFK&id.dest=LAX")
            expect(page.get_by_role("heading", name="origin JFK, dest LAX")).to_be_visible()
            for name, value in (("origin__wind", "1.5"), ("dest__wind", "2.5"), ("usd", "1.25")):
                expect(page.get_by_role("row").filter(has_text=name)).to_contain_text(value)
            page.get_by_label("Service").select_option("world")
            expect(page.get_by_role("row").filter(has_text="usd")).to_contain_text("1.25")
            for panel in PANELS:
                page.get_by_role("link", name=panel, exact=True).click()
                expect(page.locator("h1")).to_have_text(panel)
            page.goto(f"{web.url}/console/#/inspect?entity=_global&id=rates")
            expect(page.get_by_role("row").filter(has_text="usd")).to_contain_text("1.25")
