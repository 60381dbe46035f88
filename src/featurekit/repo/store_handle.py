"""Handles of an online store: opened by URL at the first use, for threads and event loops."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping
from dataclasses import replace
from math import inf
from pathlib import Path

from typing_extensions import override

from featurekit.errors import RequestError, StoreError, ValueRefusedError
from featurekit.loader import load_repo
from featurekit.models.config import OnlineStoreConfig, check_store_url
from featurekit.ports import AsyncOnlineStore, ConnectionStats, OnlineStore, StoreHandle
from featurekit.repo.store_identity import StoreCheck
from featurekit.store_options import CLUSTER_SCHEMES, SERVER_SCHEMES
from featurekit.stores import create_store, open_async_store
from featurekit.stores.embedded_server import EmbeddedServer
from featurekit.stores.url import (
    NO_OPTIONS,
    PASSWORD_VARIABLE,
    SENTINEL_PASSWORD_VARIABLE,
    SENTINEL_USERNAME_VARIABLE,
    USERNAME_VARIABLE,
    StoreUrl,
)

__all__ = ["EmbeddedServer", "LazyStoreHandle", "embedded_server", "now_ms", "select_url"]

URL_VARIABLE = "FEATUREKIT_ONLINE_URL"
"""The environment variable with the URL of the online store, which overrides the file's."""


def select_url(config: OnlineStoreConfig, url: str | None, env: Mapping[str, str]) -> str:
    """Return the URL of a repository's online store.

    Args:
        config: `online_store:`, used if there is no other URL.
        url: The caller's URL, which overrides all others.
        env: The environment; its `FEATUREKIT_ONLINE_URL` overrides the file.

    Raises:
        StoreError: The URL has no known scheme, or the variable would replace `memory://`: a test must
            not write to a server by accident.
    """
    variable = env.get(URL_VARIABLE, "")
    if url is not None:
        return _checked_url(url, "url")
    if not variable or variable == config.url:
        return config.url
    if config.url.startswith("memory://") and not variable.startswith("memory://"):
        raise StoreError(
            f"{URL_VARIABLE} is set, but the file's store is {config.url}, which it does not replace",
            where="online_store.url",
            hint=f"unset {URL_VARIABLE}, or name the store with --url (from Python: url=)",
        )
    return _checked_url(variable, URL_VARIABLE)


def _checked_url(url: str, where: str) -> str:
    try:
        return check_store_url(url)
    except ValueRefusedError as error:
        raise StoreError(error.message, where=where, hint=error.hint) from None


