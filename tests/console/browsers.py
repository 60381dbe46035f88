"""Open a console in Debian's chromium with Playwright, served by a thread."""

from __future__ import annotations

import os
import shutil
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import uvicorn
from playwright.sync_api import Browser, Page, expect, sync_playwright
from starlette.applications import Starlette

from featurekit import FeatureStore
from featurekit.demo.repository import declare
from featurekit.demo.run import application
from featurekit.demo.service import DemoService
from featurekit.demo.settings import Settings
from featurekit.server.app import create_app
from featurekit.server.auth import Tokens
from featurekit.server.console import console_routes
from featurekit.server.context import ServerContext
from featurekit.server.run import Options, uvicorn_config
from tests.server.server_process import wait_until
from tests.servers import patient

REQUIRED = "FEATUREKIT_REQUIRE_BROWSER"
"""If this is set, as in CI, a missing browser is a failure."""

PATIENCE_MS = 8_000
WIDE = (1280, 800)
NARROW = (390, 844)
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def chromium() -> str:
    """Return the path of the browser; empty if none is installed."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or ""


@contextmanager
def launched() -> Iterator[Browser]:
    """Run a browser while the block runs."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=list(FLAGS))
        expect.set_options(timeout=PATIENCE_MS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One browser for all tests of a module."""
    if not chromium():
        message = "no chromium is installed: apt-get install chromium"
        if os.environ.get(REQUIRED):
            pytest.fail(message)
        pytest.skip(message)
    with launched() as browser:
        yield browser


class Web:
    """An application behind uvicorn in a thread, at an address that outlives a stop.

    Attributes:
        url: Where it is.
    """

    def __init__(self, make: Callable[[], Starlette]) -> None:
        self._make = make
        self._port = 0
        self.start()
        self.url = f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Listen; at the same port as before, if there was one."""
        place = socket.create_server(("127.0.0.1", self._port))
        self._port = place.getsockname()[1]
        config = uvicorn_config(Options(), self._make)
        config.timeout_graceful_shutdown = 1
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._serve, args=(place,))
        self._thread.start()
        wait_until(lambda: self._server.started)

    def _serve(self, place: socket.socket) -> None:
        with place:
            self._server.run([place])

    def stop(self) -> None:
        """End it."""
        self._server.should_exit = True
        self._thread.join()


@contextmanager
def served(store: FeatureStore, *, tokens: str = "", writes: bool = False) -> Iterator[Web]:
    """The console of a store, under `/console/`, while the block runs."""
    context = ServerContext(store=store, tokens=Tokens.parse(tokens), allow_writes=writes)
    web = Web(lambda: create_app(context, console_routes(context)))
    try:
        yield web
    finally:
        web.stop()


@contextmanager
def demo(
    folder: Path, url: str, *, users: int, **more: object
) -> Iterator[tuple[Web, DemoService]]:
    """Run the demo with a number of users while the block runs."""
    settings = replace(Settings(url=patient(url), folder=folder), **more)  # type: ignore[arg-type]
    declare(settings, settings.batch_ttl_s)
    with FeatureStore(folder) as store:
        store.apply(allow_breaking=True)
        service = DemoService(settings, store)
        service.load(users, settings.batch_ttl_s)
        service.simulator.start()
        web = Web(lambda: application(service))
        try:
            workers = [service.simulator.worker, service.transactions.worker]
            with store.streams.send_heartbeats(workers, "demo"):
                yield web, service
        finally:
            web.stop()
            service.simulator.stop()
            service.transactions.close()


@contextmanager
def opened(
    browser: Browser,
    url: str,
    size: Sequence[int] = WIDE,
    scheme: str = "light",
    *,
    faults: bool = True,
) -> Iterator[Page]:
    """A page at an address; at the end, no script of it has failed, and nothing was forbidden.

    Args:
        browser: Where to open it.
        url: The address.
        size: Its width and height.
        scheme: `light` or `dark`.
        faults: Whether messages of failed requests are faults of the page, too.
    """
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]},
        color_scheme="dark" if scheme == "dark" else "light",
        reduced_motion="reduce",
    )
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = context.new_page()
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on(
        "console", lambda result: wrong.append(result.text) if result.type == "error" else None
    )
    page.on("dialog", lambda dialog: wrong.append(f"dialog: {dialog.message}"))
    page.goto(url)
    try:
        yield page
        if not faults:
            wrong = [text for text in wrong if "Failed to load resource" not in text]
        assert wrong == [], wrong
    finally:
        context.close()
