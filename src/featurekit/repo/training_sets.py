"""The method of `FeatureStore` that builds training sets."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from featurekit.compiler import compile_read
from featurekit.errors import MissingExtraError, RequestError
from featurekit.plan import RepoPlan, ViewPlan
from featurekit.ports import AsOf, PastLoad, StoredValues
from featurekit.repo.histories import Histories
from featurekit.repo.registry_store import RegistryStore
from featurekit.repo.serving import Features, feature_list
from featurekit.repo.source_access import SourceAccess

if TYPE_CHECKING:
    from featurekit.training import RetrievalJob


class TrainingSets(ABC):
    """Builds training sets from the histories of views."""

    _sources: SourceAccess
    _registry_store: RegistryStore

    @property
    @abstractmethod
    def compiled(self) -> RepoPlan:
        """The applied registry, compiled."""

    @property
    @abstractmethod
    def path(self) -> Path:
        """The folder that paths of sources are relative to."""

    def get_historical_features(
        self,
        entity_df: object,
        features: Features,
        *,
        timestamp_field: str = "event_timestamp",
        full_feature_names: bool = False,
        as_of: AsOf | None = None,
        statuses: bool = False,
    ) -> RetrievalJob:
        """Return a job that adds to labels the features that a read at their times would have returned.

        The features come from the sources of batch views, as if a load ran at every instant. Nothing is
        read before the first call of a method of the job. The online store is not used, except for a
        registry that it holds.

        Args:
            entity_df: The labels: join keys, a time with a time zone, and any other columns. A pyarrow
                table, a pandas or polars data frame, or the path of a Parquet or CSV file.
            features: A feature service or its name, or a list of `view:field` and `view`.
            timestamp_field: The column of the labels with their times.
            full_feature_names: Name the features `view__field`.
            as_of: When a row of a source counts: `event_time`, from its time; `created`, only once it
                was created also. By default `created` if the source has a `created_timestamp_field`.
            statuses: Add a column `{feature}__status` for each feature.

        Raises:
            UnknownNameError: There is no such service, view or field.
            RequestError: A view has no history that can be read, or `as_of` is not supported.
        """
        try:
            from featurekit.training import RetrievalJob, TrainingRequest
        except ImportError as error:
            raise MissingExtraError.of("batch", "get_historical_features()") from error
        _check_as_of(as_of)
        repo = self.compiled
        plan = compile_read(repo, feature_list(features), full_feature_names=full_feature_names)
        views = tuple(map(repo.view, dict.fromkeys(column.view for column in plan.columns)))
        histories = Histories(repo, self._sources, self.path, as_of, self._past_loads)
        for view in views:
            histories.check(view)
        self._sources.check(views)

        def read_values(view: ViewPlan, moments: Any) -> StoredValues:
            from featurekit.training import stored_values

            return stored_values(view, histories.rows_at(view, moments))

        return RetrievalJob(
            TrainingRequest(
                plan,
                views,
                entity_df,
                timestamp_field,
                read_values,
                statuses,
                lambda: time.time_ns() // 1_000_000,
            )
        )

    def _past_loads(self, view: ViewPlan) -> Sequence[PastLoad]:
        return self._registry_store.history.past_loads(view.name)


def _check_as_of(as_of: object) -> None:
    if as_of is not None and as_of not in get_args(AsOf):
        raise RequestError(
            f"as_of={as_of!r} is unknown",
            hint="use 'event_time', 'created', 'schedule' or 'loads'",
        )
