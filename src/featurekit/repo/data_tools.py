"""Look at the data of views: before loads, in the sources, and online."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from featurekit.errors import MissingExtraError, RequestError
from featurekit.plan import RepoPlan, ViewPlan
from featurekit.repo.data_report import DataReport
from featurekit.repo.source_access import SourceAccess
from featurekit.repo.store_handle import LazyStoreHandle
from featurekit.runtime.load import OnProgress

if TYPE_CHECKING:
    from featurekit.repo.data_checks import SourceChecker


@dataclass(frozen=True, slots=True)
class DataTools:
    """Checks and describes the data of a repository's views. See `FeatureStore.data`.

    Attributes:
        definitions: Returns the definitions, compiled, applied or not.
        sources: The sources that may be opened.
        root: The repository's folder.
        handle: Access to the online store.
    """

    definitions: Callable[[], RepoPlan]
    sources: SourceAccess
    root: Path
    handle: LazyStoreHandle

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
