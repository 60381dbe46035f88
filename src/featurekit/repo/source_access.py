"""Whether the sources and logs that an applied registry declares may be opened on this machine.

A source can run SQL over the files of a machine, import Python and connect to brokers; a log is written
to files. A client that can write to the online store can write a registry there, so such a registry is
not trusted: its sources and logs are opened only if the YAML on this machine declares the same ones, or
the caller allows them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from featurekit.compiler import compile_repo
from featurekit.errors import FeatureKitError, RequestError
from featurekit.models.config import ONLINE
from featurekit.models.definitions import LoadedRepo
from featurekit.plan import LogPlan, RepoPlan, ServicePlan, ViewPlan
from featurekit.registry import Registry
from featurekit.repo.functions import FeatureFunctions
from featurekit.repo.locations import Located, P, expand_locations, has_variables


@dataclass(frozen=True, slots=True)
class SourceAccess:
    """The sources that may be opened.

    Attributes:
        loaded: The definitions on this machine; `None` if the store was opened without YAML.
        allow_sources: Whether to open all sources that the registry declares.
        allow_functions: Whether to import all functions that the registry declares.
    """

    loaded: LoadedRepo | None
    allow_sources: bool = False
    allow_functions: bool = False

    def functions(self, root: Path) -> FeatureFunctions:
        """Return the functions of derived features: those that the definitions on this machine declare.

        Args:
            root: The folder to import them from if the store was opened without YAML.
        """
        views = self.loaded.derived_views if self.loaded else ()
        specs = [spec for view in views for spec in view.fields_.values()]
        declared = frozenset(spec.callable for spec in specs if spec.callable)
        root = self.loaded.root if self.loaded else root
        return FeatureFunctions(root, None if self.allow_functions else declared)

    def check(self, views: Iterable[ViewPlan]) -> None:
        """Raise `RequestError` unless the sources and logs of these views may be opened."""
        self._check_yaml()
        if (loaded := self._untrusting) is None:
            return
        declared = {view.name: view for view in compile_definitions(loaded).views}
        for view in views:
            own = declared.get(view.name)
            if own is None or _sources(own) != _sources(view):
                raise _differs(f"feature view '{view.name}'", "source")
            if own.log != view.log:
                raise _differs(f"feature view '{view.name}'", "log")

    @property
    def _untrusting(self) -> LoadedRepo | None:
        """The definitions that must declare the same; `None` if the registry is trusted."""
        loaded = None if self.allow_sources else self.loaded
        return loaded if loaded and loaded.config.registry == ONLINE else None

    def _check_yaml(self) -> None:
        if self.loaded is None and not self.allow_sources:
            raise RequestError(
                "this store was opened from its registry, and does not open the sources and logs that "
                "a registry declares: they can run code and write files on this machine",
                hint="use a repository with featurerepo.yaml, or allow it with "
                "allow_sources=True (serve: --allow-sources)",
            )

    def locate(self, view: ViewPlan, plan: P) -> Located[P]:
        """Return the source, stream or history of a view with `${VAR}` expanded.

        Raises:
            RequestError: It may not be opened: a registry that is not trusted must not read the files
                and the environment of this machine.
            SourceError: A variable is not set.
        """
        self.check([view])
        return expand_locations(plan, os.environ, f"feature view {view.name}")

    def locate_log(self, owner: ViewPlan | ServicePlan) -> Located[LogPlan] | None:
        """Return the log of a view or service with `${VAR}` expanded; `None` if it has none.

        Raises:
            RequestError: It may not be written on this machine, see `locate`.
            SourceError: A variable is not set.
        """
        log = owner.log if isinstance(owner, ViewPlan) else owner.logging
        if log is None:
            return None
        if isinstance(owner, ViewPlan):
            return self.locate(owner, log)
        self._check_yaml()
        if (loaded := self._untrusting) is not None:
            declared = compile_definitions(loaded).services
            if log not in [each.logging for each in declared if each.name == owner.name]:
                raise _differs(f"feature service '{owner.name}'", "log")
        return expand_locations(log, os.environ, f"feature service {owner.name}")

    def locate_streams(self, repo: RepoPlan) -> RepoPlan:
        """Return a repository's plan with `${VAR}` expanded in its streams, where that is possible."""
        if not any(view.stream and has_variables(view.stream) for view in repo.views):
            return repo
        return replace(repo, views=tuple(map(self._with_located_stream, repo.views)))

    def _with_located_stream(self, view: ViewPlan) -> ViewPlan:
        if view.stream is not None:
            with suppress(FeatureKitError):
                return replace(view, stream=self.locate(view, view.stream).plan)
        return view


def compile_definitions(loaded: LoadedRepo) -> RepoPlan:
    """Return the plan of definitions, applied or not, without a look at the registry."""
    return compile_repo(Registry.from_loaded(loaded, None))


def _sources(view: ViewPlan) -> tuple[object, ...]:
    return view.source, view.stream, view.history


def _differs(subject: str, what: str) -> RequestError:
    return RequestError(
        f"{subject} has another {what} in the registry than in the definitions on this machine",
        hint="run `featurekit plan` and `featurekit apply`, or update the definitions",
    )
