"""The methods of `FeatureStore` that compare what is served with histories and training sets."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from featurekit.compiler import compile_read
from featurekit.errors import MissingExtraError, RequestError
from featurekit.history_ports import AsOf
from featurekit.plan import ReadPlan
from featurekit.repo.batch_loads import asyncio_form
from featurekit.repo.histories import has_older_loads
from featurekit.repo.history import LoadRecord
from featurekit.repo.logs import Logs
from featurekit.repo.registry_store import RegistryStore
from featurekit.repo.service_records import save_report
from featurekit.repo.serving import Features, ReaderService, feature_list
from featurekit.repo.store_handle import LazyStoreHandle
from featurekit.repo.time_arguments import Span, to_span_ms
from featurekit.repo.training_sets import TrainingSets
from featurekit.repo.unended_loads import unended_loads, with_unended_loads

if TYPE_CHECKING:
    from featurekit.repo.compare import KeysOf
    from featurekit.repo.key_samples import SampledKey
    from featurekit.training.drift import DriftBounds
    from featurekit.training.drift_report import DriftReport
    from featurekit.training.verify import VerifyReport


class Verification(TrainingSets):
    """Compares what is served with what the history of the views says."""

    _handle: LazyStoreHandle
    _registry_store: RegistryStore
    _logs: Logs

    @property
    @abstractmethod
    def readers(self) -> ReaderService:
        """Compiles and caches the readers."""

    def verify(
        self,
        features: Features,
        *,
        sample: int = 1000,
        labels: object = None,
        as_of: AsOf | None = None,
        seed: int = 0,
        wait: Span | None = None,
    ) -> VerifyReport:
        """Read a sample of keys online, and compare the values with what the history says.

        The keys come from the sources, from the store and from labels, if given; a few invented ones,
        which must have no values, are added. A derived feature is computed again from the inputs that were
        served with it, unless it needs values of a request. Another value is computed for the moments before and after
        its read by the server's clock, and differs only if it does so at both. Nothing is written to the
        store; the report of a service also goes to `.featurekit/verify/` in the repository's folder.

        Args:
            features: A feature service or its name, or a list of `view:field` and `view`.
            sample: How many keys of each entity to read.
            labels: Labels as for `get_historical_features`; their keys are read too.
            as_of: When a row of a source counts, as in `get_historical_features`. By default the rows
                count that the recorded loads took.
            seed: Chooses the keys: the same seed gives the same ones from an unchanged source.
            wait: How long to wait after the reads before the values are computed, so that a log of events
                has them: text such as `2m`, a timedelta, or whole seconds.

        Raises:
            UnknownNameError: There is no such service, view or field.
            RequestError: A view has no history that can be read.
            SourceError: A source cannot be read.
            StoreError: The online store is unavailable, or does not report its time.
        """
        try:
            from featurekit.repo.key_samples import KeySampler, label_keys
            from featurekit.repo.verify import Verifier, plans_by_entity
        except ImportError as error:
            raise MissingExtraError.of("batch", "verify()") from error
        if sample < 1:
            raise RequestError(f"sample must be at least 1, not {sample}")
        wait_s = 0.0 if wait is None else to_span_ms(wait, where="wait") / 1000
        plan = compile_read(self.compiled, feature_list(features))
        self.get_historical_features((), feature_list(features))  # refuses views without a history
        store, history = self._handle.store, self._registry_store.history
        sampler = KeySampler(self.compiled, store, self._sources, self.path, sample, seed)
        plans = plans_by_entity(self.compiled, plan)
        if not plans:
            raise RequestError("none of the features has an input with a history")
        given = label_keys(labels, [group.key for group in plan.groups], sample)
        keys = [sampler.sample(each, given) for each in plans]

        def loads(view: str) -> Sequence[LoadRecord]:
            unended = unended_loads(history, store, self.compiled.prefix, [view])
            ended_ms = self._handle.now_ms()
            return with_unended_loads(history.loads([view]), unended.values(), ended_ms)

        def recompute(labels: Any, features: Sequence[str], as_of: AsOf | None) -> tuple[Any, str]:
            job = self.get_historical_features(
                labels,
                features,
                full_feature_names=True,
                as_of=as_of,
                statuses=True,
                on_bad_row="skip",
            )
            return job.to_arrow(), job.metadata["views"][0]["as_of"]

        verifier = Verifier(
            self.compiled,
            store,
            loads,
            recompute,
            sampler.identity,
            as_of,
            wait_s,
            lambda name: has_older_loads(history.past_loads(name)),
        )
        report = verifier.run(
            [self.readers.reader_for_plan(each, counted=False) for each in plans], keys
        )
        by_entity = {each.groups[0].key.entity: of for each, of in zip(plans, keys, strict=True)}
        report = self._with_derived(report, plan, by_entity)
        if isinstance(feature_list(features), str):
            save_report(self._records_root, report)
        return report

    verify_async = asyncio_form(verify)

    def _with_derived(
        self, report: VerifyReport, plan: ReadPlan, keys: Mapping[str, Sequence[SampledKey]]
    ) -> VerifyReport:
        """Return a report with the derived features of a read, of keys by entity."""
        from featurekit.repo.verify import MAX_EXAMPLES
        from featurekit.repo.verify_derived import (
            derived_plan,
            read_rows,
            verify_derived,
            with_derived,
        )

        functions = self.readers.functions
        if (derived := derived_plan(self.compiled, plan, functions)) is None:
            return with_derived(report, plan, ())
        reader = self.readers.reader_for_plan(derived, counted=False)
        rows = list(read_rows(reader, keys, self._handle.now_ms))
        results = verify_derived(reader, rows, functions, MAX_EXAMPLES)
        return with_derived(report, plan, results)

    def compare(  # noqa: PLR0913 - each is an independent option with a default
        self,
        training: object,
        features: Features,
        *,
        current: object = None,
        log: bool = False,
        sample: int = 5000,
        keys: KeysOf | None = None,
        bounds: DriftBounds | None = None,
    ) -> DriftReport:
        """Compare the distributions of a training set with those that are served.

        Args:
            training: The folder of a training set, any other Parquet file or folder with columns named
                like the features, or a pyarrow table.
            features: A feature service or its name, or a list of `view:field` and `view`.
            current: Parquet files to compare with, instead of values that are online now.
            log: Whether to compare with the log of what the service has served, instead.
            sample: How many rows to read online.
            keys: Which rows to read: those of the training set's join keys, or entities that the store
                has. By default `training` if the training set has the join keys.
            bounds: From which differences on a feature has drifted.

        Raises:
            UnknownNameError: There is no such service, view or field.
            RequestError: The files cannot be read, or have none of the features.
            StoreError: The online store is unavailable.
        """
        try:
            from featurekit.repo.compare import compare_columns, read_online
            from featurekit.training.column_files import ColumnFiles
            from featurekit.training.drift import DriftBounds
        except ImportError as error:
            raise MissingExtraError.of("batch", "compare()") from error
        if sample < 1:
            raise RequestError(f"sample must be at least 1, not {sample}")
        plan = compile_read(self.compiled, feature_list(features))
        files = ColumnFiles.open(training)
        now_ms = self._handle.now_ms()
        if log:
            if not isinstance(name := feature_list(features), str):
                raise RequestError("only a feature service has a log", hint="pass its name")
            current = self._logs.service_folder(self.compiled, name)
        if current is not None:
            other = ColumnFiles.open(current)
            return compare_columns(plan, files, other, bounds or DriftBounds(), now_ms)
        if keys is None:
            keys = "training" if set(plan.join_keys) <= set(files.names) else "store"
        online = read_online(
            self.readers.reader_for_plan(plan, counted=False),
            files if keys == "training" else None,
            self._handle.store,
            sample,
            now_ms,
        )
        return compare_columns(plan, files, online, bounds or DriftBounds(), now_ms)

    compare_async = asyncio_form(compare)
