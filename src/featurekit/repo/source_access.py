"""Whether the sources that an applied registry declares may be opened on this machine.

A source can run SQL over the files of a machine, import Python and connect to brokers. A client that can
write to the online store can write a registry there, so such a registry is not trusted: its sources
are opened only if the YAML on this machine declares the same ones, or the caller allows them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace

from featurekit.compiler import compile_repo
from featurekit.errors import FeatureKitError, RequestError
from featurekit.models.config import ONLINE
from featurekit.models.definitions import LoadedRepo
from featurekit.plan import RepoPlan, ViewPlan
from featurekit.registry import Registry
from featurekit.repo.locations import Located, P, expand_locations, has_variables


@dataclass(frozen=True, slots=True)
class SourceAccess:
    """The sources that may be opened.

    Attributes:
        loaded: The definitions on this machine; `None` if the store was opened without YAML.
        allow_sources: Whether to open all sources that the registry declares.
    """

    loaded: LoadedRepo | None
    allow_sources: bool = False

    def check(self, views: Iterable[ViewPlan]) -> None:
        """Raise `RequestError` unless the sources of these views may be opened."""
        if self.allow_sources:
            return
        if self.loaded is None:
            raise RequestError(
                "this store was opened from its registry, and does not open the sources that a "
                "registry declares: they can run code on this machine",
                hint="load from a repository with featurerepo.yaml, or allow it with "
                "allow_sources=True (serve: --allow-sources)",
            )
        if self.loaded.config.registry == ONLINE:
            self._check_declared(self.loaded, views)

    def locate(self, view: ViewPlan, plan: P) -> Located[P]:
        """Return the source or stream of a view with `${VAR}` expanded.

        Raises:
            RequestError: It contains a variable, and may not be opened: a registry that is not trusted
                must not read this machine's environment.
            SourceError: A variable is not set.
        """
        if not has_variables(plan):
            return Located(plan, {})
        self.check([view])
        return expand_locations(plan, os.environ, f"feature view {view.name}")

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

    def _check_declared(self, loaded: LoadedRepo, views: Iterable[ViewPlan]) -> None:
        plan = compile_repo(Registry.from_loaded(loaded, None))
        declared = {view.name: (view.source, view.stream, view.history) for view in plan.views}
        for view in views:
            if declared.get(view.name) != (view.source, view.stream, view.history):
                raise RequestError(
                    f"feature view '{view.name}' has another source in the registry than in the "
                    "definitions on this machine",
                    hint="run `featurekit plan` and `featurekit apply`, or update the definitions",
                )
