"""Take the pictures of the documentation: `python -m tests.console.screenshots docs/images`.

A demo whose stream was paused a while ago, and the console of another repository.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from playwright.sync_api import Browser

from featurekit.demo.service import DemoService
from tests.console.browsers import NARROW, WIDE, Web, demo, launched, opened, served
from tests.console.conftest import fill
from tests.promise.repos import applied
from tests.servers import Server, running, valkey_binary

TTL_S = 20
TICKING_MS = 24_000
PAUSED_MS = 3_000

Shown = tuple[str, str, tuple[int, int], str]
"""File name, address, size and colour scheme."""

LIVE: tuple[Shown, ...] = (
    ("read", "#/read?service=fraud_v1&id.user={user}", WIDE, "dark"),
    ("inspect", "#/inspect?entity=user&id={user}", WIDE, "light"),
)
DEMO: tuple[Shown, ...] = (
    ("demo-narrow", "", NARROW, "dark"),
    ("overview", "#/overview", WIDE, "light"),
    ("batch", "#/batch?n=200&runs=100", WIDE, "light"),
    ("stream", "#/stream", WIDE, "dark"),
)
OTHER: tuple[Shown, ...] = (
    ("registry", "#/registry", WIDE, "light"),
    ("loads", "#/loads", WIDE, "light"),
)


def main(folder: Path) -> None:
    """Take all pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    with launched() as browser, running(valkey_binary()) as server:
        with tempfile.TemporaryDirectory() as place:
            more = {"streaming_ttl_s": TTL_S, "users_per_tick": 8}
            with demo(Path(place), server.url, users=200, **more) as (web, service):
                _story(browser, web, service, server, folder)
        with server.client() as client:
            client.flushall()  # both projects have the same key prefix
        with tempfile.TemporaryDirectory() as place, applied(Path(place), server.url) as store:
            fill(store)
            with served(store) as web:
                _pictures(browser, OTHER, f"{web.url}/console", folder)


def _story(browser: Browser, web: Web, service: DemoService, server: Server, folder: Path) -> None:
    with opened(browser, web.url) as page:
        page.wait_for_timeout(TICKING_MS)
        service.toggle_worker()
        with server.client() as client:
            lives = (
                k for k in client.scan_iter("fs:user:*") if client.hexists(k, "last_login_ts")
            )
            user = max(lives, key=lambda key: client.hpttl(key, "last_login_ts")).decode()
            amount = client.hget(user, "avg_amount_30d")
            client.hset(user, mapping={"nightly_score": "0.93", "avg_amount_30d": "n/a"})
            name = user.removeprefix("fs:user:")
            page.get_by_label("Id of user").fill(name)
            page.get_by_label("Id of user").press("Enter")
            _pictures(browser, LIVE, web.url, folder, name)
            client.hset(user, "avg_amount_30d", amount or b"")
        page.wait_for_timeout(PAUSED_MS)
        page.screenshot(path=folder / "demo.png")
        _pictures(browser, DEMO, web.url, folder, name)


def _pictures(
    browser: Browser, shown: Sequence[Shown], url: str, folder: Path, user: str = ""
) -> None:
    for name, path, size, scheme in shown:
        _picture(browser, f"{url}/{path.format(user=user)}", folder / name, size, scheme)


def _picture(browser: Browser, url: str, place: Path, size: tuple[int, int], scheme: str) -> None:
    with opened(browser, url, size, scheme) as page:
        page.locator("#panel .card").first.wait_for()
        if "/batch" in url:
            page.get_by_role("button", name="Measure").click()
        page.wait_for_timeout(2500)
        page.screenshot(path=place.with_suffix(".png"))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
