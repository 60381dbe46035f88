"""The embedded server behind a repository's `embedded://` URL, for those who tend it."""

from __future__ import annotations

import os
from pathlib import Path

from featurekit.errors import RequestError
from featurekit.loader import load_repo
from featurekit.stores.embedded import EmbeddedServer
from featurekit.stores.url import StoreUrl

__all__ = ["EmbeddedServer", "embedded_server"]


def embedded_server(repo_path: str | Path = ".") -> EmbeddedServer:
    """The server of the repository that `repo_path` is in, running or not.

    Raises:
        RequestError: Its online store is no embedded server.
    """
    loaded = load_repo(repo_path, os.environ)
    online = loaded.config.online_store
    url = StoreUrl.parse(online.url, online.options).with_absolute_paths(loaded.root)
    if url.scheme != "embedded":
        raise RequestError(
            f"the online store is {url}, which is no embedded server",
            hint="name the folder of one with --folder",
        )
    return EmbeddedServer(Path(url.path))
