"""The feature store of one project: the parts of a repository put together."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

from typing_extensions import override

from featurekit.changes import Changes
from featurekit.errors import (
    Problem,
    RegistryError,
    StoreError,
)
from featurekit.loader import find_repo, load_repo
from featurekit.lower.keys import entity_key
from featurekit.lower.records import Record
from featurekit.models.config import EnginesConfig
from featurekit.models.definitions import LoadedRepo
from featurekit.plan import RepoPlan
from featurekit.registry import Registry
from featurekit.repo.batch_loads import BatchLoads, asyncio_form
from featurekit.repo.data_tools import DataTools
from featurekit.repo.definition_lists import DefinitionLists, views_table
from featurekit.repo.deletion import (
    DeletedEntities,
    DeletedValues,
    delete_entities,
    delete_keys,
    delete_retired,
    remember_deletions,
)
from featurekit.repo.diagnostics import (
    Diagnostics,
)
from featurekit.repo.json_rows import RowWriter
from featurekit.repo.load_engines import LoadEngine, open_engine
from featurekit.repo.logs import Logs
from featurekit.repo.materialization import Materializer, OnBadRow
from featurekit.repo.monitoring import Monitoring
from featurekit.repo.registry_store import (
    OnlineRegistryStore,
    RegistryState,
    RegistryStore,
    open_registry_store,
)
from featurekit.repo.serving import Features, MaxAge, ReaderService
from featurekit.repo.source_access import SourceAccess, compile_definitions
from featurekit.repo.store_handle import LazyStoreHandle, select_url
from featurekit.repo.store_identity import StoreState
from featurekit.repo.streaming import Streaming
from featurekit.repo.verification import Verification
from featurekit.runtime.counters import Counters
from featurekit.runtime.load import OnProgress
from featurekit.runtime.read_arguments import EntityRows, Timeout
from featurekit.runtime.reader import OnlineReader
from featurekit.runtime.request_data import Request
from featurekit.runtime.response import OnlineResponse
from featurekit.runtime.writer import StreamWriter
from featurekit.wire import text_command


class FeatureStore(BatchLoads, DefinitionLists, Monitoring, Verification):
    """A project's definitions, its registry and its online store.

    Thread-safe for reading. Survives `fork`. Pickles without its connections.

    Args:
        repo_path: A folder; `featurerepo.yaml` is searched there and in the folders above.
        url: The online store's URL; by default that of the environment variable
            `FEATUREKIT_ONLINE_URL`, or else of the file.

    Raises:
        RepoNotFoundError: There is no `featurerepo.yaml`.
        DefinitionError: The definitions are not valid; lists every problem.
        StoreError: The URL has no known scheme, or the variable is set and the file's store is
            `memory://`.

    Examples:
        >>> store = FeatureStore("examples/fraud")  # doctest: +SKIP
        >>> store.get_online_features(
        ...     "fraud_v1", [{"user_id": "u0001"}]
        ... ).to_dict()  # doctest: +SKIP
    """

    _row_classes: ClassVar[Mapping[str, type[Record]]] = {}
    """The row class of each feature service, in the subclass that `featurekit generate python` writes."""

    def __init__(self, repo_path: str | Path = ".", *, url: str | None = None) -> None:
        loaded = load_repo(find_repo(repo_path), os.environ)
        online = loaded.config.online_store
        handle = LazyStoreHandle(select_url(online, url, os.environ), loaded.root, online.options)
        registry_store = open_registry_store(loaded, handle)
        self._assemble(loaded.config.project, handle, registry_store, SourceAccess(loaded))

    def _assemble(
        self,
        project: str,
        handle: LazyStoreHandle,
        registry_store: RegistryStore,
        sources: SourceAccess,
    ) -> None:
        self._project = project
        self._handle = handle
        self._registry_store = registry_store
        self._sources = sources
        self._registry = RegistryState(registry_store, sources.loaded)
        self._counters = Counters()
        self._logs = Logs(lambda: self._sources, handle.root, handle.now_ms)
        self._readers = ReaderService(
            handle,
            self._registry,
            self._counters,
            self._logs,
            self._row_classes,
            sources.functions(handle.root),
        )

    @classmethod
    def from_registry(
        cls,
        url: str,
        project: str,
        *,
        root: str | Path = ".",
        must_exist: bool = True,
        allow_sources: bool = False,
        allow_functions: bool = False,
    ) -> Self:
        """Return a store for a registry in the online store, without any YAML.

        Args:
            url: The URL of the online store, in which `registry: online` keeps the registry.
            project: The project's name.
            root: The folder that relative paths, in the URL and of sources, are resolved against.
            must_exist: Read the registry now; otherwise it is read at the first use.
            allow_sources: Let `materialize` and stream workers open the sources that the registry
                declares. They can run code on this machine, so everyone who may write to the store
                must be trusted.
            allow_functions: Import the Python functions that compute features, from `root`. Only
                modules whose source is the applied one are imported; without this, their features are
                invalid.

        Raises:
            RegistryError: The store has no registry of that project.
        """
        handle = LazyStoreHandle(url, Path(root))
        store = cls.__new__(cls)
        registry_store = OnlineRegistryStore(handle, project)
        sources = SourceAccess(None, allow_sources, allow_functions)
        cls._assemble(store, project, handle, registry_store, sources)
        if must_exist and store.registry is None:
            raise RegistryError(
                f"the store has no registry of project '{project}'",
                where=handle.safe_url,
                hint="`featurekit apply` stores it there if featurerepo.yaml has `registry: online`",
            )
        return store

    @override
    def __repr__(self) -> str:
        try:
            url = self.url
        except StoreError:
            url = "an invalid URL"
        return f"<{type(self).__name__} {self.project!r} at {url}>"

    def _repr_html_(self) -> str:
        """Return the feature views as a table, for notebooks, without a call to the store."""
        if self.is_registry_loaded:
            views = self.applied.feature_views
        else:
            views = self._loaded.feature_views if self._loaded is not None else ()
        return views_table(views, repr(self))

    @override
    def __reduce__(self) -> tuple[object, ...]:
        if self._loaded is not None:
            return _from_repo, (type(self), self._loaded.root, self._handle.url)
        arguments = (self._handle.url, self.project, self._handle.root)
        sources = self._sources
        allowed = (sources.allow_sources, sources.allow_functions)
        return _from_registry, (type(self), *arguments, allowed)

    # Definitions and registry

    @property
    def _loaded(self) -> LoadedRepo | None:
        return self._sources.loaded

    @property
    @override
    def path(self) -> Path:
        """The folder of `featurerepo.yaml`; for a store without YAML, `root` of `from_registry`."""
        return self._loaded.root if self._loaded is not None else self._handle.root

    @property
    def url(self) -> str:
        """The URL of the online store, without its password."""
        return self._handle.safe_url

    @property
    def address(self) -> str:
        """The address, database and key prefix of the online store, for messages."""
        prefix = (
            self._loaded.config.online_store.key_prefix
            if self._loaded is not None
            else self.compiled.prefix
        )
        return f"{self._handle.address}, prefix {prefix}"

    @property
    @override
    def project(self) -> str:
        """The project's name."""
        return self._project

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """Problems in the definitions that are allowed, but probably mistakes."""
        return self._loaded.warnings if self._loaded is not None else ()

    @property
    def declared(self) -> Registry:
        """The registry that the definitions declare, applied or not.

        Raises:
            RegistryError: The store was opened without YAML.
        """
        return self._registry.declared

    @property
    def registry(self) -> Registry | None:
        """The applied registry, read once; `None` before the first `apply`. See `refresh`."""
        return self._registry.registry

    @property
    @override
    def applied(self) -> Registry:
        return self._registry.applied

    @property
    def is_registry_loaded(self) -> bool:
        """Whether the registry is in memory, so that `registry` and `compiled` do no I/O."""
        return self._registry.is_loaded

    def load_registry(self) -> None:
        """Read the registry unless it is in memory; does nothing before the first `apply`.

        Raises:
            RegistryError: The registry cannot be read.
            StoreError: The online store holds the registry and failed.
        """
        _ = self._registry.registry

    @property
    @override
    def compiled(self) -> RepoPlan:
        """The applied registry, compiled.

        Raises:
            RegistryError: Nothing is applied yet.
        """
        return self._registry.plan

    def plan(self) -> Changes:
        """Return what `apply` would change."""
        return self._registry.changes()

    def apply(
        self,
        changes: Changes | None = None,
        *,
        allow_breaking: bool = False,
        take_prefix: bool = False,
    ) -> Changes:
        """Make the definitions the applied registry of the online store; return what changed.

        Args:
            changes: A result of `plan`; the apply fails if it would change anything else.
            allow_breaking: Allow changes after which stored bytes have a different meaning.
            take_prefix: Take over the key prefix from another project, which can then write only
                after it has applied again.

        Raises:
            BreakingChangeError: A change is breaking and `allow_breaking` is false.
            RegistryConflictError: `changes` is out of date, another process applied first, or
                the key prefix belongs to another project.
        """
        applied = self._registry.apply(
            changes, allow_breaking=allow_breaking, take_prefix=take_prefix
        )
        self.refresh()
        return applied

    @override
    def store_state(self) -> StoreState:
        """Return whether the online store is the one that the registry was applied to.

        Writes are refused unless it is the same; reads are not. See `StoreState`.

        Raises:
            StoreError: The store is unavailable.
        """
        return self._registry.store_state()

    def refresh(self) -> None:
        """Forget the registry, so that the next call reads what is applied by then."""
        self._registry.refresh()
        self._readers.clear()

    def reload(self) -> bool:
        """Read the registry again; return whether it changed.

        Reads in progress finish with the registry that they started with.

        Raises:
            RegistryError: The registry cannot be read, or was deleted. The old one stays in use.
            StoreError: The online store holds the registry and failed. The old one stays in use.
        """
        changed = self._registry.reload()
        if changed:
            self._readers.clear()
        return changed

    def reload_definitions(self) -> None:
        """Load the definitions again after they were edited. `apply` makes them the registry.

        Raises:
            DefinitionError: The definitions are not valid. The old ones stay in use.
        """
        if self._loaded is not None:
            loaded = load_repo(self._loaded.root, os.environ)
            self._sources = SourceAccess(loaded)
            self._readers.functions = self._sources.functions(loaded.root)
            self._registry.set_definitions(loaded)

    # Reading

    def get_online_features(  # noqa: PLR0913 - each is an independent option with a default
        self,
        features: Features,
        entity_rows: EntityRows,
        *,
        request: Request = None,
        full_feature_names: bool = False,
        freshness: bool = False,
        timeout: Timeout = None,
        partial: bool = False,
        max_age: MaxAge = None,
    ) -> OnlineResponse:
        """Read features of several entities in one round trip per server.

        Args:
            features: A feature service, or a list of `view:field`, `view`, and mappings for views with
                an alias: `{"view": "weather", "as": "origin", "join_keys": {"airport": "origin"}}`.
            entity_rows: `[{"user_id": "u0001"}, ...]` or `{"user_id": ["u0001", ...]}`.
                The response keeps order and duplicates.
            request: The values of the request that derived features are computed from: one mapping
                for all rows, or a list with one for each. They may also be in `entity_rows`.
            full_feature_names: Name the features `view__field`.
            freshness: Also read the remaining TTL of each value.
            timeout: Limit for the whole call with waits and retries: seconds, or a timedelta.
                Without it, each attempt has the store's timeout.
            partial: If a server is away, return its rows with the status `unavailable` instead of
                raising `StoreUnavailableError`.
            max_age: Maximum age of the values of some views, as `{"user_activity": "2m"}`: a
                duration, a timedelta, or whole seconds. An older value has the status `stale` and
                is replaced by the default. The age is the declared TTL less the remaining TTL.

        Raises:
            UnknownNameError: There is no such service, view or field.
            RequestError: A join key or a value of the request is missing or unknown, no features are
                given, or `max_age` names a view that is not read.
            ValueRefusedError: A join key or a value of the request has the wrong type.
            StoreUnavailableError: No reply in time. Safe to retry.
        """
        reader = self._readers.reader(
            features, full_feature_names=full_feature_names, freshness=freshness, max_age=max_age
        )
        return reader.get(entity_rows, request=request, timeout=timeout, partial=partial)

    async def get_online_features_async(  # noqa: PLR0913 - as above
        self,
        features: Features,
        entity_rows: EntityRows,
        *,
        request: Request = None,
        full_feature_names: bool = False,
        freshness: bool = False,
        timeout: Timeout = None,
        partial: bool = False,
        max_age: MaxAge = None,
    ) -> OnlineResponse:
        """Read features without blocking the event loop. See `get_online_features`."""
        if not self._registry.is_loaded:
            await asyncio.to_thread(self.load_registry)
        reader = self._readers.reader(
            features, full_feature_names=full_feature_names, freshness=freshness, max_age=max_age
        )
        return await reader.get_async(
            entity_rows, request=request, timeout=timeout, partial=partial
        )

    def online_reader(
        self,
        features: Features,
        *,
        full_feature_names: bool = False,
        freshness: bool = False,
        max_age: MaxAge = None,
    ) -> OnlineReader:
        """Return a compiled reader of these features. Create it once and reuse it.

        The arguments and errors are those of `get_online_features`.
        """
        return self._readers.reader(
            features, full_feature_names=full_feature_names, freshness=freshness, max_age=max_age
        )

    @property
    @override
    def readers(self) -> ReaderService:
        """Compiles and caches the readers."""
        return self._readers

    # Writing

    @override
    def check_sources(self, views: Iterable[str]) -> None:
        plan = self.compiled
        self._sources.check([plan.view(name) for name in views])

    @override
    def _load_engine(self, engine: Any, *, writes: bool = True) -> LoadEngine | None:
        config = self._loaded.config if self._loaded is not None else None
        default = config.engine if config is not None else "duckdb"
        engines = config.engines if config is not None else EnginesConfig()
        engine = default if engine is None else engine
        return open_engine(engine, engines, self._handle, writes=writes)

    @override
    def _spark_session(self, engine: Any) -> Any:
        opened = self._load_engine(engine)
        return opened.session if opened is not None else None

    @override
    def _materializer(
        self, on_bad_row: OnBadRow, rejects: str | Path | None, on_progress: OnProgress | None
    ) -> Materializer:
        return Materializer(
            plan=self.compiled,
            handle=self._handle,
            sources=self._sources,
            history=self._registry_store.history,
            keep_registry=self._registry.keep,
            counters=self._counters,
            root=self.path,
            skip_bad_rows=on_bad_row == "skip",
            rejects=Path(rejects) if rejects is not None else None,
            on_progress=on_progress,
        )

    def stream_writer(self, view: str) -> StreamWriter:
        """Return the writer of a stream view. Create it once and reuse it.

        Raises:
            UnknownNameError: There is no such view.
            RequestError: The view is a batch view.
        """
        plan, counters = self.compiled.view(view), self._counters.events(view)
        return StreamWriter(plan, self._handle, counters, self._logs.of_events(plan))

    def row_writer(self, view: str) -> RowWriter:
        """Return a writer of JSON rows into a batch or stream view. Create it once and reuse it.

        Raises:
            UnknownNameError: There is no such view.
        """
        plan = self.compiled.view(view)
        return RowWriter(plan, self._handle, self._counters, self._logs.of_events(plan))

    @property
    @override
    def streams(self) -> Streaming:
        """Stream workers, JSON events, heartbeats and dead letters."""
        return Streaming(self.compiled, self._handle, self._counters, self._sources, self._logs)

    def reset(self, entity: str | None = None) -> int:
        """Delete all hashes of one entity, or of all entities; return how many were deleted.

        Windows that a worker fills are stale as long as they begin before the reset, or until a replay.

        Raises:
            RegistryError: The registry was not applied to this store.
        """
        self._handle.check_store()
        return delete_entities(self.compiled, self._handle, entity)

    def delete(self, entity: str, entity_ids: object) -> DeletedEntities:
        """Delete all that is stored for some entities, for example to forget a person.

        Deletes their hashes, with the values of all views, and their dead letters in Redis streams. Sources,
        streams, topics, logs and files of rejected rows are not touched: delete there first, or the next
        load brings the entity back. A replay of windows leaves out the events up to the deletion.

        Args:
            entity: The entity's name; `_global` for views without an entity, whose names are the ids.
            entity_ids: One entity as in `inspect`, or a list of them.

        Raises:
            UnknownNameError: There is no such entity.
            RegistryError: The registry was not applied to this store.
            StoreError: The store refuses the deletion.
        """
        self._handle.check_store()
        ids = entity_ids if isinstance(entity_ids, list) else [entity_ids]
        located = [self.compiled.locate(entity, each) for each in ids]
        keys = list(dict.fromkeys(entity_key(plan.key, each) for plan, each in located))
        plans = {plan.key for plan, _ in located}
        if any(v.windows and v.log and v.key in plans for v in self.compiled.views):
            prefix, now_ms = located[0][0].key.prefix, self._handle.now_ms()
            remember_deletions(self._handle.store, prefix, keys, now_ms)
        deleted = delete_keys(self._handle.store, keys)
        names = dict.fromkeys(plan.name for plan, _ in located)
        letters = sum(self.streams.delete_dead_letters(name, keys) for name in names)
        return DeletedEntities(deleted, letters)

    delete_async = asyncio_form(delete)

    def delete_retired(self, on_page: Callable[[int], None] | None = None) -> DeletedValues:
        """Delete the values of fields, views and entities that are no longer declared.

        Otherwise they stay until the next load of their row, or until their TTL. A paced scan that may be
        interrupted and repeated. Stop stream workers with older definitions first: they would write
        the values again.

        Args:
            on_page: Called after each page of keys with the number of values deleted so far.

        Raises:
            RegistryError: The registry was not applied to this store.
        """
        self._handle.check_store()
        return delete_retired(self.compiled, self._handle.store, on_page)

    # Operating

    @property
    def data(self) -> DataTools:
        """Checks of batch sources before a load, profiles of features, and estimates of memory."""

        def definitions() -> RepoPlan:
            return compile_definitions(self._loaded) if self._loaded else self.compiled

        return DataTools(
            definitions,
            self._sources,
            self.path,
            self._handle,
            lambda: self.compiled,
            self._readers,
        )

    @property
    def handle(self) -> LazyStoreHandle:
        """The handle of the online store, for raw commands."""
        return self._handle

    @property
    @override
    def diagnostics(self) -> Diagnostics:
        """What is stored, figures of the server and the streams, and why values are missing."""
        return Diagnostics(self._sources.locate_streams(self.compiled), self._handle.store)

    async def ping_async(self) -> None:
        """Send a `PING` to the online store.

        Raises:
            StoreUnavailableError: No reply in time.
        """
        await self._handle.async_store().read([b""], [text_command("PING")])

    def close(self) -> None:
        """Close the connections of threads, and complete the files of logs; the next call opens new ones."""
        self._handle.close()
        self._logs.close()

    async def close_async(self) -> None:
        """Close the connections of the running event loop."""
        await self._handle.close_async()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _from_repo(cls: type[FeatureStore], root: Path, url: str) -> FeatureStore:
    return cls(root, url=url)


def _from_registry(
    cls: type[FeatureStore], url: str, project: str, root: Path, allowed: tuple[bool, bool]
) -> FeatureStore:
    sources, functions = allowed
    return cls.from_registry(
        url, project, root=root, allow_sources=sources, allow_functions=functions
    )
