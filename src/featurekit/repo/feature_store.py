"""The feature store: what a repository declares, applied, loaded and read."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from typing_extensions import override

from featurekit.changes import Changes
from featurekit.errors import Problem, RegistryError, RequestError
from featurekit.loader import load_repo
from featurekit.plan import RepoPlan
from featurekit.registry import Registry
from featurekit.repo.doctor import Finding, examine
from featurekit.repo.history import Apply, Run
from featurekit.repo.inspection import Inspection, ViewStatus, inspect, reset, status
from featurekit.repo.live import with_streams
from featurekit.repo.look import Look
from featurekit.repo.materialization import ON_BAD_ROW, Load
from featurekit.repo.metering import metrics
from featurekit.repo.parts import Parts
from featurekit.repo.registry_state import RegistryState
from featurekit.repo.registry_store import OnlineRegistryStore
from featurekit.repo.serving import Serving
from featurekit.repo.store_handle import LazyStoreHandle
from featurekit.repo.streaming import Streaming
from featurekit.repo.times import Time, to_window
from featurekit.repo.writing import RowWriter
from featurekit.runtime.load import MaterializeReport, OnProgress
from featurekit.runtime.lock import is_locked
from featurekit.runtime.metrics import Metrics
from featurekit.runtime.writer import StreamWriter


class FeatureStore(Serving):
    """One project: its definitions, its registry and its online store.

    Thread-safe for reading. Survives `fork`, and pickles: connections stay behind.

    Args:
        repo_path: A folder; the nearest `featurerepo.yaml` from there upwards counts.
        parts: For a store that is put together in another way; see `from_registry`.

    Raises:
        RepoNotFoundError: There is none.
        DefinitionError: The definitions are wrong; lists every problem in them.

    Examples:
        >>> store = FeatureStore("examples/fraud")  # doctest: +SKIP
        >>> store.get_online_features(
        ...     "fraud_v1", [{"user_id": "u0001"}]
        ... ).to_dict()  # doctest: +SKIP
    """

    def __init__(self, repo_path: str | Path = ".", *, parts: Parts | None = None) -> None:
        if parts is None:
            parts = Parts.of(repo_path)
        super().__init__(parts.door, RegistryState(parts.home, parts.loaded))
        self._home, self._loaded = parts.home, parts.loaded

    @classmethod
    def from_registry(
        cls, url: str, project: str, *, root: str | Path = ".", must_exist: bool = True
    ) -> Self:
        """A store that serves what is applied online, with no YAML at hand.

        Args:
            url: The online store's URL, which `registry: online` keeps the registry in.
            project: The project's name.
            root: The folder that relative paths of the URL start from.
            must_exist: Whether to look for it now; else whoever reads first does.

        Raises:
            RegistryError: Nothing is applied there under that name.
        """
        door = LazyStoreHandle(url, Path(root))
        store = cls(parts=Parts(door, OnlineRegistryStore(door.store, project), None))
        if must_exist and store.registry is None:
            raise RegistryError(
                f"no registry of project '{project}' is kept there",
                hint="`featurekit apply` keeps it online if featurerepo.yaml says `registry: online`",
            )
        return store

    @override
    def __reduce__(self) -> tuple[object, ...]:
        if self._loaded is not None:
            return type(self), (self._loaded.root,)
        return _from_registry, (type(self), self._door.url, self.project, self._door.root)

    # What is declared and what is applied

    @property
    def path(self) -> Path:
        """The folder of `featurerepo.yaml`; the working folder where there is none."""
        return self._loaded.root if self._loaded is not None else Path()

    @property
    def url(self) -> str:
        """The online store's URL, without its password."""
        return self._door.shown

    @property
    def project(self) -> str:
        """The project's name."""
        return self._loaded.config.project if self._loaded is not None else self.repo_plan.project

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """What the definitions allow themselves and is likely wrong."""
        return self._loaded.warnings if self._loaded is not None else ()

    @property
    def declared(self) -> Registry:
        """The registry as the definitions have it now, applied or not."""
        return self._applied.declared

    @property
    def registry(self) -> Registry | None:
        """The registry as applied; `None` before the first `apply`. Read once: see `refresh`."""
        return self._applied.registry

    @property
    def repo_plan(self) -> RepoPlan:
        """The applied registry, compiled.

        Raises:
            RegistryError: Nothing is applied yet.
        """
        return self._applied.plan

    def plan(self) -> Changes:
        """What `apply` would change."""
        return self._applied.changes()

    def apply(self, changes: Changes | None = None, *, allow_breaking: bool = False) -> Changes:
        """Make the definitions the registry; returns what that changed.

        Args:
            changes: What `plan` gave, to apply just that; without it, whatever there is.
            allow_breaking: Whether changes may go through that make stored bytes mean something else.

        Raises:
            BreakingChangeError: Stored bytes would mean something else; nothing was changed.
            RegistryConflictError: Somebody else applied meanwhile; nothing was changed.
        """
        applied = self._applied.apply(changes, allow_breaking=allow_breaking)
        self.refresh()
        return applied

    def reload_definitions(self) -> None:
        """Read the definitions anew, after they were edited; `apply` makes them the registry.

        Raises:
            DefinitionError: They are wrong; those that were read before stay.
        """
        if self._loaded is not None:
            self._loaded = load_repo(self._loaded.root, os.environ)
            self._applied.declare(self._loaded)

    # Writing

    def materialize(
        self,
        views: Sequence[str] | None = None,
        *,
        start: Time = None,
        end: Time = None,
        on_bad_row: str = "fail",
        rejects: str | Path | None = None,
        on_progress: OnProgress | None = None,
    ) -> list[MaterializeReport]:
        """Load batch views from their sources: the newest row of each entity.

        Args:
            views: Names of batch views; all that have a source by default.
            start: Rows at or after this time; by default from the first on.
            end: Rows before this time; by default up to the last.
            on_bad_row: `fail` ends the load at the first row that does not fit, and nothing of
                its record batch is written. `skip` puts such rows into the file of rejects.
            rejects: That file; by default one in `.featurekit/rejects/`.
            on_progress: Told after each batch.

        Returns:
            A report for each view.

        Raises:
            SourceError: A source cannot be read, or lacks a column.
            BadRowError: A row does not fit its view.
            LockedError: Another load of the same view is running.
            StoreError: The online store refused or failed. Run it again to complete the work.
        """
        return list(
            self.materializing(
                views,
                start=start,
                end=end,
                on_bad_row=on_bad_row,
                rejects=rejects,
                on_progress=on_progress,
            )
        )

    def materializing(
        self,
        views: Sequence[str] | None = None,
        *,
        start: Time = None,
        end: Time = None,
        on_bad_row: str = "fail",
        rejects: str | Path | None = None,
        on_progress: OnProgress | None = None,
    ) -> Iterator[MaterializeReport]:
        """As `materialize`, handing over each report as its view is done."""
        load = self._load(on_bad_row, rejects, on_progress)
        names = views or [v.name for v in load.plan.views if v.source is not None]
        chosen = [load.plan.view(name) for name in names]
        if not chosen:
            raise RequestError("no feature view has a batch source to materialize from")
        start_ms, end_ms = to_window(start, end)
        for view in chosen:
            yield load.materialize(view, start_ms, end_ms)

    def write_batch(
        self,
        view: str,
        rows: Any,
        *,
        on_bad_row: str = "fail",
        rejects: str | Path | None = None,
        on_progress: OnProgress | None = None,
    ) -> MaterializeReport:
        """Write rows into a batch view, one for each entity, as `materialize` would.

        Args:
            view: The batch view.
            rows: `{id: {field: value}}`, with a tuple for several join keys; or a table of Arrow,
                pandas, polars, or anything with `__arrow_c_stream__`. A field that a row lacks
                is deleted, as null is.
            on_bad_row: As in `materialize`, and so are the errors.
            rejects: As in `materialize`.
            on_progress: As in `materialize`.
        """
        load = self._load(on_bad_row, rejects, on_progress)
        return load.write_batch(load.plan.view(view), rows)

    def write_lines(
        self,
        view: str,
        lines: Iterable[str],
        *,
        on_bad_row: str = "fail",
        rejects: str | Path | None = None,
    ) -> MaterializeReport:
        """As `write_batch`, from lines of JSON: an object of join keys and fields each."""
        load = self._load(on_bad_row, rejects, None)
        return load.write_lines(load.plan.view(view), lines)

    def _load(
        self, on_bad_row: str, rejects: str | Path | None, on_progress: OnProgress | None
    ) -> Load:
        if on_bad_row not in ON_BAD_ROW:
            raise RequestError(f"on_bad_row is {' or '.join(ON_BAD_ROW)}, not '{on_bad_row}'")
        return Load(
            plan=self.repo_plan,
            store=self._door.store,
            history=self._home.history,
            tally=self._tally,
            root=self.path,
            skip=on_bad_row == "skip",
            rejects=Path(rejects) if rejects is not None else None,
            on_progress=on_progress,
        )

    def stream_writer(self, view: str) -> StreamWriter:
        """The writer of a stream view. Made once, used for ever.

        Raises:
            UnknownNameError: There is no such view.
            RequestError: It is a batch view.
        """
        return StreamWriter(self.repo_plan.view(view), self._door, self._tally.events(view))

    def row_writer(self, view: str) -> RowWriter:
        """What writes rows of JSON into a view, batch or stream. Made once, used for ever.

        Raises:
            UnknownNameError: There is no such view.
        """
        return RowWriter(self.repo_plan.view(view), self._door, self._tally)

    def is_loading(self, view: str) -> bool:
        """Whether a load of the view is running, here or elsewhere."""
        return is_locked(self._door.store, self.repo_plan.prefix, view)

    @property
    def streams(self) -> Streaming:
        """Workers that feed the stream views from their sources, and events pushed as JSON."""
        return Streaming(self.repo_plan, self._door, self._tally)

    async def materialize_async(self, *args: Any, **options: Any) -> list[MaterializeReport]:
        """`materialize` in a thread, so that the event loop goes on."""
        return await asyncio.to_thread(self.materialize, *args, **options)

    async def write_batch_async(self, *args: Any, **options: Any) -> MaterializeReport:
        """`write_batch` in a thread, so that the event loop goes on."""
        return await asyncio.to_thread(self.write_batch, *args, **options)

    # Looking after it

    @property
    def look(self) -> Look:
        """What is stored and how it does: samples, the server, streams, and why values miss."""
        return Look(self.repo_plan, self._door.store)

    def inspect(self, entity: str, entity_id: object) -> Inspection:
        """All that is stored for one entity, declared or not. For people, not for serving."""
        return inspect(self.repo_plan, self._door.store, entity, entity_id)

    def status(self, *, streams: bool = True) -> list[ViewStatus]:
        """How each view does: its last load and whether it is late, or how fresh its stream is.

        Args:
            streams: Whether to look at the store for how fresh stream views are.
        """
        states = status(self.repo_plan, self._home.history, self._door.now_ms())
        if not streams:
            return states
        return with_streams(states, self.repo_plan, self._door.store, self.streams.lag)

    def metrics(self) -> Metrics:
        """What this process has read and written through this store, and how old its views are.

        One look at the history of loads; all else is counted as it happens. While the history is
        out of reach, the ages are left out.
        """
        return metrics(self._tally, self._door, self._applied, self._home.history)

    async def metrics_async(self) -> Metrics:
        """`metrics` in a thread, so that the event loop goes on."""
        return await asyncio.to_thread(self.metrics)

    def load_history(self, view: str | None = None) -> list[Run]:
        """The last loads of a view, or of all views, newest first: up to 50 of each.

        Raises:
            UnknownNameError: There is no such view.
        """
        views = self.repo_plan.views if view is None else [self.repo_plan.view(view)]
        return self._home.history.loads([each.name for each in views])

    def apply_history(self) -> list[Apply]:
        """The last 100 applies that changed the registry, newest first."""
        return self._home.history.applies()

    def doctor(self) -> list[Finding]:
        """What is well and what is not: server, registry, views, hashes."""
        return examine(self._door, self._applied, self.status, self.project)

    def reset(self, entity: str | None = None) -> int:
        """Delete all hashes of an entity, or of all entities of the project; returns how many."""
        return reset(self.repo_plan, self._door.store, entity)

    def close(self) -> None:
        """Close the connections; the next call opens new ones."""
        self._door.close()

    async def close_async(self) -> None:
        """Close the connections of the running event loop."""
        await self._door.close_async()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _from_registry(cls: type[FeatureStore], url: str, project: str, root: Path) -> FeatureStore:
    return cls.from_registry(url, project, root=root)
