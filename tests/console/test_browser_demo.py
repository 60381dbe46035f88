"""The demo's page: its actions change what a second client finds in the store."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from playwright.sync_api import Browser, expect

from featurekit.demo.settings import Keys
from tests.console.browsers import NARROW, Web, browser, demo, opened
from tests.console.test_browser import shows
from tests.servers import Server

pytestmark = pytest.mark.slow

__all__ = ["browser"]

USERS = 20


@pytest.fixture
def other(valkey: Server) -> Iterator[redis.Redis]:
    """A second client."""
    with valkey.client() as client:
        yield client


@pytest.fixture
def web(tmp_path: Path, valkey: Server) -> Iterator[Web]:
    """A demo whose stream fields live for three seconds."""
    more = {"streaming_ttl_s": 3, "users_per_tick": 10, "tick_s": 0.2}
    with demo(tmp_path, valkey.url, users=USERS, **more) as (web, _):
        yield web


def live(other: redis.Redis) -> int:
    """Return the number of users with a live stream field."""
    keys = other.keys("fs:user:*")
    return sum(other.hget(key, "last_login_ts") is not None for key in keys)


def test_stream_fields_expire_after_a_pause_while_batch_fields_stay(
    browser: Browser, web: Web, other: redis.Redis
) -> None:
    with opened(browser, web.url) as page:
        shows(page, "With live stream fields", str(USERS))
        watched = page.get_by_role("table", name="The watched user's features")
        stream, batch = (watched.get_by_role("row").filter(has_text=n) for n in ("device", "iso"))
        expect(stream).to_contain_text("present")
        page.get_by_role("button", name="Pause stream").click()
        expect(page.get_by_text("Streaming worker paused.")).to_be_visible()
        shows(page, "With live stream fields", "0")
        assert live(other) == 0
        expect(stream).to_contain_text("missing")
        expect(batch).to_contain_text("present")
        shows(page, "Users", str(USERS))
        assert other.ttl("fs:user:u0001") > 86_000
        page.get_by_role("button", name="Resume stream").click()
        expect(stream).to_contain_text("present")
        assert live(other)


def test_a_window_falls_after_a_pause_and_then_becomes_stale(
    browser: Browser, web: Web, other: redis.Redis
) -> None:
    with opened(browser, web.url) as page:
        card = page.get_by_role("region", name="A sliding window")
        shows(page, "Status", "present")
        page.get_by_role("button", name="Pause stream").click()
        expect(card).to_contain_text("The count falls as the window slides")
        other.hset("fs:@mark:user_tx", "group", int(time.time() * 1000) - 16_000)
        shows(page, "Status", "stale")
        expect(card).to_contain_text("a count would fall to 0 and look true")
        page.get_by_role("button", name="Resume stream").click()
        shows(page, "Status", "present")


def test_a_bulk_load_reports_its_result(browser: Browser, web: Web, other: redis.Redis) -> None:
    with opened(browser, web.url, faults=False) as page:
        page.get_by_label("Users", exact=True).fill("33")
        page.get_by_label("Key TTL, seconds").fill("500")
        page.get_by_role("button", name="Bulk-load").click()
        expect(page.get_by_text("Materialized 33 users with a 500s key-level TTL")).to_be_visible()
        shows(page, "Users", "33")
        assert len(other.keys("fs:user:*")) == 33
        assert 490 < other.ttl("fs:user:u0001") <= 500
        page.get_by_label("Users", exact=True).fill("0")
        page.get_by_role("button", name="Bulk-load").click()
        expect(page.locator(".toast-bad")).to_have_text(
            "Users: expected an integer from 1 to 20000"
        )


def test_the_demo_says_what_it_stores_and_how(browser: Browser, web: Web) -> None:
    with opened(browser, web.url) as page:
        facts = page.get_by_role("region", name="In the store")
        for text in (
            "fs:user:",
            "HSET and PEXPIRE",
            "by the key",
            "HSETEX",
            "its own TTL of 3s",
            "HMGET",
        ):
            expect(facts).to_contain_text(text)
        watched = page.get_by_role("table", name="The watched user's features")
        expect(watched.get_by_role("row").filter(has_text="iso")).to_contain_text("by the key")
        expect(watched.get_by_role("row").filter(has_text="device")).not_to_contain_text(
            "by the key"
        )


def test_the_watched_user_is_one_with_live_stream_fields(
    browser: Browser, tmp_path: Path, valkey: Server
) -> None:
    with (
        demo(tmp_path, valkey.url, users=USERS, users_per_tick=0) as (web, service),
        opened(browser, web.url) as page,
    ):
        writer, watched = (
            service.store.stream_writer("user_activity"),
            page.get_by_label("Id of user"),
        )
        expect(watched).to_have_value("u0001")
        writer.write("u0013", {"tx_count_5m": 3})
        expect(watched).to_have_value("u0013")
        expect(page.get_by_text("This user isn't in the store.")).to_have_count(0)
        writer.write("u0002", {"tx_count_5m": 3})
        service.store.delete("user", "u0013")
        expect(watched).to_have_value("u0002")


def test_reads_of_the_page_are_not_counted_and_a_reset_clears_all_counters(
    browser: Browser, web: Web
) -> None:
    with opened(browser, web.url) as page:
        expect(page.get_by_role("table", name="The watched user's features")).to_be_visible()
        shows(page, "Reads", "0")
        page.evaluate(
            "fetch('/read', {method: 'POST', body: new URLSearchParams({user: 'u0001'})})"
        )
        shows(page, "Reads", "1")
        page.get_by_role("button", name="Pause stream").click()
        expect(page.get_by_text("Streaming worker paused.")).to_be_visible()
        page.get_by_role("button", name="Reset").click()
        page.get_by_role("dialog").get_by_role("button", name="Drop every user").click()
        for name in ("Users", "Batch writes", "Stream writes", "Reads", "Ticks", "Fields written"):
            shows(page, name, "0")


def test_a_reset_needs_confirmation_and_clears_all_results(
    browser: Browser, web: Web, other: redis.Redis
) -> None:
    with opened(browser, web.url) as page:
        shows(page, "Users", str(USERS))
        with opened(browser, f"{web.url}/#/read?service=fraud_v1&id.user=u0001") as reading:
            country = reading.get_by_role("row").filter(has_text="country_iso")
            expect(country).to_contain_text("present")
            page.get_by_role("button", name="Reset").click()
            page.get_by_role("dialog").get_by_role("button", name="Keep everything").click()
            assert len(other.keys("fs:user:*")) == USERS
            page.get_by_role("button", name="Reset").click()
            page.get_by_role("dialog").get_by_role("button", name="Drop every user").click()
            expect(page.get_by_text(f"Reset. Dropped {USERS} users.")).to_be_visible()
            shows(page, "Users", "0")
            assert other.keys("fs:user:*") == []
            expect(country).to_contain_text("missing")
            expect(page.get_by_text("The store is empty. Bulk-load some users")).to_be_visible()


def test_the_demo_fits_a_phone_and_its_stream_panel_has_the_worker(
    browser: Browser, web: Web
) -> None:
    with opened(browser, web.url, NARROW, "dark") as page:
        shows(page, "Users", str(USERS))
        assert page.evaluate("document.documentElement.scrollWidth") == NARROW[0]
        page.get_by_role("link", name="Stream").click()
        expect(page.get_by_role("button", name="Pause stream")).to_be_visible()
        for worker in page.get_by_role("row").filter(has_text="demo").all():
            expect(worker).to_contain_text("working")


def test_markup_in_the_key_prefix_is_shown_as_text(
    browser: Browser, tmp_path: Path, valkey: Server
) -> None:
    prefix = "<img/src=x/onerror=alert(1)>"
    with (
        demo(tmp_path, valkey.url, users=1, keys=Keys(prefix, "user")) as (web, _),
        opened(browser, f"{web.url}/#/inspect?entity=user&id=u0001") as page,
    ):
        expect(page.get_by_text(f"{prefix}:user:u0001")).to_be_visible()
        assert page.locator("#panel img").count() == 0
