"""The methods of `FeatureStore` that say what is stored, how fresh it is, and why it is missing."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from featurekit.errors import (
    RegistryError,
    RequestError,
    StoreError,
    StoreUnavailableError,
    UnknownNameError,
)
from featurekit.plan import RepoPlan
from featurekit.repo.batch_loads import asyncio_form
from featurekit.repo.diagnostics import (
    CheckResult,
    Diagnostics,
    Evidence,
    Explanation,
    Inspection,
    Observation,
    ViewStatus,
    explain,
    explain_field,
    inspect_entity,
    run_checks,
)
from featurekit.repo.diagnostics.spark_checks import check_spark
from featurekit.repo.diagnostics.view_status import view_metrics, view_statuses
from featurekit.repo.history import ApplyRecord, LoadRecord
from featurekit.repo.load_engines import check_engine
from featurekit.repo.logs import Logs
from featurekit.repo.registry_store import RegistryState, RegistryStore
from featurekit.repo.store_handle import LazyStoreHandle
from featurekit.repo.store_identity import StoreState
from featurekit.repo.streaming import Streaming
from featurekit.repo.time_arguments import Time, to_ms
from featurekit.repo.unended_loads import unended_loads, with_unended_loads
from featurekit.runtime.counters import Counters
from featurekit.runtime.metrics import Metrics


class Monitoring(ABC):
    """Shows the states of views and what is stored."""

    _handle: LazyStoreHandle
    _registry_store: RegistryStore
    _logs: Logs
    _registry: RegistryState
    _counters: Counters

    @property
    @abstractmethod
    def project(self) -> str:
        """The project's name."""

    @property
    @abstractmethod
    def compiled(self) -> RepoPlan:
        """The applied registry, compiled."""

    @property
    @abstractmethod
    def streams(self) -> Streaming:
        """The streams of this project."""

    @property
    @abstractmethod
    def diagnostics(self) -> Diagnostics:
        """What is stored, and figures of the server and the streams."""

    @abstractmethod
    def store_state(self) -> StoreState:
        """Return whether the store is the one that the registry was applied to."""

    def inspect(self, entity: str, entity_id: object) -> Inspection:
        """Return everything that is stored for one entity, declared or not. Not for serving."""
        now_ms = self._handle.now_ms()
        return inspect_entity(self.compiled, self._handle.store, entity, entity_id, now_ms)

    def why(
        self,
        entity: str,
        entity_id: object,
        field: str | None = None,
        *,
        evidence: Evidence | None = None,
    ) -> list[Explanation]:
        """Return why fields of an entity are not `present`, each with a cause and a sentence.

        Consults what is stored, the history of loads and applies, the recorded keys of rejected rows, and
        the newest dead letters.

        Args:
            entity: The entity's name.
            entity_id: As in `inspect`.
            field: One field, present or not; all that are not present by default.
            evidence: A recent result of `evidence()`; read now by default.

        Raises:
            UnknownNameError: There is no such entity or field.
        """
        plan, inspection = self.compiled, self.inspect(entity, entity_id)
        evidence = evidence or self.evidence()
        if field is None:
            return explain(plan, inspection, evidence)
        fields = {each.name: each for each in inspection.fields}
        if field not in fields:
            raise _unknown_field(plan, field, fields, where=f"entity {entity}")
        return [explain_field(plan, inspection, fields[field], evidence)]

    why_async = asyncio_form(why)

    def evidence(self) -> Evidence:
        """Return the facts that `why` consults; each is read at its first use and then kept."""
        return Evidence(
            self.compiled,
            self._registry_store.history,
            self.status,
            lambda view, search, key: self.streams.dead_letters_of_key(view, key, search),
            self.store_state,
            self._handle.now_ms(),
        )

    def status(self, observation: Observation | None = None) -> list[ViewStatus]:
        """Return the state of each view, from the history of loads and a sample of the store.

        Args:
            observation: A recent result of `diagnostics.observe()`; read now by default.
        """
        plan = self.compiled
        history, names = self._registry_store.history, [view.name for view in plan.views]
        loads = history.last_loads(names)
        with suppress(StoreUnavailableError):
            loads |= unended_loads(history, self._handle.store, plan.prefix, names)
        if observation is None:
            with suppress(StoreUnavailableError):
                observation = self.diagnostics.observe()
        applies: Sequence[ApplyRecord] = ()
        if any(view.windows for view in plan.views):
            with suppress(RegistryError, StoreError):
                applies = history.applies()
        return view_statuses(plan, loads, observation, self._handle.now_ms(), applies)

    def metrics(self, *, views: bool = True) -> Metrics:
        """Return what this process has read and written through this store, and the views' states.

        Args:
            views: Read the states of views, as `status` does. Left out if the history of loads or
                the registry cannot be read.
        """
        states, store_state = {}, ""
        if views:
            with suppress(RegistryError, StoreError):
                store_state = self.store_state().value
                states = view_metrics(self.status(), self._handle.now_ms())
        stats, counted = self._handle.connection_stats, self._counters.snapshot()
        logs = self._logs.metrics()
        return replace(counted, store=stats, views=states, store_state=store_state, logs=logs)

    metrics_async = asyncio_form(metrics)

    def load_history(
        self, view: str | None = None, *, since: Time = None, until: Time = None
    ) -> list[LoadRecord]:
        """Return loads from the log, newest first, and those that never ended because they were killed.

        Args:
            view: The view; by default all.
            since: Return all loads that ended at or after this time, not only the last 50 of each view.
            until: Return all loads that ended at or before this time.

        Raises:
            UnknownNameError: There is no such view.
            RequestError: A time is none, or has no zone, or `since` is after `until`.
        """
        views = self.compiled.views if view is None else [self.compiled.view(view)]
        names, history = [each.name for each in views], self._registry_store.history
        since_ms, until_ms = to_ms(since, where="since"), to_ms(until, where="until")
        if since_ms is not None and until_ms is not None and since_ms > until_ms:
            raise RequestError(f"since {since} is after until {until}")
        now_ms, unended = self._handle.now_ms(), dict[str, LoadRecord]()
        if until_ms is None or until_ms >= now_ms:  # read first: one may be recorded meanwhile
            unended = unended_loads(history, self._handle.store, self.compiled.prefix, names)
        if since_ms is None and until_ms is None:
            loads = history.loads(names)
        else:
            loads = history.loads_between(names, since_ms or 0, until_ms)
        known = {(load.view, load.started_ms) for load in loads}
        missing = [u for u in unended.values() if (u.view, u.started_ms) not in known]
        return with_unended_loads(loads, missing, now_ms)

    def served_log(self, service: str) -> Any:
        """Return what a feature service has logged, as a `pyarrow.RecordBatchReader`.

        Its columns are the join keys, the features, `{feature}__status` of each, `served_at` and
        `request_id`. Columns that older files lack are null. Rows of the current hour are in it once their
        process closes its store.

        Raises:
            UnknownNameError: There is no such service.
            RequestError: The service has no `logging`, or its log may not be read on this machine.
            SourceError: The log has no files yet.
            MissingExtraError: pyarrow is not installed.
        """
        return self._logs.read_service(self.compiled, service)

    def apply_history(self) -> list[ApplyRecord]:
        """Return the last 100 applies that changed the registry, newest first."""
        return self._registry_store.history.applies()

    def doctor(self, *, contract: bool = False, engine: Any = "duckdb") -> list[CheckResult]:
        """Check the server, the connection, the registry, the views and the stored hashes.

        Args:
            contract: Also try on the server what featurekit promises: that values expire, alone and on time,
                that writes apply as a whole, and that nothing comes back changed. It takes a few
                seconds, and writes some entities under keys of its own, which it deletes.
            engine: With `spark` or a Spark session, also check Java, versions, and whether the tasks of
                the session reach the store.

        Raises:
            RequestError: There is no such engine.
        """
        check_engine(engine)
        wait = self._wait_ms if contract else None
        checks = run_checks(self._handle, self._registry, self.status, self.project, wait)
        if engine == "duckdb":
            return checks
        return [*checks, *check_spark(self._handle, lambda: self._spark_session(engine))]

    @abstractmethod
    def _spark_session(self, engine: Any) -> Any:
        """Return the Spark session of an engine."""

    def _wait_ms(self, ms: int) -> None:
        time.sleep(ms / 1000)


def _unknown_field(
    plan: RepoPlan, name: str, stored: Iterable[str], *, where: str
) -> UnknownNameError:
    """Return the error about a field that is not stored; a derived one is named with its inputs."""
    known, (view, _, field) = set(stored), name.rpartition(":")
    if view and field in known:
        return UnknownNameError(f"unknown field '{name}'", where=where, hint=f"write '{field}'")
    for derived in plan.derived_views:
        for feature in derived.features:
            if feature.name == field and view in ("", derived.name):
                inputs = dict.fromkeys(i.field.name for i in feature.inputs if not i.is_request)
                hint = f"ask why its inputs are missing: {', '.join(inputs)}"
                return UnknownNameError(
                    f"field '{derived.name}:{field}' is derived: it is computed when it is read",
                    where=where,
                    hint=hint if inputs else "it needs no stored value",
                )
    declared = [each for each in known if not each.startswith("@")]
    return UnknownNameError.among("field", name, declared, where=where)