class LazyStoreHandle(StoreHandle):
    """A handle that opens the store at the first use. Pickles as the URL, without connections.

    Attributes:
        url: The store's URL.
        root: The folder that relative paths in the URL are resolved against.
        options: Options of `online_store:` that are not in the URL, under their URL names.
        store_check: Checks before writes whether the store is the registry's own.
    """

    def __init__(self, url: str, root: Path, options: Mapping[str, str] = NO_OPTIONS) -> None:
        self.url = url
        self.root = root
        self.options = dict(options)
        self.store_check: StoreCheck | None = None
        self._now_ms = self._memory_time_ms if url.startswith("memory://") else now_ms
        self._store: OnlineStore | None = None
        self._pid = os.getpid()
        self._closed_stats = ConnectionStats()
        self._stores_by_loop: dict[asyncio.AbstractEventLoop, AsyncOnlineStore] = {}

    @property
    def safe_url(self) -> str:
        """The URL without its password.

        Raises:
            StoreError: The URL is not valid.
        """
        return str(self._parsed_url.with_secrets(os.environ))

    @property
    def address(self) -> str:
        """The URL without its password and options, but with its database, for messages."""
        url = self._parsed_url
        has_databases = url.scheme in SERVER_SCHEMES and url.scheme not in CLUSTER_SCHEMES
        return f"{url}/0" if has_databases and not url.db and url.path == "" else str(url)

    @property
    def shareable_url(self) -> str:
        """The URL; without its secrets and options if it has any secret."""
        url = self._parsed_url
        if not url.has_secrets:
            return self.url
        return str(url if url.password else replace(url, username=""))

    def for_tasks(self) -> LazyStoreHandle:
        """Return a handle for other machines: its URL has no password, which their environment gives.

        Raises:
            RequestError: The store is in the memory of this process.
        """
        if self._parsed_url.scheme == "memory":
            raise RequestError(
                "the online store is in the memory of this process, which no task of Spark reaches",
                hint="name a server with --url (from Python: url=)",
            )
        scheme, _, rest = self.url.partition("://")
        location, _, query = rest.partition("?")
        login, _, place = location.rpartition("@")
        user = login.partition(":")[0]
        given = [part for part in query.split("&") if part and not _is_secret(part)]
        url = f"{scheme}://{f'{user}@' if user else ''}{place}{'?' if given else ''}{'&'.join(given)}"
        options = {name: text for name, text in self.options.items() if not _is_secret(name)}
        return LazyStoreHandle(url, self.root, options)

    @property
    def passwords(self) -> dict[str, str]:
        """The passwords of the URL, by the environment variables that another machine reads them from."""
        url = self._parsed_url.with_secrets(os.environ)
        values = {
            PASSWORD_VARIABLE: url.password,
            USERNAME_VARIABLE: url.username if url.password else "",
            SENTINEL_PASSWORD_VARIABLE: url.sentinel_password,
            SENTINEL_USERNAME_VARIABLE: url.sentinel_username if url.sentinel_password else "",
        }
        return {name: value for name, value in values.items() if value}

    @property
    def options_text(self) -> str:
        """The connection options as text, for `featurekit doctor`."""
        return self._parsed_url.options_text

    @property
    def load_timeout_s(self) -> float:
        """How long a load waits for the next reply."""
        return self._parsed_url.load_timeout_s

    @property
    def _parsed_url(self) -> StoreUrl:
        return StoreUrl.parse(self.url, self.options)

    def without_check(self) -> LazyStoreHandle:
        """Return a handle that does not check whether the store is the registry's own."""
        return LazyStoreHandle(self.url, self.root, self.options)

    def open_another(self, load_timeout_s: float = inf, *, once: bool = False) -> OnlineStore:
        """Return a new store with connections of its own; the caller closes it.

        Args:
            load_timeout_s: Upper bound for the store's `load_timeout`.
            once: Never send a call twice, and wait `load_timeout` for the reply to any call.
        """
        url = self._parsed_url.with_absolute_paths(self.root.absolute()).with_secrets(os.environ)
        url = replace(url, load_timeout_s=min(url.load_timeout_s, load_timeout_s))
        if once:
            url = replace(url, retries=0, timeout_s=url.load_timeout_s)
        return create_store(url)

    @property
    @override
    def store(self) -> OnlineStore:
        if self._store is None:
            self._store = self.open_another()
        return self._store

    @override
    def async_store(self) -> AsyncOnlineStore:
        loop = asyncio.get_running_loop()
        store = self._stores_by_loop.get(loop)
        if store is None:
            self._drop_closed_loops()
            store = open_async_store(self.url, self.root, os.environ, self.options)
            self._stores_by_loop[loop] = store
        return store

    @property
    def connection_stats(self) -> ConnectionStats:
        """Statistics of all connections, of threads and event loops, open or closed."""
        self._drop_closed_loops()
        stores = list(self._stores_by_loop.values())
        threads = self._store.connection_stats if self._store is not None else ConnectionStats()
        return sum((store.connection_stats for store in stores), self._closed_stats + threads)

    def _drop_closed_loops(self) -> None:
        """Drop the stores of closed event loops, but keep their statistics."""
        if os.getpid() != self._pid:
            self._pid, self._closed_stats = os.getpid(), ConnectionStats()
            self._stores_by_loop.clear()
        for loop in [loop for loop in list(self._stores_by_loop) if loop.is_closed()]:
            self._keep_stats(self._stores_by_loop.pop(loop, None))

    def _keep_stats(self, store: AsyncOnlineStore | None) -> None:
        if store is not None:
            self._closed_stats += replace(store.connection_stats, open=0, in_use=0)

    @override
    def now_ms(self) -> int:
        return self._now_ms()

    def _memory_time_ms(self) -> int:
        from featurekit.stores.memory import memory_time_ms

        return memory_time_ms(self._parsed_url.path)

    @override
    def check_store(self) -> None:
        if self.store_check is not None:
            self.store_check.check()

    @override
    def is_check_due(self) -> bool:
        return self.store_check is not None and self.store_check.is_due()

    @override
    def close(self) -> None:
        if self._store is not None:
            self._store.close()

    async def close_async(self) -> None:
        """Close the connections of the running event loop."""
        if (store := self._stores_by_loop.pop(asyncio.get_running_loop(), None)) is not None:
            await store.close()
            self._keep_stats(store)

    @override
    def __reduce__(self) -> tuple[object, ...]:
        return LazyStoreHandle, (self.url, self.root, self.options)


def _is_secret(option: str) -> bool:
    return option.partition("=")[0] == "sentinel_password"


def now_ms() -> int:
    """Return the current time in milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def embedded_server(repo_path: str | Path = ".", *, url: str | None = None) -> EmbeddedServer:
    """Return the embedded server of a repository, running or not.

    Args:
        repo_path: The repository's folder, or one below it.
        url: The online store's URL; by default as for `FeatureStore`.

    Raises:
        RequestError: The repository's online store is not an embedded server.
    """
    loaded = load_repo(repo_path, os.environ)
    online = loaded.config.online_store
    text = select_url(online, url, os.environ)
    parsed = StoreUrl.parse(text, online.options).with_absolute_paths(loaded.root)
    if parsed.scheme != "embedded":
        raise RequestError(
            f"the online store {parsed} is not an embedded server",
            hint="name the folder of an embedded server with --folder",
        )
    return EmbeddedServer(Path(parsed.path))
