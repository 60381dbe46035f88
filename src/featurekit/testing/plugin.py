"""The pytest plugin: the fixtures `feature_store`, `clock` and `feature_repo`.

It is loaded with every run of pytest, so it imports featurekit only where a fixture is used.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from featurekit.testing import Clock, MemoryFeatureStore

_OPTION = "feature_repo"
_HOW = "use @pytest.mark.feature_repo(...), or `feature_repo = FOLDER` in pytest's configuration"
_URL_VARIABLE = "FEATUREKIT_ONLINE_URL"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option `feature_repo`."""
    parser.addini(
        _OPTION,
        "folder of the feature repository of the fixture feature_store, relative to the folder of "
        "pytest's configuration file",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Add the marker `feature_repo`."""
    config.addinivalue_line(
        "markers",
        "feature_repo(repo): the feature repository of the fixture feature_store: a folder, relative "
        "to that of the test's file, or definitions as YAML text",
    )


@pytest.fixture
def feature_repo(request: pytest.FixtureRequest) -> str | Path:
    """The repository of `feature_store`: a folder, or definitions as YAML text.

    It is that of the marker `feature_repo`, or of the option in pytest's configuration, or the one that
    the test's file is in. Override this fixture to compute it.
    """
    marker = request.node.get_closest_marker(_OPTION)
    if marker is not None:
        given = [*marker.args, *marker.kwargs.values()]
        if len(given) != 1 or not isinstance(given[0], str | Path):
            pytest.fail(f"the marker {_OPTION} needs a repository: {_HOW}", pytrace=False)
        return given[0] if "\n" in str(given[0]) else request.path.parent / given[0]
    configured = request.config.getini(_OPTION)
    if configured:
        file, root = request.config.inipath, request.config.rootpath
        return (file.parent if file else root) / str(configured)
    return request.path.parent


@pytest.fixture
def feature_store(feature_repo: str | Path) -> Iterator[MemoryFeatureStore]:
    """A feature store of the test's own, in memory: applied, empty, and with a clock that stands still.

    While the test runs, `FEATUREKIT_ONLINE_URL` names it, so that the service under test opens it as well.
    """
    from featurekit.errors import FeatureKitError, RepoNotFoundError
    from featurekit.testing import MemoryFeatureStore

    store, reason = None, ""
    try:
        store = MemoryFeatureStore(feature_repo)
    except RepoNotFoundError as error:
        reason = f"{error.message}\n  hint: {_HOW}"
    except FeatureKitError as error:
        reason = str(error)
    if store is None:
        pytest.fail(reason, pytrace=False)
    with store, pytest.MonkeyPatch.context() as patch:
        patch.setenv(_URL_VARIABLE, store.url)
        yield store


@pytest.fixture
def clock(feature_store: MemoryFeatureStore) -> Clock:
    """The clock of `feature_store`."""
    return feature_store.clock
