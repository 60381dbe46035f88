"""A feature store of a test's own, in memory."""

from __future__ import annotations

import re
import shutil
import tempfile
import textwrap
from dataclasses import dataclass, fields, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from secrets import token_hex
from typing import Self

from typing_extensions import override

from featurekit.errors import RepoNotFoundError
from featurekit.loader import REPO_FILE
from featurekit.models.config import RepoConfig
from featurekit.plan import LogPlan, ServicePlan, ViewPlan
from featurekit.repo import FeatureStore
from featurekit.repo.locations import Located
from featurekit.repo.materialization import Materializer, OnBadRow
from featurekit.repo.memory_stores import delete_expired, delete_memory_server, set_memory_clock
from featurekit.repo.registry_store import RegistryStore
from featurekit.repo.source_access import SourceAccess
from featurekit.repo.store_handle import LazyStoreHandle
from featurekit.runtime.load import OnProgress
from featurekit.testing.clock import Clock
from featurekit.testing.store_under_test import StoreUnderTest


class MemoryFeatureStore(StoreUnderTest):
    """A feature store of its own in this process, applied and empty, with a clock that a test moves.

    Its registry, its history, its logs and its rejected rows are its own, too; they end with `discard`, or
    with the `with` block. Everything else is as in `FeatureStore`. Any `FeatureStore` of this process
    that is opened with its `url` shares its data and its clock.

    Args:
        repo: The folder of a repository, or its YAML as text: `entities`, `feature_views`,
            `feature_services`, and settings of `featurerepo.yaml`, such as `project`, if needed.
        clock: Its clock; by default one that starts at the system's time.

    Attributes:
        clock: Its clock.

    Raises:
        RepoNotFoundError: There is no such folder, or no `featurerepo.yaml` in it or above it.
        DefinitionError: The definitions are not valid; lists every problem.
        MissingExtraError: The extra `testing` is not installed.
    """

    def __init__(self, repo: str | Path = ".", *, clock: Clock | None = None) -> None:
        self.clock = clock or Clock()
        self._name = f"test-{token_hex(8)}"
        self._folder = Path(tempfile.mkdtemp(prefix="featurekit-test-"))
        set_memory_clock(self._name, self.clock.now_ms)
        self.clock.on_move(partial(delete_expired, self._name))
        try:
            super().__init__(_repo_folder(repo, self._folder), url=f"memory://{self._name}")
            self.apply()
        except BaseException:
            self.discard()
            raise

    @override
    def _assemble(
        self,
        project: str,
        handle: LazyStoreHandle,
        registry_store: RegistryStore,
        sources: SourceAccess,
    ) -> None:
        sources = _TestSources(
            sources.loaded, sources.allow_sources, sources.allow_functions, self._folder / "logs"
        )
        super()._assemble(project, handle, registry_store, sources)

    @override
    def __reduce__(self) -> tuple[object, ...]:
        return _open_again, (self.path, self.url)

    def discard(self) -> None:
        """Delete all that the store holds. It must not be used again."""
        delete_memory_server(self._name)
        shutil.rmtree(self._folder, ignore_errors=True)

    @override
    def __enter__(self) -> Self:
        return self

    @override
    def __exit__(self, *_: object) -> None:
        self.close()
        self.discard()

    @property
    @override
    def _records_root(self) -> Path:
        return self._folder

    @override
    def _wait_ms(self, ms: int) -> None:
        self.clock.advance(timedelta(milliseconds=ms))

    @override
    def _materializer(
        self, on_bad_row: OnBadRow, rejects: str | Path | None, on_progress: OnProgress | None
    ) -> Materializer:
        made = super()._materializer(on_bad_row, rejects, on_progress)
        given = {field.name: getattr(made, field.name) for field in fields(made)}
        return _TestMaterializer(**given, rejects_folder=self._folder / "rejects")


@dataclass(frozen=True, slots=True)
class _TestSources(SourceAccess):
    """The sources of the repository; logs go to a folder of the test."""

    logs: Path = Path()

    @override
    def locate_log(self, owner: ViewPlan | ServicePlan) -> Located[LogPlan] | None:
        log = owner.log if isinstance(owner, ViewPlan) else owner.logging
        if log is None:
            return None
        return Located(replace(log, path=str(self.logs / owner.name)), {})


@dataclass(frozen=True, slots=True)
class _TestMaterializer(Materializer):
    """Loads batch views; rejected rows go to a folder of the test."""

    rejects_folder: Path = Path()

    @override
    def _rejects_path(self, view: ViewPlan) -> Path:
        name = f"{view.name}-{self.handle.now_ms()}.parquet"
        return self.rejects or self.rejects_folder / name


def _repo_folder(repo: str | Path, folder: Path) -> Path:
    """Return the folder of a repository; definitions as text become one in a folder of the test."""
    if isinstance(repo, Path) or "\n" not in repo:
        if not Path(repo).exists():
            raise RepoNotFoundError(
                f"there is no folder {repo}", hint="pass a folder, or definitions of several lines"
            )
        return Path(repo)
    made = folder / "repository"
    made.mkdir()
    settings, definitions = _split(textwrap.dedent(repo))
    project = "" if "\nproject:" in f"\n{settings}" else "project: test\n"
    (made / REPO_FILE).write_text(f"{settings}\n{project}definitions: [definitions.yaml]\n")
    (made / "definitions.yaml").write_text(definitions)
    return made


def _split(text: str) -> tuple[str, str]:
    """Return the settings and the definitions of a text, each on its lines, for the places in errors."""
    parts: tuple[list[str], list[str]] = ([], [])
    is_definition = True
    for line in text.splitlines():
        if key := re.match(r"(\w+) *:", line):
            is_definition = key[1] not in RepoConfig.model_fields
        parts[is_definition].append(line)
        parts[not is_definition].append("")
    settings, definitions = ("\n".join(part) for part in parts)
    return settings.rstrip(), definitions


def _open_again(path: Path, url: str) -> FeatureStore:
    return FeatureStore(path, url=url)
