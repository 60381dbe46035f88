"""Look at the data of views: before loads, in the sources, and online."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from featurekit.compiler import compile_read
from featurekit.errors import MissingExtraError, RequestError
from featurekit.plan import RepoPlan, SourcePlan, ViewPlan
from featurekit.ports import BatchSource, TimeRange
from featurekit.repo.data_report import DataReport
from featurekit.repo.load_sources import import_sources
from featurekit.repo.serving import ReaderService
from featurekit.repo.source_access import SourceAccess
from featurekit.repo.store_handle import LazyStoreHandle
from featurekit.runtime.load import OnProgress

if TYPE_CHECKING:
    from featurekit.repo.data_checks import SourceChecker
    from featurekit.repo.estimate_report import EstimateReport
    from featurekit.repo.profile import Profiler
    from featurekit.training.profile_report import ProfileReport


@dataclass(frozen=True, slots=True)
class DataTools:
    """Checks and describes the data of a repository's views. See `FeatureStore.data`.

    Attributes:
        definitions: Returns the definitions, compiled, applied or not.
        sources: The sources that may be opened.
        root: The repository's folder.
        handle: Access to the online store.
        applied: Returns the applied registry, compiled.
        readers: Compiles readers.
    """

    definitions: Callable[[], RepoPlan]
    sources: SourceAccess
    root: Path
    handle: LazyStoreHandle
    applied: Callable[[], RepoPlan]
    readers: ReaderService

    def check(
        self,
        views: str | Sequence[str] | None = None,
        *,
        every_row: bool = False,
        on_progress: OnProgress | None = None,
    ) -> DataReport:
        """Check batch sources against the definitions, as a load would, without a store.

        Args:
            views: The name of a batch view, or several; all views with a source by default.
            every_row: Check the values of all rows within the lookback. By default, only those of
                the newest row of each entity, which a load takes.
            on_progress: Called after each record batch.

        Raises:
            UnknownNameError: There is no such view.
            RequestError: A view has no source.
            MissingExtraError: DuckDB or pyarrow is not installed.
        """
        now_ms = self.handle.now_ms()
        checker = self._checker(now_ms, every_row, on_progress)
        checks = [checker.check(view) for view in self._batch_views(views)]
        return DataReport(now_ms, every_row, tuple(checks))

    def profile(
        self,
        view: str,
        *,
        online: bool = False,
        sample: int = 1000,
        on_progress: OnProgress | None = None,
    ) -> ProfileReport:
        """Describe the values of a view: counts, nulls, percentiles, frequent values, histograms.

        Args:
            view: The name of a view.
            online: Describe values of stored entities. By default, those of the newest row of each
                entity in the view's source.
            sample: How many stored entities to read.
            on_progress: Called after each record batch of a source.

        Raises:
            UnknownNameError: There is no such view.
            RequestError: The view has no source, or no entity is stored.
            SourceError: The source cannot be read.
            StoreError: The online store is unavailable.
            MissingExtraError: DuckDB or pyarrow is not installed.
        """
        try:
            from featurekit.repo.profile import profiler
            from featurekit.training.profile_report import ProfileReport
        except ImportError as error:
            raise MissingExtraError.of("batch", "profile()") from error
        if sample < 1:
            raise RequestError(f"sample must be at least 1, not {sample}")
        plan = (self.applied if online else self.definitions)().view(view)
        now_ms = self.handle.now_ms()
        with profiler(plan) as found:
            if online:
                read = compile_read(self.applied(), [view])
                reader = self.readers.reader_for_plan(read, counted=False)
                found.add_online(reader, self.handle.store, sample)
                origin = "stored entities"
            else:
                origin = f"newest rows of {self._add_source(plan, found, now_ms, on_progress)}"
            notes = []
            if found.rejected:
                notes.append(
                    f"rows that do not fit the view: {found.rejected:,}; they are left out: "
                    f"see `featurekit validate --data {view}`"
                )
            return ProfileReport(view, origin, now_ms, found.rows, found.fields(), tuple(notes))

    def estimate(
        self,
        entities: Mapping[str, int],
        *,
        sample: int = 1000,
        examples: str | Path | None = None,
    ) -> EstimateReport:
        """Estimate memory and reads of some entities, with a sample on the connected server.

        Writes hashes under keys of its own, which expire after 10 minutes, measures them, and deletes
        them. Values are of the sources, of histories of events, of examples, or made from types and
        constraints.

        Args:
            entities: How many of each entity there will be.
            sample: How many hashes of each to measure.
            examples: A file of JSON Lines: objects with join keys and fields of any views, whose
                values are used instead of others.

        Raises:
            UnknownNameError: There is no such entity.
            RequestError: An entity has no view, or the examples do not fit.
            SourceError: A source cannot be read.
            StoreError: The store is unavailable, or the user lacks a right.
            MissingExtraError: DuckDB or pyarrow is not installed.
        """
        try:
            from featurekit.repo.estimate import Estimator, counts_by_entity
            from featurekit.repo.estimate_memory import ServerMemory
            from featurekit.repo.estimate_report import EstimateReport
            from featurekit.repo.estimate_rows import RowSampler, read_examples, unused_names
        except ImportError as error:
            raise MissingExtraError.of("batch", "estimate()") from error
        if sample < 1:
            raise RequestError(f"sample must be at least 1, not {sample}")
        repo = self.definitions()
        counts = counts_by_entity(repo, entities)
        rows = read_examples(Path(examples)) if examples is not None else []
        store = self.handle.store
        store.check_writable(repo.prefix)
        server = ServerMemory.of(store)
        sampler = RowSampler(sample, self._open, rows, self.handle.now_ms())
        estimator, notes = Estimator(repo, store, server, sampler), dict[str, None]()
        if examples is not None and not rows:
            notes[f"{examples} has no examples"] = None
        if unused := unused_names(repo, rows):
            notes[f"no view has these names of the examples: {', '.join(unused)}"] = None
        return EstimateReport(
            store=self.handle.address,
            server=server.name,
            allocator=server.allocator,
            servers=server.servers,
            used_bytes=server.used_bytes,
            max_bytes=server.max_bytes,
            entities=tuple(estimator.estimate(*each, notes) for each in counts.items()),
            notes=tuple(notes),
        )

    def _open(self, view: ViewPlan, source: SourcePlan) -> BatchSource:
        """Open a source of a view, or its history."""
        declared = self.definitions().view(view.name)
        located = self.sources.locate(declared, source)
        with located.hidden_values():
            opened: BatchSource = import_sources().open_source(
                located.plan, self.root, skip_unreadable=True
            )
        return opened

    def _add_source(
        self, view: ViewPlan, found: Profiler, now_ms: int, on_progress: OnProgress | None
    ) -> str:
        """Add the rows of a view's source that a load takes; return the source as declared."""
        from featurekit.repo.data_checks import describe_source

        if view.source is None:
            raise RequestError(
                f"feature view '{view.name}' has no batch source",
                hint="describe stored entities with --online (online=True)",
            )
        start_ms = None if view.lookback_ms is None else now_ms - view.lookback_ms
        latest_ms = now_ms if view.future_rows == "skip" else None
        located = self.sources.locate(view, view.source)
        with located.hidden_values():
            source = import_sources().open_source(located.plan, self.root, skip_unreadable=True)
            found.add_source(source, TimeRange(start_ms, None, latest_ms), on_progress)
        return describe_source(view.source)

    def _batch_views(self, names: str | Sequence[str] | None) -> list[ViewPlan]:
        plan = self.definitions()
        if names is None:
            return [view for view in plan.views if view.source is not None]
        views = [plan.view(name) for name in ([names] if isinstance(names, str) else names)]
        for view in views:
            if view.source is None:
                raise RequestError(
                    f"feature view '{view.name}' has no batch source to check",
                    hint="name batch views with a `source:`",
                )
        return views

    def _checker(
        self,
        now_ms: int,
        every_row: bool,  # noqa: FBT001 - private
        on_progress: OnProgress | None,
    ) -> SourceChecker:
        try:
            from featurekit.repo.data_checks import SourceChecker
        except ImportError as error:
            raise MissingExtraError.of("batch", "checking sources") from error
        return SourceChecker(self.sources, self.root, now_ms, every_row, on_progress)
